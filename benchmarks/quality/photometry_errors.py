"""Errors of aperture and PSF photometry, centroids, sky, zero points and plate solutions: images photon by photon."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.quality.photons import Seeing, Sky, exposure, spread_out
from benchmarks.quality.pulls import Pulls, simulate, table
from obsarchive.science.astrometry.plate_solution import PlateSolution
from obsarchive.science.astrometry.star_matching import Uncertainty, match_stars
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.photometry.engine import EngineName, engine_of
from obsarchive.science.photometry.psf_fit import Frame
from obsarchive.science.photometry.psf_photometry import REACH_FWHM, isolated_stars
from obsarchive.science.photometry.zero_point import find_zero_point, instrumental_magnitudes
from obsarchive.timeseries.frame_apertures import star_apertures
from obsarchive.timeseries.frame_photometry import RADII
from obsarchive.timeseries.frame_table import Planes
from pipelines.photometry import PhotometrySettings, measure_image

TITLE = "Errors of photometry, centroids and plate solutions"
TEXT = """
Images are drawn photon by photon (no profile is computed), with an elliptical core in wide wings; no code under test
makes them, except that of the regime *drizzled*, four dithered exposures on pixels of half the size. Fluxes of
apertures are compared with the light in the aperture, those of fits on the scale of each image, whose error is that of
the zero point. *Dataset*: stars anywhere, as a catalogue has them, also in each other's apertures; those with another
one within 0.4 FWHM are not counted. Stars of fits stand where their catalogue says within 0.02 pixels. Positions of
*drizzled* stars are relative to those of the image: the drops of an exposure are rounded to fine pixels, all alike,
which the plate solution takes up. *n* counts stars; an image of the slow regimes holds many.
"""
Found = dict[str, tuple[object, object, object]]
"""Values found, errors claimed and truths, by quantity."""


@dataclass(frozen=True)
class Scene:
    """Light of a star, the rest, fluxes of stars [e-], distances of stars [pixel], and side of the image [pixel]."""

    seeing: Seeing
    sky: Sky
    electrons: tuple[float, float]
    apart_px: float
    side_px: int = 160
    dithers: int = 1


SCENES = {
    "bright": Scene(Seeing(4.0), Sky(50.0), (1e4, 8e4), 40.0, 120),
    "faint": Scene(Seeing(4.0), Sky(100.0, 10.0), (1800.0, 3000.0), 40.0, 120),
    "crowded": Scene(Seeing(4.0), Sky(100.0), (3e3, 2e4), 17.0, 102),
    "undersampled": Scene(Seeing(1.5), Sky(20.0), (3e3, 5e4), 26.0, 104),
    "drizzled": Scene(Seeing(3.0), Sky(50.0), (8e3, 4e4), 40.0, 120, 4),
}
EDGE_PX = 12.0


@cache
def _growth(seeing: Seeing) -> tuple[np.ndarray, np.ndarray]:
    """Radii and shares of light in them."""
    radii = np.arange(1.0, 14.0, 0.5)
    return radii, np.array([seeing.share(radius, 400_000) for radius in radii])


def _drawn(scene: Scene, seed: int) -> tuple[np.ndarray, tuple[np.ndarray, ...], float]:
    """An image, its stars (y, x, e-), and its pixels per pixel of the detector along an axis."""
    rng = np.random.default_rng(seed)
    shape = (scene.side_px, scene.side_px)
    y, x = spread_out(rng, shape, scene.apart_px)
    electrons = np.exp(rng.uniform(*np.log(scene.electrons), len(y)))
    if scene.dithers == 1:
        return exposure(rng, shape, (y, x, electrons), scene.seeing, scene.sky), (y, x, electrons), 1.0
    stack = Drizzle(shape)
    for _ in range(scene.dithers):
        dy, dx = rng.uniform(-1, 1, 2)
        stack.add(exposure(rng, shape, (y + dy, x + dx, electrons), scene.seeing, scene.sky), -dy, -dx)
    places = np.array([stack.output_position(*place) for place in zip(y, x, strict=True)])
    # the mean of the exposures, in units of a detector's pixel that is shared by the fine ones
    return stack.image(), (places[:, 0], places[:, 1], electrons), 2.0


def _image(regime: str, engine: EngineName, seed: int) -> Found:
    """Photometry of an image as of the pipeline `photometry`, with its zero point."""
    scene = SCENES[regime]
    image, (y, x, electrons), fine = _drawn(scene, seed)
    found = measure_image(image, PhotometrySettings(engine=engine, gain_e_adu=float(scene.dithers)))
    sources, apertures = found.sources, found.apertures
    distance, star = cKDTree(np.stack([y, x], axis=1)).query(np.stack([sources.y, sources.x], axis=1))
    far = np.minimum(sources.y, sources.x) > EDGE_PX * fine
    far &= np.maximum(sources.y, sources.x) < fine * scene.side_px - 1 - EDGE_PX * fine
    own = np.flatnonzero((distance < fine) & far)
    star = star[own]
    if scene.dithers > 1:
        y, x = (place + np.median(seen[own] - place[star]) for place, seen in ((y, sources.y), (x, sources.x)))
    truth = electrons[star] * np.interp(found.radius_px / fine, *_growth(scene.seeing))
    flux, error = apertures.flux[own, 0], apertures.flux_error[own, 0]
    mag, mag_error = instrumental_magnitudes(flux, error)
    sky = scene.sky.level_e / fine**2 + scene.sky.slope_e / fine**2 * (
        sources.x[own] / fine / (scene.side_px - 1) - 0.5
    )
    return {
        f"aperture flux, {engine}": (flux / truth, error / truth, 1.0),
        f"aperture magnitude, {engine}": (mag, mag_error, -2.5 * np.log10(truth)),
        f"sky, {engine}": (apertures.sky[own], apertures.sky_error[own], sky),
        f"centroid, {engine} [pixel]": (
            np.r_[sources.y[own], sources.x[own]],
            np.r_[found.y_error_px[own], found.x_error_px[own]],
            np.r_[y[star], x[star]],
        ),
    }


def trial_bright(seed: int) -> Found:
    return _image("bright", "fast", seed)


def trial_faint(seed: int) -> Found:
    return _image("faint", "fast", seed)


def trial_crowded(seed: int) -> Found:
    return _image("crowded", "fast", seed)


def trial_undersampled(seed: int) -> Found:
    return _image("undersampled", "fast", seed)


def trial_bright_photutils(seed: int) -> Found:
    return _image("bright", "photutils", seed)


def trial_faint_photutils(seed: int) -> Found:
    return _image("faint", "photutils", seed)


def trial_undersampled_photutils(seed: int) -> Found:
    return _image("undersampled", "photutils", seed)


def trial_drizzled(seed: int) -> Found:
    return _image("drizzled", "fast", seed)


def _fits(scene: Scene, seed: int, n_bright: int, names: tuple[EngineName, ...] = ("fast",)) -> Found:
    """Fluxes from PSF fits; the PSF is built from bright stars of the same image."""
    rng = np.random.default_rng(seed)
    shape = (scene.side_px, scene.side_px)
    y, x = spread_out(rng, shape, scene.apart_px)
    electrons = np.exp(rng.uniform(*np.log(scene.electrons), len(y)))
    bright = rng.permutation(len(y))[:n_bright]
    electrons[bright] = rng.uniform(3e4, 8e4, len(bright))
    image = exposure(rng, shape, (y, x, electrons), scene.seeing, scene.sky)
    variance = np.asarray(np.maximum(image, 0) + scene.sky.read_noise_e**2, np.float32)
    y, x = y + rng.normal(0, 0.02, len(y)), x + rng.normal(0, 0.02, len(x))
    fwhm = 1.08 * scene.seeing.fwhm_px
    found: Found = {}
    for name in names:
        engine = engine_of(name)
        apertures = engine.aperture_photometry(image, variance, (y, x), (1.5 * fwhm,), (3 * fwhm, 3 * fwhm + 8))
        flux = apertures.flux[:, 0]
        chosen = isolated_stars((y, x), flux, np.isin(np.arange(len(y)), bright), REACH_FWHM * fwhm)
        fitted = engine.psf_photometry(Frame(image, variance, y, x), apertures, chosen, np.arange(len(y)), fwhm)
        far = (np.minimum(y, x) > EDGE_PX) & (np.maximum(y, x) < scene.side_px - 1 - EDGE_PX)
        ratio, error = fitted.flux / electrons, fitted.flux_error / electrons
        known = far & np.isfinite(ratio) & (error > 0)
        if not known.any():
            found[f"PSF flux of bright stars, {name}"] = (np.nan, np.nan, 1.0)
            continue
        weight = 1 / np.hypot(error[known], 0.005) ** 2
        scale = float(np.average(ratio[known], weights=weight))
        is_bright = np.isin(np.arange(len(y)), bright)
        for kind, which in (("bright", far & is_bright), ("faint", far & ~is_bright)):
            found[f"PSF flux of {kind} stars, {name}"] = (ratio[which], error[which], scale)
    return found


PSF_SCENES = {
    "14 PSF stars": Scene(Seeing(4.0), Sky(100.0), (1.5e3, 6e3), 30.0, 150),
    "crowded": Scene(Seeing(4.0), Sky(100.0), (2e3, 1e4), 13.0, 104),
    "undersampled": Scene(Seeing(1.8), Sky(20.0), (1.5e3, 6e3), 20.0, 100),
    "few": Scene(Seeing(4.0), Sky(100.0), (1.5e3, 6e3), 30.0, 150),
}


def trial_psf(seed: int) -> Found:
    return _fits(PSF_SCENES["14 PSF stars"], seed, 14)


def trial_psf_crowded(seed: int) -> Found:
    return _fits(PSF_SCENES["crowded"], seed, 14)


def trial_psf_undersampled(seed: int) -> Found:
    return _fits(PSF_SCENES["undersampled"], seed, 14)


def trial_psf_few_stars(seed: int) -> Found:
    return _fits(PSF_SCENES["few"], seed, 7)


def trial_psf_photutils(seed: int) -> Found:
    return _fits(PSF_SCENES["14 PSF stars"], seed, 14, ("photutils",))


def trial_psf_crowded_photutils(seed: int) -> Found:
    return _fits(PSF_SCENES["crowded"], seed, 14, ("photutils",))


def trial_catalogued(seed: int) -> Found:
    """Apertures of a dataset: stars of a catalogue anywhere, 0.5 % of the pixels are stars."""
    scene, rng = SCENES["crowded"], np.random.default_rng(seed)
    side, n, fwhm = 160, 128, 1.1 * scene.seeing.fwhm_px
    y, x = rng.uniform(-8, side + 8, (2, n))
    electrons = np.exp(rng.uniform(*np.log((2e3, 6e4)), n))
    image = exposure(rng, (side, side), (y, x, electrons), scene.seeing, scene.sky)
    variance = np.asarray(np.maximum(image, 0) + scene.sky.read_noise_e**2, np.float32)
    planes, known = Planes(image, variance, np.inf), (y + rng.normal(0, 0.02, n), x + rng.normal(0, 0.02, n))
    radii = tuple(1.3 * fwhm * factor for factor in RADII)
    apertures = star_apertures(planes, known, radii, fwhm, engine_of("fast"))
    places = np.stack([y, x], axis=1)
    resolved = cKDTree(places).query(places, k=2)[0][:, 1] > 0.4 * fwhm
    good = resolved & (np.minimum(y, x) > EDGE_PX) & (np.maximum(y, x) < side - 1 - EDGE_PX)
    found: Found = {}
    for i, factor in enumerate(RADII):
        truth = electrons[good] * np.interp(radii[i], *_growth(scene.seeing))
        name = f"aperture flux, {factor:g} of the main radius"
        found[name] = (apertures.flux[good, i] / truth, apertures.flux_error[good, i] / truth, 1.0)
    return found


def _zero_point(seed: int, n: int, catalogue: float, mismatches: int) -> Found:
    rng = np.random.default_rng(seed)
    mag, colour = rng.uniform(14, 19, n), rng.uniform(0.5, 2, n)
    error = 0.003 * 10 ** (0.24 * (mag - 14))
    has_colours = n > 50
    slope = 0.08 if has_colours else 0.0
    instrumental = mag - 25.3 - slope * (colour - np.median(colour)) + rng.normal(0, error)
    known = mag + rng.normal(0, catalogue, n)
    known[:mismatches] += rng.normal(0, 1, mismatches)
    found = find_zero_point(instrumental, error, known, colour if has_colours else None)
    if not has_colours:
        return {"zero point [mag]": (found.value, found.error, 25.3)}
    # the zero point is that of the median colour of the stars that were used: the brighter half
    good = np.argsort(instrumental)[: max(40, n // 2)]
    middle = slope * (np.median(colour[good]) - np.median(colour))
    term = {"colour term": (found.colour_term, found.colour_term_error, slope)} if found.colour_term else {}
    return {"zero point [mag]": (found.value, found.error, 25.3 + middle), **term}


def trial_zero_of_5(seed: int) -> Found:
    return _zero_point(seed, 5, 0.02, 0)


def trial_zero_of_15(seed: int) -> Found:
    return _zero_point(seed, 15, 0.02, 1)


def trial_zero_of_60(seed: int) -> Found:
    return _zero_point(seed, 60, 0.02, 2)


CENTRE = (150.0, 20.0)


def _on_sky(xi_arcsec: np.ndarray, eta_arcsec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of standard coordinates about `CENTRE`, by vectors."""
    ra, dec = np.radians(CENTRE)
    middle = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(middle, east)
    vector = middle[:, np.newaxis] + np.radians(np.outer(east, xi_arcsec) + np.outer(north, eta_arcsec)) / 3600
    vector = vector / np.linalg.norm(vector, axis=0)
    return np.degrees(np.arctan2(vector[1], vector[0])) % 360, np.degrees(np.arcsin(vector[2]))


