"""Strehl ratios of simulated stacks whose truth is known."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.errors import Unprocessable
from obsarchive.science.psf.model import diffraction_limited_psf, drizzled_response
from obsarchive.science.psf.strehl import StrehlResult, measure_strehl
from obsarchive.simulation.scenes import Conditions, Instrument, SimulatedObservation, ideal_stack

INSTRUMENT = Instrument()
OPTICS = INSTRUMENT.optics
FINE_ARCSEC = INSTRUMENT.pixel_arcsec / 2
DRIZZLED = drizzled_response()
FLUX = 1e6

FLICKER = {"motion_arcsec": 0.0}
WEATHER = {
    "good": Conditions(lag_s=0.006, **FLICKER),
    "average": Conditions(**FLICKER),
    "bad": Conditions(r0_m=0.08, lag_s=0.018, **FLICKER),
}


@cache
def stack(weather: str, seed: int) -> np.ndarray:
    return ideal_stack(SimulatedObservation(n_frames=30, conditions=WEATHER[weather], seed=seed))


@cache
def true_strehl(weather: str, seed: int) -> float:
    image = stack(weather, seed)
    perfect = diffraction_limited_psf(OPTICS, FINE_ARCSEC, len(image), DRIZZLED)
    return image.max() / image.sum() / perfect.max() * perfect.sum()


def field(image: np.ndarray, shape: tuple[int, int], corner: tuple[int, int], noise: float = 0.0) -> np.ndarray:
    """The star on a noisy background of 100, its first pixel at `corner`."""
    sky = 100 + noise * np.random.default_rng(1).standard_normal(shape)
    top, left = corner
    inside = sky[max(top, 0) : top + len(image), max(left, 0) : left + len(image)]
    part = image[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]]
    inside += FLUX * part
    return sky


def measure(image: np.ndarray, **options: tuple[float, float]) -> StrehlResult:
    return measure_strehl(image, OPTICS, FINE_ARCSEC, DRIZZLED, **options)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("weather", WEATHER)
def test_strehl_is_within_five_per_cent_of_truth(weather, seed):
    image = field(stack(weather, seed), (700, 640), (120, 90), noise=3.0)
    result = measure(image)
    truth = true_strehl(weather, seed)
    assert 0.03 < truth < 0.6
    # the aperture of 2.5 arcsec leaves out 1 to 2 % of the halo; the design asks for 5 %
    assert result.ratio == pytest.approx(truth, rel=0.04)
    assert result.flag == "OK", result.reason
    centre = len(stack(weather, seed)) // 2
    assert (result.y, result.x) == pytest.approx((120 + centre, 90 + centre), abs=0.1)
    assert result.flux == pytest.approx(FLUX, rel=0.04)


@pytest.mark.parametrize("weather", WEATHER)
def test_sizes_of_core_and_halo(weather):
    result = measure(field(stack(weather, 1), (600, 600), (80, 80)))
    diffraction_arcsec = OPTICS.diffraction_fwhm_mas / 1e3
    assert 0.95 * diffraction_arcsec < result.core_arcsec < 1.8 * diffraction_arcsec
    # the halo of a corrected image: beyond the core, within the seeing of about 1 arcsec
    assert 0.2 < result.halo_arcsec < 1.2
    image = stack(weather, 1)
    row = image[len(image) // 2]
    crossing = np.interp(0.5 * row.max(), row[: len(image) // 2 + 1], np.arange(len(image) // 2 + 1))
    width = 2 * (len(image) // 2 - crossing) * FINE_ARCSEC
    # one row against the fit of all pixels of a slightly asymmetric star
    assert result.fwhm_arcsec == pytest.approx(width, rel=0.12)


@given(y=st.floats(-0.5, 0.5), x=st.floats(-0.5, 0.5), flux=st.floats(1e3, 1e7), native=st.booleans())
@settings(max_examples=25, deadline=None)
def test_perfect_psf_has_strehl_one(y, x, flux, native):
    pixel_arcsec, response = (0.0347, (1.0,)) if native else (FINE_ARCSEC, DRIZZLED)
    size = 256 if native else 420
    image = 50 + flux * diffraction_limited_psf(OPTICS, pixel_arcsec, size, response, (y, x))
    result = measure_strehl(image, OPTICS, pixel_arcsec, response)
    assert result.ratio == pytest.approx(1, abs=0.01)
    assert (result.y, result.x) == pytest.approx((size // 2 + y, size // 2 + x), abs=0.03)
    assert result.flag == "OK", result.reason


def test_ratio_does_not_depend_on_the_phase_of_undersampled_pixels():
    ratios = []
    for offset in [(0.0, 0.0), (0.5, 0.5), (0.25, -0.4)]:
        image = diffraction_limited_psf(OPTICS, 0.06, 200, (1.0,), offset)
        ratios.append(measure_strehl(image, OPTICS, 0.06).ratio)
    # a third below the Nyquist sampling the peak between the pixels is no longer unique
    assert ratios == pytest.approx([1, 1, 1], abs=0.05)


@pytest.mark.parametrize(("delta_mag", "tolerance"), [(1.0, 0.06), (2.0, 0.05), (4.0, 0.04)])
def test_companion_does_not_count(delta_mag, tolerance):
    psf = stack("average", 1)
    image = field(psf, (700, 700), (120, 120), noise=2.0)
    image += field(psf * 10 ** (-0.4 * delta_mag), (700, 700), (160, 165)) - 100
    result = measure(image)
    assert result.ratio == pytest.approx(true_strehl("average", 1), rel=tolerance)
    assert result.flag == "OK", result.reason


def test_companion_can_be_measured_by_its_position():
    psf = stack("average", 1)
    image = field(psf, (900, 1300), (200, 150)) + field(psf / 4, (900, 1300), (200, 750)) - 100
    centre = len(psf) // 2
    result = measure(image, centre=(200 + centre + 3, 750 + centre - 4))
    assert (result.y, result.x) == pytest.approx((200 + centre, 750 + centre), abs=0.1)
    assert result.ratio == pytest.approx(true_strehl("average", 1), rel=0.05)


def test_noise_is_reflected_in_the_error():
    psf, truth = stack("average", 2), true_strehl("average", 2)
    deviations, errors = [], []
    for seed in range(12):
        image = field(psf, (512, 512), (40, 40))
        image += 60 * np.random.default_rng(seed).standard_normal(image.shape)
        result = measure(image)
        deviations.append(result.ratio / truth - 1)
        errors.append(result.ratio_error / truth)
    assert abs(np.mean(deviations)) < 0.03
    # a dozen trials tell a standard deviation to 20 %; the error neglects that the peak is smoothed
    assert 0.5 < np.std(deviations) / np.mean(errors) < 1.6


def test_missing_pixels_and_the_edge_are_tolerated():
    psf, truth = stack("average", 1), true_strehl("average", 1)
    image = field(psf, (600, 600), (80, 80), noise=2.0)
    image[:, 330:334] = np.nan
    image[200, 210] = np.inf
    assert measure(image).ratio == pytest.approx(truth, rel=0.05)
    centre = len(psf) // 2
    near_edge = measure(field(psf, (600, 600), (60 - centre, 80), noise=2.0))
    assert near_edge.ratio == pytest.approx(truth, rel=0.08)
    assert near_edge.box.shape[0] == near_edge.box.shape[1]
    assert np.isnan(near_edge.box[0]).all()


def test_missing_core_is_doubted():
    image = field(stack("average", 1), (600, 600), (80, 80), noise=2.0)
    centre = 80 + len(stack("average", 1)) // 2
    image[centre + 1, centre + 1] = np.nan
    result = measure(image)
    assert result.flag == "BAD?"
    assert "missing" in result.reason


def test_saturated_star_is_doubted():
    image = field(stack("average", 1), (600, 600), (80, 80), noise=2.0)
    result = measure(np.minimum(image, 0.6 * image.max()))
    assert result.flag == "BAD?"
    assert "saturated" in result.reason


def test_hot_pixel_is_doubted():
    image = field(stack("average", 1) * 0, (600, 600), (0, 0), noise=2.0)
    image[300, 310] += 1e4
    result = measure(image)
    assert result.flag == "BAD?"


def test_seeing_limited_star_is_doubted():
    radius = np.hypot(*(np.mgrid[:600, :600] - 300)) * FINE_ARCSEC
    result = measure(100 + 1e4 * (1 + (radius / 1.2) ** 2) ** -4.765)
    assert result.flag == "BAD?"
    assert result.ratio < 0.02


def test_small_image_uses_a_smaller_aperture():
    psf = stack("good", 1)
    half = len(psf) // 2
    image = 100 + FLUX * psf[half - 100 : half + 100, half - 100 : half + 100]
    truth = true_strehl("good", 1)
    # an aperture of 1.2 arcsec leaves out a good part of the halo
    assert truth < measure(image).ratio < 1.12 * truth


def test_the_aperture_holds_the_core_of_a_small_telescope():
    optics = replace(OPTICS, primary_m=0.2, secondary_m=0.07)
    image = 100 + FLUX * diffraction_limited_psf(optics, 0.5, 200, (1.0,), (0.2, 0.1))
    result = measure_strehl(image, optics, 0.5)
    assert result.ratio == pytest.approx(1, abs=0.02)


def test_a_star_without_any_sky_around_it_is_unprocessable():
    y, x = np.indices((300, 300)) - 150
    image = 1000 * np.exp(-(y**2 + x**2) / 8.0) + 0.01 * np.hypot(y, x)
    image[np.hypot(y, x) > 100] = np.nan
    with pytest.raises(Unprocessable, match="sky around the star is not known"):
        measure(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((300, 300), np.nan), "no finite pixel"),
        (np.zeros((300, 300)), "expected a star"),
        (np.random.default_rng(3).normal(100, 5, (400, 400)), "expected a star of peak S/N"),
        (np.ones((20, 300)), "expected an image of at least"),
    ],
)
def test_no_star_is_unprocessable(image, message):
    with pytest.raises(Unprocessable, match=message):
        measure(image)


def test_centre_beyond_the_image_is_unprocessable():
    with pytest.raises(Unprocessable, match="expected a star near"):
        measure(np.ones((400, 400)), centre=(900.0, 10.0))


def test_cube_is_refused():
    with pytest.raises(ValueError, match="two dimensions"):
        measure(np.ones((2, 300, 300)))


def test_positions_of_faint_stars_lie_between_the_pixels():
    rng = np.random.default_rng(4)
    y, x = np.mgrid[-100:101, -100:101]
    found, true = [], []
    for _ in range(16):
        offset = rng.uniform(-0.5, 0.5, 2)
        core = 700 * diffraction_limited_psf(OPTICS, FINE_ARCSEC, 201, DRIZZLED, tuple(offset))
        halo = 21 * (1 + ((y - offset[0]) ** 2 + (x - offset[1]) ** 2) / 400) ** -3
        result = measure(core + halo + 5 * rng.standard_normal(core.shape), centre=(100.0, 100.0))
        found.append([result.y, result.x])
        true.append(100 + offset)
    assert np.abs(np.subtract(found, np.rint(found))).min() > 1e-6
    assert np.std(np.subtract(found, true)) < 0.6
