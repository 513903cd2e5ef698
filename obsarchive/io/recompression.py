"""Raw files packed once more, in tiles: an archive's second life needs less time to unpack them, and loses no pixel."""

import os
import re
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from obsarchive.errors import ArchiveError, BadRawData
from obsarchive.io.atomic import atomic_path
from obsarchive.io.compression import Job, decompress, packing_of
from obsarchive.io.raw_files import MAX_UNPACKED_BYTES, settled

PROGRAM = "fpack"
INTEGERS, FLOATS = ("-r",), ("-g2", "-q", "0")
"""Rice (White & Greenfield 1999) keeps integers; floating-point numbers would be rounded: gzip keeps them."""
_STRUCTURE = frozenset({"SIMPLE", "XTENSION", "EXTEND", "PCOUNT", "GCOUNT", "CHECKSUM", "DATASUM", ""})
"""Keywords that say how a file is put together, not what is in it."""


def recompress(source: Path, target: Path) -> None:
    """Write a raw file as tiles, if these unpack to the same pixels and headers.

    Parameters
    ----------
    source : Path
        Raw file: plain FITS, ``.bz2`` or ``.gz``.
    target : Path
        The new file, ``.fits.fz``: whole or absent, with the time of the raw file.

    Raises
    ------
    BadRawData
        The raw file is damaged, or would not come back as it is.
    NotReady
        The raw file changed while it was being read.
    ArchiveError
        There is no ``fpack``, or no space.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ArchiveError(f"expected the program {PROGRAM}, found none: install libcfitsio-bin")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".recompress-") as name:
        plain, again, threads = Path(name) / "plain.fits", Path(name) / "again.fits", len(os.sched_getaffinity(0))
        with atomic_path(target) as part, settled(source):
            if packing_of(source):
                decompress(Job(source, plain, threads, MAX_UNPACKED_BYTES))
            else:
                plain.symlink_to(source.resolve())
            _pack(program, plain, part, source.name)
            decompress(Job(part, again, threads, MAX_UNPACKED_BYTES))
            difference = _difference(plain, again)
            if difference:
                raise BadRawData(f"{source.name} would not come back as it is from tiles: {difference}; it stays")
            status = source.stat()
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))


def _pack(program: str, plain: Path, part: Path, name: str) -> None:
    with warnings.catch_warnings(action="ignore"), fits.open(plain) as hdus:
        is_float = any(hdu.header.get("BITPIX", 8) < 0 for hdu in hdus)
    command = [program, *(FLOATS if is_float else INTEGERS), "-S", str(plain)]
    with part.open("wb") as sink:
        done = subprocess.run(command, stdout=sink, stderr=subprocess.PIPE, check=False)  # noqa: S603 - no shell
    if done.returncode:
        complaint = " ".join(done.stderr.decode(errors="replace").split())[:300]
        raise ArchiveError(f"{name}: {PROGRAM} ended with {done.returncode} {complaint}")


def _difference(plain: Path, again: Path) -> str:
    """Return in words what differs between two plain files; empty if all images and headers are the same."""
    with (
        warnings.catch_warnings(action="ignore"),
        fits.open(plain, do_not_scale_image_data=True) as mine,
        fits.open(again, do_not_scale_image_data=True) as theirs,
    ):
        tables = [str(number) for number, hdu in enumerate(mine) if not hdu.is_image]
        if tables:
            return f"it holds tables, HDU {', '.join(tables)}"
        if len(mine) != len(theirs):
            return f"{len(mine)} HDUs became {len(theirs)}"
        found = (_differing(number, *pair) for number, pair in enumerate(zip(mine, theirs, strict=True)))
        return next(filter(None, found), "")


def _differing(number: int, mine: Any, theirs: Any) -> str:
    cards = [[card for card in hdu.header.cards if card.keyword not in _STRUCTURE] for hdu in (mine, theirs)]
    kept = [{(card.keyword, str(card.value)) for card in each} for each in cards]
    lost = sorted(keyword for keyword, _ in kept[0] ^ kept[1])
    if lost:
        return f"HDU {number}: other {', '.join(dict.fromkeys(lost))}"
    if mine.shape != theirs.shape:
        return f"HDU {number}: {mine.shape} pixels became {theirs.shape}"
    planes = range(mine.shape[0]) if len(mine.shape) > 2 else [slice(None)] if mine.shape else []
    # what is no number may be written in several ways
    is_float = mine.header["BITPIX"] < 0
    is_same = (np.array_equal(mine.section[plane], theirs.section[plane], equal_nan=is_float) for plane in planes)
    return "" if all(is_same) else f"HDU {number}: other pixels"


def packed_name(name: str) -> str:
    """Return the name of a raw file as tiles; empty for what is none, or is packed so already."""
    found = re.fullmatch(r"(.+\.fits)(\.bz2|\.gz)?", name, re.IGNORECASE)
    return f"{found[1]}.fz" if found else ""