def _plate(seed: int, n: int, order: int, displaced: float) -> Found:
    """A plate solution; the pointing is wrong by some arcseconds, some stars are displaced by neighbours."""
    rng = np.random.default_rng(seed)
    side, angle, scale = 1000, rng.uniform(-2, 2), 0.3 * (1 + rng.uniform(-0.01, 0.01))
    y, x = rng.uniform(0, side, (2, n))
    turn, u, v = np.radians(angle), x - 499.5, y - 499.5
    ra, dec = _on_sky(-scale * (np.cos(turn) * u + np.sin(turn) * v), scale * (np.cos(turn) * v - np.sin(turn) * u))
    ra, dec = ra + rng.normal(0, 0.01, n) / 3600 / np.cos(np.radians(dec)), dec + rng.normal(0, 0.01, n) / 3600
    error = 0.05 * np.exp(rng.normal(0, 0.5, n)) + (rng.random(n) < displaced) * 0.5
    y, x = y + rng.normal(0, error), x + rng.normal(0, error)
    guess = PlateSolution((CENTRE[0] + 0.002, CENTRE[1] - 0.002), (499.5, 499.5), np.diag([-0.3, 0.3]))
    found = match_stars((y, x), (ra, dec), guess, Uncertainty(match_arcsec=1.0), order)
    if found is None or found.errors is None:
        return {"plate scale [arcsec]": (np.nan, np.nan, scale)}
    solution, errors = found.solution, found.errors
    off = (np.array(solution.centre) - CENTRE) * 3600 * np.array([np.cos(np.radians(CENTRE[1])), 1.0])
    return {
        "plate scale [arcsec]": (solution.scale_arcsec, errors.scale_arcsec, scale),
        "direction of north [°]": (solution.north_angle_deg, errors.north_angle_deg, angle),
        "position of the image [arcsec]": (off, errors.centre_arcsec, 0.0),
    }


