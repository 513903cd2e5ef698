"""A simulated night of raw files as a telescope writes them: for the demo, for tests, for trying a configuration."""

import bz2
import json
import logging
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from obsarchive.io.atomic import atomic_path, atomic_write
from obsarchive.science.arrays import AnyArray
from obsarchive.science.astrometry.plate_solution import deproject
from obsarchive.science.psf.model import Optics
from obsarchive.simulation import scenes
from obsarchive.simulation.emccd import Detector
from obsarchive.simulation.scenes import Conditions, Faults, Instrument, Scene, SimulatedObservation, Star

log = logging.getLogger(__name__)

NIGHT = "20260314"
FULL, QUARTER = (1024, 1024), (256, 256)
BANDS = {"Sr": (623.0, 139.0), "Si": (763.0, 153.0), "Sz": (905.0, 140.0), "lp600": (763.0, 320.0)}
FLAT_LEVEL_E = 2e4
SEEING_ARCSEC = 1.1
FITS_BLOCK = 2880
CLUSTER = (Star(), Star(2.1, 1.4, 1.0), Star(-2.6, 0.9, 1.5), Star(1.0, -2.9, 1.2), Star(-1.7, -2.4, 2.0))
POINTING_ERROR_ARCSEC = (3.2, -1.8)
"""Pointing error of the simulated telescope, east and north: true minus header."""
CATALOG = "stars.csv"
N_FIELD_STARS = 40
FIELD_ARCSEC = 40.0


@dataclass(frozen=True)
class Target:
    """One observation of the simulated night.

    Parameters
    ----------
    program, name, filter : str
        As in the name of the observation.
    scene : Scene
        What is observed.
    n_frames : int
        Number of frames.
    shape : (ny, nx)
        Of a frame: the whole detector or its central part.
    faults : Faults
        Faulty frames.
    magnitude : float
        As in the header.
    radec : (float, float)
        Position [deg].
    conditions : Conditions
        Atmosphere and correction.
    """

    program: str
    name: str
    filter: str
    scene: Scene
    n_frames: int = 90
    shape: tuple[int, int] = QUARTER
    faults: Faults = field(default_factory=Faults)
    magnitude: float = 9.0
    radec: tuple[float, float] = (155.0, 20.0)
    conditions: Conditions = field(default_factory=Conditions)


def demo_targets() -> list[Target]:
    """Return the observations of the demo night: stars, binaries, faulty frames, a planet, a cluster, no star."""
    bright = Star(0.0, 0.0, 0.0)
    binary = Scene((bright, Star(0.52, -0.60, 2.0)), zero_flux_e=4e4)
    wide = Scene((bright, Star(-1.3, 1.1, 3.2), Star(2.4, 2.0, 4.5)), zero_flux_e=6e4)
    close = Scene((bright, Star(0.0, 0.35, 1.0)), zero_flux_e=5e4, offset_px=(6.0, -9.0))
    single = Scene((bright,), zero_flux_e=5e4)
    faint_companion = Scene((bright, Star(0.58, -0.68, 4.5)), zero_flux_e=8e4)
    faint_pair = Scene((bright, Star(1.1, -0.9, 0.6)), zero_flux_e=1200.0)
    cluster = Scene(CLUSTER, zero_flux_e=8e4)
    planet = Scene((), extended=120 * scenes.planetary_disc(45, 110, seed=5))
    faulty = Faults(black=(3, 30, 31), saturated=(12,), slipped=(40,))
    return [
        Target("3", "HIP_55203", "Si", single, magnitude=6.1, radec=(169.5, 31.5)),
        Target("3", "HD95735", "lp600", binary, magnitude=7.5, radec=(165.83, 35.97)),
        Target("3", "GJ_1134+B", "Si", close, magnitude=8.2, radec=(160.41, 38.52)),
        Target("4.1", "KOI-0628", "lp600", wide, magnitude=9.0, radec=(283.4, 45.7)),
        Target("4.1", "KOI-1002", "Si", single, faults=faulty, magnitude=8.8, radec=(290.1, 40.2)),
        Target("4.1", "TYC_3127-1", "Sz", replace(single, zero_flux_e=8e3), magnitude=11.9, radec=(285.0, 42.0)),
        Target("3", "HIP_59774", "Si", single, magnitude=6.8, radec=(183.9, 57.0)),
        Target("3", "HIP_61960", "Si", single, magnitude=7.1, radec=(190.5, 10.2)),
        Target("4.1", "KOI-2174", "Si", faint_companion, magnitude=8.4, radec=(288.7, 41.8)),
        Target("7", "LSPM_J1240+2046", "Si", faint_pair, n_frames=150, magnitude=13.4, radec=(190.0, 20.8)),
        Target("24", "Neptune", "Si", planet, magnitude=7.8, radec=(353.9, -4.1)),
        Target("7", "351_Yrsa", "lp600", replace(single, zero_flux_e=900.0), magnitude=13.8, radec=(200.2, -8.1)),
        Target("7", "empty_field", "Si", Scene((), zero_flux_e=1.0), magnitude=15.0, radec=(201.0, -9.0)),
        Target("3", "HIP_63406", "Si", wide, n_frames=40, shape=FULL, magnitude=6.9, radec=(194.9, 27.1)),
        Target("11", "NGC_2264", "Si", cluster, n_frames=60, magnitude=8.0, radec=(100.25, 9.88)),
    ]


