"""The daemon: ``python archiver.py config.json``."""

import sys

if __name__ == "__main__":
    from obsarchive.cli.daemon import main

    sys.exit(main())
