"""Apertures of a frame in a crowd: the light of neighbours is in none of them, and the errors are true."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from benchmarks.quality.photons import Seeing, Sky, exposure
from obsarchive.science.photometry.engine import Fast, engine_of
from obsarchive.timeseries.frame_apertures import gain_of, star_apertures
from obsarchive.timeseries.frame_table import Planes
from obsarchive.timeseries.star_catalog import annulus

SIDE, EDGE, FWHM = 160, 12, 4.4
RADII = tuple(1.3 * FWHM * factor for factor in (1.0, 0.7, 1.4, 2.0))
SEEING = Seeing(4.0)


@pytest.fixture(scope="module")
def growth() -> np.ndarray:
    """Share of the light of a star in each aperture."""
    return np.array([SEEING.share(radius, 400_000) for radius in RADII])


def crowd(seed: int, n: int) -> tuple[Planes, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A frame drawn photon by photon, the places that a catalogue knows, and the light of its stars."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(-8, SIDE + 8, (2, n))
    electrons = np.exp(rng.uniform(*np.log((2e3, 6e4)), n))
    image = exposure(rng, (SIDE, SIDE), (y, x, electrons), SEEING, Sky(100.0))
    variance = np.asarray(np.maximum(image, 0) + 25, np.float32)
    return Planes(image, variance, np.inf), (y + rng.normal(0, 0.02, n), x + rng.normal(0, 0.02, n)), electrons


def pulls(n: int, growth: np.ndarray, engine: str = "fast", trials: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Pulls of resolved stars in all apertures, with and without neighbours."""
    clean, plain = [], []
    for seed in range(trials):
        planes, (y, x), electrons = crowd(seed, n)
        distance = cKDTree(np.stack([y, x], axis=1)).query(np.stack([y, x], axis=1), k=2)[0][:, 1]
        good = (distance > 0.4 * FWHM) & (np.minimum(y, x) > EDGE) & (np.maximum(y, x) < SIDE - 1 - EDGE)
        truth = electrons[:, np.newaxis] * growth
        found = star_apertures(planes, (y, x), RADII, FWHM, engine_of(engine))
        raw = Fast().aperture_photometry(planes.image, planes.variance, (y, x), RADII, annulus(RADII[0], FWHM))
        for kept, apertures in ((clean, found), (plain, raw)):
            kept.append(((apertures.flux - truth) / apertures.flux_error)[good])
    return np.vstack(clean), np.vstack(plain)


@pytest.mark.parametrize("engine", ["fast", "photutils"])
def test_light_of_neighbours_is_in_no_aperture(growth: np.ndarray, engine: str) -> None:
    clean, plain = pulls(128, growth, engine, 6 if engine == "fast" else 3)
    assert (np.mean(plain, axis=0) > 10).all()
    assert (np.abs(np.mean(clean, axis=0)) < 0.3).all()
    spread = np.sqrt(np.mean(np.clip(clean, -5, 5) ** 2, axis=0))
    assert (spread > 0.8).all()
    assert (spread < 1.2).all()


def test_stars_alone_stay_as_they_are() -> None:
    y, x = (place.ravel() for place in np.mgrid[30:271:60, 30:271:60] + 0.3)
    rng = np.random.default_rng(5)
    image = exposure(rng, (300, 300), (y, x, np.full(25, 2e4)), SEEING, Sky(100.0))
    planes = Planes(image, np.asarray(np.maximum(image, 0) + 25, np.float32), np.inf)
    found = star_apertures(planes, (y, x), RADII, FWHM, Fast())
    plain = Fast().aperture_photometry(image, planes.variance, (y, x), RADII, annulus(RADII[0], FWHM))
    np.testing.assert_array_equal(found.flux, plain.flux)
    np.testing.assert_array_equal(found.flux_error, plain.flux_error)


def test_a_pair_that_nothing_resolves_is_one_star() -> None:
    planes, (y, x), electrons = crowd(7, 60)
    apart = cKDTree(np.stack([y, x], axis=1)).query(np.stack([y, x], axis=1), k=2)[0][:20, 1] > FWHM
    y, x = np.append(y, y[:20] + 0.5), np.append(x, x[:20])
    found = star_apertures(planes, (y, x), RADII, FWHM, Fast())
    once = star_apertures(planes, (y[:60], x[:60]), RADII, FWHM, Fast())
    inside = np.flatnonzero(apart & (np.minimum(y, x) > EDGE)[:20] & (np.maximum(y, x) < SIDE - 1 - EDGE)[:20])
    assert len(inside) >= 10
    flux = found.flux[[inside, inside + 60], 0]
    assert (np.abs(flux / once.flux[inside, 0] - 1) < 0.05 + 200 / electrons[inside]).all()


def test_stars_beyond_the_frame_and_of_unknown_place_do_not_matter() -> None:
    planes, (y, x), _ = crowd(8, 60)
    found = star_apertures(planes, (np.append(y, [np.nan, 9e9]), np.append(x, [5.0, 5.0])), RADII, FWHM, Fast())
    known = star_apertures(planes, (y, x), RADII, FWHM, Fast())
    np.testing.assert_array_equal(found.flux[:60], known.flux)
    assert np.isnan(found.flux[60:]).all()


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_the_gain_is_told_by_the_variance(gain: float) -> None:
    planes, _, _ = crowd(9, 60)
    counts = Planes(planes.image / np.float32(gain), planes.variance / np.float32(gain) ** 2, np.inf)
    assert gain_of(counts) == pytest.approx(gain, rel=0.02)
    flat = Planes(planes.image, np.ones_like(planes.variance), np.inf)
    assert gain_of(flat) == 0.0
