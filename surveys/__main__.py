"""``python -m surveys``: the commands of survey projects."""

import sys

from obsarchive.cli.main import surveys

if __name__ == "__main__":
    sys.exit(surveys())
