"""Noise of the light of stars whose speckles vary from pixel to pixel."""

import numpy as np
import pytest

from obsarchive.science.registration.frame_measure import measure
from obsarchive.science.registration.photon_transfer import folded_share, grain_of_rings, sums_of_rings
from obsarchive.science.registration.position_noise import noise_and_speckles, position_errors

SIDE, GAIN = 64, 30.0


def frames(n: int, contrast: float, core: float) -> list[np.ndarray]:
    """Photo-electrons of a star in a halo, doubled in variance as by a register, with speckles in every pixel."""
    rng = np.random.default_rng(8)
    distance = np.hypot(*np.ogrid[-32.2:31.8, -31.7:32.3])
    halo = 300 * (1 + (distance / 6) ** 2) ** -3
    star = core * np.exp(-(distance**2) / (2 * 0.7**2))
    seen = []
    for _ in range(n):
        mean = star + halo * rng.gamma(1 / contrast, contrast, (SIDE, SIDE))
        electrons = rng.standard_gamma(np.maximum(rng.poisson(mean + 0.1), 1e-9)) - 0.1
        seen.append((GAIN * (electrons + rng.normal(0, 0.4, mean.shape))).astype(np.float32))
    return seen


@pytest.mark.parametrize("contrast", [0.02, 0.3])
def test_speckles_of_wide_pixels_do_not_pass_for_noise(contrast: float) -> None:
    wide = [measure(image, 0.55).noise for image in frames(12, contrast, 5000.0)]
    # the register doubles the variance
    noise, speckles = noise_and_speckles(wide)
    assert noise == pytest.approx(2 * GAIN, rel=0.15)
    # the halo has 60 to 250 photo-electrons a pixel in the innermost ring, 300 at the core
    assert 100 * contrast * GAIN < speckles < 400 * contrast * GAIN
    # of narrow pixels all that varies so fast is noise
    narrow = [measure(image, 1.1).noise for image in frames(12, contrast, 5000.0)]
    assert noise_and_speckles(narrow)[0] > 2 * noise


@pytest.mark.parametrize("side", [16, 22, 30])
def test_speckles_of_windows_too_small_to_tell_them_count_as_noise(side: int) -> None:
    middle = slice(32 - side // 2, 32 + side // 2)
    small = [measure(image[middle, middle], 0.55).noise for image in frames(12, 0.3, 5000.0)]
    noise, speckles = noise_and_speckles(small)
    assert noise > 2 * GAIN
    assert speckles == 0
    assert np.isfinite(position_errors(small)).all()


def test_grain_of_rings_without_noise_of_the_light() -> None:
    light = np.full((40, 40), 3.0)
    sums = sums_of_rings(light, np.zeros((40, 40)), (19.5, 19.5))
    assert sums[:, 0].sum() == pytest.approx(np.pi * 16**2, rel=0.02)
    assert sums[:, 2] == pytest.approx(3 * sums[:, 0])
    grain, speckles = grain_of_rings(sums, 1.0)
    assert (grain, speckles) == pytest.approx((0, 0), abs=1e-9)


def test_narrow_pixels_fold_nothing_back() -> None:
    assert folded_share(1.0, 1.0) == 0
    assert folded_share(0.54, 0.6) > folded_share(0.7, 0.7) > 0
