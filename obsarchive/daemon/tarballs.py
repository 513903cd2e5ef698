"""The tarball of an observation, and the sweeping-up after it."""

import bz2
import io
import logging
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import BinaryIO

from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_path
from obsarchive.pipeline.workspace import unpacked_folder

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"
CHUNK = 1 << 20


def pack(folder: Path, tarball: Path) -> int:
    """Write everything below `folder` into `tarball` (bzip2), whole or not at all.

    Members are sorted and carry no owner, so that the same products give the same file.

    Returns
    -------
    int
        Size of the tarball [bytes].
    """
    with atomic_path(tarball) as partial:
        lbzip2 = shutil.which("lbzip2")
        if lbzip2:
            _pack_through(lbzip2, folder, tarball, partial)
        else:
            with bz2.open(partial, "wb", compresslevel=9) as out:
                _write(folder, tarball, out)  # type: ignore[arg-type]
    return tarball.stat().st_size


def _pack_through(lbzip2: str, folder: Path, tarball: Path, partial: Path) -> None:
    with partial.open("wb") as out, subprocess.Popen([lbzip2, "-c"], stdin=subprocess.PIPE, stdout=out) as packer:  # noqa: S603
        _write(folder, tarball, packer.stdin)  # type: ignore[arg-type]
        packer.stdin.close()  # type: ignore[union-attr]
        if packer.wait() != 0:
            raise ArchiveError(f"lbzip2 could not write {tarball}: exit code {packer.returncode}")


def _write(folder: Path, tarball: Path, out: BinaryIO) -> None:
    with tarfile.open(fileobj=out, mode="w|", bufsize=CHUNK, format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path != tarball and not path.name.endswith(PART_SUFFIX):
                member = tar.gettarinfo(path, arcname=f"{folder.name}/{path.relative_to(folder).as_posix()}")
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                with path.open("rb") as content:
                    tar.addfile(member, content)


def members(tarball: Path) -> list[str]:
    """Names of what a tarball holds."""
    with tarfile.open(fileobj=io.BytesIO(bz2.decompress(tarball.read_bytes()))) as tar:
        return tar.getnames()


def sweep(tmp: Path, subject: str) -> None:
    """Remove the unpacked raw files of an observation or night for which nothing is due any more."""
    shutil.rmtree(unpacked_folder(tmp, subject), ignore_errors=True)


def sweep_leftovers(folder: Path, older_than: float) -> int:
    """Remove unfinished files that a killed run left below a folder; returns how many.

    Only files last touched before `older_than` [s since 1970] go: nobody writes them any more.
    """
    removed = 0
    for path in folder.rglob(f".*{PART_SUFFIX}"):
        if path.is_file() and path.stat().st_mtime < older_than:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
