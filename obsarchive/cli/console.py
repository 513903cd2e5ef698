"""What commands share: their answer, and the configuration they are given."""

import sys
from argparse import Namespace

from obsarchive.config.model import Config, load
from obsarchive.core import logs


def say(text: str) -> None:
    """Write the answer of a command."""
    sys.stdout.write(text)


def configure(options: Namespace, *, import_classes: bool = False) -> Config:
    """Read the configuration of a command, which logs to the terminal alone.

    `import_classes`: for commands that need the pipelines; the others answer before these could be imported.
    """
    config = load(options.config, import_classes=import_classes)
    logs.set_up(None, "command", config.daemon.logging_level)
    return config
