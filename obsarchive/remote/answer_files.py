"""Files with answers of services outside, which are asked once."""

from collections.abc import Callable
from pathlib import Path

from obsarchive.io.atomic import atomic_write


def cached_file(path: Path, make: Callable[[], bytes], max_files: int | None = None) -> Path:
    """Return a file with an answer, which is made now unless it is there.

    Parameters
    ----------
    path : Path
        The file.
    make : callable
        Returns its content; what it raises leaves nothing behind.
    max_files : int, optional
        Files of this suffix that the folder keeps, those used last; without it all of them.

    Returns
    -------
    Path
        The file, which is there.
    """
    if path.exists():
        if max_files is not None:
            path.touch()
        return path
    atomic_write(path, make())
    if max_files is not None:
        files = sorted(path.parent.glob(f"*{path.suffix}"), key=lambda found: found.stat().st_mtime)
        for old in files[:-max_files]:
            old.unlink(missing_ok=True)
    return path
