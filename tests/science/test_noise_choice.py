"""Noise that frames are aligned on because it chose between two places of their star."""

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.stack_noise import LIFT_ERROR, aligned_noise, noise_of_frames
from obsarchive.science.registration.frame_measure import FrameMeasure, measure
from obsarchive.science.registration.noise_choice import CoreChoice

SIDE, SEARCHED, SCALE, LIGHT, SKY = 64, 1.05, 6.0, 2500.0, 0.3


def speckled(rng: np.random.Generator) -> np.ndarray:
    """A star without adaptive optics: no core, a dozen speckles."""
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    waves = rng.normal(size=(2, SIDE, SIDE))
    # speckles as wide as those of a telescope whose peaks are looked for with this Gaussian
    speckles = np.sum([ndimage.gaussian_filter(wave, 1.2 * SEARCHED, mode="wrap") ** 2 for wave in waves], axis=0)
    star = speckles * np.exp(-(rows**2 + columns**2) / (2 * 5.0**2))
    return LIGHT * star / star.sum()


def sequence(n: int) -> tuple[list[FrameMeasure], Drizzle, Drizzle]:
    """Stars of n frames, and their noise and their light where they are aligned."""
    rng = np.random.default_rng(7)
    measures, noise, light = [], Drizzle((SIDE, SIDE), 2, 0.6), Drizzle((SIDE, SIDE), 2, 0.6)
    for i in range(n):
        # opposite noise in turn, of which nothing is left but what depends on where the frame is aligned
        if i % 2 == 0:
            star = speckled(rng)
            of_frame = rng.normal(size=star.shape) * np.sqrt(star + SKY)
        of_frame = -of_frame
        found = measure((star + of_frame).astype(np.float32), SEARCHED, SCALE)
        measures.append(found)
        for stack, image in ((noise, of_frame), (light, star)):
            stack.add(image.astype(np.float32), SIDE / 2 - found.y, SIDE / 2 - found.x)
    return measures, noise, light


def test_noise_of_speckled_frames() -> None:
    measures, noise, light = sequence(800)
    assert 0.2 < np.mean([found.is_core for found in measures]) < 0.8
    told = noise_of_frames(measures, 2, 0.6)
    centre = noise.output_position(SIDE / 2, SIDE / 2)
    distance = np.hypot(*(axis - c for axis, c in zip(np.indices((2 * SIDE, 2 * SIDE)), centre, strict=True)))
    radii = np.linspace(0, 20, 200)
    core = distance < 22
    weights = np.exp(-((distance[core] - radii[:, np.newaxis]) ** 2))
    profile = weights @ light.image()[core] / weights.sum(axis=1)
    expected = aligned_noise(radii, profile, told, float(np.hypot(2 * SEARCHED, 0.4)))
    near, below = distance < 2.5, (distance > 3) & (distance < 6)
    # half as much without the choices
    for part, tolerance in ((near, 0.2), (below, 0.3)):
        there = np.interp(distance[part], radii, expected).mean()

        assert there == pytest.approx(noise.image()[part].mean(), rel=tolerance)
    assert LIFT_ERROR <= told.lift_error < 1.2 * LIFT_ERROR


def test_a_choice_without_doubt_lifts_nothing() -> None:
    sure, even = (CoreChoice(margin, 0.8, 100.0, 1.0, SEARCHED) for margin in (0.6, 0.0))
    assert sure.lifts(1.0, 1.0) == pytest.approx((0, 0), abs=1e-9)
    in_hollow, alone = even.lifts(1.0, 1.0)
    assert in_hollow > 0 > alone
    # core and centroid at one place
    assert CoreChoice(0.0, 0.8, 100.0, 0.0, SEARCHED).lifts(1.0, 1.0) == pytest.approx((0, 0))


def test_a_star_of_no_height_lifts_nothing() -> None:
    assert CoreChoice(0.0, 0.0, 0.0, 1.0, SEARCHED).lifts(1.0, 1.0) == (0, 0)
    assert CoreChoice(0.0, 0.5, 100.0, 1.0, SEARCHED).lifts(0.0, 0.0) == (0, 0)
