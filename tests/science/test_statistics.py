"""Robust statistics are those of NumPy."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all, robust_sigma

NUMBERS = st.floats(-1e6, 1e6, width=32) | st.just(math.nan) | st.just(math.inf)


@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda kind: arrays.arrays(kind, arrays.array_shapes(max_dims=2, max_side=9), elements=NUMBERS)
    )
)
def test_median_is_that_of_numpy(values: np.ndarray) -> None:
    with warnings.catch_warnings(action="ignore"):
        expected = float(np.median(values))
    assert median_of_all(values) == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_many_values_and_none() -> None:
    values = np.random.default_rng(1).normal(3, 2, (300, 201)).astype(np.float32)
    assert median_of_all(values[:, ::2]) == float(np.median(values[:, ::2]))
    assert math.isnan(median_of_all(values[:0]))
    values[:10] = 1e6
    assert robust_sigma(values) == pytest.approx(2, rel=0.06)
    assert robust_sigma(values) == MAD_TO_SIGMA * np.median(np.abs(values - np.median(values)))
