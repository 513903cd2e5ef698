"""Raw files: their signature, and plain files of whole frames, which packed ones are unpacked to once."""

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import BadRawData, NotReady
from obsarchive.io.amplifiers import write_frames
from obsarchive.io.bad_pixels import bad_pixels
from obsarchive.io.compression import Job, decompress, explained, packing_of
from obsarchive.io.hdus import has_tiles, read_plane
from obsarchive.io.raw_headers import Contents, has_amplifiers, scan

MAX_UNPACKED_BYTES = 2**34


def signature(paths: Sequence[Path]) -> str:
    """Fingerprint of raw files: 16 hex digits over names, sizes and times of change, in any order.

    Raises
    ------
    ArchiveError
        A file is missing or cannot be looked at.
    """
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        with explained(path):
            status = path.stat()
        digest.update(os.fsencode(path.name) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def unpack(path: Path, folder: Path, threads: int | None = None, max_bytes: int = MAX_UNPACKED_BYTES) -> Path:
    """Return a plain FITS file with the frames of a raw file.

    A compressed file is unpacked once: the name of the result holds the raw file's signature, it is whole or
    absent, and later calls use it as it is.  So are the amplifiers of one detector put together into whole frames.

    Parameters
    ----------
    path : Path
        Raw file: ``.fits``, ``.fits.bz2``, ``.fits.gz`` or ``.fits.fz``, or both; its contents say which.
    folder : Path
        Scratch folder, created when absent.  Nothing in it is synchronised to disk: empty it after a power cut.
    threads : int, optional
        Threads for bz2; all cores this process may use when not given.
    max_bytes : int
        A file that unpacks to more is refused.

    Returns
    -------
    Path
        The unpacked file in `folder`, or `path` when the raw file is plain and holds whole frames.

    Raises
    ------
    BadRawData
        The compressed data are truncated, damaged or absurdly large, or amplifiers do not fit together.
    NotReady
        The raw file changed while it was being read.
    ArchiveError
        No space, no permission, or the file is gone; trying again may help.
    """
    is_stream = bool(packing_of(path))
    is_plain = not is_stream and path.suffix.lower() != ".fz" and not has_tiles(path)
    if is_plain and not has_amplifiers(path):
        return path
    with settled(path) as mark:
        is_packed_by_name = path.suffix.lower() in (".bz2", ".gz", ".fz")
        stem = path.name.removesuffix(path.suffix if is_packed_by_name else "").removesuffix(".fits")
        target = folder / f"{stem[:160]}.{mark}.fits"
        if not target.exists():
            if not is_stream and not is_plain:  # astropy would only warn of a table cut short
                scan(path)
            job = Job(path, target, threads or len(os.sched_getaffinity(0)), max_bytes)
            _unpack_to(job, is_plain)
    return target


def _unpack_to(job: Job, is_plain: bool) -> None:
    """Write the plain file of whole frames; it is complete or absent."""
    path, target = job.source, job.target
    if path.stat().st_size == 0:
        raise BadRawData(f"{path.name}: expected compressed data, found an empty file")
    part, whole = (target.with_name(f".{target.name}.{secrets.token_hex(4)}.{end}") for end in ("part", "whole"))
    with explained(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if not is_plain:
                decompress(replace(job, target=part))
                _expand_packed_twice(part, job)
            unpacked = path if is_plain else part
            if has_amplifiers(unpacked, path.name):
                _put_together(scan(unpacked, path.name), path.name, whole)
                whole.replace(target)
            else:
                part.replace(target)
        finally:
            part.unlink(missing_ok=True)
            whole.unlink(missing_ok=True)


def _expand_packed_twice(part: Path, job: Job) -> None:
    """Expand tiles in a file that was packed once more, as ``.fits.fz.gz``."""
    if not has_tiles(part):
        return
    tiles = part.with_name(f"{part.name}.tiles")
    try:
        scan(part, job.source.name)
        part.rename(tiles)
        decompress(replace(job, source=tiles, target=part))
    except BadRawData as err:
        raise BadRawData(str(err).replace(tiles.name, job.source.name)) from err
    finally:
        tiles.unlink(missing_ok=True)


def _put_together(contents: Contents, name: str, target: Path) -> None:
    """Write the frames of a file of amplifiers, each without its overscan, bad pixels as NaN."""
    mosaic, stacks = contents.mosaic, contents.amplifiers
    if mosaic is None:
        raise BadRawData(f"{name}: expected the amplifiers of one detector, found whole frames")
    missing = (contents.expected or 0) - contents.n_frames
    if missing > 0:
        raise BadRawData(f"{name} holds {len(stacks)} of {len(stacks) + missing} amplifiers")
    keeps_counts = mosaic.keeps_counts and {stack.native for stack in stacks.values()} == {np.dtype(np.uint16)}
    dtype = np.dtype(np.uint16 if keeps_counts else np.float32)
    with contents.path.open("rb") as file:

        def read(number: int, plane: int) -> NDArray[Any]:
            stack = stacks[number]
            pixels = read_plane(file, stack, plane).astype(dtype)
            for mask in stack.masks:
                values = read_plane(file, mask.stack, min(plane, mask.stack.count - 1))
                pixels[bad_pixels(name, mask.image, mask.role, values)] = np.nan
            return pixels

        write_frames(target, mosaic, dtype, read)


@contextmanager
def settled(path: Path) -> Iterator[str]:
    """Yield the signature of a raw file; there is no verdict on one that changes meanwhile."""
    before = signature([path])
    try:
        yield before
    except BadRawData as err:
        if signature([path]) == before:
            raise
        raise NotReady(f"{path.name}: still being written") from err
    if signature([path]) != before:
        raise NotReady(f"{path.name}: still being written")
