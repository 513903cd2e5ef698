"""``python -m surveys``: the commands of survey projects."""

import sys

from obsarchive.cli.main import surveys as main

if __name__ == "__main__":
    sys.exit(main())
