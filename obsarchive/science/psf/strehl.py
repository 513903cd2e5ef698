"""Strehl ratio of a star: its peak over that of the diffraction-limited PSF of the same flux.

Both are measured alike: same pixels, same circular aperture, and a peak interpolated between the pixels with only
the spatial frequencies that the telescope transmits (Roberts et al. 2004, Proc. SPIE 5490, 504 compare such methods).
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.psf.band_limited_peak import band_limited_peak
from obsarchive.science.psf.core_and_halo import CoreAndHalo, fit_core_and_halo
from obsarchive.science.psf.coverage_scatter import CoverageScatter, coverage_scatter
from obsarchive.science.psf.model import Optics, aperture_weights, diffraction_limited_psf
from obsarchive.science.psf.neighbours import profile_among_neighbours
from obsarchive.science.psf.radial_profile import ANNULUS, CORE_FWHM, StarProfile
from obsarchive.science.psf.stack_noise import StackNoise, aligned_noise, stack_noise
from obsarchive.science.registration.noise_choice import DROP_VARIANCE
from obsarchive.science.statistics import median_of_all

APERTURE_ARCSEC = 2.5
"""Radius of the aperture [arcsec]; smaller for small images."""
LEAST_CORES = 4.0
"""Least radius of the aperture, in widths of the perfect core."""

_HALO_ARCSEC = 0.7
"""First guess of the FWHM of the halo."""

_DETECTION_SNR = 7.0
_TRUSTED_SNR = 15.0
_LOWEST_RATIO = 0.005
_TRUSTED_ERROR = 0.25
"""Largest relative error of a trusted ratio."""
_LEAST_CORE_SHARE = 0.1
_LEAST_PLACES = 6
"""Frames at different places from which on a series in what these do to the core tells more than its order."""
_WIDER = 4 * float(np.log(2))
"""Relative change of the FWHM of a Gaussian whose mean profile is about another point, over the square of the distance
of that along either axis in units of the FWHM."""


@dataclass(frozen=True, eq=False)
class StrehlResult:
    """Strehl ratio and image quality of a star.

    Attributes
    ----------
    ratio, ratio_error : float
        Strehl ratio (0-1) of this image and its standard error: noise of background and light at the peak and in the
        aperture, the level of the background and its model, scatter between the sectors of the halo, and what pixels of
        frames that are wider than half of lambda / D do not sample.
    fwhm_arcsec, fwhm_error_arcsec : float
        Full width at half of the peak, and its standard error [arcsec].
    core_arcsec, core_error_arcsec, halo_arcsec, halo_error_arcsec : float
        FWHM of the two components of the fit, diffraction core and seeing halo, and their errors [arcsec]; the halo
        is NaN where the star has none.
    y, x, y_error, x_error : float
        Position of the peak in the image, without the offset by uneven coverage, and its standard error [pixel].
    flux, flux_error : float
        Flux in the aperture above the background, and its standard error [unit of the image].
    flag : str
        "OK", or "BAD?" when the ratio should not be trusted.
    reason : str
        Why it should not be trusted; empty otherwise.
    box : ndarray
        Square cut-out around the star, NaN beyond the image.
    """

    ratio: float
    ratio_error: float
    fwhm_arcsec: float
    fwhm_error_arcsec: float
    core_arcsec: float
    core_error_arcsec: float
    halo_arcsec: float
    halo_error_arcsec: float
    y: float
    x: float
    y_error: float
    x_error: float
    flux: float
    flux_error: float
    flag: str
    reason: str
    box: Float32Array


def measure_strehl(
    image: FloatArray,
    optics: Optics,
    pixel_arcsec: float,
    response_px: tuple[float, ...] = (1.0,),
    *,
    centre: tuple[float, float] | None = None,
    noise: StackNoise | None = None,
) -> StrehlResult:
    """Measure the Strehl ratio of a star.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image of any linear unit; NaN marks missing pixels.
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    response_px : tuple of float
        Square responses of the pixels (`diffraction_limited_psf`); `drizzled_response` for a drizzled stack.
    centre : (float, float), optional
        Approximate position (y, x) of the star, good to three times the diffraction limit [pixel]; the brightest
        star by default.
    noise : StackNoise, optional
        Noise of the image, of `noise_of_frames` for a stack; what the image itself tells by default.

    Returns
    -------
    StrehlResult
        Ratio, sizes and a flag.

    Raises
    ------
    Unprocessable
        There is no star to measure: no finite pixel, nothing above the noise, or an image too small.
    ValueError
        `image` is not two-dimensional.
    """
    if image.ndim != 2:
        raise ValueError(f"expected an image of two dimensions, found shape {image.shape}")
    sharpest_px = 1e-3 * optics.diffraction_fwhm_mas / pixel_arcsec
    core_px = CORE_FWHM * sharpest_px
    aperture_px = _aperture_px(image.shape, pixel_arcsec, core_px)
    guess = _brightest_star(image, core_px) if centre is None else centre
    row, column = _brightest_pixel(image, guess, core_px, sharpest_px / 2.355)
    star = _star_at(image, (row, column), aperture_px, core_px)
    found = band_limited_peak(star.patch, optics, pixel_arcsec)
    dy, dx = found.y, found.x
    # at the sub-pixel phase of the star: both peaks lose alike by sampling
    perfect = diffraction_limited_psf(optics, pixel_arcsec, len(star.patch), response_px, (dy, dx))
    ideal = band_limited_peak(perfect, optics, pixel_arcsec)
    perfect_flux = _perfect_flux(optics, pixel_arcsec, response_px, aperture_px)
    noise = noise or stack_noise(star.box - star.background, core_px, aperture_px, response_px)
    places = _scatter_by_places(optics, pixel_arcsec, response_px, noise)
    lifted = replace(noise, lift=noise.lift + places.lift * found.height)
    lifts = aligned_noise(found.radii, found.profile, lifted, _searched_px(optics, pixel_arcsec, response_px))
    lift = float(lifts[0])
    peak = (found.height - lift) / (1 + (noise.coverage or 0.0))
    # both peaks relative to the flux in the same aperture
    ratio = peak / star.flux * perfect_flux / ideal.height
    variance = noise.variance(star.image)

    def aligned(radius: Float64Array) -> Float64Array:
        return np.interp(radius, found.radii, lifts, right=0.0)

    first = 1.2 * sharpest_px, _HALO_ARCSEC / pixel_arcsec
    fit = fit_core_and_halo(star, (dy, dx), first, variance, aligned, noise.lift_error)
    density = noise.variance(star.patch)
    peak_error, *place_errors = found.errors(density, response_px)
    width = found.full_width(density, response_px, lifts, noise.lift_error)
    fwhm, fwhm_error = width or (fit.fwhm, np.nan)
    fwhm /= 1 + noise.widening
    of_fwhm, of_core, of_halo = _errors_by_coverage(fit, ratio, noise, places)
    core, unknown = _core_width(fit, fwhm, noise, places)
    shifted = np.hypot(noise.sampling / 2.355 * fwhm / np.sqrt(2), places.place * fwhm)
    flux_error = star.flux_error(variance)
    by_light = peak_error / peak, noise.lift_error * lift / peak, flux_error / star.flux
    error = abs(ratio) * float(np.sqrt(np.sum(np.square([*by_light, noise.left, places.peak]))))
    reason = "; ".join(_doubts(star, fit, ratio, error, sharpest_px))
    return StrehlResult(
        ratio=ratio,
        ratio_error=error,
        fwhm_arcsec=fwhm * pixel_arcsec,
        fwhm_error_arcsec=float(np.hypot(fwhm_error, of_fwhm * fwhm)) * pixel_arcsec,
        core_arcsec=core * pixel_arcsec,
        core_error_arcsec=float(np.sqrt(fit.core_error**2 + (of_core**2 + unknown**2) * core**2)) * pixel_arcsec,
        halo_arcsec=fit.halo * pixel_arcsec,
        halo_error_arcsec=float(np.hypot(fit.halo_error, of_halo * fit.halo)) * pixel_arcsec,
        y=row + dy - noise.offset[0],
        x=column + dx - noise.offset[1],
        y_error=float(np.hypot(place_errors[0], shifted)),
        x_error=float(np.hypot(place_errors[1], shifted)),
        flux=star.flux,
        flux_error=flux_error,
        flag="BAD?" if reason else "OK",
        reason=reason,
        box=star.box.astype(np.float32),
    )


def _star_at(image: FloatArray, pixel: tuple[int, int], aperture_px: float, core_px: float) -> StarProfile:
    """Return the profile of the star at its brightest pixel, without its neighbours, or reject an image without one."""
    star = profile_among_neighbours(image, pixel, aperture_px, core_px)
    if not star.peak_snr >= _DETECTION_SNR:
        raise Unprocessable(
            f"expected a star of peak S/N above {_DETECTION_SNR:g} near (y, x) = ({pixel[0]}, {pixel[1]}), "
            f"found {star.peak_snr:.1f}"
        )
    return star


def _searched_px(optics: Optics, pixel_arcsec: float, response_px: tuple[float, ...]) -> float:
    """Return the sigma with which peaks of frames are looked for, half of lambda / D, and then drizzled."""
    return float(np.hypot(optics.lambda_over_d_arcsec / pixel_arcsec / 2, np.sqrt(DROP_VARIANCE) * response_px[0]))


def _scatter_by_places(
    optics: Optics, pixel_arcsec: float, response_px: tuple[float, ...], noise: StackNoise
) -> CoverageScatter:
    """Return how uncertain the core is by the places of the frames, less where these are known."""
    scatter = coverage_scatter(optics, pixel_arcsec, response_px, noise.n_places)
    return scatter if noise.coverage is None else scatter.left(noise.n_places)


def _core_width(fit: CoreAndHalo, fwhm: float, noise: StackNoise, places: CoverageScatter) -> tuple[float, float]:
    """Return the FWHM of the core with even coverage [pixel], and the share of it that few places leave unknown."""
    sharpened = (noise.coverage or 0.0) / 2 / max(fit.core_share, _LEAST_CORE_SHARE)
    # about the highest point, which uneven coverage moves more than the light around it, a Gaussian looks wider
    wider = _WIDER * (places.place * fwhm / fit.core) ** 2
    core = fit.core * (1 + sharpened)
    if noise.n_places < _LEAST_PLACES:
        return core, float(np.hypot(sharpened, wider))
    return core / (1 + wider), 0.0


def _errors_by_coverage(
    fit: CoreAndHalo, ratio: float, noise: StackNoise, places: CoverageScatter
) -> tuple[float, float, float]:
    """Return the relative errors of FWHM, core and halo by frames that cover the pixels unevenly."""
    # what it does to the peak it does to its surroundings, too; half of the squares along either axis
    widened = noise.sampling / 2.355
    # the core has to answer for the whole peak
    of_core = np.hypot(widened / fit.core_share, places.width)
    # light of both is the square of the sum of amplitudes: that of the core over that of the halo
    amplitudes = np.sqrt(np.clip(ratio, 0, 0.5) / np.clip(1 - ratio, 0.5, 1))
    of_halo = np.hypot(widened, places.halo * amplitudes)
    return float(np.hypot(widened, places.width)), float(of_core), float(of_halo)


def _doubts(star: StarProfile, fit: CoreAndHalo, ratio: float, error: float, sharpest_px: float) -> list[str]:
    """Return the reasons not to trust a Strehl ratio."""
    core = f"core of {fit.core / sharpest_px:.2f} times the diffraction limit"
    checks = {
        f"peak S/N {star.peak_snr:.1f} is below {_TRUSTED_SNR:g}": star.peak_snr < _TRUSTED_SNR,
        f"ratio {ratio:.3f} is outside {_LOWEST_RATIO:g} to 1": not _LOWEST_RATIO < ratio < 1.02 + min(3 * error, 0.2),
        f"the ratio is known to {error / abs(ratio):.0%} only": error > _TRUSTED_ERROR * abs(ratio),
        "the core is saturated": star.saturated,
        "pixels are missing in the core": star.centre_missing,
        f"{star.missing_share:.0%} of the aperture is missing": star.missing_share > 0.5,
        f"{core} is too sharp": fit.core < 0.7 * sharpest_px,
        f"{core} is not sharp": fit.core > 4 * sharpest_px,
        "core is wider than its halo": fit.core > fit.halo,  # never of a star without one
        "no core stands out of the halo": fit.core_share < _LEAST_CORE_SHARE,
    }
    return [reason for reason, holds in checks.items() if holds]


@lru_cache(maxsize=16)
def _perfect_flux(optics: Optics, pixel_arcsec: float, response_px: tuple[float, ...], aperture_px: float) -> float:
    """Return the flux of the diffraction-limited PSF in the aperture, relative to the total."""
    half = int(aperture_px) + 1
    psf = diffraction_limited_psf(optics, pixel_arcsec, 2 * half + 1, response_px)
    return float(np.sum(psf * aperture_weights(psf.shape, half, half, aperture_px)))


def _aperture_px(shape: tuple[int, ...], pixel_arcsec: float, core_px: float) -> float:
    """Return the radius of the aperture that fits into the image together with its background annulus."""
    # the core of a small telescope is wider than the usual aperture
    aperture_px = min(max(APERTURE_ARCSEC / pixel_arcsec, LEAST_CORES * core_px), (min(shape) - 1) / 2 / ANNULUS)
    if aperture_px < 2 * core_px:
        least = int(4 * ANNULUS * core_px) + 2
        raise Unprocessable(f"expected an image of at least {least} x {least} pixels, found {shape[0]} x {shape[1]}")
    return aperture_px


def _brightest_star(image: FloatArray, core_px: float) -> tuple[float, float]:
    """Return the approximate position (y, x) of the brightest star, from sums over blocks of the size of its core."""
    side = max(1, int(core_px / CORE_FWHM))
    ny, nx = (n // side for n in image.shape)
    # a sparse sample is enough for a median
    seen = image[:: 2 * side, :: 2 * side]
    seen = seen[np.isfinite(seen)]
    level = median_of_all(seen) if seen.size else 0.0
    sky = float(level)
    light = np.nan_to_num(image[: ny * side, : nx * side], nan=sky, posinf=sky, neginf=sky)
    # rows first: adding whole rows is several times faster than adding small blocks
    rows = light.reshape(ny, side, -1).sum(axis=1)
    blocks = rows.reshape(ny, nx, side).sum(axis=2) - level * side**2
    # a star may fall onto the corner of four blocks
    blocks = uniform_filter(blocks, 3, mode="constant")
    y, x = np.unravel_index(np.argmax(blocks), blocks.shape)
    return (float(y) + 0.5) * side - 0.5, (float(x) + 0.5) * side - 0.5


def _brightest_pixel(image: FloatArray, near: tuple[float, float], reach_px: float, sigma_px: float) -> tuple[int, int]:
    """Return the pixel (row, column), within `reach_px` rows and columns, that is brightest after smoothing."""
    top, left = (max(0, int(np.floor(centre - reach_px))) for centre in near)
    bottom, right = (max(0, int(np.ceil(centre + reach_px)) + 1) for centre in near)
    window = image[top:bottom, left:right]
    if not np.any(np.isfinite(window)):
        place = f"(y, x) = ({near[0]:.0f}, {near[1]:.0f})"
        raise Unprocessable(
            f"expected a star near {place}, found no finite pixel there in an image of {image.shape} pixels"
        )
    known = np.isfinite(window)
    # noise of single pixels is no star: the mean with neighbours as far as they are known
    light, weight = (
        gaussian_filter(np.where(known, values, 0.0), sigma_px, mode="constant") for values in (window, 1.0)
    )
    row, column = np.unravel_index(np.argmax(np.where(known, light / np.maximum(weight, 1e-9), -np.inf)), window.shape)
    return top + int(row), left + int(column)
