"""Small nights of raw files: frames of 64 pixels, so that a step takes a fraction of a second."""

import bz2
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

SIDE = 64
"""Side of a frame [pixel]."""
BIAS, READ_NOISE = 300.0, 4.0
"""Level of the detector and its noise [ADU]."""
CARD, BLOCK = 80, 2880


@dataclass(frozen=True)
class Target:
    """What is observed: programme, name, flux of its star [ADU], number of frames in each of its files."""

    program: str
    name: str
    flux: float
    frames: tuple[int, ...]


TARGETS = (
    Target("3", "HD95735", 4.0e5, (8,)),
    Target("4.1", "KOI-0628", 3.0e5, (6, 4)),
    Target("7", "351_Yrsa", 6.0e4, (8,)),
)


def make_night(night: str, seed: int, targets: tuple[Target, ...] = TARGETS) -> dict[str, bytes]:
    """Return the raw files of a night by name: darks, flats, a seeing file, and science.

    Parameters
    ----------
    night : str
        UT date, ``yyyymmdd``.
    seed : int
        Of everything random; with the night it fixes all bytes.
    targets : tuple of Target, optional
        What is observed.

    Returns
    -------
    dict of bytes
    """
    rng = np.random.default_rng([seed, int(night)])
    clock = datetime.strptime(night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=3, microseconds=421337)
    files: dict[str, bytes] = {}

    def add(stem: str, frames: list[np.ndarray], part: str = "", **cards: object) -> None:
        nonlocal clock
        if not part:
            clock += timedelta(seconds=61.27)
        cards = {"EXPOSURE": 0.1 * len(frames), "UTC": f"{clock:%Y-%m-%d %H:%M:%S}", **cards}
        name = f"{stem}_{clock:%Y%m%d_%H%M%S.%f}{part}.fits"
        content = b"".join(_hdus(frames, cards))
        packed = len(files) % 2 == 0
        files[f"{name}.bz2" if packed else name] = bz2.compress(content, 1) if packed else content

    for mode in ("0", "6"):
        for _ in range(3):
            add(f"dark_{mode}", [_dark(rng) for _ in range(4)], MODE_NUM=int(mode))
    flat = _response(seed)
    for _ in range(3):
        add("flat_0_Si", [_dark(rng) + rng.poisson(9000 * flat) for _ in range(3)], FILTER="Si")
    add("seeing_VIC_Si_o", [_dark(rng) + flat * _star(rng, 2e5, 5.0) for _ in range(4)], FILTER="Si")
    for target in targets:
        cards = {"OBJECT": target.name, "MAGNITUD": 8.0 if target.flux > 1e5 else 13.5, "MODE_NUM": 6}
        cards |= {"TELRA": "11:03:20.2", "TELDEC": "+35:58:11.5", "FILTER": "Si", "EMGAIN": 100}
        for number, n_frames in enumerate(target.frames):
            frames = [_dark(rng) + flat * rng.poisson(_star(rng, target.flux, 1.6)) for _ in range(n_frames)]
            add(f"{target.program}_{target.name}_VIC_Si_o", frames, f"_{number - 1}" if number else "", **cards)
    return files


def _dark(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(BIAS, READ_NOISE, (SIDE, SIDE))


def _response(seed: int) -> np.ndarray:
    return 1 + 0.02 * np.random.default_rng(seed).standard_normal((SIDE, SIDE)).clip(-3, 3)


def _star(rng: np.random.Generator, flux: float, sigma: float) -> np.ndarray:
    """Return a star with a halo that moves from frame to frame."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE / 2 + rng.normal(0, 1.0, (2, 1, 1)))
    r2 = x**2 + y**2
    core, halo = (np.exp(-r2 / (2 * s**2)) / (2 * np.pi * s**2) for s in (sigma, 4 * sigma))
    return flux / 30 * (rng.uniform(0.4, 0.8) * core + 0.3 * halo) + 1.0


def _hdus(frames: list[np.ndarray], cards: dict[str, object]) -> Iterator[bytes]:
    for number, frame in enumerate(frames):
        head: dict[str, object] = {"SIMPLE": True} if number == 0 else {"XTENSION": "IMAGE"}
        head |= {"BITPIX": 16, "NAXIS": 2, "NAXIS1": SIDE, "NAXIS2": SIDE}
        head |= {"PCOUNT": 0, "GCOUNT": 1} if number else {"EXTEND": True, "NEXTEND": len(frames) - 1}
        head |= {"BZERO": 32768, "BSCALE": 1, **(cards if number == 0 else {})}
        text = "".join(f"{key:8s}= {_value(value)}".ljust(CARD) for key, value in head.items()) + "END".ljust(CARD)
        yield text.ljust(-len(text) // BLOCK * -BLOCK).encode()
        pixels = (np.clip(np.rint(frame), 0, 65535) - 32768).astype(">i2").tobytes()
        yield pixels + bytes(-len(pixels) % BLOCK)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20s}"
    return f"'{value:8s}'".ljust(20) if isinstance(value, str) else f"{value!s:>20}"


def deliver(folder: Path, name: str, content: bytes, taken: float) -> None:
    """Write a raw file under another name and rename it, with the time it was taken [s since 1970]."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.copying"
    part.write_bytes(content)
    os.utime(part, (taken, taken))
    part.replace(folder / name)


def deliver_slowly(folder: Path, name: str, content: bytes, seconds: float) -> None:
    """Write a raw file in place, a piece at a time, as a slow copy does."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = 8
    step = len(content) // pieces + 1
    with (folder / name).open("wb") as file:
        for number in range(pieces):
            file.write(content[number * step : (number + 1) * step])
            file.flush()
            time.sleep(seconds / pieces)
