"""Zero points, bands, and errors that tell the scatter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.science.photometry.error_model import FACTOR_RANGE, ErrorModel, fit_error_model, reduced_chi2
from obsarchive.science.photometry.zero_point import ZeroPoint, band_of, find_zero_point, gaia_in_band


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_zero_point_is_found_among_wrong_matches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalogue = rng.uniform(13, 19, 300)
    error = 0.003 * 10 ** (0.2 * (catalogue - 13))
    instrumental = catalogue - 23.4 + rng.normal(0, np.hypot(error, 0.01))
    wrong = rng.random(300) < 0.2
    instrumental[wrong] += rng.uniform(-4, 4, wrong.sum())
    found = find_zero_point(instrumental, error, catalogue)
    assert abs(found.value - 23.4) < 5 * found.error + 0.002
    assert found.error < 0.003
    assert found.scatter < 0.03


def test_a_colour_term_is_used_where_it_pays() -> None:
    rng = np.random.default_rng(5)
    catalogue, colour = rng.uniform(13, 17, 400), rng.normal(1.2, 0.5, 400)
    error = np.full(400, 0.005)
    instrumental = catalogue - 24.0 - 0.1 * (colour - 1.2) + rng.normal(0, 0.01, 400)
    found = find_zero_point(instrumental, error, catalogue, colour)
    assert found.colour_term == pytest.approx(0.1, abs=0.02)
    assert found.value == pytest.approx(24.0, abs=0.02)
    plain = find_zero_point(instrumental + 0.1 * (colour - 1.2), error, catalogue, colour)
    assert plain.colour_term == 0.0


def test_too_few_stars_give_an_instrumental_one() -> None:
    few = np.array([15.0, 16.0, np.nan])
    assert find_zero_point(few - 24, np.full(3, 0.01), few) == ZeroPoint()
    assert ZeroPoint().value == 25.0


@pytest.mark.parametrize(
    ("name", "band"),
    [
        *(("gp", "g"), ("rp", "r"), ("ip", "i"), ("SDSS_i", "i"), ("Si", "i"), ("r'", "r"), ("i", "i")),
        *(("V", "V"), ("Bessell-R", "R"), ("I", "I"), ("B", ""), ("zs", ""), ("w", ""), ("", ""), ("lp600", "")),
    ],
)
def test_filters_stand_for_bands(name: str, band: str) -> None:
    assert band_of(name) == band


def test_the_sun_has_its_magnitudes() -> None:
    """Willmer (2018, ApJS 236, 47): AB and Vega magnitudes; Gaia's G and BP - RP of the Sun."""
    magnitude, colour = np.array([-26.90]), np.array([0.818])
    for band, expected in (("g", -26.47), ("r", -26.93), ("i", -27.05), ("V", -26.76), ("R", -27.12), ("I", -27.47)):
        assert gaia_in_band(magnitude, colour, band)[0] == pytest.approx(expected, abs=0.06), band
    assert np.isnan(gaia_in_band(magnitude, np.array([9.0]), "g")[0])


@given(factor=st.floats(0.9, 3.0), seed=st.integers(0, 50))
@settings(max_examples=15)
def test_errors_that_are_too_small_are_found_out(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    level = 10 ** rng.uniform(2, 5, 120)
    error = np.sqrt(level)[:, np.newaxis] * np.ones(30)
    flux = level[:, np.newaxis] + rng.normal(0, factor * error)
    model = fit_error_model(flux, error, np.ones(flux.shape, bool))
    chi2 = reduced_chi2(flux, model.applied(flux, error), np.ones(flux.shape, bool), of_median=True)
    assert 0.85 < np.median(chi2) < 1.15
    assert FACTOR_RANGE[0] <= model.range[0] <= model.range[1] <= FACTOR_RANGE[1]


def test_few_frames_say_nothing_of_errors() -> None:
    flux = np.random.default_rng(1).normal(100, 10, (50, 3))
    model = fit_error_model(flux, np.ones_like(flux), np.ones(flux.shape, bool))
    assert model.range == ErrorModel().range == (1.0, 1.0)
