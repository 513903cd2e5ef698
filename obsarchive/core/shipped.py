"""What is shipped beside the code: the portal's templates and static files, the guide, and an example configuration."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """Return a shipped file or folder: in the root of a checkout, inside the package once that is installed."""
    installed = PACKAGE / "shipped"
    return (installed if installed.is_dir() else PACKAGE.parent) / name
