"""Aperture photometry, against photutils, sep and simulated truth."""

import numpy as np
import pytest
import sep
from hypothesis import given, settings
from hypothesis import strategies as st
from photutils.aperture import CircularAperture

from obsarchive.science.photometry.aperture import Flag, aperture_photometry, overlap

RADII = (3.0, 5.0, 7.5)
ANNULUS = (12.0, 20.0)


def field(
    seed: int, n: int = 40, side: int = 400, sky: float = 200.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stars apart from each other with photon noise; image, y, x, true fluxes."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(30, side - 30, 52.0), np.arange(30, side - 30, 52.0))).reshape(2, -1)
    y, x = grid[:, rng.permutation(grid.shape[1])[:n]] + rng.uniform(-3, 3, (2, min(n, grid.shape[1])))
    flux = 10 ** rng.uniform(3.5, 5.5, len(y))
    rows, columns = np.mgrid[:side, :side]
    image = np.full((side, side), sky)
    for sy, sx, f in zip(y, x, flux, strict=True):
        image += f / (2 * np.pi * 1.5**2) * np.exp(-((rows - sy) ** 2 + (columns - sx) ** 2) / (2 * 1.5**2))
    return rng.poisson(image).astype(np.float32), y, x, flux


@given(dy=st.floats(-9, 9), dx=st.floats(-9, 9), radius=st.floats(0.05, 8))
@settings(max_examples=200)
def test_the_area_of_a_pixel_is_exact(dy: float, dx: float, radius: float) -> None:
    fine = (np.arange(400) + 0.5) / 400 - 0.5
    inside = np.hypot(dy + fine[:, np.newaxis], dx + fine) <= radius
    assert overlap(dy, dx, radius) == pytest.approx(inside.mean(), abs=4e-3)


def test_sums_are_those_of_photutils_and_sep() -> None:
    image, y, x, _ = field(1)
    image = image - 200
    found = aperture_photometry(image, np.abs(image) + 200, (y, x), RADII, ANNULUS)
    for j, radius in enumerate(RADII):
        level = found.sky * np.pi * radius**2
        theirs = [CircularAperture((sx, sy), radius).do_photometry(image)[0][0] for sy, sx in zip(y, x, strict=True)]
        assert found.flux[:, j] + level == pytest.approx(theirs, rel=2e-6, abs=0.5)
        other, _, _ = sep.sum_circle(image, x, y, radius, subpix=0)
        assert found.flux[:, j] + level == pytest.approx(other, rel=2e-6, abs=0.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fluxes_are_right_and_errors_honest(seed: int) -> None:
    image, y, x, truth = field(seed)
    found = aperture_photometry(image, np.maximum(image, 1.0), (y, x), RADII, ANNULUS)
    pull = (found.flux[:, 2] - truth) / found.flux_error[:, 2]
    assert abs(np.mean(pull)) < 4 / np.sqrt(len(pull))
    assert 0.7 < np.std(pull) < 1.35
    assert found.sky == pytest.approx(200, abs=3)
    assert not found.flags.any()


def test_a_neighbour_in_the_sky_is_clipped() -> None:
    image, y, x, truth = field(4)
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    image += 3000 * np.exp(-((rows - y[0] - 11) ** 2 + (columns - x[0] - 11) ** 2) / 4.5)
    found = aperture_photometry(image, np.maximum(image, 1), (y[:1], x[:1]), RADII, ANNULUS)
    assert found.sky[0] == pytest.approx(200, abs=5)
    assert abs(found.flux[0, 2] - truth[0]) < 5 * found.flux_error[0, 2] + 900


def test_flags_say_what_is_wrong() -> None:
    image, y, x, _ = field(5)
    image[int(y[0]), int(x[0])] = 60_000
    image[int(y[1]) + 1, int(x[1])] = np.nan
    image[int(y[2]) - 25 : int(y[2]) + 26, int(x[2]) - 25 : int(x[2]) + 26][np.hypot(*np.mgrid[-25:26, -25:26]) > 9] = (
        np.nan
    )
    y, x = np.append(y[:4], [2.0, np.nan]), np.append(x[:4], [200.0, 5.0])
    found = aperture_photometry(image, np.ones_like(image), (y, x), RADII, ANNULUS, saturation=50_000)
    assert [Flag(int(flag)) for flag in found.flags] == [
        Flag.SATURATED,
        Flag.BAD_PIXEL,
        Flag.POOR_SKY,
        Flag(0),
        Flag.EDGE,
        Flag.EDGE,
    ]
    assert np.isnan(found.flux[[2, 4, 5]]).all()
    assert np.isfinite(found.flux[[0, 3]]).all()
    assert np.isfinite(found.flux[1]).tolist() == [True, False, False], "a bad pixel spoils the larger circles"


def test_what_makes_no_sense_is_refused() -> None:
    image = np.zeros((10, 10))
    for radii, annulus in (((), (5, 8)), ((0.0,), (5, 8)), ((3.0,), (8, 5))):
        with pytest.raises(ValueError, match="annulus"):
            aperture_photometry(image, image, (np.ones(1), np.ones(1)), radii, annulus)
    with pytest.raises(ValueError, match="same plane"):
        aperture_photometry(image, image[1:], (np.ones(1), np.ones(1)), (3.0,), (5, 8))


def test_sums_are_those_of_the_areas_of_single_pixels() -> None:
    """Arcs are computed once for each edge of pixels; the area of a pixel alone is the reference."""
    rng = np.random.default_rng(4)
    image = rng.normal(0, 1, (41, 41)).astype(np.float32)
    y, x = rng.uniform(17, 23, (2, 60))
    y[:20], x[10:30] = np.round(y[:20]), np.round(x[10:30]) - 0.5  # edges that pass through the centre
    radii = (0.3, 2.5, 5.0)
    found = aperture_photometry(image, np.ones_like(image), (y, x), radii, (8.0, 14.0))
    rows, columns = np.indices(image.shape)
    for j, radius in enumerate(radii):
        for i in range(len(y)):
            areas = np.vectorize(overlap)(rows - y[i], columns - x[i], radius)
            expected = float((areas * image).sum()) - found.sky[i] * np.pi * radius**2
            assert found.flux[i, j] == pytest.approx(expected, abs=1e-9)
