"""Frames that follow another star, or are turned, are recognised by the stars beside the guide star."""

import numpy as np
import pytest

from obsarchive.science.registration.guide_star_neighbours import (
    centred,
    followed,
    light_at,
    neighbours,
    opposites,
    smoothed,
)

CORE_PX, SIDE = 1.0, 60


def frame(rng: np.random.Generator, offsets: dict[tuple[float, float], float]) -> np.ndarray:
    """The star that is followed in the middle, others of these shares of its light; halo, noise."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    image = 0.2 * np.exp(-(y**2 + x**2) / 2 / 6**2) + 0.005 * rng.standard_normal(y.shape)
    for (dy, dx), share in {(0, 0): 1.0, **offsets}.items():
        image += share * rng.uniform(0.9, 1.1) * np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / 2 / 1.2**2)
    return image


def decided(frames: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    views = [centred(image, SIDE / 2, SIDE / 2) for image in frames]
    offsets = neighbours(smoothed(np.mean(views, axis=0), CORE_PX), 5)
    smooth = [smoothed(view, CORE_PX) for view in views]
    light = np.array([light_at(view, offsets) for view in smooth])
    offsets = np.vstack([offsets, opposites(offsets, light)])
    found = followed(np.array([light_at(view, offsets) for view in smooth]), offsets)
    return offsets, found.moves, found.is_odd


@pytest.mark.parametrize("hopping", [{3}, {1, 4, 5, 9, 12, 13, 17, 18}, set(range(10, 20))])
def test_frames_that_follow_the_other_of_two_equal_stars_are_moved(hopping):
    rng = np.random.default_rng(1)
    frames = [frame(rng, {(-12, 8): 1.0} if i in hopping else {(12, -8): 0.95}) for i in range(20)]
    # the mean hardly shows what a single one has on the opposite side
    _, moves, is_odd = decided(frames)
    assert not is_odd.any()
    assert {i for i in range(20) if moves[i].any()} == hopping
    assert all(np.hypot(*(moves[i] - (-12, 8))) < 1.5 for i in hopping)


def test_turned_and_mirrored_frames_of_a_double_star_are_odd():
    rng = np.random.default_rng(2)
    for other in ((-12, 8), (12, 8)):
        frames = [frame(rng, {other if i % 3 == 1 else (12, -8): 0.3}) for i in range(12)]
        _, moves, is_odd = decided(frames)
        assert not moves.any()
        assert np.flatnonzero(is_odd).tolist() == [1, 4, 7, 10]


def test_stars_that_are_in_all_frames_change_nothing():
    rng = np.random.default_rng(3)
    for stars in ({(12, -8): 1.0}, {(12, -8): 0.8, (-12, 8): 0.8}, {(12, -8): 0.3, (3, 20): 0.5}, {}):
        offsets, moves, is_odd = decided([frame(rng, stars) for _ in range(20)])
        assert len(offsets) >= len(stars)
        assert not moves.any()
        assert not is_odd.any()


def test_frames_in_which_the_neighbour_is_not_known_stay():
    rng = np.random.default_rng(4)
    frames = [frame(rng, {(12, -8): 0.5}) for _ in range(20)]
    for image in frames[:4]:
        image[SIDE // 2 + 8 : SIDE // 2 + 17, SIDE // 2 - 12 : SIDE // 2 - 4] = np.nan
    views = [centred(image, SIDE / 2, SIDE / 2) for image in frames]
    offsets = neighbours(smoothed(np.ma.masked_invalid(views).mean(axis=0).filled(np.nan), CORE_PX), 5)
    found = followed(np.array([light_at(smoothed(view, CORE_PX), offsets) for view in views]), offsets)
    assert not found.moves.any()
    assert not found.is_odd.any()


@pytest.mark.parametrize("n", [6, 20, 60])
@pytest.mark.parametrize("hit", [{2: (12, -8)}, {1: (-9, 11), 4: (10, 10)}])
def test_a_cosmic_ray_beside_the_star_is_no_star_that_other_frames_lack(n, hit):
    rng = np.random.default_rng(5)
    frames = [frame(rng, {}) for _ in range(n)]
    for i, (dy, dx) in hit.items():
        frames[i][SIDE // 2 + dy, SIDE // 2 + dx] += 60.0
    offsets, moves, is_odd = decided(frames)
    assert len(offsets) >= len(hit)
    assert not moves.any()
    assert not is_odd.any()


def test_frames_that_follow_the_other_star_are_moved_although_their_windows_end_there():
    rng = np.random.default_rng(6)
    frames = [frame(rng, {(-12, 8): 1.0} if i % 4 == 1 else {(12, -8): 1.0}) for i in range(20)]
    views = [centred(image, SIDE / 2, SIDE / 2) for image in frames]
    offsets = neighbours(smoothed(np.mean(views, axis=0), CORE_PX), 5)
    light = np.array([light_at(smoothed(view, CORE_PX), offsets) for view in views])
    mine, opposite = (np.argmin(np.hypot(*(offsets - place).T)) for place in ((12, -8), (-12, 8)))
    light[1::4, mine] = np.nan
    for lacking in ([], [0, 4, 8]):
        light[lacking, opposite] = np.nan
        found = followed(light, offsets)
        assert np.flatnonzero(found.moves.any(axis=1)).tolist() == list(range(1, 20, 4))
        assert not found.is_odd.any()


def test_a_single_frame_that_lacks_the_neighbour_of_all_others_is_odd():
    rng = np.random.default_rng(7)
    _, moves, is_odd = decided([frame(rng, {} if i == 53 else {(12, -8): 0.6}) for i in range(80)])
    assert not moves.any()
    assert np.flatnonzero(is_odd).tolist() == [53]
