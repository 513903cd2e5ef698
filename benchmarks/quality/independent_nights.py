"""Nights of the instrument of truth through the daemon: what the products say, their errors, and what was true."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.wcs import WCS
from scipy import ndimage

from benchmarks.quality.instrument import Atmosphere, Camera, Instrument, Sky, Star, Truth
from benchmarks.quality.instrument.night import Plan, Visit, write_night
from benchmarks.quality.nights import high_contrast
from benchmarks.quality.pulls import Pulls, markdown, table
from obsarchive.core.archive_paths import Layout
from obsarchive.io import fits_products
from obsarchive.science.psf.model import Optics, drizzled_response
from obsarchive.science.psf.strehl import measure_strehl
from tests.pipelines.measures import companion, core, detail_correlation, half_width

TITLE = "Nights of an independent simulator"
PROJECT = Path(__file__).resolve().parents[2]
PIXEL_ARCSEC = 0.0347
FINE_ARCSEC = PIXEL_ARCSEC / 2
BINARY, PAIR, PLANET_MAG = (-1.3, 1.1, 3.2), (1.2, -1.0, 0.6), 4.5
COMPANION = (0.9 * np.cos(2.0), 0.9 * np.sin(2.0))
CLUSTER = ((0.0, 0.0, 0.0), (2.1, 1.4, 1.0), (-2.6, 0.9, 1.5), (1.0, -2.9, 1.2), (-1.7, -2.4, 2.0))
POINTING_ARCSEC = (2.3, -2.9)
"""True minus header, east and north."""
N_REFERENCES = 13


def _star(place: tuple[float, float, float], flux: float) -> Star:
    dy, dx, mag = place
    return Star(dy, dx, flux * 10 ** (-0.4 * mag))


def belts(radius_px: float, size: int, seed: int) -> np.ndarray:
    """Return a planet: an oblate disc, darker at its limb, with belts that wave and spots, about 1 at the centre."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] - size // 2) / radius_px
    turn = rng.uniform(0, np.pi)
    latitude, longitude = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
    radius = np.hypot(latitude / 0.94, longitude)
    disc = np.clip((1 - radius) * radius_px + 0.5, 0, 1) * np.sqrt(np.clip(1 - radius**2, 0, 1)) ** 0.8
    surface = np.ones((size, size))
    for waves in rng.uniform(6, 30, 8):
        surface += 0.06 * np.sin(waves * (latitude + 0.02 * np.sin(7 * longitude + waves)) + 3 * waves)
    for _ in range(60):
        cy, cx = rng.uniform(-0.8, 0.8, 2)
        width = rng.uniform(0.02, 0.06)
        surface += rng.uniform(-0.4, 0.4) * np.exp(-((np.hypot(y - cy, (x - cx) / 1.5) / width) ** 2))
    return np.maximum(surface, 0) * disc


def plan_of(seed: int, side: int) -> Plan:
    """All kinds of targets on frames of `side` pixels."""
    rng = np.random.default_rng(seed)

    def air() -> Atmosphere:
        return Atmosphere(r0_m=rng.uniform(0.09, 0.115))

    def visit(program: str, target: str, sky: Sky, n: int, magnitude: float = 9.0) -> Visit:
        return Visit(program, target, sky, n, magnitude, air())

    def single(flux: float, *others: Star) -> Sky:
        return Sky((Star(electrons=flux), *others), origin_px=tuple(rng.uniform(-5, 5, 2)))

    cluster = Sky(tuple(_star(place, 6e4) for place in CLUSTER))
    return Plan(
        date=f"202604{10 + seed}",
        instrument=Instrument(camera=Camera(shape=(side, side), gain=90.0, seed=seed)),
        visits=(
            visit("1", "single", single(4e4), 80),
            visit("1", "binary", single(4e4, _star(BINARY, 4e4)), 80),
            visit("1", "pair", single(1500.0, _star(PAIR, 1500.0)), 100, 14.0),
            visit("11", "cluster", cluster, 60),
            visit("24", "planet", Sky((), extended=60 * belts(45, 110, seed)), 90),
            visit("1", "double", single(8e4, _star((*COMPANION, PLANET_MAG), 8e4)), 100),
            *(visit("1", f"ref{i:02d}", single(8e4 * rng.uniform(0.8, 1.2)), 100) for i in range(N_REFERENCES)),
        ),
        seed=seed,
    )