def trial_plate_of_4(seed: int) -> Found:
    return _plate(seed, 4, 1, 0.0)


def trial_plate_of_12(seed: int) -> Found:
    return _plate(seed, 12, 1, 0.0)


def trial_plate_of_60(seed: int) -> Found:
    return _plate(seed, 60, 1, 0.1)


def trial_plate_of_150(seed: int) -> Found:
    return _plate(seed, 150, 3, 0.0)


REGIMES: tuple[tuple[str, Callable[[int], Found], float], ...] = (
    ("bright", trial_bright, 1.0),
    ("faint", trial_faint, 1.0),
    ("crowded", trial_crowded, 0.5),
    ("dataset, crowded", trial_catalogued, 0.2),
    ("undersampled", trial_undersampled, 1.0),
    ("drizzled", trial_drizzled, 0.5),
    ("bright", trial_bright_photutils, 0.2),
    ("faint", trial_faint_photutils, 0.2),
    ("undersampled", trial_undersampled_photutils, 0.2),
    ("14 PSF stars", trial_psf, 0.5),
    ("7 PSF stars", trial_psf_few_stars, 0.5),
    ("crowded, 14 PSF stars", trial_psf_crowded, 0.3),
    ("undersampled, 14 PSF stars", trial_psf_undersampled, 0.5),
    ("14 PSF stars", trial_psf_photutils, 0.1),
    ("crowded, 14 PSF stars", trial_psf_crowded_photutils, 0.05),
    ("5 stars", trial_zero_of_5, 1.0),
    ("15 stars, a mismatch", trial_zero_of_15, 1.0),
    ("60 stars, two mismatches", trial_zero_of_60, 1.0),
    ("4 stars", trial_plate_of_4, 1.0),
    ("12 stars", trial_plate_of_12, 1.0),
    ("60 stars, some displaced", trial_plate_of_60, 1.0),
    ("150 stars, with distortion", trial_plate_of_150, 1.0),
)
"""Regimes, their trials, and how many in units of those wanted: an image of many stars is slow, and has many pulls."""


def collected(regime: str, found: Iterable[Found]) -> list[Pulls]:
    """Return the pulls of all quantities of a regime."""
    pulls: dict[str, Pulls] = {}
    for one in found:
        for name, values in one.items():
            quantity, _, unit = name.partition(" [")
            pulls.setdefault(name, Pulls(quantity, regime, unit.rstrip("]"))).add(*values)
    return list(pulls.values())


def report(trials: int, processes: int) -> str:
    """The table of all quantities and regimes."""
    pulls: list[Pulls] = []
    for regime, trial, share in REGIMES:
        pulls += collected(regime, simulate(trial, range(max(round(share * trials), 2)), processes))
    return f"{TEXT}\n{table(pulls)}\n{AFTERWORD}"


AFTERWORD = """
Fluxes and skies of stars with neighbours are measured without the neighbours' light, whose profile is fitted to the
stars of the image itself; the error of that profile is part of theirs. The errors of fluxes of fits hold that of the
PSF, as the stars from which it was made show it. Below a FWHM of 1.5 pixels the phase of the pixels displaces centroids
by 0.01 pixels, which no error holds.
"""
