"""What commands share: their answer, and the configuration they are given."""

import sys
from argparse import Namespace

from obsarchive.config.model import Config, load
from obsarchive.core import logs


def say(text: str) -> None:
    """Write the answer of a command."""
    sys.stdout.write(text)


def configure(options: Namespace) -> Config:
    """Read the configuration of a command, which logs to the terminal alone."""
    config = load(options.config)
    logs.set_up(None, "command", config.misc.logging_level)
    return config
