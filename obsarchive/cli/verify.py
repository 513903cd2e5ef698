"""``obsarchive verify``: the products and their checksums."""

from argparse import Namespace

from obsarchive.cli.console import configure, say
from obsarchive.daemon import product_check


def run(options: Namespace) -> int:
    """Compare every product with its checksum."""
    wrong = 0
    for path, what in product_check.verify(configure(options).paths.archive):
        wrong += 1
        say(f"{path} {what}\n")
    say(f"{wrong} product(s) are not as they were made\n" if wrong else "every product is as it was made\n")
    return 1 if wrong else 0
