"""Registration on faint stars: simulated truth, and chi2_shift of image_registration as second opinion."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.registration.alignment import Alignment, align
from obsarchive.science.registration.coarse_shifts import coarse_shifts
from obsarchive.simulation.scenes import Detector, Instrument, Scene, SimulatedObservation, Star


def windows(flux: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated windows around a star, and the shifts that bring its core onto that of the others."""
    instrument = Instrument(detector=Detector(shape=(128, 128), seed=3))
    seen = SimulatedObservation(Scene((Star(),), zero_flux_e=flux), n, instrument, seed=seed)
    frames = np.stack([(frame - seen.truth.dark_adu) / seen.truth.flat for frame in seen.frames()])
    noiseless = [ndimage.gaussian_filter(seen.noiseless(i), 1.0) for i in range(n)]
    cores = np.array([np.unravel_index(np.argmax(frame), frame.shape) for frame in noiseless], float)
    return frames.astype(np.float32), -cores


def rms(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square of the differences along an axis, apart from their median."""
    difference = found - truth
    return float(np.sqrt(np.mean((difference - np.median(difference, axis=0)) ** 2)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_of_a_faint_star_are_registered(seed: int) -> None:
    frames, truth = windows(1500.0, 60, seed)
    found = align(frames)
    kept = np.array([not reason for reason in found.reasons()])
    assert kept.mean() > 0.8
    # truth is known to the pixel only: 0.29 px of the difference are its rounding
    assert rms(found.shifts[kept], truth[kept]) < np.hypot(0.3, 0.29)


def test_image_registration_does_no_better() -> None:
    """chi2_shift (Guizar-Sicairos, Thurman & Fienup 2008, Opt. Lett. 33, 156) with the same template."""
    with warnings.catch_warnings(action="ignore"):
        from image_registration import chi2_shift
    frames, truth = windows(1500.0, 40, 4)
    found = align(frames)
    smooth = ndimage.gaussian_filter(frames, (0, 0.8, 0.8))
    with warnings.catch_warnings(action="ignore"):
        theirs = [chi2_shift(found.template, frame, upsample_factor="auto", return_error=False) for frame in smooth]
    theirs_yx = -np.array(theirs)[:, ::-1]
    assert rms(found.shifts, truth) <= 1.1 * rms(theirs_yx, truth)


def gaussians(shifts: np.ndarray, noise: float, seed: int = 0, flux: float = 100.0) -> np.ndarray:
    y, x = np.mgrid[-32:32, -32:32]
    rng = np.random.default_rng(seed)
    stars = [flux * np.exp(-((y + dy) ** 2 + (x + dx) ** 2) / (2 * 1.5**2)) for dy, dx in shifts]
    return (np.array(stars) + noise * rng.standard_normal((len(shifts), 64, 64))).astype(np.float32)


@given(
    shifts=st.lists(st.tuples(st.floats(-6, 6), st.floats(-6, 6)), min_size=2, max_size=12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30)
def test_shifts_of_a_bright_star_are_exact_to_a_few_hundredths(shifts: list[tuple[float, float]], seed: int) -> None:
    truth = np.array(shifts)
    found = align(gaussians(truth, 0.5, seed))
    difference = found.shifts - truth
    assert np.ptp(difference, axis=0).max() < 0.12


def test_errors_are_those_that_are_made() -> None:
    truth = np.random.default_rng(2).uniform(-2, 2, (80, 2))
    found = align(gaussians(truth, 15.0, 3))
    assert rms(found.shifts, truth) == pytest.approx(float(np.median(found.errors)), rel=0.35)


def test_frames_that_went_wrong_are_left_out() -> None:
    rng = np.random.default_rng(7)
    truth = rng.uniform(-1, 1, (60, 2))
    frames = gaussians(truth, 5.0, 8)
    frames[10] = 5.0 * rng.standard_normal((64, 64))
    frames[20] = np.roll(frames[20], 15, axis=0)
    frames[30] = ndimage.gaussian_filter(frames[30], 4) + 5.0 * rng.standard_normal((64, 64))
    frames[40] = np.nan
    kinds = {i: reason.partition(":")[0] for i, reason in enumerate(align(frames).reasons()) if reason}
    assert {10: "black", 20: "slipped", 30: "poor", 40: "black"}.items() <= kinds.items()
    assert len(kinds) <= 8


def test_a_cosmic_ray_does_not_draw_a_frame_away() -> None:
    truth = np.zeros((20, 2))
    frames = gaussians(truth, 3.0, 9)
    frames[5, 10:12, 50] = 30000.0
    shifts = align(frames).shifts
    assert np.hypot(*(shifts[5] - np.median(shifts, axis=0))) < 0.2


def test_nothing_to_register_on_is_said() -> None:
    with pytest.raises(Unprocessable, match="all 3 frames are empty"):
        align(np.full((3, 32, 32), np.nan, np.float32))
    with pytest.raises(Unprocessable, match="empty"):
        align(np.zeros((3, 32, 32), np.float32))


@pytest.mark.parametrize("side", [16, 32])
def test_frames_that_scatter_as_far_as_is_searched_are_no_failure(side: int) -> None:
    y, x = np.mgrid[:side, :side] - side / 2
    star = np.exp(-(y**2 + x**2) / (2 * 1.4**2))
    for seed in range(40):
        found = align(2.0 * star + np.random.default_rng(seed).standard_normal((20, side, side)))
        assert np.abs(found.shifts).max() <= side


def test_a_single_frame_stays_where_it_is() -> None:
    found = align(gaussians(np.zeros((1, 2)), 1.0))
    assert isinstance(found, Alignment)
    assert found.shifts.tolist() == [[0.0, 0.0]]
    assert found.reasons() == ("",)


def test_fields_of_a_moving_telescope_are_found_again() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:200, :220]
    stars = rng.uniform(60, 140, (12, 2))
    truth = [(0.0, 0.0), (35.0, -18.0), (-40.0, 22.0)]
    frames = []
    for dy, dx in truth:
        sky = 100 + 0.2 * x + 4 * rng.standard_normal((200, 220))
        field = sum(300 * np.exp(-((y - sy + dy) ** 2 + (x - sx + dx) ** 2) / 8) for sy, sx in stars)
        frames.append((sky + field).astype(np.float32))
    frames[1][20, 30] = 60000.0
    assert np.abs(coarse_shifts(frames) - truth).max() <= 2
