"""A measured value is written with the digits that its error allows, and the same everywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.significant_digits import decimals_of, fixed, is_number, significant, with_error
from obsarchive.figures.previews import Labels


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (14.85, 0.18, "14.85 ± 0.18"),
        (16.7, 0.4, "16.7 ± 0.4"),
        (19.15, 0.09, "19.15 ± 0.09"),
        (5.8488, 0.0962, "5.85 ± 0.10"),
        (0.1004, 0.00037, "0.1004 ± 0.0004"),
        (573860.99, 2131.5, "573861 ± 2132"),
        (-3.25, 0.12, "−3.25 ± 0.12"),
        (14.85, None, "14.85"),
        (14.85, 0.0, "14.85"),
        (14.85, math.nan, "14.85"),
    ],
)
def test_a_value_with_its_error(value: float, error: float | None, text: str) -> None:
    assert with_error(value, error) == text


def test_halves_are_rounded_up_as_they_are_written() -> None:
    assert fixed(14.85, 1) == "14.9"
    assert fixed(-1.005, 2) == "−1.01"
    assert [significant(value) for value in (0, 3.0, 1234567.0, 0.00012344, 1e-9, 1e12)] == [
        *("0", "3", "1234567", "0.0001234", "1.000e−09", "1.000e+12")
    ]
    assert not any(is_number(value) for value in (True, None, "1", math.nan, math.inf))


@given(st.floats(1e-5, 1e4), st.floats(-1e5, 1e5))
def test_what_is_written_differs_by_a_fraction_of_the_error(error: float, value: float) -> None:
    text = with_error(value, error).replace("−", "-")
    written, uncertainty = (float(part) for part in text.split(" ± "))
    assert abs(written - value) <= 0.51 * max(10.0 ** -decimals_of(error), 1e-9)
    assert abs(uncertainty - error) <= max(0.16 * error, 0.51e-6)


def test_pictures_write_what_pages_write() -> None:
    assert Labels(strehl_percent=14.85, strehl_error_percent=0.18).strehl == "Strehl 14.85 %"
    assert Labels(strehl_percent=16.7, strehl_error_percent=0.4).strehl == "Strehl 16.7 %"
