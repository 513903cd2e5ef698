"""Compressed FITS files: ``.bz2 .gz .fz`` to plain bytes, with every fault explained.

Damaged data end in `BadRawData` that says what was expected and what was found; trouble of the machine
(disk full, stale mount) in an `ArchiveError`, which is tried again.
"""

import bz2
import errno
import gzip
import os
import re
import shutil
import subprocess
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException  # raised, but nowhere public

from obsarchive.errors import OF_DISKS, ArchiveError, BadRawData, DiskTrouble, NoSpace

BLOCK = 2880
CHUNK = 2**20
_FITS = b"SIMPLE  ="
_MARKS = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", _FITS: ""}
"""Packing by the first bytes of a file."""
_STREAM = re.compile(rb"BZh.1AY&SY", re.DOTALL)
"""First bytes of a bz2 stream: ``BZh``, a digit, and those of its data."""
_FIRST, _LAST = 10, 11
"""Number of bytes by which the start of a stream is known, and the end of one."""
_STREAM_END = 0x177245385090
"""Last bits of a bz2 stream, before 32 bits of checksum and up to 7 that fill a byte."""

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_MACHINE_TROUBLE = re.compile("input/output error|cannot allocate|stale|permission denied", re.IGNORECASE)
# What astropy raises on damaged headers and tiles.
_ASTROPY_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
    *(CfitsioException, fits.VerifyError),
)


@dataclass(frozen=True)
class Job:
    """One file to decompress: from `source` to `target`, which is refused above `max_bytes`."""

    source: Path
    target: Path
    threads: int
    max_bytes: int

    def refuse_above_limit(self, n_bytes: int) -> None:
        """Raise `BadRawData` when the output is larger than any raw file can be."""
        if n_bytes > self.max_bytes:
            raise BadRawData(
                f"{self.source.name}: expected at most {self.max_bytes} bytes unpacked, found {n_bytes} or more"
            )


@contextmanager
def explained(path: Path, name: str = "") -> Iterator[None]:
    """Turn what the system and the decompressors raise into the exceptions of the archive.

    Parameters
    ----------
    path : Path
        The file.
    name : str, optional
        Its name in messages, if that is not its own.
    """
    name = name or path.name
    try:
        yield
    except (EOFError, zlib.error) as err:
        raise BadRawData(f"{name}: expected a whole compressed stream, found: {err}") from err
    except OSError as err:
        if err.errno in _NO_SPACE:
            raise NoSpace(f"no space left to unpack {name}: {err}") from err
        if err.errno is None:  # so bz2, gzip and astropy report damaged data
            raise BadRawData(f"{name}: expected valid data, found: {err}") from err
        trouble = DiskTrouble if err.errno in {*OF_DISKS, errno.ENOENT} else ArchiveError
        raise trouble(f"{name} cannot be read: {err}") from err


def packing_of(path: Path) -> str:
    """Return ``.bz2`` or ``.gz`` if a file is packed so, else an empty text.

    Its first bytes tell, whatever its name is; its name does where they are neither of FITS nor of a packed file.
    """
    with explained(path), path.open("rb") as file:
        first = file.read(len(_FITS))
    suffix = path.suffix.lower()
    found = next((packing for mark, packing in _MARKS.items() if first.startswith(mark)), None)
    return found if found is not None else suffix if suffix in _MARKS.values() else ""


def open_stream(path: Path) -> BufferedIOBase:
    """Open a plain, bz2 or gzip file for reading its uncompressed bytes from the start."""
    match packing_of(path):
        case ".bz2":
            return bz2.open(path)
        case ".gz":
            return gzip.open(path)
        case _:
            return path.open("rb")


def decompress(job: Job) -> None:
    """Write the whole content of a compressed file as plain FITS.

    Raises
    ------
    BadRawData
        The compressed data are truncated, damaged or larger than allowed.
    ArchiveError
        The disk is full, the decompressor was killed, the file cannot be read.
    """
    packing = packing_of(job.source)
    with explained(job.source):
        if packing == ".bz2":
            _expand_bz2(job)
        elif packing == ".gz":
            _copy(job)
        else:
            _expand_tiles(job)


def _expand_bz2(job: Job) -> None:
    """Write all streams of a file.  Where one does not follow the other, the programs would stop, without a word."""
    command = next((name for name in ("lbzip2", "bzip2") if shutil.which(name)), "")
    if not command or not _streams_follow(job.source):
        _copy_streams(job)
    else:
        _run([command, "-dc", *([f"-n{job.threads}"] if command == "lbzip2" else [])], job)