@dataclass(frozen=True)
class Seen:
    """The truth of a visit that figures are compared with."""

    shifts_px: np.ndarray
    positions_px: np.ndarray
    strehl: float
    widths_arcsec: np.ndarray


def look(name: str, truth: Truth) -> Seen:
    """Keep what is compared."""
    is_seeing = name.startswith("seeing")
    numbers = range(truth.n_frames if is_seeing else 0)
    return Seen(
        truth.shifts_px,
        truth.positions_px,
        np.nan if is_seeing else truth.stack_strehl(on_peaks=True),
        np.array([full_width(truth.psf(i)) for i in numbers]) * PIXEL_ARCSEC,
    )


def full_width(image: np.ndarray) -> float:
    """Return the FWHM of a noise-free image from its mean profile around its centroid [pixel]."""
    y, x = np.indices(image.shape)
    weight = ndimage.gaussian_filter(image, 3) ** 2
    radius = np.hypot(y - np.average(y, weights=weight), x - np.average(x, weights=weight))
    ring = radius.astype(int).ravel()
    counts = np.bincount(ring)[:60]
    profile = np.bincount(ring, image.ravel())[:60] / counts
    middle = np.bincount(ring, radius.ravel())[:60] / counts
    level = profile[:3].mean() / 2
    outer = int(np.argmax(profile < level))
    pair = slice(outer - 1, outer + 1)
    return float(2 * np.interp(-level, -profile[pair], middle[pair]))


@dataclass(frozen=True)
class Night:
    """A reduced night with its truth, by target; seeing files in the order of time."""

    plan: Plan
    layout: Layout
    seen: dict[str, Seen]
    seeing: list[Seen]

    def product(self, target: str, name: str) -> Path:
        """Path of a product, ``pipeline/product``, of a target."""
        (folder,) = [p for p in self.layout.night(self.plan.date).iterdir() if f"_{target}_VIC_" in p.name]
        return folder / name.format(id=folder.name)

    def results(self, target: str, manifest: str) -> dict[str, Any]:
        return json.loads(self.product(target, manifest).read_text())["results"]

    def image(self, target: str, name: str) -> tuple[np.ndarray, tuple[float, float]]:
        """Pixels of a product and the place of its guide star."""
        image, header = fits_products.read_fits(self.product(target, name))
        return image, (header.get("GUIDEY", 1) - 1, header.get("GUIDEX", 1) - 1)

    def seeing_files(self) -> list[dict[str, Any]]:
        """What the night says of its seeing files, in the order of time."""
        manifest = self.layout.night(self.plan.date) / "summary" / ".measure.json"
        frames: list[dict[str, Any]] = json.loads(manifest.read_text())["results"]["frames"]
        return frames


