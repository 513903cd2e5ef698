"""Frames matched by their stars, put onto each other, and stacks checked against frames; the truth is known."""

import numpy as np
import pytest

from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.resampling import Turn, turned, without_sharp_pixels
from obsarchive.science.registration.frame_orientation import orient
from obsarchive.science.registration.stack_check import check_stack
from obsarchive.science.registration.star_patterns import match, star_list
from tests.science.fields import exposure, sky_of, turn_about_middle, with_cosmic_rays

SIDE = 300
CORNERS = np.array([(0.0, 0.0), (0.0, SIDE), (SIDE, 0.0)])
TURNS = {
    "half a turn": turn_about_middle(SIDE, 180, shift=(2.3, -3.1)),
    "a quarter": turn_about_middle(SIDE, 90),
    "mirrored in x": turn_about_middle(SIDE, mirror=True, shift=(4.0, 1.5)),
    "mirrored in y": turn_about_middle(SIDE, 180, mirror=True),
    "mirrored and turned": turn_about_middle(SIDE, 33, mirror=True),
    "half a degree": turn_about_middle(SIDE, 0.5),
    "seven degrees": turn_about_middle(SIDE, 7, shift=(10.0, 3.0)),
    "dithered by 60 %": turn_about_middle(SIDE, shift=(0.6 * SIDE, 0.0)),
    "dithered both ways": turn_about_middle(SIDE, shift=(-0.4 * SIDE, 0.4 * SIDE)),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("n_stars", [20, 60, 400])
def test_turns_are_found(turn: Turn, n_stars: int) -> None:
    stars = sky_of(9 * n_stars, SIDE, beyond=SIDE)
    frame = with_cosmic_rays(exposure(stars, SIDE, turn, seed=2), 20, seed=3)
    found = match(star_list(frame), star_list(exposure(stars, SIDE)))
    assert found is not None
    assert found.is_certain
    assert np.abs(found.turn(CORNERS) - turn(CORNERS)).max() < 0.25
    assert found.turn.is_shift == turn.is_shift
    assert found.turn.is_mirrored == turn.is_mirrored


def test_other_fields_do_not_match() -> None:
    lists = [star_list(exposure(sky_of(60, SIDE, seed=seed), SIDE, seed=seed)) for seed in range(4)]
    found = orient(lists)
    assert found.has_nothing_in_common
    assert sum("stars agree" in reason for reason in found.reasons) == 3


def test_a_scale_that_changed_is_found() -> None:
    stars, scale = sky_of(60, SIDE), 1.03
    middle = np.full(2, (SIDE - 1) / 2)
    turn = Turn(np.eye(2) * scale, middle - scale * middle)
    found = match(star_list(exposure(stars, SIDE, turn)), star_list(exposure(stars, SIDE)))
    assert found is not None
    assert found.turn.scale == pytest.approx(scale, abs=3e-4)


def test_two_stars_agree_or_are_not_sure() -> None:
    stars = np.array([(100.0, 120.0, 60000.0), (200.0, 170.0, 15000.0)])
    turns = [turn_about_middle(SIDE, angle, shift=(3, 4)) for angle in (0, 0, 180)]
    frames = [exposure(stars, SIDE, turn, seed=i) for i, turn in enumerate(turns)]
    found = orient([star_list(frame) for frame in frames])
    assert found.reasons[:2] == ("", "")
    assert found.reasons[2].startswith("contradicted: 1 of 2")


@pytest.mark.parametrize("off_px", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("others", [1, 3])
def test_stars_on_a_line_are_not_mirrored(off_px: float, others: int) -> None:
    along, across = np.array([70.0, 60.0]), np.array([60.0, -70.0]) / np.hypot(60, 70)
    places = [(150, 150), 150 - along, 150 + along + off_px * across, 150 + 0.4 * along, 150 - 0.55 * along]
    stars = np.column_stack([places, [1e5, 3e4, 2e4, 4e4, 2.5e4]])[: 2 + others]
    lists = [star_list(exposure(stars, SIDE, Turn.shift(2 * i, -3 * i), seed=i)) for i in range(8)]
    for i, found in enumerate(match(frame, lists[0]) for frame in lists[1:]):
        assert found is not None
        assert found.is_certain
        assert found.turn.is_shift
        assert np.abs(found.turn.offset - (2 * i + 2, -3 * i - 3)).max() < 0.2


def test_stars_beside_a_galaxy_tell_half_a_turn() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    galaxy = (20000 * np.exp(-np.hypot(1.8 * (y - 0.55 * SIDE), x - 0.45 * SIDE) / 15)).astype(np.float32)
    frame = exposure(sky_of(12, SIDE), SIDE) + galaxy
    found = match(star_list(frame[::-1, ::-1]), star_list(frame))
    assert found is not None
    assert found.is_certain
    assert found.turn.angle_deg == pytest.approx(180, abs=0.1) or found.turn.angle_deg == pytest.approx(-180, abs=0.1)


def test_one_star_has_nothing_to_contradict() -> None:
    stars = np.array([(100.0, 120.0, 60000.0)])
    found = orient([star_list(exposure(stars, SIDE, Turn.shift(5 * i, -40 * i), seed=i)) for i in range(3)])
    assert found.reasons == ("", "", "")
    assert np.abs(found.shifts((SIDE, SIDE))[2] - (10, -80)).max() < 0.2


def test_a_majority_of_turned_frames_is_used_and_strangers_are_named() -> None:
    stars = sky_of(40, SIDE)
    half = turn_about_middle(SIDE, 180)
    frames = [exposure(stars, SIDE, turn, seed=i) for i, turn in enumerate((None, half, half, half))]
    frames.append(exposure(sky_of(40, SIDE, seed=9), SIDE, seed=9))
    found = orient([star_list(frame) for frame in frames])
    assert [not reason for reason in found.reasons] == [True] * 4 + [False]
    assert sorted(found.turned) == [1, 2, 3]
    assert "stars agree" in found.reasons[4]


def test_a_field_that_rotates_is_followed() -> None:
    stars = sky_of(60, SIDE)
    turns = [turn_about_middle(SIDE, 0.4 * i) for i in range(6)]
    found = orient([star_list(exposure(stars, SIDE, turn, seed=i)) for i, turn in enumerate(turns)])
    for truth, turn in zip(turns[1:], found.turns[1:], strict=True):
        assert turn is not None
        assert np.abs(turn(CORNERS) - truth(CORNERS)).max() < 0.25


@pytest.mark.parametrize("name", ["half a turn", "a quarter", "mirrored in x", "half a degree", "seven degrees"])
def test_turned_frames_keep_flux_and_place(name: str) -> None:
    stars = np.array([(140.0, 120.0, 9e4), (180.3, 170.6, 8e4), (100.7, 190.2, 7e4)])
    turn = TURNS[name]
    image = turned(exposure(stars, SIDE, turn) - 200, turn)
    y, x = np.mgrid[:SIDE, :SIDE]
    for star_y, star_x, flux in stars:
        light = np.where(np.hypot(y - star_y, x - star_x) < 9, image, 0)
        assert light.sum() == pytest.approx(flux, rel=0.01)
        # copied pixels keep the part of a pixel
        assert abs((light * y).sum() / light.sum() - star_y) < (0.55 if turn.copies_pixels(image.shape) else 0.05)
        assert abs((light * x).sum() / light.sum() - star_x) < (0.55 if turn.copies_pixels(image.shape) else 0.05)


def test_pixels_of_half_a_turn_are_copied() -> None:
    image = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    middle = np.array([19.5, 24.5])
    assert np.array_equal(turned(image, Turn(-np.eye(2), 2 * middle)), image[::-1, ::-1])


def test_hot_pixels_and_thin_tracks_vanish() -> None:
    image = np.zeros((40, 40), np.float32)
    image[10, 10:20], image[30, 30] = 100, 100
    assert not without_sharp_pixels(image).any()


def mean_of(frames: list[np.ndarray]) -> np.ndarray:
    stack = Drizzle(frames[0].shape, 1, 1.0)
    for frame in frames:
        stack.add(frame, 0.0, 0.0)
    return stack.image()


def test_a_doubled_stack_is_noticed_and_a_good_one_is_not() -> None:
    stars = sky_of(40, SIDE)
    frames = [exposure(stars, SIDE, seed=i, light=light) for i, light in enumerate((1.0, 0.5, 0.9))]
    same = Turn.shift(0, 0)
    good = check_stack(star_list(mean_of(frames)), star_list(frames[0]), same)
    assert good.problem == ""
    assert good.n_new == good.n_lost == 0
    doubled = check_stack(star_list(mean_of([*frames[:2], frames[2][::-1, ::-1]])), star_list(frames[0]), same)
    assert "of the stack are not in the frame" in doubled.problem
    trailed = [exposure(stars, SIDE, Turn.shift(2.5 * i, 0), seed=i) for i in range(6)]
    assert "blurred" in check_stack(star_list(mean_of(trailed)), star_list(trailed[3]), same).problem
