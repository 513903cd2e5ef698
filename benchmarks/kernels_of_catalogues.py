"""Photometry of a frame, and light curves of surveys, with their peers."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sep
from contest import Contest, case, size
from scipy.spatial import cKDTree

from obsarchive.science.photometry.aperture import aperture_photometry
from obsarchive.science.photometry.source_detection import detect
from obsarchive.simulation.star_field import Camera, ObservingConditions, StarField

RADIUS, ANNULUS = 5.14, (12.0, 20.0)
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5
WHAT = "detection, background and apertures, 4096x4096, 5000 stars"


def frame() -> tuple[np.ndarray, np.ndarray]:
    """A frame of stars and its variance."""
    shape = (size(4096, 512),) * 2
    field = StarField(n_stars=size(5000, 80), camera=Camera(shape=shape, bad_columns=0), mag_range=(13.0, 20.0), seed=3)
    made = field.frame(0, 60500.0, air=ObservingConditions())
    return np.asarray(made.image, np.float32), np.asarray(made.variance, np.float32)


def photometry(image: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Positions y, x and fluxes of the stars (3, n) by our kernels, brightest first."""
    sources = detect(image, threshold=10.0)
    flux = aperture_photometry(image, variance, (sources.y, sources.x), (RADIUS,), ANNULUS).flux[:, 0]
    return np.stack([sources.y, sources.x, flux])


def apart(ours: np.ndarray, peer: np.ndarray) -> float:
    """Median difference of the fluxes of the brightest stars in both, over the flux."""
    distance, which = cKDTree(peer[:2].T).query(ours[:2].T)
    ratio = ours[2, distance < 0.5] / peer[2, which[distance < 0.5]]
    return float(np.nanmedian(np.abs(ratio[:200] - 1)))


def difference(ours: np.ndarray, peer: np.ndarray) -> str:
    return f"{ours.shape[1]} and {peer.shape[1]} stars; fluxes {100 * apart(ours, peer):.3f} % apart"


@case(WHAT, peer="photutils", goal=8)
def against_photutils() -> Contest:
    from astropy.stats import sigma_clip
    from photutils.aperture import CircularAnnulus, CircularAperture
    from photutils.aperture import aperture_photometry as photutils_photometry
    from photutils.background import Background2D, MedianBackground
    from photutils.detection import DAOStarFinder

    image, variance = frame()

    def peer() -> np.ndarray:
        background = Background2D(image, 64, bkg_estimator=MedianBackground())
        found = DAOStarFinder(10 * background.background_rms_median, 4.0)(image - background.background)
        places = np.transpose([found["x_centroid"], found["y_centroid"]])
        aperture = CircularAperture(places, RADIUS)
        sums = photutils_photometry(image, aperture, error=np.sqrt(variance))["aperture_sum"]
        levels = [
            np.median(sigma_clip(mask.get_values(image), CLIP_SIGMA, maxiters=CLIP_ROUNDS, masked=False))
            for mask in CircularAnnulus(places, *ANNULUS).to_mask(method="center")
        ]
        return np.stack([*places.T[::-1], sums - aperture.area * np.array(levels)])

    return Contest(lambda: photometry(image, variance), peer, difference, lambda a, b: apart(a, b) < 0.002)


@case(WHAT + ", sky clipped alike", peer="SEP", goal=1.2)
def against_sep() -> Contest:
    """SEP measures neither widths nor windowed centroids here; it has no clipped annulus, which numpy then takes."""
    image, variance = frame()
    middle = np.array(image.shape)[:, np.newaxis] / 2

    def peer() -> np.ndarray:
        background = sep.Background(image)
        found = sep.extract(image - background.back(), 10.0, err=background.rms(), segmentation_map=False)
        places = np.stack([found["y"], found["x"]])
        y, x = places[:, (np.abs(places - middle) < middle - ANNULUS[1] - 2).all(axis=0)]
        flux, *_ = sep.sum_circle(image, x, y, RADIUS, var=variance, subpix=0)
        levels = np.array([sky(image, *place) for place in zip(y, x, strict=True)])
        return np.stack([y, x, flux - np.pi * RADIUS**2 * levels])

    return Contest(lambda: photometry(image, variance), peer, difference, lambda a, b: apart(a, b) < 0.002)


def sky(image: np.ndarray, y: float, x: float) -> float:
    """Clipped median of an annulus."""
    reach = int(ANNULUS[1]) + 1
    rows, columns = (slice(round(c) - reach, round(c) + reach + 1) for c in (y, x))
    radius = np.hypot(*np.ogrid[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x])
    values = image[rows, columns][(radius >= ANNULUS[0]) & (radius <= ANNULUS[1])]
    for _ in range(CLIP_ROUNDS):
        deviation = np.abs(values - np.median(values))
        values = values[deviation <= CLIP_SIGMA * 1.4826 * np.median(deviation)]
    return float(np.median(values))


@case("1000 survey sources of 100 points: read, reduce, check, search, write", goal_ms=400)
def survey() -> Contest:
    from surveys import dataset
    from surveys.demo import VirtualDemoObs
    from surveys.finder import Finder
    from surveys.formats.hdf5_light_curves import PhotometryFile
    from surveys.quality import QualityChecker

    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    obs, checker, finder = VirtualDemoObs(), QualityChecker(), Finder()
    obs.output_folder = "BENCH"
    rows = [{"name": f"S{i}", "ra": 100.5, "dec": 3.0, "mag": 17.0} for i in range(size(1000, 3))]
    raw_file, reduced = PhotometryFile(root / "raw.h5"), PhotometryFile(root / "reduced.h5")
    raw_file.write({raw.filekey: raw.record for raw in map(obs.download, rows)})

    def ours() -> list[Any]:
        curves, events = [], []
        reduced.path.unlink(missing_ok=True)
        for name, record in raw_file.read_many([str(row["name"]) for row in rows]):
            raw = dataset.RawPhotometry(record.columns, {**record.altdata, "name": name}, observatory="DEMO")
            for curve in obs.reduce(raw):
                curves.append(curve)
                events += finder.detect(finder.process(checker.check(curve)))
        reduced.write({curve.filekey: curve.record for curve in curves})
        return [folder, events]  # the folder lives as long as the function

    return Contest(ours)


@case("1000 survey sources of 100 points in memory: reduce, check, search", goal_ms=400)
def survey_in_memory() -> Contest:
    from surveys import dataset
    from surveys.demo import VirtualDemoObs
    from surveys.finder import Finder
    from surveys.quality import QualityChecker

    obs, checker, finder = VirtualDemoObs(), QualityChecker(), Finder()
    obs.output_folder = "BENCH"
    rows = [{"name": f"S{i}", "ra": 100.5, "dec": 3.0, "mag": 17.0} for i in range(size(1000, 3))]
    records = [(raw.record, raw.source_name) for raw in map(obs.download, rows)]

    def ours() -> list[Any]:
        events = []
        for record, name in records:
            raw = dataset.RawPhotometry(record.columns, {**record.altdata, "name": name}, observatory="DEMO")
            for curve in obs.reduce(raw):
                events += finder.detect(finder.process(checker.check(curve)))
        return events

    return Contest(ours)
