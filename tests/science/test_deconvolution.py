"""Extended objects found, ranked and deconvolved; against simulated truth and scikit-image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

from obsarchive.errors import Unprocessable
from obsarchive.science.imaging.cosmics import coincident_mask
from obsarchive.science.imaging.deconvolution import deconvolve, predicted_best
from obsarchive.science.imaging.extended_source import find_object, sharpness, sky_below
from obsarchive.simulation.scenes import planetary_disc


def gaussian(sigma: float, side: int = 31) -> np.ndarray:
    y, x = np.mgrid[-(side // 2) : side // 2 + 1, -(side // 2) : side // 2 + 1]
    psf = np.exp(-(y**2 + x**2) / (2 * sigma**2))
    return psf / psf.sum()


def scene(seed: int, level: float = 400.0) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """A planet, two noisy images of it, and the PSF."""
    truth = level * np.pad(planetary_disc(40, 120, seed), 10)
    psf = gaussian(2.5)
    blurred = signal.fftconvolve(truth, psf, mode="same")
    rng = np.random.default_rng(seed)
    return truth, [rng.poisson(np.maximum(blurred, 0) + 20).astype(np.float32) - 20 for _ in range(2)], psf


def detail(image: np.ndarray) -> np.ndarray:
    return image - ndimage.gaussian_filter(image, 4)


def correlation(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.corrcoef(detail(image).ravel(), detail(truth).ravel())[0, 1])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_detail_comes_back_and_noise_does_not(seed: int) -> None:
    truth, halves, psf = scene(seed)
    found = deconvolve(*halves, psf)
    mean = np.mean(halves, axis=0)
    assert correlation(found.image, truth) > correlation(mean, truth) + 0.05
    assert found.image.min() >= 0
    assert found.image.sum() == pytest.approx(truth.sum(), rel=0.05)
    more = deconvolve(*halves, gaussian(2.5)).iterations
    assert more == found.iterations


@pytest.mark.parametrize("seed", [1, 2])
def test_the_data_stop_near_the_best_iteration(seed: int) -> None:
    """The truth is not known to the stopping rule; no other number of iterations would be much better."""
    from skimage.restoration import richardson_lucy

    truth, halves, psf = scene(seed)
    mean = np.maximum(np.mean(halves, axis=0), 0).astype(np.float64)
    theirs = max(
        correlation(richardson_lucy(mean / mean.max(), psf, num_iter=n, clip=False), truth)
        for n in (5, 10, 20, 40, 80, 160)
    )
    assert correlation(deconvolve(*halves, psf).image, truth) > theirs - 0.02


def test_more_light_allows_more_iterations() -> None:
    few = predicted_best(*scene(4, 50.0)[1], gaussian(2.5))[0]
    many = predicted_best(*scene(4, 5000.0)[1], gaussian(2.5))[0]
    assert many > 2 * few


def test_the_right_psf_predicts_best() -> None:
    _, halves, psf = scene(5)
    misfits = [predicted_best(*halves, other)[1] for other in (psf, gaussian(4.5))]
    assert misfits[0] < misfits[1]


def test_unknown_pixels_do_no_harm() -> None:
    truth, halves, psf = scene(6)
    for half in halves:
        half[:, :8] = np.nan
        half[70, 70] = np.nan
    found = deconvolve(*halves, psf)
    assert np.isfinite(found.image).all()
    assert correlation(found.image[:, 10:], truth[:, 10:]) > 0.8


def test_a_psf_without_light_is_refused() -> None:
    _, halves, _ = scene(1)
    with pytest.raises(Unprocessable, match="the PSF holds no light"):
        deconvolve(*halves, np.full((5, 5), -1.0))


@given(seed=st.integers(0, 999), shape=st.sampled_from([(33, 40), (64, 48)]), flat=st.booleans())
@settings(max_examples=15)
def test_whatever_the_image_the_result_is_finite(seed: int, shape: tuple[int, int], flat: bool) -> None:
    rng = np.random.default_rng(seed)
    halves = [np.full(shape, 3.0) if flat else rng.normal(0, 5, shape) for _ in range(2)]
    found = deconvolve(*halves, gaussian(1.5, 11))
    assert np.isfinite(found.image).all()
    assert 1 <= found.iterations <= 160


def test_an_object_is_boxed_with_room_around_it() -> None:
    rng = np.random.default_rng(1)
    frame = rng.normal(10, 2, (300, 260))
    frame[100:160, 60:150] += 50
    frame[20, 200] = 9000
    box = find_object(frame)
    assert box.y0 < 100 < 160 < box.y1
    assert box.x0 < 60 < 150 < box.x1
    assert box.shape[0] < 110
    assert box.shape[1] < 160
    assert all(side % 2 == 0 for side in box.shape)


def test_a_filled_frame_is_its_own_box_and_an_empty_one_has_none() -> None:
    y, x = np.mgrid[:120, :140]
    assert find_object(1000 + 50 * np.sin(y / 9) * np.cos(x / 7)).shape[0] >= 118
    with pytest.raises(Unprocessable, match="flat"):
        find_object(np.random.default_rng(2).normal(0, 1, (100, 100)))
    with pytest.raises(Unprocessable, match="no pixel"):
        find_object(np.full((100, 100), np.nan))
    with pytest.raises(Unprocessable, match="at least 32"):
        find_object(np.ones((10, 100)))


def test_sharp_frames_are_told_from_blurred_ones() -> None:
    truth = 100 * planetary_disc(40, 128, 7)
    rng = np.random.default_rng(8)
    widths = rng.permutation(np.linspace(1.0, 3.0, 20))
    frames = np.array([ndimage.gaussian_filter(truth, w) + rng.normal(0, 5, truth.shape) for w in widths], np.float32)
    frames[3, 64, 64:67] += 5000
    found = sharpness(frames, np.zeros((20, 2)), frames.mean(axis=0))
    assert np.corrcoef(np.delete(found, 3), -np.delete(widths, 3))[0, 1] > 0.95


def test_what_one_half_only_shows_is_removed() -> None:
    _, (first, second), _ = scene(9)
    before = first.copy()
    hits = [(30, 40), (70, 71), (100, 20)]
    for y, x in hits:
        first[y, x : x + 3] += 3000
    one, other, n = coincident_mask(first, second)
    assert 9 <= n <= 30
    assert all(abs(one[y, x] - second[y, x]) < 1 for y, x in hits)
    assert np.mean(one != before) < 0.01
    assert np.mean(other != second) < 0.01


def test_the_sky_is_the_darkest_part() -> None:
    image = np.random.default_rng(3).normal(12, 1, (100, 100))
    image[30:70, 30:70] += 100
    image[:5] = np.nan
    assert sky_below(image) == pytest.approx(12, abs=0.6)
