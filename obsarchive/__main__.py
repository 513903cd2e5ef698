"""``python -m obsarchive``: the commands."""

import sys

from obsarchive.cli.main import main

if __name__ == "__main__":
    sys.exit(main(program="python -m obsarchive"))
