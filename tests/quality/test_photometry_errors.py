"""A few of the trials of the quality page: errors of apertures and fits in crowds, and of a profile that misses."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality import photometry_errors as errors
from benchmarks.quality.photons import Seeing, Sky, exposure
from obsarchive.science.photometry.aperture import aperture_photometry
from obsarchive.science.photometry.psf_photometry import excess_scatter
from pipelines.photometry import PhotometrySettings, measure_image


def assert_holds(found, quantities):
    for pulls in found:
        if pulls.quantity.startswith(quantities):
            assert pulls.missing == 0
            assert 0.7 < pulls.std < 1.35, pulls.quantity
            assert abs(pulls.bias) < 0.45, pulls.quantity


def test_neighbours_are_neither_in_apertures_nor_in_skies():
    found = errors.collected("crowded", map(errors.trial_crowded, range(8)))
    assert_holds(found, ("aperture flux", "sky"))


def test_the_profile_of_a_part_serves_a_large_image(monkeypatch):
    large = replace(errors.SCENES["crowded"], side_px=330)
    monkeypatch.setitem(errors.SCENES, "crowded", large)
    assert_holds(errors.collected("large", [errors.trial_crowded(1)]), ("aperture flux", "sky"))


def test_fits_of_stars_in_a_crowd():
    assert_holds(errors.collected("fits", map(errors.trial_psf_crowded, range(6))), "PSF flux")


def test_fits_of_photutils_in_a_crowd_have_a_sky_of_their_own():
    """With one sky for all, faint stars lose 0.4 of their errors to the wings of bright ones."""
    (bright, faint) = errors.collected("crowd", [errors.trial_psf_crowded_photutils(seed) for seed in range(4)])
    assert bright.bias < 0.4
    assert faint.bias > -0.28
    assert faint.std < 1.27


def test_isolated_sources_stay_as_they_are():
    rng = np.random.default_rng(2)
    y, x = np.array([60.0, 60.0, 240.0, 240.0, 150.0, 150.0]), np.array([60.0, 240.0, 60.0, 240.0, 148.0, 160.0])
    stars = np.concatenate([y, [20.0]]), np.concatenate([x, [150.0]]), np.full(7, 2e4)
    image = exposure(rng, (300, 300), stars, Seeing(4.0), Sky(50.0))
    found = measure_image(image, PhotometrySettings(gain_e_adu=1.0))
    sources = found.sources
    level = np.asarray(found.background.noise**2 + np.maximum(image - found.background.level, 0), np.float32)
    inner = found.radius_px + max(3.0, 1.5 * found.fwhm_px)
    plain = aperture_photometry(image, level, (sources.y, sources.x), (found.radius_px,), (inner, inner + 8.0))
    pair = np.abs(sources.y - 150) < 10
    assert pair.sum() == 2
    np.testing.assert_array_equal(found.apertures.sky[~pair], plain.sky[~pair])
    # the other star of the pair was in the annulus
    assert (found.apertures.sky[pair] < plain.sky[pair]).all()


@pytest.mark.parametrize("excess", [0.0, 0.02])
def test_scatter_beyond_errors(excess):
    rng = np.random.default_rng(3)
    errors_of_values = rng.uniform(0.005, 0.02, 400)
    values = rng.normal(0, np.hypot(errors_of_values, excess))
    values[:4] = 1.0
    assert excess_scatter(values, errors_of_values**2) == pytest.approx(excess, abs=0.004)
    assert excess_scatter(values[:2], errors_of_values[:2] ** 2) == 0
