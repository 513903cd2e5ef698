"""Medians by networks of comparisons are those of numpy and scipy."""

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.science.imaging.medians import median_5x5, median_of, network


@pytest.mark.parametrize("n", range(1, 14))
def test_median_of_images_is_that_of_numpy(n: int) -> None:
    rng = np.random.default_rng(n)
    images = rng.integers(-40, 40, (n, 17, 33)).astype(np.float32) / 3
    images[rng.integers(n), 3, 4] = np.nan
    images[0, 5, 6] = np.inf
    np.testing.assert_array_equal(median_of(list(images)), np.median(images, axis=0))


def test_median_of_images_does_not_change_them() -> None:
    images = np.random.default_rng(1).normal(size=(5, 8, 9)).astype(np.float32)
    before = images.copy()
    median_of(images)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("shape", [(40, 31), (5, 64), (3, 4), (1, 7)])
def test_median_of_surroundings_is_that_of_scipy(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 50, shape).astype(np.float32)
    np.testing.assert_array_equal(median_5x5(image), ndimage.median_filter(image, size=5))


@pytest.mark.parametrize("n", [2, 3, 6, 7, 9])
def test_network_sorts_what_is_wanted(n: int) -> None:
    """It is enough to try zeros and ones: a network that sorts them sorts everything."""
    for ranks in [(0,), (n - 1,), (n // 2, (n - 1) // 2), tuple(range(n))]:
        for number in range(2**n):
            values = [number >> i & 1 for i in range(n)]
            expected = sorted(values)
            for low, high in network(n, ranks).tolist():
                values[low], values[high] = min(values[low], values[high]), max(values[low], values[high])
            assert [values[rank] for rank in ranks] == [expected[rank] for rank in ranks]
