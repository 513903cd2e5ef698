"""The perfect PSF against the analytic diffraction pattern of an annular pupil."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.ndimage import uniform_filter
from scipy.special import j1

from obsarchive.science.psf.model import (
    ARCSEC_PER_RAD,
    Optics,
    annulus_otf,
    diffraction_limited_psf,
    drizzled_response,
    strehl_factor,
)

KPNO_I = Optics(primary_m=2.1, secondary_m=0.5, wavelength_nm=765.0, width_nm=150.0)


def analytic_psf(optics: Optics, y_arcsec: np.ndarray, x_arcsec: np.ndarray) -> np.ndarray:
    """Airy pattern with obstruction [1/arcsec^2] (Born & Wolf, section 8.6), averaged over 41 wavelengths."""
    e = optics.obstruction
    area_m2 = np.pi / 4 * (optics.primary_m**2 - optics.secondary_m**2)
    radius = np.maximum(np.hypot(y_arcsec, x_arcsec), 1e-9) / ARCSEC_PER_RAD
    total = np.zeros(radius.shape)
    for wavelength_nm in optics.wavelengths_nm(41):
        wavelength_m = wavelength_nm * 1e-9
        v = np.pi * radius * optics.primary_m / wavelength_m
        amplitude = 2 * (j1(v) - e * j1(e * v)) / v / (1 - e**2)
        total += amplitude**2 * area_m2 / wavelength_m**2 / ARCSEC_PER_RAD**2
    return total / 41


@pytest.mark.parametrize("optics", [KPNO_I, Optics(1.5, 0.0, 480.0, 140.0), Optics(3.0, 1.2, 900.0)])
def test_psf_is_the_airy_pattern_integrated_over_the_pixel(optics):
    pixel_arcsec, size, sub = 0.0347, 16, 15
    psf = diffraction_limited_psf(optics, pixel_arcsec, size)
    # midpoints of 15 x 15 parts of each pixel
    fine = ((np.arange(size * sub) + 0.5) / sub - 0.5 - size // 2) * pixel_arcsec
    expected = analytic_psf(optics, fine[:, None], fine[None, :]).reshape(size, sub, size, sub).mean(axis=(1, 3))
    # 9 against 41 wavelengths and the midpoint rule leave 1e-3 of the peak
    assert_allclose(psf, expected * pixel_arcsec**2, atol=1e-3 * psf.max())
    assert psf.argmax() == np.ravel_multi_index((size // 2, size // 2), psf.shape)
    assert psf.max() == pytest.approx(expected.max() * pixel_arcsec**2, rel=2e-3)


@given(
    offset=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
    primary=st.floats(1.0, 4.0),
    obstruction=st.floats(0.0, 0.6),
)
@settings(max_examples=20, deadline=None)
def test_flux_in_a_box_is_what_diffraction_leaves_there(offset, primary, obstruction):
    optics = Optics(primary, obstruction * primary, 700.0, 100.0)
    psf = diffraction_limited_psf(optics, 0.03, 128, (1.0,), offset)
    # Outside of r [lambda/D] lies 2 / (pi^2 r (1 - e)) of the light; the square reaches 1.13 times its half width.
    reach = 1.13 * 64 * 0.03 / optics.lambda_over_d_arcsec
    expected = 1 - 2 / (np.pi**2 * reach * (1 - obstruction))
    assert psf.sum() == pytest.approx(expected, abs=0.003)
    assert np.all(psf > -1e-6)


def test_responses_act_one_after_the_other():
    # On a grid of 5 points per pixel a response 5 wide is a running mean of the PSF without it.
    pixel_arcsec = 0.006
    narrow = diffraction_limited_psf(KPNO_I, pixel_arcsec, 81, (1.0,))
    wide = diffraction_limited_psf(KPNO_I, pixel_arcsec, 81, (1.0, 5.0))
    inner = slice(10, -10)
    # a running mean of points against an integral: second-order error
    assert_allclose(uniform_filter(narrow, 5)[inner, inner], wide[inner, inner], atol=4e-3 * wide.max())


def test_drizzled_response_lists_native_pixel_drop_and_output_pixel():
    assert drizzled_response(2, 0.45) == (2, 0.9, 1.0)


@pytest.mark.parametrize("obstruction", [0.0, 0.24, 0.5])
def test_diffraction_fwhm_is_that_of_the_psf(obstruction):
    optics = Optics(2.0, 2.0 * obstruction, 600.0)
    pixel_arcsec = optics.lambda_over_d_arcsec / 50
    # no response: the bare intensity, made from the OTF and not from Bessel functions
    row = diffraction_limited_psf(optics, pixel_arcsec, 101, ())[50, 50:]
    half_px = np.interp(-row[0] / 2, -row, np.arange(len(row)))
    assert optics.diffraction_fwhm_mas == pytest.approx(2e3 * half_px * pixel_arcsec, rel=1e-3)


def test_airy_pattern_without_obstruction():
    assert Optics(2.0, 0.0, 600.0).diffraction_fwhm_mas == pytest.approx(
        1.0290 * 600e-9 / 2 * ARCSEC_PER_RAD * 1e3, rel=1e-4
    )


def test_otf_is_the_autocorrelation_of_the_pupil():
    n, radius, obstruction = 512, 100.0, 0.3
    y, x = np.mgrid[:n, :n] - n // 2
    r = np.hypot(y, x)
    pupil = ((r <= radius) & (r >= obstruction * radius)).astype(float)
    correlation = np.fft.fftshift(np.fft.ifft2(np.abs(np.fft.fft2(pupil)) ** 2).real)
    row = correlation[n // 2, n // 2 :] / pupil.sum()
    # pixels of a hundredth of the radius: half a per cent
    assert_allclose(annulus_otf(np.arange(n // 2) / (2 * radius), obstruction), row, atol=0.006)


def test_strehl_factor_is_peak_over_flux():
    psf = diffraction_limited_psf(KPNO_I, 0.0347, 301)
    r = np.hypot(*(np.mgrid[:301, :301] - 150))
    expected = psf.max() / psf[r <= 60].sum()
    # a hard against a soft edge of the aperture: 1e-3
    assert strehl_factor(KPNO_I, 0.0347, 60 * 0.0347) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("wrong", [(2.1, 2.1, 765.0, 0.0), (2.1, -0.1, 765.0, 0.0), (2.1, 0.5, 700.0, 700.0)])
def test_impossible_optics_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Optics(*wrong)


def test_impossible_grid_is_refused():
    with pytest.raises(ValueError, match="positive size"):
        diffraction_limited_psf(KPNO_I, 0.0347, 0)


def pupil_with_vanes(vane_m: float, samples: int = 420) -> np.ndarray:
    y, x = ((np.arange(samples) - (samples - 1) / 2) * 2.1 / samples,) * 2
    y, x = np.meshgrid(y, x, indexing="ij")
    radius = np.hypot(y, x)
    is_open = (np.abs(y) > vane_m / 2) & (np.abs(x) > vane_m / 2) if vane_m else np.ones(y.shape, bool)
    return ((radius < 1.05) & (radius > 0.25) & is_open).astype(float)


@pytest.mark.parametrize("vane_m", [0.02, 0.06])
def test_vanes_lower_the_peak_and_spread_light(vane_m):
    monochromatic = Optics(2.1, 0.5, 765.0, vane_m=vane_m)
    pixel_arcsec, side = 0.25 * monochromatic.lambda_over_d_arcsec, 1680
    found, ring = [], 60
    for width in (0.0, vane_m):
        pupil = np.zeros((side, side))
        pupil[:420, :420] = pupil_with_vanes(width)
        image = np.fft.fftshift(np.abs(np.fft.fft2(pupil)) ** 2) / (pupil.sum() * side**2)
        near = np.hypot(*(np.indices(image.shape) - side // 2)) < ring
        found.append((image.max(), image[near].sum()))
    made = []
    for optics in (Optics(2.1, 0.5, 765.0), monochromatic):
        psf = diffraction_limited_psf(optics, pixel_arcsec, 2 * ring + 1, ())
        made.append((psf.max(), psf[np.hypot(*(np.indices(psf.shape) - ring)) < ring].sum()))
    # what vanes change, of peak and of flux in a circle: their samples are whole in one of both
    assert_allclose(np.divide(*made[::-1]), np.divide(*found[::-1]), atol=0.0015)
    assert made[1][0] < 0.985 * made[0][0]


def test_vanes_that_do_not_fit():
    with pytest.raises(ValueError, match="vane_m"):
        Optics(2.1, 0.5, 765.0, vane_m=0.6)
