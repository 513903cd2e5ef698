"""Frames with two places of nearly one height: the error says that either may be the higher one."""

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.science.registration.frame_measure import measure
from obsarchive.science.registration.position_noise import position_errors
from obsarchive.science.registration.rival_peaks import rival_of

SIDE, SIGMA = 64, 1.6


def sequence(least: float, n: int, light: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Photons of a star with a halo and two speckles, of which either is the fainter; and where the brighter one is."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    places = np.array([[29.3, 28.4], [33.8, 36.1]])
    frames, truth = [], []
    for _ in range(n):
        higher, ratio = rng.integers(2), rng.uniform(least, min(2 * least, 1.0))
        mean = 0.1 * light * np.exp(-((rows - 32) ** 2 + (columns - 32) ** 2) / 128)
        for i, (y, x) in enumerate(places):
            height = light * (1.0 if i == higher else ratio)
            mean = mean + height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * SIGMA**2))
        frames.append(rng.poisson(mean) + rng.normal(0, 2, mean.shape))
        truth.append(places[higher])
    return np.array(frames, np.float32), np.array(truth)


@pytest.mark.parametrize(("least", "wrong"), [(0.9, 0.2), (0.3, 0.0)])
def test_the_error_holds_the_choice_between_two_peaks(least: float, wrong: float) -> None:
    images, truth = sequence(least, 400)
    seen = [measure(image, SIGMA) for image in images]
    errors = position_errors([star.noise for star in seen])
    off = np.array([[star.y, star.x] for star in seen]) - truth
    assert np.mean(np.hypot(*off.T) > 4) == pytest.approx(wrong, abs=0.12)
    assert np.sqrt(np.mean(off**2, axis=0) / np.mean(errors**2, axis=0)) == pytest.approx(1.0, abs=0.25)
    assert (np.std(off / errors, axis=0) < 1.5).all()


def test_a_single_peak_has_no_rival() -> None:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    smooth = np.exp(-((rows - 30.2) ** 2 + (columns - 31.4) ** 2) / (4 * SIGMA**2))
    terms = np.diag([1.0, 0.0, 0.0])
    terms[2, 0] = terms[0, 2] = -1 / (2 * SIGMA**2)
    assert rival_of(smooth, (30.2, 31.4), terms, SIGMA) is None
    other = smooth + 0.8 * np.exp(-((rows - 45.0) ** 2 + (columns - 31.0) ** 2) / (4 * SIGMA**2))
    found = rival_of(other, (30.2, 31.4), terms, SIGMA)
    assert found is not None
    assert found.offset == pytest.approx([14.8, -0.4], abs=0.05)
    assert found.gap == pytest.approx(0.2, abs=0.01)
    assert (found.covariance(1e-9, 0.0) == 0).all()


def test_the_error_holds_the_choice_along_a_ridge() -> None:
    """Motion within an exposure draws a core out, and often leaves no second peak that is told from the first."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[: 4 * SIDE, : 4 * SIDE] / 4 - 0.375
    seen, truth = [], []
    for _ in range(200):
        fine = np.zeros(rows.shape)
        for x in (29.5, 34.5):
            light = 60 * rng.uniform(0.95, 1.05)
            fine += light * np.exp(-((rows - 31.1) ** 2 + (columns - x) ** 2) / (2 * SIGMA**2))
        smooth = ndimage.gaussian_filter(fine, 4 * SIGMA)
        truth.append(np.array(np.unravel_index(np.argmax(smooth), smooth.shape)) / 4 - 0.375)
        mean = fine.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))
        seen.append(measure((rng.poisson(mean) + rng.normal(0, 2, mean.shape)).astype(np.float32), SIGMA))
    errors = position_errors([star.noise for star in seen])
    off = np.array([[star.y, star.x] for star in seen]) - truth
    assert np.std(off[:, 1]) > 20 * np.std(off[:, 0])
    assert np.sqrt(np.mean(off**2, axis=0) / np.mean(errors**2, axis=0)) == pytest.approx(1.0, abs=0.4)
    # 4.5 along the ridge where only a second peak counts
    assert (np.std(off / errors, axis=0) < 2.2).all()


def test_the_end_of_a_ridge_is_a_rival() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - np.array([30.0, 31.0])[:, np.newaxis, np.newaxis]
    ridge = np.exp(-(y**2) / (4 * SIGMA**2)) * (1 - 0.01 * (x / 3) ** 4)
    terms = np.diag([1.0, 0.0, 0.0])
    # as steep at the peak as the whole would be if noise had not made it so
    terms[2, 0], terms[0, 2] = -1 / (2 * SIGMA**2), -0.05
    found = rival_of(np.maximum(ridge, 0), (30.0, 31.0), terms, SIGMA)
    assert found is not None
    assert np.abs(found.offset) == pytest.approx([0, 2], abs=0.05)
    assert found.gap == pytest.approx(0.01 * (2 / 3) ** 4, abs=0.002)
