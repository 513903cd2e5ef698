"""Tarballs of observations, and removal of temporary files."""

import bz2
import hashlib
import io
import logging
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

from obsarchive.core.package_texts import CHECKSUMS, CITATION, README, TEXTS, Member, checksums, readme
from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_path, sha256
from obsarchive.io.permit import required
from obsarchive.pipeline.task import steps_folder, unpacked_folder

log = logging.getLogger(__name__)

PART_SUFFIX = ".part"
CHUNK = 1 << 20


class Packed(NamedTuple):
    """A tarball that was written."""

    n_bytes: int
    sha256: str


def pack(folder: Path, tarball: Path, citation: str = "", permit: Path | None = None) -> Packed:
    """Write the products below a folder into a tarball (bzip2), whole or not at all.

    Hidden files, which hold records of steps and name other observations, are not for users. A README, the citation
    and checksums are added. Members are sorted and carry no owner, so that the same products give the same file.

    Parameters
    ----------
    folder : Path
        Folder of the observation.
    tarball : Path
        The file to write; it may be within the folder.
    citation : str, optional
        How to cite the data.
    permit : Path, optional
        Folder without which nothing may be written (:mod:`obsarchive.io.permit`).

    Returns
    -------
    Packed
        Its size [bytes] and checksum.
    """
    with required(permit), atomic_path(tarball, permit) as partial:
        lbzip2 = shutil.which("lbzip2")
        if lbzip2:
            _pack_through(lbzip2, folder, tarball, partial, citation)
        else:
            with bz2.open(partial, "wb", compresslevel=9) as out:
                _write(folder, tarball, out, citation)
        return Packed(partial.stat().st_size, sha256(partial))


def _pack_through(lbzip2: str, folder: Path, tarball: Path, partial: Path, citation: str) -> None:
    with partial.open("wb") as out, subprocess.Popen([lbzip2, "-c"], stdin=subprocess.PIPE, stdout=out) as packer:  # noqa: S603
        with cast(IO[bytes], packer.stdin) as pipe:
            _write(folder, tarball, pipe, citation)
        if packer.wait() != 0:
            raise ArchiveError(f"lbzip2 could not write {tarball}: exit code {packer.returncode}")


def _write(folder: Path, tarball: Path, out: IO[bytes] | bz2.BZ2File, citation: str) -> None:
    sums: list[tuple[str, str]] = []
    found: list[Member] = []
    newest = 0.0
    with tarfile.open(fileobj=out, mode="w|", bufsize=CHUNK, format=tarfile.PAX_FORMAT) as tar:
        for path in _products(folder, tarball):
            name = path.relative_to(folder).as_posix()
            with path.open("rb") as content:
                sums.append((name, hashlib.file_digest(content, "sha256").hexdigest()))
                content.seek(0)
                member = _without_owner(tar.gettarinfo(arcname=f"{folder.name}/{name}", fileobj=content))
                tar.addfile(member, content)
            found.append(Member(name, member.size))
            newest = max(newest, member.mtime)
        texts = {README: readme(folder.name, found)} | ({CITATION: citation} if citation else {})
        sums += [(name, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts.items()]
        for name, text in (texts | {CHECKSUMS: checksums(sums)}).items():
            member = _without_owner(tarfile.TarInfo(f"{folder.name}/{name}"))
            member.size, member.mtime = len(text.encode()), newest
            tar.addfile(member, io.BytesIO(text.encode()))


def _products(folder: Path, tarball: Path) -> Iterator[Path]:
    """Yield the files for users below a folder, sorted."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        is_hidden = any(part.startswith(".") for part in inside.parts) or inside.as_posix() in TEXTS
        is_whole = not (is_hidden or path.name.endswith(PART_SUFFIX))
        if is_whole and path.is_file() and not path.is_symlink() and path != tarball:
            yield path


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def members(tarball: Path) -> list[str]:
    """Return the names of the members of a tarball."""
    with tarfile.open(fileobj=io.BytesIO(bz2.decompress(tarball.read_bytes()))) as tar:
        return tar.getnames()


def sweep(tmp: Path, subject: str) -> None:
    """Remove the unpacked raw files of an observation or night for which nothing is due.

    Parameters
    ----------
    tmp : Path
        Folder of temporary files.
    subject : str
        Name of the observation or night.
    """
    shutil.rmtree(unpacked_folder(tmp, subject), ignore_errors=True)


def sweep_tmp(tmp: Path, older_than: float) -> None:
    """Remove what killed runs left in the folder of temporary files: unpacked raw files, folders of steps.

    Parameters
    ----------
    tmp : Path
        Folder of temporary files.
    older_than : float
        Only folders last changed before this time are removed [s since 1970]: what is due is unpacked again.
    """
    for folder in (unpacked_folder(tmp, ""), steps_folder(tmp)):
        for path in folder.iterdir() if folder.is_dir() else ():
            with suppress(OSError):
                if path.stat().st_mtime < older_than:
                    shutil.rmtree(path)


def sweep_leftovers(folder: Path, older_than: float, *, nested: bool = True) -> int:
    """Remove unfinished files that a killed run left in a folder.

    Parameters
    ----------
    folder : Path
        Where to look.
    older_than : float
        Only files last changed before this time are removed [s since 1970]; newer ones may still be written.
    nested : bool, optional
        Also in folders below.

    Returns
    -------
    int
        Number of files removed.
    """
    removed = 0
    for path in (folder.rglob if nested else folder.glob)(f".*{PART_SUFFIX}"):
        with suppress(OSError):
            if path.is_file() and path.stat().st_mtime < older_than:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
