"""Harmonics of a period, and differences of two light curves: true values within true errors."""

import numpy as np
import pytest

from obsarchive.science.light_curves.comparison import difference, pairs
from obsarchive.science.light_curves.harmonics import fit_wave

PERIOD, EPOCH = 3.7, 58000.3


def series(rng: np.random.Generator, n: int = 120, scale: float = 1.0) -> tuple[np.ndarray, ...]:
    time = np.sort(rng.uniform(58000, 58200, n))
    phase = (time - EPOCH) / PERIOD
    error = rng.uniform(0.01, 0.03, n)
    mag = 17.0 + 0.2 * np.cos(2 * np.pi * phase) + 0.08 * np.sin(4 * np.pi * phase)
    return time, mag + scale * error * rng.normal(size=n), error


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_amplitude_is_true_within_its_error(scale: float) -> None:
    grid = np.linspace(0, 1, 4000)
    truth = np.ptp(0.2 * np.cos(2 * np.pi * grid) + 0.08 * np.sin(4 * np.pi * grid)) / 2
    pulls = []
    for seed in range(200):
        wave = fit_wave(*series(np.random.default_rng(seed), scale=scale), PERIOD, EPOCH)
        value, error = wave.amplitude
        pulls.append((value - truth) / error)
    assert abs(np.mean(pulls)) < 0.3
    assert 0.85 < np.std(pulls) < 1.15


def test_the_model_explains_the_data_and_noise_is_no_harmonic() -> None:
    time, mag, error = series(np.random.default_rng(1))
    wave = fit_wave(time, mag, error, PERIOD, EPOCH)
    assert 0.7 < wave.chi2 / wave.dof < 1.3
    assert np.std((mag - wave.magnitude(time)) / error) < 1.1
    assert wave.at_phase(np.array([0.25]))[0] == pytest.approx(wave.at_phase(np.array([7.25]))[0])
    assert len(wave.coefficients) < 9


def test_of_too_few_epochs_nothing_is_said() -> None:
    time, mag, error = series(np.random.default_rng(1), 6)
    assert fit_wave(time, mag, error, PERIOD) is None
    assert fit_wave(*series(np.random.default_rng(1), 7), PERIOD) is not None
    assert fit_wave(time, mag, np.full(6, np.nan), PERIOD) is None


def test_a_difference_that_varies_has_a_median_and_no_mean() -> None:
    rng, varied = np.random.default_rng(5), []
    time, error = np.arange(200.0), np.full(200, 0.02)
    for _ in range(100):
        noise = rng.normal(size=(2, 200)) * 0.02
        constant = difference((time, 15 + noise[0], error), (time, 14 + noise[1], error), 0.1)
        varied.append(constant.varies)
    assert sum(varied) <= 1
    assert np.average(constant.residual, weights=constant.error**-2) == pytest.approx(0, abs=1e-9)
    event = 15 - 1.5 * np.exp(-0.5 * ((time - 100) / 10) ** 2) + rng.normal(size=200) * 0.02
    found = difference((time, event, error), (time, np.full(200, 14.0), error), 0.1)
    assert found.varies
    assert found.median == pytest.approx(1.0, abs=0.02), "as it is most of the time"
    assert found.half_range == pytest.approx(0.75, abs=0.06)
    assert np.median(found.residual) == pytest.approx(0, abs=1e-9)
    assert found.reduced_chi2 > 50


def test_epochs_that_belong_together_are_mutual_neighbours() -> None:
    first, second = np.array([3.0, 1.0, 2.0, 9.0]), np.array([2.01, 0.98, 1.03, 3.4])
    own, other = pairs(first, second, 0.1)
    assert [(first[a], second[b]) for a, b in zip(own, other, strict=True)] == [(1.0, 0.98), (2.0, 2.01)]
    rng = np.random.default_rng(2)
    first, second = rng.uniform(0, 50, 80), rng.uniform(0, 50, 60)
    right = [
        (a, b)
        for a in range(80)
        for b in [int(np.argmin(np.abs(second - first[a])))]
        if int(np.argmin(np.abs(first - second[b]))) == a and abs(first[a] - second[b]) <= 0.3
    ]
    assert sorted(zip(*(side.tolist() for side in pairs(first, second, 0.3)), strict=True)) == sorted(right)
    assert [len(side) for side in pairs(first, np.zeros(0), 1.0)] == [0, 0]


def test_a_constant_difference_is_found_with_its_error() -> None:
    pulls, reduced = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        time, common = np.sort(rng.uniform(0, 100, 50)), rng.normal(0, 0.2, 50)
        errors = rng.uniform(0.01, 0.03, (2, 50))
        mags = common + errors * rng.normal(size=(2, 50)) + np.array([[0.5], [0.0]])
        found = difference((time, mags[0], errors[0]), (time + 1e-5, mags[1], errors[1]), 1e-4)
        mean, error = found.mean
        pulls.append((mean - 0.5) / error)
        reduced.append(found.reduced_chi2)
        assert np.average(found.residual, weights=1 / found.error**2) == pytest.approx(0, abs=1e-12)
    assert abs(np.mean(pulls)) < 0.3
    assert 0.8 < np.std(pulls) < 1.15
    assert np.mean(reduced) == pytest.approx(1, abs=0.05)


def test_light_curves_without_common_epochs_have_no_difference() -> None:
    time, error = np.arange(5.0), np.full(5, 0.1)
    assert difference((time, time, error), (time + 0.5, time, error), 0.1) is None
    assert difference((time, time * np.nan, error), (time, time, error), 0.1) is None
