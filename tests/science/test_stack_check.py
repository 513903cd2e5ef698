"""The signal-to-noise ratio of the star of a stack, against filters that sum pixel by pixel."""

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.science.registration.stack_check import star_snr


def stack(shape: tuple[int, int], place: tuple[float, float], sigma: float, peak: float) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    star = peak * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * sigma**2))
    return (star + np.random.default_rng(4).normal(20.0, 1.0, shape)).astype(np.float32)


@pytest.mark.parametrize("place", [(60.2, 75.7), (3.0, 90.0), (118.0, 149.0)])
@pytest.mark.parametrize("sigma", [1.4, 3.5])
def test_the_ratio_is_that_of_gaussian_filters(place, sigma):
    image = stack((120, 151), place, sigma, 6.0)
    image[:2] = np.nan
    pixels = np.nan_to_num(image - np.nanmedian(image))
    y, x = map(round, place)
    wanted = []
    for width in (sigma, 2 * sigma):
        smooth = ndimage.gaussian_filter(pixels, width) - ndimage.gaussian_filter(pixels, 3 * width)
        scatter = 1.4826 * np.median(np.abs(smooth[2:] - np.median(smooth[2:])))
        wanted.append(smooth[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].max() / scatter)
    assert star_snr(image, place, sigma) == pytest.approx(max(wanted), rel=0.01)


def test_an_empty_stack_has_no_ratio():
    assert np.isnan(star_snr(np.full((60, 60), np.nan, np.float32), (30, 30), 2.0))
    assert np.isnan(star_snr(np.zeros((60, 60), np.float32), (30, 30), 2.0))
