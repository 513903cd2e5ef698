"""Widths of core and halo, and their errors, of stars whose widths are known."""

import numpy as np
import pytest

from obsarchive.science.psf.core_and_halo import CoreAndHalo, fit_core_and_halo
from obsarchive.science.psf.model import Optics
from obsarchive.science.psf.radial_profile import StarProfile
from obsarchive.science.psf.stack_noise import StackNoise, aligned_noise
from obsarchive.science.psf.strehl import measure_strehl

HALF, APERTURE, CORE = 150, 100.0, 12.0


def star(offset: tuple[float, float]) -> np.ndarray:
    """A Gaussian of 4 pixels on a Moffat profile of 30."""
    grid = np.arange(-HALF, HALF + 1)
    squared = (grid[:, np.newaxis] - offset[0]) ** 2 + (grid - offset[1]) ** 2
    of_halo = squared * 4 * (2 ** (1 / 4.765) - 1) / 30**2
    return 700 * np.exp(-4 * np.log(2) * squared / 16) + 300 * (1 + of_halo) ** -4.765


def fit(image: np.ndarray, offset: tuple[float, float], variance: float) -> CoreAndHalo:
    profile = StarProfile(image, (HALF, HALF), APERTURE, CORE)
    return fit_core_and_halo(profile, offset, (5.0, 40.0), np.full(profile.box.shape, variance))


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.49, 0.49), (-0.4, 0.2)])
def test_widths_do_not_depend_on_where_in_its_pixel_a_star_is(offset):
    found = fit(star(offset), offset, 1e-6)
    assert found.core == pytest.approx(4.0, rel=1e-3)
    assert found.halo == pytest.approx(30.0, rel=1e-3)


def test_errors_of_a_star_that_has_not_the_shape_of_the_model():
    grid = np.arange(-HALF, HALF + 1)
    distance = np.hypot(grid[:, np.newaxis] - 0.2, grid - 0.3)
    # a ring, as diffraction makes them
    image, sigma = star((0.2, 0.3)) + 100 * np.exp(-0.5 * ((distance - 16) / 5) ** 2), 3.0
    fits = [
        fit(image + sigma * np.random.default_rng(seed).standard_normal(image.shape), (0.2, 0.3), sigma**2)
        for seed in range(60)
    ]
    for name in ("core", "halo"):
        actual = np.std([getattr(each, name) for each in fits])
        claimed = np.median([getattr(each, f"{name}_error") for each in fits])
        assert 0.8 < actual / claimed < 1.2, name


@pytest.mark.parametrize(("noise", "seed"), [(1, 1), (1, 3), (30, 3), (30, 4)])
def test_a_lone_hot_pixel_is_too_sharp_and_its_errors_are_numbers(noise, seed):
    image = 100 + noise * np.random.default_rng(seed).standard_normal((160, 160))
    image[70, 80] = 1e5
    found = measure_strehl(image, Optics(2.1, 0.5, 763.0, 153.0), 0.0347 / 2)
    assert np.isfinite(found.core_error_arcsec)
    assert "too sharp" in found.reason


def test_aligned_noise_is_no_part_of_the_widths():
    optics, pixel_arcsec = Optics(2.1, 0.5, 765.0, 0.0), 0.0174
    searched_px = np.hypot(optics.lambda_over_d_arcsec / pixel_arcsec / 2, 0.2)
    grid = np.arange(-HALF, HALF + 1)
    lift = 0.08 * 1000
    radii, pixels = np.unique(np.hypot(grid[:, np.newaxis], grid), return_inverse=True)
    none = np.zeros(len(radii))
    noise = aligned_noise(radii, none, StackNoise(0.01, 0.0, lift), float(searched_px))[pixels].reshape(2 * [len(grid)])
    assert abs(noise.sum()) < 1e-6 * lift, "no light"
    without = measure_strehl(star((0.0, 0.0)), optics, pixel_arcsec, noise=StackNoise(0.01, 0.0))
    found = measure_strehl(star((0.0, 0.0)) + noise, optics, pixel_arcsec, noise=StackNoise(0.01, 0.0, lift))
    for name in ("ratio", "fwhm_arcsec", "core_arcsec", "halo_arcsec"):
        assert getattr(found, name) == pytest.approx(getattr(without, name), rel=5e-3), name
        if name != "ratio":
            assert getattr(found, name.replace("_", "_error_")) > getattr(without, name.replace("_", "_error_"))