@dataclass(frozen=True)
class NightPlan:
    """Contents of a simulated night.

    Parameters
    ----------
    night : str
        UT date, ``yyyymmdd``.
    targets : tuple of Target
        Science observations, in the order of time.
    n_darks, n_flats : int
        Dark files of each mode, and flat files of each filter.
    dark_frames, flat_frames : int
        Frames of a dark file and of a flat file.
    n_seeing : int
        Seeing files, spread over the night.
    detector : (ny, nx)
        Shape of a full frame [pixel].
    seed : int
        Seed of everything.
    """

    night: str = NIGHT
    targets: tuple[Target, ...] = field(default_factory=lambda: tuple(demo_targets()))
    n_darks: int = 10
    n_flats: int = 5
    dark_frames: int = 12
    flat_frames: int = 2
    n_seeing: int = 6
    detector: tuple[int, int] = FULL
    seed: int = 7


def write_night(raw: Path, plan: NightPlan | None = None, workers: int = 2) -> Path:
    """Write a night of raw files, and beside its folder its truth, see `truth_of`; it is there when it is whole.

    Parameters
    ----------
    raw : Path
        Folder of nightly directories.
    plan : NightPlan, optional
        What is observed; the demo night by default.
    workers : int
        Number of processes.

    Returns
    -------
    Path
        Folder of the night.
    """
    plan = plan or NightPlan()
    folder = raw / plan.night
    jobs = list(_jobs(plan))
    log.info("simulating the night %s: %d raw files in %s", plan.night, len(jobs), folder)
    truth: dict[str, Any] = {}
    with _whole(folder) as part, ProcessPoolExecutor(workers) as pool:
        written = pool.map(_write, [(part, job) for job in jobs])
        try:
            for number, (name, facts) in enumerate(written, start=1):
                if facts is not None:
                    truth[name] = facts
                if number % 10 == 0 or number == len(jobs):
                    log.info("%d of %d raw files written", number, len(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the files that are begun, not for all
            raise
        atomic_write(truth_of(folder), json.dumps(truth, indent=1).encode())
    return folder


def truth_of(folder: Path) -> Path:
    """Return the file with what is true of a simulated night: no raw file, hence not in the folder of the night."""
    return folder.with_name(f"{folder.name}_truth.json")


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Yield a folder whose files are moved into another when all are written: half a night would be taken for one."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        folder.mkdir(exist_ok=True)
        for path in part.iterdir():
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_catalog(archive: Path, plan: NightPlan | None = None) -> Path:
    """Write a catalogue of the stars of a simulated night, and of fainter ones around them, into the archive.

    Parameters
    ----------
    archive : Path
        Root of the archive.
    plan : NightPlan, optional
        What is observed; the demo night by default.

    Returns
    -------
    Path
        The catalogue, a CSV file.
    """
    plan = plan or NightPlan()
    rng = np.random.default_rng(plan.seed)
    east0, north0 = POINTING_ERROR_ARCSEC
    rows = ["ra,dec,mag,pmra,pmdec,epoch"]
    for target in plan.targets:
        stars = [(-star.dx_arcsec, star.dy_arcsec, target.magnitude + star.mag) for star in target.scene.stars]
        faint = rng.uniform(-FIELD_ARCSEC, FIELD_ARCSEC, (N_FIELD_STARS, 2)).tolist()
        stars += [(east, north, 17 + 0.1 * number) for number, (east, north) in enumerate(faint)]
        for east, north, mag in stars:
            ra, dec = deproject(east0 + east, north0 + north, target.radec)
            rows.append(f"{float(ra):.7f},{float(dec):.7f},{mag:.2f},0,0,2016.0")
    path = archive / CATALOG
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text("\n".join(rows) + "\n")
    return path


@dataclass(frozen=True)
class _Job:
    """One raw file to write."""

    name: str
    kind: str
    instrument: Instrument
    n_frames: int
    seed: int
    cards: Mapping[str, Any]
    target: Target | None = None


def _jobs(plan: NightPlan) -> Iterator[_Job]:
    """Raw files of a night in the order of time: darks, flats, then science with seeing in between."""
    clock = datetime.strptime(plan.night, "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=2, seconds=1.234567)
    shapes = {target.shape for target in plan.targets}
    dark_sets = [("0", None, 1.0)] + [(_dark_mode(plan, shape), shape, 100.0) for shape in sorted(shapes)]
    number = 0

    def job(name: str, kind: str, instrument: Instrument, frames: int, **cards: Any) -> _Job:
        nonlocal number, clock
        number += 1
        clock += timedelta(seconds=97.531)
        stamp = f"{clock:%Y%m%d_%H%M%S.%f}"
        cards = {"UTC": f"{clock:%Y-%m-%d %H:%M:%S.%f}", "EXPOSURE": frames * instrument.frame_s, **cards}
        return _Job(f"{name}_{stamp}", kind, instrument, frames, plan.seed + number, cards)

    for mode, shape, gain in dark_sets:
        frames = plan.flat_frames if mode == "0" else plan.dark_frames if shape != FULL else 4
        for _ in range(plan.n_darks):
            yield job(f"dark_{mode}", "dark", _camera(plan, shape, "Si", gain), frames, MODE_NUM=int(mode[:1]))
    for band in sorted({target.filter for target in plan.targets}):
        for _ in range(plan.n_flats):
            yield job(f"flat_0_{band}", "flat", _camera(plan, None, band, 1.0), plan.flat_frames, FILTER=band)
    window = min(QUARTER, plan.detector)
    seeing_camera = replace(_camera(plan, window, "Si", 100.0), frame_s=1.0)
    turns = [index * len(plan.targets) // plan.n_seeing for index in range(plan.n_seeing)]
    for turn, target in enumerate(plan.targets):
        for index in (i for i, where in enumerate(turns) if where == turn):
            seeing = SEEING_ARCSEC + 0.05 * index
            yield job("seeing_VIC_Si_o", "seeing", seeing_camera, 6, FILTER="Si", SEEING=seeing)
        name = f"{target.program}_{target.name}_VIC_{target.filter}_o"
        camera = _camera(plan, target.shape, target.filter, 100.0)
        made = job(name, "science", camera, target.n_frames, **_cards(target))
        yield replace(made, target=target)


def _dark_mode(plan: NightPlan, shape: tuple[int, int]) -> str:
    return "6" if shape == plan.detector else "64"


def _camera(plan: NightPlan, window: tuple[int, int] | None, band: str, gain: float) -> Instrument:
    whole = window is None or window == plan.detector
    detector = Detector(shape=plan.detector, window=None if whole else window, em_gain=gain, seed=plan.seed)
    return Instrument(optics=Optics(2.1, 0.5, *BANDS[band]), detector=detector)


def _cards(target: Target) -> dict[str, Any]:
    ra, dec = target.radec
    hours, degrees = ra / 15.0, abs(dec)
    return {
        "OBJECT": target.name,
        "MAGNITUD": target.magnitude,
        "TELRA": _sexagesimal(hours),
        "TELDEC": ("-" if dec < 0 else "+") + _sexagesimal(degrees),
        "EQUINOX": 2000.0,
        "AZIMUTH": 121.5,
        "ELVATION": 62.3,
        "MODE_NUM": 6,
        "FILTER": target.filter,
        "EMGAIN": 100,
        "PROGRAM": target.program,
    }


def _sexagesimal(value: float) -> str:
    seconds = round(value * 3600, 2)
    return f"{int(seconds // 3600):02d}:{int(seconds % 3600 // 60):02d}:{seconds % 60:05.2f}"


def observations(plan: NightPlan) -> dict[str, SimulatedObservation]:
    """Return the simulated observations of a night by name: the truth that a reduction is compared with."""
    return {job.name: _observation(job) for job in _jobs(plan) if job.target is not None}


def _observation(job: _Job) -> SimulatedObservation:
    if job.target is None:
        raise TypeError(f"{job.name} is no observation of a target")
    target = job.target
    return SimulatedObservation(
        target.scene, job.n_frames, job.instrument, target.conditions, target.faults, seed=job.seed
    )


def _write(item: tuple[Path, _Job]) -> tuple[str, dict[str, Any] | None]:
    folder, job = item
    path = folder / f"{job.name}.fits.bz2"
    truth: dict[str, Any] | None = None
    if job.kind == "dark":
        frames = scenes.dark_frames(job.instrument, job.n_frames, job.seed)
    elif job.kind == "flat":
        frames = scenes.flat_frames(job.instrument, job.n_frames, FLAT_LEVEL_E, job.seed)
    elif job.kind == "seeing":
        scene = Scene((Star(),), zero_flux_e=2e5)
        frames = scenes.seeing_frames(job.instrument, scene, job.cards["SEEING"], job.n_frames, job.seed)
        truth = {"fwhm_arcsec": job.cards["SEEING"]}
    else:
        seen = _observation(job)
        frames = seen.frames()
        truth = {
            "separations_arcsec": seen.truth.separations_arcsec.tolist(),
            "position_angles_deg": seen.truth.position_angles_deg.tolist(),
            "delta_mags": seen.truth.delta_mags.tolist(),
        }
    write_raw(path, frames, job.n_frames, job.cards)
    return job.name, truth


def write_raw(path: Path, frames: Iterator[AnyArray], n_frames: int, cards: Mapping[str, Any]) -> None:
    """Write a raw file as the telescope does: one image HDU a frame, only the first with a complete header.

    Parameters
    ----------
    path : Path
        ``….fits`` or ``….fits.bz2``.
    frames : iterator of ndarray (ny, nx)
        Frames [ADU], read one at a time; of any type that FITS can store.
    n_frames : int
        Number of frames.
    cards : mapping
        Header of frame 0.
    """
    with atomic_path(path) as part, _opened(part, compress=path.name.endswith(".bz2")) as out:
        for number, frame in enumerate(frames):
            first = fits.Header({"SIMPLE": True}) if number == 0 else fits.Header({"XTENSION": "IMAGE"})
            out.write(_hdu(frame, first, {**cards, "NEXTEND": n_frames - 1} if number == 0 else {}))


def _hdu(frame: AnyArray, header: fits.Header, cards: Mapping[str, Any]) -> bytes:
    """Bytes of one image HDU."""
    unsigned = frame.dtype == np.uint16
    stored = (frame ^ np.uint16(1 << 15)).view(np.int16) if unsigned else frame
    sign = -1 if stored.dtype.kind == "f" else 1
    header["BITPIX"] = sign * 8 * stored.dtype.itemsize
    header["NAXIS"] = 2
    header["NAXIS1"], header["NAXIS2"] = frame.shape[1], frame.shape[0]
    if "XTENSION" in header:
        header["PCOUNT"], header["GCOUNT"] = 0, 1
    else:
        header["EXTEND"] = True
    if unsigned:
        header["BSCALE"], header["BZERO"] = 1, 1 << 15
    header.update(dict(cards))
    pixels = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    text: str = header.tostring()
    return text.encode("ascii") + pixels + bytes(-len(pixels) % FITS_BLOCK)


@contextmanager
def _opened(path: Path, compress: bool) -> Iterator[BinaryIO]:
    """Open a file for writing, compressed by lbzip2 where it is installed."""
    lbzip2 = shutil.which("lbzip2")
    if not compress:
        with path.open("wb") as out:
            yield out
    elif lbzip2 is None:
        with bz2.open(path, "wb") as packed:
            yield packed  # type: ignore[misc]
    else:
        with (
            path.open("wb") as out,
            subprocess.Popen(  # noqa: S603
                [lbzip2, "-c", "-n", "1"], stdin=subprocess.PIPE, stdout=out
            ) as packer,
        ):
            yield packer.stdin  # type: ignore[misc]
            packer.stdin.close()  # type: ignore[union-attr]
            if packer.wait() != 0:
                raise OSError(f"lbzip2 could not write {path}")
