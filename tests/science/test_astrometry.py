"""Sources, matching and plate solutions, against simulated fields and astropy."""

from unittest import mock

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.errors import Unprocessable
from obsarchive.io.fits_products import tan_wcs
from obsarchive.science.astrometry.plate_solution import PlateSolution, deproject, fit_wcs, project
from obsarchive.science.astrometry.star_matching import Match, Uncertainty, match_stars
from obsarchive.science.photometry.source_detection import detect

CENTRE = (155.0, 20.0)
SCALE = 0.035


def plate(scale: float = SCALE, angle_deg: float = 0.0, centre: tuple[float, float] = CENTRE) -> PlateSolution:
    """North `angle_deg` counterclockwise from up, east left, of a field of 1024 pixels."""
    sin, cos = np.sin(np.radians(angle_deg)), np.cos(np.radians(angle_deg))
    matrix = scale * np.array([[-cos, -sin], [-sin, cos]])
    return PlateSolution(centre, (511.5, 511.5), matrix)


def field(seed: int, n: int, noise_px: float = 0.1) -> tuple[tuple, tuple, PlateSolution]:
    """Stars in the image, a catalogue that holds them and others, and the true solution: turned, moved, scaled."""
    rng = np.random.default_rng(seed)
    moved = deproject(rng.uniform(-8, 8), rng.uniform(-8, 8), CENTRE)
    truth = plate(SCALE * (1 + rng.uniform(-0.008, 0.008)), rng.uniform(-2, 2), (float(moved[0]), float(moved[1])))
    y, x = rng.uniform(20, 1000, (2, n))
    ra, dec = truth.sky(y, x)
    others = deproject(*rng.uniform(-45, 45, (2, n)), CENTRE)
    catalog = tuple(np.concatenate(pair) for pair in zip((ra, dec), others, strict=True))
    strangers = rng.uniform(0, 1023, (2, max(n // 4, 1)))
    stars = tuple(
        np.concatenate([axis + noise_px * rng.standard_normal(n), extra])
        for axis, extra in zip((y, x), strangers, strict=True)
    )
    return stars, catalog, truth


def off_arcsec(found: Match, truth: PlateSolution) -> float:
    """Largest error at the corners and in the middle [arcsec]."""
    y, x = np.array([0, 0, 1023, 1023, 511]), np.array([0, 1023, 0, 1023, 511])
    ours = np.stack(project(*found.solution.sky(y, x), truth.centre))
    return float(np.abs(ours - np.stack(truth.to_standard_coordinates(y, x))).max())


@pytest.mark.parametrize("n", [4, 5, 8, 20, 60])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fields_are_solved(seed: int, n: int) -> None:
    stars, catalog, truth = field(seed, n)
    found = match_stars(stars, catalog, plate(), Uncertainty(pointing_arcsec=15.0))
    assert found is not None
    assert len(found.stars) >= 0.9 * n
    assert found.rms_arcsec < 3 * 0.1 * SCALE
    assert off_arcsec(found, truth) < 0.5 * SCALE * (12 / n if n < 12 else 1) + 0.02


@pytest.mark.parametrize("seed", range(10))
def test_no_solution_is_claimed_in_a_field_of_strangers(seed: int) -> None:
    (y, x), _, _ = field(seed, 15)
    _, catalog, _ = field(seed + 1000, 25)
    assert match_stars((y, x), catalog, plate(), Uncertainty(pointing_arcsec=15.0)) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_pair_among_few_stars_does_not_bend_the_solution(seed: int) -> None:
    """A false source a third of an arcsecond from a catalogue star, as close as `match_arcsec` lets it be."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(100, 900, (2, 6))
    catalog = plate().sky(y, x)
    y[5], x[5] = y[5] + 7, x[5] - 6
    y, x = y + 0.05 * rng.standard_normal(6), x + 0.05 * rng.standard_normal(6)
    found = match_stars((y, x), catalog, plate(), Uncertainty(pointing_arcsec=5.0))
    assert found is not None
    assert sorted(found.stars) == [0, 1, 2, 3, 4]
    assert found.rms_arcsec < 0.1 * SCALE


def test_two_stars_are_not_enough() -> None:
    stars, catalog, _ = field(1, 2)
    assert match_stars((stars[0][:2], stars[1][:2]), catalog, plate(), Uncertainty()) is None


def test_distortion_is_fitted_where_there_are_stars_for_it() -> None:
    rng = np.random.default_rng(5)
    terms = {(2, 0): (2e-6, -1e-6), (1, 1): (1e-6, 3e-6), (0, 3): (0.0, 4e-9)}
    truth = PlateSolution(CENTRE, (511.5, 511.5), plate().matrix, terms)
    y, x = rng.uniform(0, 1023, (2, 200))
    catalog = truth.sky(y, x)
    for order, limit in ((1, 1.5), (3, 0.01)):
        found = match_stars((y, x), catalog, plate(), Uncertainty(pointing_arcsec=5.0), order)
        assert found is not None
        worst = np.abs(np.stack(found.solution.sky(y, x)) - np.stack(catalog)).max() * 3600 / SCALE
        assert worst < limit
        assert bool(found.solution.distortion) == (order == 3)


@given(ra=st.floats(0, 359.99), dec=st.floats(-89, 89), dx=st.floats(-1, 1), dy=st.floats(-0.9, 0.9))
@settings(max_examples=60)
def test_the_projection_is_that_of_astropy(ra: float, dec: float, dx: float, dy: float) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    wcs.wcs.cdelt, wcs.wcs.crpix = [1 / 3600, 1 / 3600], [1, 1]
    theirs = wcs.all_pix2world([[3600 * dx, 3600 * dy]], 0)[0]
    ours = deproject(3600 * dx, 3600 * dy, (ra, dec))
    assert (ours[0] - theirs[0] + 180) % 360 - 180 == pytest.approx(0, abs=1e-9 / np.cos(np.radians(theirs[1])))
    assert ours[1] == pytest.approx(theirs[1], abs=1e-9)
    back = project(*ours, (ra, dec))
    assert (float(back[0]), float(back[1])) == pytest.approx((3600 * dx, 3600 * dy), abs=1e-6)


@given(angle=st.floats(-179, 179), east_left=st.booleans())
@settings(max_examples=30)
def test_angles_and_parity_are_those_of_the_headers(angle: float, east_left: bool) -> None:
    header = tan_wcs(*CENTRE, (10.0, 20.0), 0.1, angle, east_left)
    matrix = 3600 * np.array([[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]])
    solution = PlateSolution(CENTRE, (10.0, 20.0), matrix)
    assert (solution.north_angle_deg - angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-9)
    assert solution.scale_arcsec == pytest.approx(0.1)
    y, x = np.array([3.0, 40.0, 12.0, 33.0]), np.array([9.0, 2.0, 31.0, 22.0])
    again = fit_wcs((y, x), project(*solution.sky(y, x), CENTRE), solution, 0)
    assert again.matrix == pytest.approx(matrix, abs=1e-9)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_pointing_error_does_not_turn_the_plate(order: int) -> None:
    """North has another direction at another right ascension: ten arcseconds matter, and the more near the pole."""
    truth = PlateSolution((155.0, 80.0), (500.0, 500.0), np.array([[-0.5, 0.01], [0.01, 0.5]]))
    y, x = (axis.ravel() for axis in np.mgrid[0:1000:9j, 0:1000:9j])
    wrong = deproject(60.0, -40.0, truth.centre)
    guess = PlateSolution((float(wrong[0]), float(wrong[1])), truth.reference, truth.matrix)
    found = fit_wcs((y, x), project(*truth.sky(y, x), guess.centre), guess, order)
    there = np.stack(project(*found.sky(y, x), truth.centre))
    assert there == pytest.approx(np.stack(truth.to_standard_coordinates(y, x)), abs=2e-3)
    assert found.north_angle_deg == pytest.approx(truth.north_angle_deg, abs=1e-5)
    assert found.centre == pytest.approx(truth.centre, abs=1e-7)


def test_sources_are_found_where_they_are() -> None:
    rng = np.random.default_rng(2)
    y, x = rng.uniform(15, 285, (2, 25))
    flux = 10 ** rng.uniform(3.3, 5, 25)
    yy, xx = np.mgrid[:300, :300]
    image = 100 + 0.1 * xx + rng.normal(0, 3, (300, 300))
    for sy, sx, f in zip(y, x, flux, strict=True):
        image += f / (2 * np.pi * 4) * np.exp(-((yy - sy) ** 2 + (xx - sx) ** 2) / 8)
    image[:10] = np.nan
    found = detect(image, 4.7)
    distance = np.hypot(found.y[:, np.newaxis] - y, found.x[:, np.newaxis] - x)
    assert len(found) >= 22
    assert np.sum(distance.min(axis=0) < 0.5) >= 22
    assert np.all(np.diff(found.flux) <= 0)
    assert np.median(found.fwhm_px) == pytest.approx(4.7, rel=0.4)


@pytest.mark.parametrize("image", [np.full((50, 50), np.nan), np.zeros((50, 50)), np.ones((5, 80))])
def test_images_without_sources_are_refused(image: np.ndarray) -> None:
    with pytest.raises(Unprocessable, match="no sources"):
        detect(image)


@pytest.mark.parametrize(
    ("raised", "passed_on"), [(Exception("internal pixel buffer full"), Unprocessable), (MemoryError(), MemoryError)]
)
def test_only_a_full_buffer_of_sep_speaks_against_the_image(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, passed_on: type[Exception]
) -> None:
    monkeypatch.setattr("sep.extract", mock.Mock(side_effect=raised))
    with pytest.raises(passed_on):
        detect(np.random.default_rng(1).normal(100, 5, (64, 64)))
