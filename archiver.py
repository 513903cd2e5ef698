"""The daemon: ``python archiver.py config.json``."""

import sys

if __name__ == "__main__":
    from obsarchive.cli.main import daemon

    sys.exit(daemon())
