"""A night of raw files as this instrument would leave them: darks, flats, seeing frames and observations."""

import bz2
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from benchmarks.quality.instrument.correction import Atmosphere, Exposures, Loop
from benchmarks.quality.instrument.exposure import Instrument, Sky, Star, Truth, observe

FLAT_E = 15_000.0
"""Electrons of a flat frame."""
SEEING_SKY = Sky((Star(electrons=4e5),), background_e=2.0)
SEEING = Exposures(frame_s=4.0, snapshots=100)


@dataclass(frozen=True, eq=False)
class Visit:
    """An observation.

    Parameters
    ----------
    program, target : str
        As in the name of the observation.
    sky : Sky
        What is observed.
    n_frames : int
        Frames.
    magnitude : float
        As in the header.
    atmosphere : Atmosphere, optional
        Of this visit; that of the instrument by default.
    radec_deg : (float, float)
        Where the telescope says it points.
    """

    program: str
    target: str
    sky: Sky
    n_frames: int = 80
    magnitude: float = 9.0
    atmosphere: Atmosphere | None = None
    radec_deg: tuple[float, float] = (210.3, 12.4)


@dataclass(frozen=True, eq=False)
class Plan:
    """A night.

    Parameters
    ----------
    date : str
        ``yyyymmdd``.
    instrument : Instrument
        What it is observed with; the seed of its camera is that of its patterns.
    visits : tuple of Visit
        In the order of time.
    darks, flats : (int, int)
        Files, and frames in each.
    seeing_r0_m : tuple of float
        Fried parameter of each seeing file.
    seed : int
        Of the night.
    """

    date: str = "20260418"
    instrument: Instrument = field(default_factory=Instrument)
    visits: tuple[Visit, ...] = ()
    darks: tuple[int, int] = (10, 10)
    flats: tuple[int, int] = (5, 3)
    seeing_r0_m: tuple[float, ...] = (0.08, 0.10, 0.12)
    seed: int = 0


@dataclass(frozen=True)
class _Clock:
    """Times of files: one every 100 s or so."""

    date: str

    def stamp(self, number: int) -> datetime:
        begin = datetime.strptime(self.date, "%Y%m%d").replace(tzinfo=UTC)
        return begin + timedelta(hours=3, seconds=103.7 * number, microseconds=417)


def write_night(raw: Path, plan: Plan, look: Callable[[str, Truth], Any]) -> dict[str, Any]:
    """Write the raw files of a night.

    Parameters
    ----------
    raw : Path
        Folder of nightly directories.
    plan : Plan
        What is observed.
    look : callable
        Called with the name of each observation, and of each seeing file, and its truth, which is then forgotten.

    Returns
    -------
    dict
        What `look` returns, by name.
    """
    folder = raw / plan.date
    folder.mkdir(parents=True)
    clock, seen = _Clock(plan.date), {}
    for number, (prefix, cards, make) in enumerate(_files(plan)):
        stamp = clock.stamp(number)
        name = f"{prefix}_{stamp:%Y%m%d_%H%M%S.%f}"
        frames, truth = make(plan.seed * 1000 + number)
        write_cube(folder / f"{name}.fits.bz2", frames, {**cards, "UTC": f"{stamp:%Y-%m-%d %H:%M:%S.%f}"})
        if truth is not None:
            seen[name] = look(name, truth)
    return seen


def write_cube(path: Path, frames: NDArray, cards: dict[str, Any]) -> None:
    """Write frames as one cube, packed by bzip2."""
    hdu = fits.PrimaryHDU(frames)
    hdu.header.update(cards)
    with bz2.open(path, "wb", compresslevel=1) as packed:
        hdu.writeto(packed)


Made = tuple[NDArray, Truth | None]


def _files(plan: Plan) -> Iterator[tuple[str, dict[str, Any], Callable[[int], Made]]]:
    """Yield the beginning of a file's name, its cards, and what makes its frames from a seed."""
    instrument, band = plan.instrument, "Si"
    camera, frame_s = instrument.camera, instrument.exposures.frame_s
    slow = replace(camera, gain=1.0, noise_e=9.0, electrons_per_adu=1.6)
    for mode, used in (("0", slow), ("6", camera)):
        for _ in range(plan.darks[0]):
            yield f"dark_{mode}", _cards(mode, plan.darks[1], frame_s), _even(used, frame_s, plan.darks[1], 0.0)
    for _ in range(plan.flats[0]):
        yield f"flat_0_{band}", _cards("0", plan.flats[1], frame_s), _even(slow, frame_s, plan.flats[1], FLAT_E)
    turns = [round((i + 0.5) * len(plan.visits) / len(plan.seeing_r0_m)) for i in range(len(plan.seeing_r0_m))]
    for turn, visit in enumerate(plan.visits):
        for r0_m, _ in ((r0, when) for r0, when in zip(plan.seeing_r0_m, turns, strict=True) if when == turn):
            uncorrected = replace(
                instrument,
                band=replace(instrument.band, colours=1),
                atmosphere=replace(instrument.atmosphere, r0_m=r0_m),
                loop=Loop(modes=0, motion_left=1.0),
                exposures=replace(SEEING, pixel_arcsec=instrument.exposures.pixel_arcsec),
            )
            yield f"seeing_VIC_{band}_o", _cards("6", 5, SEEING.frame_s), _seen(uncorrected, SEEING_SKY, 5)
        here = replace(instrument, atmosphere=visit.atmosphere or instrument.atmosphere)
        cards = _cards("6", visit.n_frames, frame_s) | _of_target(visit)
        yield f"{visit.program}_{visit.target}_VIC_{band}_o", cards, _seen(here, visit.sky, visit.n_frames)


def _even(camera: Any, frame_s: float, n: int, light_e: float) -> Callable[[int], Made]:
    def make(seed: int) -> Made:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
        traps, light = np.zeros(camera.shape), np.full(camera.shape, light_e)
        return np.stack([camera.expose(light, frame_s, traps, rng) for _ in range(n)]), None

    return make


def _seen(instrument: Instrument, sky: Sky, n: int) -> Callable[[int], Made]:
    return lambda seed: observe(instrument, sky, n, seed)


def _cards(mode: str, n: int, frame_s: float) -> dict[str, Any]:
    return {"MODE_NUM": int(mode), "EXPOSURE": n * frame_s, "FILTER": "Si"}


def _of_target(visit: Visit) -> dict[str, Any]:
    ra, dec = visit.radec_deg
    return {
        "OBJECT": visit.target,
        "MAGNITUD": visit.magnitude,
        "TELRA": f"{ra / 15:.6f}h",
        "TELDEC": f"{dec:.6f}",
        "EQUINOX": 2000.0,
        "PROGRAM": visit.program,
    }