def _streams_follow(path: Path) -> bool:
    """Whether a bz2 file is nothing but streams, each right behind the other."""
    before = b""
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            content = before + block
            for found in _STREAM.finditer(content):
                ended = content[max(found.start() - _LAST, 0) : found.start()]
                if ended and found.end() > len(before) and not _is_stream_end(ended):
                    return False
            before = content[-(_FIRST + _LAST - 1) :]
    return _is_stream_end(before[-_LAST:])


def _is_stream_end(tail: bytes) -> bool:
    bits = int.from_bytes(tail)
    return any((bits >> (32 + filled)) & (2**48 - 1) == _STREAM_END for filled in range(8))


def _copy_streams(job: Job) -> None:
    """Write the streams of a bz2 file one after the other; zeros between and after them are passed over."""
    decoder = bz2.BZ2Decompressor()
    with job.source.open("rb") as source, job.target.open("wb") as sink:
        block = source.read(CHUNK)
        while block:
            if decoder.eof:
                block = block.lstrip(b"\0")
                decoder = bz2.BZ2Decompressor() if block else decoder
            if block and not decoder.eof:
                try:
                    sink.write(decoder.decompress(block))
                except OSError as err:
                    raise OSError(f"{err}, after {sink.tell()} bytes of whole streams") from err
                job.refuse_above_limit(sink.tell())
            block = decoder.unused_data if decoder.eof and block else b""
            block = block or source.read(CHUNK)
        if not decoder.eof:
            raise EOFError("compressed file ended before the end-of-stream marker was reached")


def _copy(job: Job) -> None:
    with open_stream(job.source) as stream, job.target.open("wb") as sink:
        while block := stream.read(CHUNK):
            sink.write(block)
            job.refuse_above_limit(sink.tell())


def _run(command: list[str], job: Job) -> None:
    """Run a decompressor that writes the target; the raw file is its standard input."""
    with (
        job.source.open("rb") as source,
        job.target.open("wb") as sink,
        subprocess.Popen(  # noqa: S603 - a fixed command without a shell
            command, stdin=source, stdout=sink, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}
        ) as process,
    ):
        try:
            complaint = _supervise(process, job)
        finally:
            process.kill()
    if process.returncode == 0:
        return
    if "no space left" in complaint.lower():
        raise OSError(errno.ENOSPC, complaint)
    if process.returncode < 0 or _MACHINE_TROUBLE.search(complaint):
        raise ArchiveError(f"{job.source.name}: {command[0]} ended with {process.returncode} {complaint}")
    raise BadRawData(f"{job.source.name}: expected a whole compressed stream, found: {complaint}")


def _supervise(process: subprocess.Popen[bytes], job: Job) -> str:
    """Wait for the end, watching the size of the output; return the text of standard error."""
    complaint = None
    while complaint is None:
        try:
            _, complaint = process.communicate(timeout=0.1)
        except subprocess.TimeoutExpired:
            job.refuse_above_limit(job.target.stat().st_size)
    job.refuse_above_limit(job.target.stat().st_size)
    return " ".join(complaint.decode(errors="replace").split())[:300]


def _expand_tiles(job: Job) -> None:
    """Write every tile-compressed image as a plain image HDU with its header."""
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            fits.open(job.source, do_not_scale_image_data=True) as hdus,
            job.target.open("wb") as sink,
        ):
            images = [hdu for hdu in hdus if hdu.is_image]
            if len(images) > 1 and not images[0].shape and next(iter(images[1].header), "") == "SIMPLE":
                del images[0]  # fpack puts an empty HDU before a primary image
            job.refuse_above_limit(sum(hdu.size for hdu in images))
            for hdu in images:
                _write_plain(hdu, sink)
    except _ASTROPY_ERRORS as err:
        raise BadRawData(f"{job.source.name}: expected tile-compressed images, found: {err}") from err


def _write_plain(hdu: Any, sink: IO[bytes]) -> None:
    """Append header and data plane by plane: a cube need not fit into memory."""
    sink.write(hdu.header.tostring(padding=True).encode("ascii"))
    if not hdu.shape:
        return
    planes = range(hdu.shape[0]) if len(hdu.shape) > 2 else [slice(None)]
    for plane in planes:
        pixels = np.asarray(hdu.section[plane])
        sink.write(pixels.astype(pixels.dtype.newbyteorder(">")).tobytes())
    sink.write(bytes(-sink.tell() % BLOCK))
