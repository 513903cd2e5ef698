"""A few of the trials of the quality page: errors of seeing, guide star, Strehl ratio and plate solution are true."""

from functools import partial

import numpy as np
import pytest

from benchmarks.quality import imaging_errors as errors
from benchmarks.quality.imaging_scenes import Camera, frequencies, seeing_transfer, width_px
from obsarchive.science.psf.model import Optics
from obsarchive.science.psf.seeing import measure_width
from obsarchive.science.psf.seeing_trend import combined_width, trend_with_errors
from obsarchive.science.psf.strehl import measure_strehl

TRIALS = 10
"""The standard deviation of so many pulls is known to 24 %, their mean to 0.32."""
CASES = (
    (errors.seeing_trial, errors.SEEING, "usual", "seeing"),
    (errors.night_trial, errors.NIGHTS, "night of 40 files", "seeing"),
    (errors.stack_trial, errors.FRAMES, "few frames", "Strehl"),
    (errors.plate_trial, errors.PLATES, "few: 5 stars", "plate"),
)


@pytest.mark.parametrize(("trial", "regimes", "name", "quantity"), CASES)
def test_claimed_errors_are_those_of_a_few_trials(trial, regimes, name, quantity):
    regime = next(regime for regime in regimes if regime.name == name)
    found = errors.pulls_of(partial(errors.attempt, trial, regime), name, range(TRIALS), 1)
    wanted = [pulls for pulls in found if pulls.quantity.startswith((quantity, "guide star"))]
    assert wanted
    for pulls in wanted:
        assert pulls.missing == 0
        assert 0.4 < pulls.std < 1.7, pulls.quantity
        assert abs(pulls.bias) < 0.9, pulls.quantity


def test_errors_hold_what_wide_pixels_cannot_sample():
    regime = next(regime for regime in errors.FRAMES if regime.name.startswith("undersampled"))
    found = errors.pulls_of(partial(errors.attempt, errors.stack_trial, regime), regime.name, range(5), 1)
    names = (
        "Strehl ratio",
        "Strehl: FWHM",
        "Strehl: FWHM of the core",
        "Strehl: y in the stack",
        "Strehl: x in the stack",
    )
    pulls = [np.divide(each.errors, each.claimed) for each in found if each.quantity in names]
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.5


def test_a_bright_speckle_of_an_undersampled_star_is_no_certain_companion():
    regime = next(regime for regime in errors.FRAMES if regime.name.startswith("undersampled"))
    rows = errors.stack_trial(regime, 400_003)
    flux, error, truth = next(row[1:] for row in rows if row[0].startswith("Strehl: flux"))
    # one of 5 % of the light at 0.25" was taken away, and the flux was 9 errors too small
    assert abs(flux - truth) < 3 * error


@pytest.mark.parametrize("apart", [0.5, 0.75, 1.0, 1.5])
def test_seeing_of_a_double_star_is_that_of_one_of_them(apart):
    transfer = seeing_transfer(256, 0.0694, 1.2, 25.0, 0.1)
    fy, fx = frequencies(256)
    width = width_px(transfer)
    pair = np.exp(-2j * np.pi * 128.2 * (fy + fx)) * (1 + 0.8 * np.exp(-2j * np.pi * apart * width * fx))
    image = Camera().expose(1e6 * np.fft.irfft2(pair * transfer, (256, 256)), np.random.default_rng(3))
    found = measure_width(image)
    assert found.fwhm_px == pytest.approx(width, abs=4 * found.error_px)
    assert found.error_px < 0.03 * width


@pytest.mark.parametrize("ratio", [0.25, 0.7])
def test_the_wings_of_a_companion_do_not_widen_a_star(ratio):
    transfer = seeing_transfer(256, 0.0347, 1.2, 8.0, 0.15)
    fy, fx = frequencies(256)
    width = width_px(transfer)
    pair = np.exp(-2j * np.pi * (128.3 * fy + 127.8 * fx)) * (1 + ratio * np.exp(-2j * np.pi * 2.2 * width * fx))
    noise = np.random.default_rng(0).normal(0, 0.05, (256, 256))
    found = measure_width(1e6 * np.fft.irfft2(pair * transfer, (256, 256)) + noise)
    # wings as a Moffat profile has them leave 0.7 %
    assert found.fwhm_px == pytest.approx(width, rel=0.002)


def test_very_bright_stars_are_not_taken_for_cosmic_rays():
    transfer = seeing_transfer(256, 0.1, 0.9, 25.0, 0.1)
    fy, fx = frequencies(256)
    image = np.fft.irfft2(np.exp(-2j * np.pi * 128.2 * (fy + fx)) * transfer, (256, 256))
    found = measure_width(Camera().expose(3e8 * image, np.random.default_rng(1)))
    assert found.fwhm_px == pytest.approx(width_px(transfer), rel=0.004)


def test_few_widths_are_known_worse():
    assert combined_width(np.array([5.0]), np.array([0.1])) == (5.0, 0.1)
    _, error = combined_width(np.array([5.0, 5.4]), np.array([0.1, 0.1]))
    assert error > 0.2


@pytest.mark.parametrize(("n", "scatter", "fit"), [(3, 0.03, 0.007), (5, 0.045, 0.005), (25, 0.03, 0.02)])
def test_exposures_that_agree_by_chance_have_true_errors(n, scatter, fit):
    rng = np.random.default_rng(n)
    files = 5 * (1 + np.hypot(scatter, fit) * rng.standard_normal((600, n)))
    pulls = np.array(
        [np.divide(width - 5, error) for width, error in (combined_width(w, np.full(n, 5 * fit)) for w in files)]
    )
    # three whose scatter alone is asked are as Student's distribution of two degrees of freedom: 1.4, and 4 % beyond 3
    assert 0.8 < np.std(pulls) < 1.15
    assert np.mean(np.abs(pulls) > 3) < 0.015


def test_a_doubtful_exposure_does_not_make_the_others_doubtful():
    widths = np.array([5.0, 5.1, 4.9, 5.05, 4.95])
    _, sure = combined_width(widths, np.full(5, 0.02))
    _, doubted = combined_width(widths, np.array([0.02, 0.02, 0.02, 0.02, 0.4]))
    assert sure < doubted < 1.3 * sure


def test_the_trend_of_one_file_has_its_error():
    found = trend_with_errors(np.array([1.0]), np.array([1.1]), np.array([0.05]))
    assert found.median == 1.1
    assert found.errors[0] == pytest.approx(0.05, rel=0.25)


def test_a_gaussian_star_has_no_halo():
    rng = np.random.default_rng(2)
    radius = np.hypot(*(np.mgrid[:500, :500] - 250.2))
    image = 1e4 * np.exp(-4 * np.log(2) * (radius / 5) ** 2) + rng.normal(100, 3, radius.shape)
    found = measure_strehl(image, Optics(2.1, 0.5, 765.0), 0.0347 / 2)
    assert np.isnan(found.halo_arcsec)
    assert found.fwhm_arcsec == pytest.approx(5 * 0.0347 / 2, abs=4 * found.fwhm_error_arcsec + 0.001)
    assert 0 < found.core_error_arcsec < 0.01
