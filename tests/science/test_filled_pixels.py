"""Light that stars lose where pixels were filled from those around them."""

import numpy as np
import pytest

from obsarchive.science.imaging.calibration import calibrate
from obsarchive.science.photometry.filled_pixels import filled_pixels, light_at_stake


@pytest.mark.parametrize(("fwhm_px", "place"), [(3.5, (30, 40)), (1.8, (30, 40)), (3.5, (33, 41))])
def test_the_light_at_stake_is_what_filling_costs(fwhm_px: float, place: tuple[int, int]) -> None:
    y, x = np.indices((60, 80))
    variance, star, flux = (fwhm_px / 2.3548) ** 2, (30.2, 40.3), 5e4
    squared = (y - star[0]) ** 2 + (x - star[1]) ** 2
    image = (flux * np.exp(-squared / (2 * variance)) / (2 * np.pi * variance)).astype(np.float32)
    bad = np.zeros(image.shape, bool)
    bad[place] = True
    cost = abs(calibrate(image, None, None, bad).sum() - image.sum())
    stars = np.array([star[0], 10, np.nan]), np.array([star[1], 10, np.nan])
    found = light_at_stake(filled_pixels(bad.astype(np.float32)), stars, np.array([flux, flux, 1]), fwhm_px, 6.0)
    assert found == pytest.approx([cost, 0, 0], rel=1e-4)


def test_nothing_is_at_stake_without_filled_pixels_or_stars() -> None:
    none, some = np.zeros((9, 9), np.float32), np.ones((9, 9), np.float32)
    place, flux = (np.array([4.0]), np.array([4.0])), np.array([1e4])
    assert light_at_stake(filled_pixels(none), place, flux, 3.0, 4.0).tolist() == [0]
    empty = np.array([])
    assert light_at_stake(filled_pixels(some), (empty, empty), empty, 3.0, 4.0).size == 0
    far = (np.array([90.0]), np.array([90.0]))
    assert light_at_stake(filled_pixels(some), far, flux, 3.0, 4.0).tolist() == [0]
    # pixels that several exposures show, of which some are whole
    half, full = (light_at_stake(filled_pixels(s * some), place, flux, 3.0, 4.0)[0] for s in (0.5, 1.0))
    assert half == pytest.approx(full / 2)
