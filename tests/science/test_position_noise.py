"""Errors of positions of sequences in which some frames have a core, and some only a centroid."""

from dataclasses import replace

import numpy as np
import pytest

from obsarchive.science.registration.frame_measure import measure
from obsarchive.science.registration.position_noise import PositionNoise, position_errors

SIDE, CORE, SCALE = 96, 1.1, 7.0
SEEN = PositionNoise(0.01 * np.eye(2), np.zeros((2, 2)), variance=1.0, lift=1.0, excess=0.0, total=1.0)


def frames_of(n_cores: int, n_wholes: int) -> list[PositionNoise | None]:
    rng = np.random.default_rng(2)
    cores = [replace(SEEN, from_whole=rng.normal(0, (0.4, 0.2))) for _ in range(n_cores)]
    return [*cores, *[SEEN] * n_wholes, None]


def test_a_centroid_among_cores_is_as_uncertain_as_these_scatter_about_theirs() -> None:
    errors = position_errors(frames_of(2000, 10))
    assert errors[:2000] == pytest.approx(0.1)
    # the scatter holds the noise of the cores, which is not counted twice
    assert errors[2005] == pytest.approx([0.4, 0.2], rel=0.05)
    assert np.isnan(errors[-1]).all()


def test_a_sequence_of_centroids_has_their_errors() -> None:
    errors = position_errors(frames_of(10, 20))
    assert errors[:-1] == pytest.approx(0.1)


def star(core: np.ndarray, light: float, seed: int) -> np.ndarray:
    """Photons of a core in a halo at (48, 48)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - 48.0
    halo = np.exp(-(y**2 + x**2) / (2 * 9.0**2))
    image = 0.8 * halo / halo.sum() + 0.2 * core / core.sum()
    return (rng.poisson(light * image) + rng.normal(0, 1, image.shape)).astype(np.float32)


def test_a_core_that_motion_has_drawn_out_is_one() -> None:
    """It is too blunt for its distance from the centroid, but noise would not have put it there."""
    y, x = np.mgrid[:SIDE, :SIDE] - 48.0
    core = np.exp(-((y - 1.2) ** 2) / (2 * CORE**2) - (x + 0.5) ** 2 / (2 * 2.8**2))
    seen = [measure(star(core, 4e5, seed), CORE, SCALE) for seed in range(20)]
    assert max(m.sharpness for m in seen) < 0.28
    places = np.array([[m.y, m.x] for m in seen]) - 48
    assert places == pytest.approx(np.broadcast_to([1.2, -0.5], places.shape), abs=0.35)


@pytest.mark.parametrize("light", [2e4, 1e5, 4e5])
def test_the_highest_point_of_a_disc_is_noise(light: float) -> None:
    """Positions in a smooth disc are those of its centroid, of which noise knows more than of its highest point."""
    y, x = np.mgrid[:SIDE, :SIDE] - 48.0
    disc = np.exp(-(y**2 + x**2) / (2 * 9.0**2))
    seen = [measure(star(disc, light, seed), CORE, 9.0) for seed in range(30)]
    off = np.array([[m.y, m.x] for m in seen]) - 48
    # the centroid weighted with 1.5 times the disc has 1.4 times the error of the best one, of read-out noise some more
    assert np.sqrt(np.mean(off**2)) < 2.5 * 9.0 / np.sqrt(light)


def test_cosmic_rays_of_single_frames_are_no_noise_of_all() -> None:
    core = np.exp(-np.add.outer((np.arange(SIDE) - 48.0) ** 2, (np.arange(SIDE) - 48.0) ** 2) / (2 * CORE**2))
    clean = [star(core, 2e4, seed) for seed in range(24)]
    hit = [image.copy() for image in clean]
    # fainter than the core, once both are smoothed
    for x in (10, 30, 50, 70, 90):
        hit[3][4:6, x : x + 2] += 450
    hit[9][55:57, 40:42] += 450
    expected = position_errors([measure(image, CORE, SCALE).noise for image in clean])
    errors = position_errors([measure(image, CORE, SCALE).noise for image in hit])
    assert errors == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rim", [(2, 50), (48, 91), (5, 5)])
def test_a_star_at_the_rim_of_the_window_is_no_noise(rim: tuple[int, int]) -> None:
    core = np.exp(-np.add.outer((np.arange(SIDE) - 48.0) ** 2, (np.arange(SIDE) - 48.0) ** 2) / (2 * CORE**2))
    alone = [star(core, 2e4, seed) for seed in range(20)]
    y, x = np.mgrid[:SIDE, :SIDE]
    other = 200 * np.exp(-((y - rim[0]) ** 2 + (x - rim[1]) ** 2) / (2 * 1.5**2))
    beside = [image + np.random.default_rng(i).poisson(other).astype(np.float32) for i, image in enumerate(alone)]
    expected = position_errors([measure(image, CORE, SCALE).noise for image in alone])
    errors = position_errors([measure(image, CORE, SCALE).noise for image in beside])
    assert errors == pytest.approx(expected, rel=0.15)
