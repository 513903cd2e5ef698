"""What commands share: their answer, and the configuration they are given."""

import sys
from argparse import Namespace

from obsarchive.config.loading import load
from obsarchive.config.model import Config
from obsarchive.core import logs


def say(text: str) -> None:
    """Write the answer of a command."""
    sys.stdout.write(text)


def configure(options: Namespace, *, import_classes: bool = False) -> Config:
    """Read the configuration of a command, which logs to the terminal alone.

    Parameters
    ----------
    options : Namespace
        Arguments of the command; ``config`` is the file.
    import_classes : bool, optional
        Import the classes that the file names; False for commands that need no pipeline, which start faster.

    Returns
    -------
    Config
        The configuration.
    """
    config = load(options.config, import_classes=import_classes)
    logs.set_up(None, "command", config.daemon.logging_level)
    return config
