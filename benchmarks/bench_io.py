"""Raw files against their peers: unpacking against lbzip2, decoding against fitsio; same input, one run.

Run ``python benchmarks/bench_io.py [--frames N]``; a table in Markdown goes to standard output.
The peers are called at their best setting; each figure is the best of several interleaved rounds.
"""

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import fitsio
import numpy as np
from astropy.io import fits

from obsarchive.io.raw_files import unpack
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import scan

SIZE = 1024
ROUNDS = 7


def simulated_file(folder: Path, n_frames: int) -> Path:
    """EMCCD-like frames: bias, read noise, and a faint sky, unsigned 16 bit, one HDU each."""
    rng = np.random.default_rng(1)
    hdus = fits.HDUList()
    for i in range(n_frames):
        pixels = rng.normal(1000, 12, (SIZE, SIZE)) + rng.exponential(8, (SIZE, SIZE))
        hdus.append((fits.ImageHDU if i else fits.PrimaryHDU)(pixels.astype(np.uint16)))
    path = folder / "simulated.fits"
    hdus.writeto(path)
    return path


def seconds(work: Callable[[], object], *, cpu: bool) -> float:
    """Processor time (children included) or wall time of one call."""
    before, started = processor_s(), time.perf_counter()
    work()
    return processor_s() - before if cpu else time.perf_counter() - started


def processor_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def best(works: list[Callable[[], object]], *, cpu: bool) -> list[float]:
    """Take turns, so that the machine's moods fall on all alike."""
    rounds = [[seconds(work, cpu=cpu) for work in works] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*rounds, strict=True)]


def unpacking(path: Path, folder: Path) -> str:
    packed = path.with_suffix(".fits.bz2")
    with path.open("rb") as source, packed.open("wb") as sink:
        subprocess.run(["lbzip2", "-n2"], stdin=source, stdout=sink, check=True)

    def peer() -> None:
        with packed.open("rb") as source, (folder / "peer").open("wb") as sink:
            subprocess.run(["lbzip2", "-dc", "-n2"], stdin=source, stdout=sink, check=True)
        (folder / "peer").unlink()

    def ours() -> None:
        unpack(packed, folder / "scratch", threads=2).unlink()

    ours_s, peer_s = best([ours, peer], cpu=False)
    size_mb = path.stat().st_size / 1e6
    return row(
        "unpack .fits.bz2, 2 threads (wall)", f"{size_mb / ours_s:.0f} MB/s", "lbzip2 -n2", peer_s / ours_s, 0.95
    )


def decoding(path: Path) -> str:
    out = np.empty((SIZE, SIZE), np.float32)

    def ours() -> None:
        with Frames([path]) as frames:
            for i in range(len(frames)):
                frames.read(i, out)

    def peer() -> None:
        with fitsio.FITS(path) as hdus:
            for hdu in hdus:
                hdu.read().astype(np.float32)

    ours()  # compiles
    ours_s, peer_s = best([ours, peer], cpu=True)
    rate = len(scan(path).stacks) / ours_s
    return row("read and decode to float32, 1 thread (CPU)", f"{rate:.0f} frames/s", "fitsio", peer_s / ours_s, 4.0)


def scanning(path: Path) -> str:
    def peer() -> None:
        with fits.open(path) as hdus:
            sum(hdu.fileinfo()["datLoc"] for hdu in hdus)

    ours_s, peer_s = best([lambda: scan(path), peer], cpu=True)
    per_hdu_us = ours_s / len(scan(path).stacks) * 1e6
    return row("find the frames (CPU)", f"{per_hdu_us:.0f} us/HDU", "astropy", peer_s / ours_s, 10.0)


def row(kernel: str, figure: str, peer: str, ratio: float, goal: float) -> str:
    return f"| {kernel} | {figure} | {peer} | {ratio:.2f} | {goal:g} | {'yes' if ratio >= goal else 'NO'} |"


def table(n_frames: int = 60) -> str:
    """Measure everything; a Markdown table."""
    lines = ["| kernel | ours | peer | times the peer's speed | goal | reached |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        path = simulated_file(Path(name), n_frames)
        lines += [decoding(path), scanning(path)]
        if shutil.which("lbzip2"):
            lines.append(unpacking(path, Path(name)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=60, help="frames of 1024x1024 pixels, 2 MB each (60)")
    print(table(parser.parse_args().frames))


if __name__ == "__main__":
    main()
