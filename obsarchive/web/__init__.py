"""The portal: what the daemon made, shown to its owners."""

from obsarchive.web.app import create_app
from obsarchive.web.framework.context import Portal

__all__ = ["Portal", "create_app"]
