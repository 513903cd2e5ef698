"""Errors of positions, plate solutions, zero points, periods, events and features are as large as the errors made."""

import numpy as np
import pytest

from obsarchive.science.astrometry.plate_solution import PlateSolution, project
from obsarchive.science.astrometry.star_matching import Uncertainty, match_stars
from obsarchive.science.light_curves.event_templates import fit_event
from obsarchive.science.light_curves.features import features
from obsarchive.science.photometry.background import Background, noise_correlation
from obsarchive.science.photometry.engine import engine_of
from obsarchive.science.photometry.ensemble import frame_zero_points
from obsarchive.science.photometry.zero_point import find_zero_point
from surveys.periods import find_period


def assert_true(errors: object, claimed: object) -> None:
    """The goals, 0.8 to 1.2 and 0.3, widened by three times their statistical error."""
    pulls = np.ravel(np.asarray(errors) / np.asarray(claimed))
    assert np.isfinite(pulls).all()
    spread, n = np.std(pulls), len(pulls)
    assert 0.8 - 3 / np.sqrt(2 * n) < spread < 1.2 + 3 / np.sqrt(2 * n)
    assert abs(np.mean(pulls)) < 0.3 + 3 / np.sqrt(n)


@pytest.mark.parametrize("name", ["fast", "photutils"])
def test_positions_of_sources(name: str) -> None:
    rng = np.random.default_rng(1)
    engine = engine_of(name)
    rows, columns = np.mgrid[:160, :160]
    y, x = (place.ravel() + rng.uniform(-5, 5, 49) for place in np.mgrid[20:141:20, 20:141:20])
    light = np.exp(-((rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2) / (2 * 1.8**2))
    mean = 50 + np.einsum("i,ijk->jk", rng.uniform(150, 2000, 49), light)
    image = rng.poisson(mean).astype(np.float32)
    found = engine.detect(image, threshold=10.0)
    near = np.argmin(np.hypot(y - found.y[:, None], x - found.x[:, None]), axis=1)
    errors = engine.centroid_errors(image - np.float32(50), mean.astype(np.float32), found)
    assert len(found) == 49
    assert_true([found.y - y[near], found.x - x[near]], errors)


def test_noise_that_pixels_share() -> None:
    rng = np.random.default_rng(2)
    white = rng.normal(0, 3, (300, 300))
    none = np.empty(0), np.empty(0), 0.0
    assert noise_correlation(white, Background(0.0, 3.0), 10, none) == pytest.approx(1, abs=0.1)
    # each pixel twice along both axes: the noise of a sum is twice as large
    shared = np.kron(rng.normal(0, 3, (150, 150)), np.ones((2, 2)))
    assert noise_correlation(shared, Background(0.0, 3.0), 10, none) == pytest.approx(2, rel=0.1)
    assert noise_correlation(shared[:40, :40], Background(0.0, 3.0), 10, none) == 1


@pytest.mark.parametrize(("n", "order"), [(5, 1), (40, 1)])
def test_plate_solutions(n: int, order: int) -> None:
    off, claimed = [], []
    centre = (150.0, 60.0)
    for seed in range(25):
        rng = np.random.default_rng(seed)
        y, x = rng.uniform(0, 1000, (2, n))
        truth = PlateSolution(centre, (499.5, 499.5), 0.3 * np.array([[-1.0, 0.01], [0.01, 1.0]]))
        sky = truth.sky(y, x)
        guess = PlateSolution((150.004, 59.999), (499.5, 499.5), np.diag([-0.3, 0.3]))
        measured = y + rng.normal(0, 0.1, n), x + rng.normal(0, 0.1, n)
        found = match_stars(measured, sky, guess, Uncertainty(match_arcsec=1.0), order)
        assert found is not None
        assert found.errors is not None
        east, north = project(*found.solution.centre, centre)
        turn = found.solution.north_angle_deg - truth.north_angle_deg
        off.append([east, north, found.solution.scale_arcsec - truth.scale_arcsec, turn])
        claimed.append([*found.errors.centre_arcsec, found.errors.scale_arcsec, found.errors.north_angle_deg])
    assert_true(off, claimed)
    # meridians converge: a wrong pointing turned north by as much
    assert abs(np.mean(np.array(off)[:, 3])) < 0.3 * np.median(np.array(claimed)[:, 3])


def test_five_stars_of_which_four_agree_by_chance_are_all_kept() -> None:
    """Without the fifth star the errors would be those of the four, far too small."""
    truth = PlateSolution((150.0, 20.0), (499.5, 499.5), 0.3 * np.array([[-1.0, 0.0], [0.0, 1.0]]))
    y, x = np.array([100.0, 850.0, 120.0, 900.0, 480.0]), np.array([130.0, 90.0, 870.0, 820.0, 520.0])
    sky = truth.sky(y, x)

    def matched(off_px: float) -> int:
        # four stars leave 0.019 of the squares of all residuals with 0.25 pixels, as chance does in 1 of 500
        moved = y + np.array([0.01, -0.02, -0.02, 0.01, off_px]), x + np.array([0.02, 0.01, -0.01, -0.02, 0.0])
        found = match_stars(moved, sky, truth, Uncertainty(match_arcsec=1.0))
        assert found is not None
        return len(found.stars)

    assert matched(0.25) == 5
    assert matched(2.5) == 4


@pytest.mark.parametrize("n", [5, 15, 60])
def test_zero_points(n: int) -> None:
    off, claimed = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        mag, error = rng.uniform(14, 18, n), rng.uniform(0.002, 0.05, n)
        found = find_zero_point(mag - 25 + rng.normal(0, error), error, mag + rng.normal(0, 0.02, n))
        off.append(found.value - 25)
        claimed.append(found.error)
    assert_true(off, claimed)


@pytest.mark.parametrize("n_frames", [4, 20])
def test_few_comparison_stars(n_frames: int) -> None:
    of_target, of_others = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        clouds = np.exp(rng.normal(0, 0.1, n_frames))
        light = 1e4 * clouds * np.ones((5, 1))
        light[0] *= 1 + 0.2 * np.sin(np.arange(n_frames))
        error = np.full(light.shape, 100.0)
        is_target = np.arange(5) == 0
        measured = light + rng.normal(0, 100, light.shape)
        scale = frame_zero_points(measured, error, light > 0, None, is_target)
        flux, error = scale.applied(measured, error)
        assert not scale.is_reference[0]
        truth = light / clouds * np.exp(np.mean(np.log(clouds)))
        of_target.append((flux - truth)[0] / error[0])
        # the noise of the others is in the zero point as well
        of_others.append((flux - truth)[1:] / error[1:])
    assert_true(of_target, 1.0)
    assert_true(of_others, 1.0)


def test_periods() -> None:
    off, claimed = [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        mjd, period, phase = np.sort(rng.uniform(0, 60, 80)), rng.uniform(0.8, 2), rng.random()
        mag = 15 - 0.3 * np.cos(2 * np.pi * (mjd / period - phase)) + rng.normal(0, 0.05, 80)
        found = find_period(mjd, mag, np.full(80, 0.05), None, (0.5, 5))
        assert not found.is_ambiguous
        cycles = np.round(found.epoch_mjd / period - phase)
        off.append([found.period_d - period, found.epoch_mjd - (cycles + phase) * period, found.amplitude_mag - 0.3])
        claimed.append([found.period_error_d, found.epoch_error_d, found.amplitude_error_mag])
    assert_true(off, claimed)


def test_an_alias_is_shown_beside_the_period() -> None:
    rng = np.random.default_rng(3)
    # always at the same time of the night: 0.7 and 1/(1/0.7 - 1) days are the same
    mjd = np.sort(rng.choice(60, 25, replace=False) + rng.uniform(0, 0.01, 25))
    mag = 15 + 0.3 * np.cos(2 * np.pi * mjd / 0.7) + rng.normal(0, 0.05, 25)
    found = find_period(mjd, mag, np.full(25, 0.05), None, (0.3, 10))
    assert found.is_ambiguous
    assert found.alternative_d is not None


def test_events() -> None:
    off, claimed = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        mjd = np.arange(100.0)
        deviation = 12 * np.exp(-0.5 * ((mjd - 50.3) / 5) ** 2) + rng.normal(0, 1, 100)
        found = fit_event(mjd, deviation, np.ones(100), (52.0, 4.0, 10.0))
        assert found is not None
        off.append([found.mjd - 50.3, found.width_d - 5, found.amplitude - 12])
        claimed.append([found.mjd_error_d, found.width_error_d, found.amplitude_error])
    assert_true(off, claimed)
    assert fit_event(mjd, deviation, np.ones(100), (52.0, 4.0, 10.0), "box") is None
    assert fit_event(mjd, deviation, np.ones(100), (52.0, 0.1, 10.0)) is None, "too few epochs"


def test_features_of_few_epochs_of_a_variable_star() -> None:
    """It is seldom in the middle of its range: the median is hardly known, deviations from it are too small."""
    pulls = []
    endless = np.sin(np.linspace(0, 2 * np.pi, 100_001)) + 0.1 * np.random.default_rng(0).standard_normal(100_001)
    truth = {"amplitude_mag": np.subtract(*np.quantile(endless, (0.95, 0.05))) / 2}
    truth["scatter_mag"] = 1.4826 * np.subtract(*np.quantile(endless, (0.75, 0.25))) / 2
    for seed in range(300):
        rng = np.random.default_rng(seed)
        mag = 17 + np.sin(2 * np.pi * rng.random(60)) + rng.normal(0, 0.1, 60)
        found = features(np.arange(60.0), mag, np.full(60, 0.1))
        pulls.append([(found[name] - true) / found[f"{name}_error"] for name, true in truth.items()])
    for pull in np.transpose(pulls):
        assert abs(pull.mean()) < 0.2
        assert 0.8 < pull.std() < 1.2


def test_features() -> None:
    names = ("mean_mag", "median_mag", "scatter_mag", "slope_mag_per_d", "reduced_chi2")
    truth = np.array([17, 17, 0.03, 0, 1])
    off, claimed = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = features(np.arange(200.0), 17 + rng.normal(0, 0.03, 200), np.full(200, 0.03))
        off.append([found[name] for name in names] - truth)
        claimed.append([found[f"{name}_error"] for name in names])
    assert_true(off, claimed)
    few = features(np.arange(20.0), 17 + rng.normal(0, 0.03, 20), np.full(20, 0.03))
    assert "mean_mag_error" in few
    assert "median_mag_error" not in few