def reduce(folder: Path, plan: Plan) -> Night:
    """Simulate a night and reduce it as the shipped configuration says."""
    config = json.loads((PROJECT / "config.json").read_text())
    config["paths"] = {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    config["daemon"]["settle_time_s"] = 0
    config["telescope"]["KPNO_2.1m"]["detector_px"] = list(plan.instrument.camera.shape)
    (folder / "config.json").write_text(json.dumps(config))
    seen = write_night(folder / "raw", plan, look)
    write_catalogue(folder / "archive" / "stars.csv", plan)
    subprocess.run(
        [sys.executable, str(PROJECT / "archiver.py"), str(folder / "config.json"), "--once"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )
    targets = {name.split("_")[1]: truth for name, truth in seen.items() if not name.startswith("seeing")}
    seeing = [truth for name, truth in sorted(seen.items()) if name.startswith("seeing")]
    return Night(plan, Layout(folder / "archive"), targets, seeing)


def write_catalogue(path: Path, plan: Plan) -> None:
    """Write the stars of the cluster where the telescope really pointed, with fainter ones around them."""
    (cluster,) = (visit for visit in plan.visits if visit.target == "cluster")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (1 / 3600, 1 / 3600)
    wcs.wcs.crval, wcs.wcs.crpix = cluster.radec_deg, (1, 1)
    rng = np.random.default_rng(plan.seed)
    east, north = POINTING_ARCSEC
    places = [(east - dx, north + dy, cluster.magnitude + mag) for dy, dx, mag in CLUSTER]
    places += [(*rng.uniform(-40, 40, 2), 17 + 0.1 * i) for i in range(40)]
    lines = ["ra,dec,mag,pmra,pmdec,epoch"]
    for eastward, northward, mag in places:
        ra, dec = wcs.wcs_pix2world([[eastward, northward]], 0)[0]
        lines.append(f"{ra:.8f},{dec:.8f},{mag:.2f},0,0,2016.0")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def calibration(night: Night) -> list[float]:
    folder, camera = night.layout.calibration(night.plan.date), night.plan.instrument.camera
    dark, header = fits_products.read_fits(folder / "dark_6.fits")
    masters = json.loads((folder / ".darks.json").read_text())["results"]["masters"]
    expected = next(m["noise_adu"] for m in masters if m["key"] == "6") / np.sqrt(header["NCOMBINE"])
    rest = dark - camera.dark_adu(night.plan.instrument.exposures.frame_s)
    ratio = fits_products.read_fits(folder / "flat_Si.fits")[0] / camera.flat
    return [1.4826 * np.median(np.abs(rest - np.median(rest))) / expected, 100 * np.std(ratio / ratio.mean())]


def bright_star(night: Night) -> list[float]:
    optics, true = Optics(2.1, 0.5, 763.0, 153.0), night.seen["single"]
    ratio = {}
    for stack in ("100p", "20p"):
        image, centre = night.image("single", f"bright_star/{stack}.fits")
        ratio[stack] = measure_strehl(image, optics, FINE_ARCSEC, drizzled_response(), centre=centre).ratio
    published = night.results("single", "bright_star/.strehl.json")["ratio_percent"]
    return [ratio["100p"] / true.strehl, ratio["20p"] / ratio["100p"], published / 100 / true.strehl]


def binary(night: Night) -> list[float]:
    image, centre = night.image("binary", "bright_star/100p.fits")
    north, west, mag = BINARY
    dy, dx, ratio, _ = companion(image, centre, (north / FINE_ARCSEC, west / FINE_ARCSEC))
    turn = np.degrees(np.arctan2(-dx, dy) - np.arctan2(-west, north))
    return [
        1e3 * abs(np.hypot(dy, dx) * FINE_ARCSEC - np.hypot(north, west)),
        abs((turn + 180) % 360 - 180),
        abs(-2.5 * np.log10(ratio) - mag),
    ]


def faint_star(night: Night) -> list[float]:
    summed, place = night.image("pair", "faint_star/{id}_summed.fits")
    simple, rough = night.image("pair", "faint_star/{id}_simple_sum.fits")
    offset = np.array(PAIR[:2]) / PIXEL_ARCSEC
    smooth = ndimage.gaussian_filter(summed, 1)
    first, second = core(smooth, *place, 9), core(smooth, *(np.array(place) + 2 * offset), 9)
    plain = half_width(ndimage.gaussian_filter(simple, 0.5), *rough)
    return [np.abs((second - first) / 2 - offset).max(), half_width(smooth, *place) / 2 / plain]


def planet(night: Night) -> list[float]:
    rows = np.loadtxt(night.product("planet", "extended_object/frames.txt"), usecols=(0, 3, 4))
    shifts = rows[np.argsort(rows[:, 0]), 1:]
    (scene,) = (visit.sky.extended for visit in night.plan.visits if visit.target == "planet")
    side = night.plan.instrument.camera.shape[0]
    place = np.median(night.seen["planet"].shifts_px[np.sort(rows[:, 0]).astype(int)] + shifts, axis=0)
    truth = ndimage.shift(np.pad(scene, (side - len(scene)) // 2), place, order=3)
    images = (night.image("planet", f"extended_object/{{id}}_{kind}.fits")[0] for kind in ("deconvolved", "registered"))
    return [detail_correlation(np.nan_to_num(image), truth) for image in images]


def night_and_field(night: Night) -> list[float]:
    found = night.seeing_files()
    errors = [abs(f["fwhm_arcsec"] / np.median(true.widths_arcsec) - 1) for f, true in zip(found, night.seeing)]
    solution = night.results("cluster", "astrometry/.solve.json")
    return [100 * max(errors), 1e3 * solution["rms_arcsec"] if solution["solved"] else np.nan]
