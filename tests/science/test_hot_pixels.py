"""Hot pixels of a sequence: found wherever they lie, and told from the sharpest stars."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from obsarchive.science.imaging.hot_pixels import SHARPEST, SHARPEST_OF_BLOCKS, hot_pixels, remove_spikes

SIDE = 64


def star(y: float, x: float, fwhm_px: float) -> np.ndarray:
    """Gaussian of light 1, integrated over the pixels."""
    edges = (np.arange(SIDE + 1) - 0.5)[:, np.newaxis]
    along_y, along_x = np.diff(erf((edges - [y, x]) / (fwhm_px / 2.3548) / 2**0.5) / 2, axis=0).T
    return np.outer(along_y, along_x)


def means(seed: int, light: np.ndarray, n_frames: int = 50) -> list[np.ndarray]:
    """Means of five subsets of frames with photon noise, in front of a sky of 4 electrons, read noise 8 electrons."""
    rng = np.random.default_rng(seed)
    frames = rng.poisson(light + 4.0, (n_frames, SIDE, SIDE)) + rng.normal(0, 8.0, (n_frames, SIDE, SIDE))
    return [frames[k::5].mean(axis=0).astype(np.float32) for k in range(5)]


@given(
    place=st.tuples(st.floats(10, 54), st.floats(10, 54)),
    fwhm_px=st.floats(1.3, 8.0),
    light=st.floats(2.0, 6.0).map(lambda power: 10**power),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_no_pixel_of_a_star_is_hot(place: tuple[float, float], fwhm_px: float, light: float, seed: int) -> None:
    assert not hot_pixels(means(seed, light * star(*place, fwhm_px))).any()


@given(place=st.tuples(st.integers(1, 62), st.integers(1, 62)), excess=st.floats(50.0, 1e5), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_hot_pixel_is_found_on_the_sky_and_on_a_star(place: tuple[int, int], excess: float, seed: int) -> None:
    sky = np.zeros((SIDE, SIDE))
    sky[place] = excess
    assert np.argwhere(hot_pixels(means(seed, sky))).tolist() == [list(place)]
    # four times as bright as the star's own excess over the pixels two away
    on_star = 5000.0 * star(32.0, 32.0, 6.0)
    on_star[30, 33] += 300 + excess
    assert np.argwhere(hot_pixels(means(seed, on_star))).tolist() == [[30, 33]]


def test_a_cosmic_ray_of_one_image_is_no_hot_pixel_nor_is_what_lies_beside_unknown_pixels() -> None:
    light = np.zeros((SIDE, SIDE))
    light[20, 20] = 400.0
    images = means(1, light)
    images[2][40, 40] += 5000.0
    for image in images:
        image[50, 50], image[:, 60:] = np.nan, np.nan
        image[50, 51] += 400.0
    assert np.argwhere(hot_pixels(images)).tolist() == [[20, 20]]


@pytest.mark.parametrize("n", [1, 2])
def test_two_images_do_not_tell_hot_pixels_from_cosmic_rays(n: int) -> None:
    light = np.zeros((SIDE, SIDE))
    light[20, 20] = 400.0
    assert not hot_pixels(means(1, light)[:n]).any()


def test_blocks_are_left_where_they_are_not_asked_for() -> None:
    """Also in front of a background that noise puts below zero."""
    image = np.full((16, 16), -1.0, np.float32)
    image[7:9, 7:9] = 100.0
    assert (remove_spikes(image.copy(), 50.0) == image).all()
    assert (remove_spikes(image.copy(), 50.0, SHARPEST, SHARPEST_OF_BLOCKS) < 50).all()
