"""Shifts that frames tell one by one are drawn to where their motion makes them probable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from obsarchive.science.registration import motion_smoothing
from obsarchive.science.registration.motion_smoothing import smoothed


def _motion(n, rms_px, correlation, rng):
    """Positions (n, 2) of an autoregressive process."""
    positions = rng.standard_normal((n, 2))
    for i in range(1, n):
        positions[i] = correlation * positions[i - 1] + np.sqrt(1 - correlation**2) * positions[i]
    return rms_px * positions


def _pulls(n, rms_px, correlation, error_px, seeds=20):
    errors, claimed = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        truth = _motion(n, rms_px, correlation, rng)
        shifts, claims = smoothed(truth + error_px * rng.standard_normal((n, 2)), np.full(n, error_px))
        difference = shifts - truth
        errors.append(difference - difference.mean(axis=0))
        claimed.append(claims)
    return np.concatenate(errors), np.concatenate(claimed)


def _bound(n, rms_px, correlation, error_px):
    """Rms error of shifts from their mean if the law of the motion is known [pixel]."""
    times = np.arange(n)
    motion = rms_px**2 * correlation ** np.abs(times[:, np.newaxis] - times)
    posterior = motion - motion @ np.linalg.solve(motion + error_px**2 * np.eye(n), motion)
    relative = np.eye(n) - 1 / n
    return np.sqrt(np.trace(relative @ posterior @ relative) / n)


@pytest.mark.parametrize(("rms_px", "correlation"), [(0.2, 0.0), (1.0, 0.98), (1.0, 0.0), (3.0, 0.9)])
def test_shifts_reach_the_bound_of_their_motion_and_errors_are_true(rms_px, correlation):
    errors, claimed = _pulls(100, rms_px, correlation, 0.2)
    assert np.sqrt(np.mean(errors**2)) < 1.05 * _bound(100, rms_px, correlation, 0.2)
    assert 0.85 < np.sqrt(np.mean((errors / claimed[:, np.newaxis]) ** 2)) < 1.15


def test_a_star_at_rest_stays_where_it_is():
    errors, claimed = _pulls(100, 0.0, 0.0, 0.2)
    assert np.sqrt(np.mean(errors**2)) < 0.02
    assert claimed.max() < 0.1


@given(st.integers(0, 1000), st.integers(2, 12))
def test_the_posterior_is_that_of_a_gaussian_process(seed, n):
    rng = np.random.default_rng(seed)
    shifts, errors = _motion(n, 0.5, 0.7, rng), rng.uniform(0.1, 0.5, n)
    rms_px, correlation = 0.6, 0.8
    times = np.arange(n)
    motion = rms_px**2 * correlation ** np.abs(times[:, np.newaxis] - times)
    total = motion + np.diag(errors**2)
    means, variances, evidence = motion_smoothing._by_law(shifts, errors**2, rms_px**2, correlation, 1e6)
    assert means == pytest.approx(motion @ np.linalg.solve(total, shifts))
    assert variances == pytest.approx(np.diag(motion - motion @ np.linalg.solve(total, motion)))
    expected = sum(multivariate_normal.logpdf(axis, np.zeros(n), total) for axis in shifts.T)
    assert evidence == pytest.approx(expected + n * np.log(2 * np.pi))


def test_a_jump_between_quiet_frames_is_no_noise():
    rng = np.random.default_rng(5)
    truth = np.repeat([[0.0, 0.0], [3.0, -2.0]], 40, axis=0) + _motion(80, 0.1, 0.95, rng)
    shifts, errors = smoothed(truth + 0.2 * rng.standard_normal((80, 2)), np.full(80, 0.2))
    difference = shifts - truth
    difference -= difference.mean(axis=0)
    assert np.sqrt(np.mean(difference**2)) < 0.15
    assert np.abs(difference).max() < 4 * errors.max() < 1.0


def test_a_frame_that_tells_nothing_lies_between_its_neighbours():
    truth = np.stack([np.linspace(0, 4, 60), np.zeros(60)], axis=1)
    errors = np.full(60, 0.05)
    errors[30] = np.inf
    shifts, found = smoothed(np.where(np.isfinite(errors)[:, np.newaxis], truth, 50.0), errors)
    assert shifts[30] - shifts[29] == pytest.approx([4 / 59, 0], abs=0.04)
    assert found[29] < found[30] < 0.2
