"""Measurement of the guide star in one frame: the peak of the core where there is one, and the centroid where not."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numba import njit
from scipy import fft

from obsarchive.science.arrays import Complex64Array, Complex128Array, Float32Array, Float64Array, FloatArray
from obsarchive.science.imaging.hot_pixels import sharpest_star, without_spikes
from obsarchive.science.registration.noise_choice import CoreChoice
from obsarchive.science.registration.photon_transfer import folded_share, sums_of_rings
from obsarchive.science.registration.pixel_phase import SCALES, without_phase_error
from obsarchive.science.registration.position_noise import PositionNoise, finest, least_and_greatest, position_noise
from obsarchive.science.registration.rival_peaks import RivalPeak, rival_of
from obsarchive.science.registration.windows import rim
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

CORE_MIN_SNR = 5.0
LEAST_CORE_PX = 0.6
"""Least sigma of the Gaussian that smooths a window: of a narrower one pixels would hardly know the peak [pixel]."""
MOST_STEP_PX = 0.6
"""Longest step towards the highest point, which is within half a pixel of the highest pixel of a star [pixel]."""
WELL_SAMPLED_PX = 0.8
"""Half of lambda / D from which on the finest frequencies hold noise alone [pixel]."""
SHARPNESS_AT_CENTRE, SHARPNESS_PER_OFFSET = 0.15, 0.75  # least sharpness of a core, see `measure`
SHARPNESS_OF_BLUNT, SHARPNESS_PER_SQUARE = 0.05, 2.0
"""Least sharpness of a core whose offset noise does not make, see `measure`."""
MOST_SHARPNESS, LEAST_VARIANCE, HIT_SNR = 1.35, 0.33, 20.0
"""What is so significant is no star where its sharpness is beyond 1.35 (a diffraction core has 1.1, 2 x 2 pixels 1.6)
and beyond that of a star with a FWHM of 1.2 pixels, by its variance [pixel^2]."""
HIT_PX, MOST_HITS = 3.0, 4
"""Reach of what a cosmic ray leaves [pixel], and how many of them in a window are too many."""
OFFSET_SIGNIFICANCE = 6.0
"""Of the offset of such a core: the highest of many points of a smooth disc is noise that reaches 4 and more."""
CLEAR = 3.0
"""Sharpness over the least one from which on there is no doubt of a core."""


@dataclass(frozen=True)
class FrameMeasure:
    """The guide star in one frame.

    Attributes
    ----------
    y, x : float
        Position in the window [pixel].
    peak : float
        Peak above background of the window smoothed with the core, between the pixels, without what wide pixels fold
        back [counts/pixel].
    flux, flux_error : float
        Aperture flux [counts] and its error from the background noise alone.
    background : float
        Median of the rim of the window [counts/pixel].
    snr : float
        ``peak`` over the background noise after the same smoothing: the significance of the core.
    sharpness : float
        1 for an unresolved core, 0 for a flat-topped or ring-shaped image, see `measure`.
    brightest : float
        Highest pixel of the window, background included [counts], to be compared with saturation.
    is_core : bool
        Whether the position is that of the core, not the centroid.
    noise : PositionNoise or None
        What the error of the position follows from, see `position_errors`; None without a star.
    """

    y: float
    x: float
    peak: float
    flux: float
    flux_error: float
    background: float
    snr: float
    sharpness: float
    brightest: float
    is_core: bool = True
    noise: PositionNoise | None = None


@dataclass(frozen=True, eq=False)
class _Peak:
    """Highest point of a window smoothed with a Gaussian, and the derivatives there, see `_derivatives`."""

    y: float
    x: float
    sigma_px: float
    terms: FloatArray


def measure(
    window: FloatArray,
    core_sigma_px: float,
    scale_px: float | None = None,
    near: tuple[float, float, float] | None = None,
) -> FrameMeasure:
    """Measure position, peak and flux of the guide star in one calibrated frame.

    The window is smoothed with a Gaussian like the diffraction core and its maximum found between the
    pixels, on the Fourier series of the smoothed window (no interpolation error). There the smaller of the two
    curvatures, relative to the curvature of a bare core, is the sharpness: the share of the peak that
    is compact in both directions. It is 1 for a core, 0.5 and more for the core of a few
    percent Strehl on its halo, 0.2 for a seeing disc three times the core, and about 0 along the ring of a
    defocused star, where the maximum is noise.

    The centroid is the maximum after smoothing with 1.5 times the size of the whole star (the
    fixed point of a centroid weighted with that Gaussian). Image motion carries core and halo together, so
    the further a peak lies from the centroid, the sharper it must be to count as the core:
    ``sharpness >= 0.15 + 0.75 * distance / scale_px``. A peak whose distance is more than six times its error is not
    what noise makes of a smooth disc, but near the centroid a core that motion or turbulence has blurred:
    ``sharpness >= 0.05 + 2 * (distance / scale_px)^2`` is then enough. Rings have such peaks far from the centroid.
    Otherwise, or where the core is insignificant, the centroid is the position.

    What is sharper than a core is a cosmic ray of a few pixels, and is removed.

    Parameters
    ----------
    window : ndarray (ny, nx)
        Calibrated counts; pixels that are not finite count as background.
    core_sigma_px : float
        Size of the core [pixel]: 0.42 lambda / D is the diffraction limit, 0.5 lambda / D ranks frames better. Not
        below `LEAST_CORE_PX`, but what is sharper than a star of this size is a hot pixel.
    scale_px : float, optional
        Size of the whole star, from `guide_star` [pixel]. None: the position is always that of the core.
    near : (float, float, float), optional
        Place (y, x) of the star where there are others as bright, and how far from it the core may lie [pixel].

    Returns
    -------
    FrameMeasure
        Peak and flux NaN and snr 0 where the window holds no finite pixel.
    """
    sky, noise = _sky(window)
    if not np.isfinite(sky):
        middle_y, middle_x = ((n - 1) / 2 for n in window.shape)
        return FrameMeasure(middle_y, middle_x, np.nan, np.nan, np.nan, np.nan, 0.0, 0.0, np.nan)
    signal = np.nan_to_num(np.asarray(window, np.float32) - np.float32(sky), posinf=0, neginf=0)
    clean = without_spikes(signal, 8 * noise, sharpest_star(core_sigma_px))
    diffraction_px, core_sigma_px = core_sigma_px, max(core_sigma_px, LEAST_CORE_PX)
    # a Gaussian of unit sum leaves 1 / (2 sigma sqrt(pi)) of white noise
    smooth_noise = noise / (2 * core_sigma_px * np.sqrt(np.pi))
    clean, spectrum, core, smooth = _core_of(clean, core_sigma_px, HIT_SNR * smooth_noise, near)
    peak = float(core.terms[0, 0])
    snr = peak / smooth_noise if smooth_noise > 0 else np.inf if peak > 0 else 0.0
    sharpness = _sharpness(core.terms, core_sigma_px)
    found, from_whole, choice, at_core = core, None, None, None
    rival = _within(rival_of(smooth, (core.y, core.x), core.terms, core_sigma_px), core, near)
    if scale_px is not None and scale_px > core_sigma_px:
        whole, _ = _highest_point(spectrum, window.shape, 1.5 * scale_px)
        from_whole = np.array([core.y - whole.y, core.x - whole.x])
        margin, at_core = _margin_of_core(clean, core, rival, sharpness, from_whole, scale_px)
        if snr >= CORE_MIN_SNR:
            choice = CoreChoice(margin, sharpness, peak, float(np.hypot(*from_whole)), core_sigma_px)
        if snr < CORE_MIN_SNR or margin < 0:
            found, rival, from_whole = whole, None, None
    (y, x), doubt = (found.y, found.x), None
    if found is core and diffraction_px < 1:
        curvatures = _curvatures(spectrum, window.shape, core)
        corrected = without_phase_error((y, x), curvatures, diffraction_px, core_sigma_px)
        (y, x), doubt = corrected.place.tolist(), corrected.errors
        # only what is compact is folded back
        peak /= 1 + corrected.excess * min(sharpness, 1.0)
    # wide enough for the halo, so that the flux depends little on the seeing
    radius = max(8 * core_sigma_px, 3 * (scale_px or 0))
    flux, n_pixels = _aperture(clean, y, x, radius)
    is_known = at_core and found is core and (y, x) == (core.y, core.x)
    moved = at_core if is_known else position_noise(clean, (y, x), found.terms, found.sigma_px)
    if moved and diffraction_px < WELL_SAMPLED_PX:
        sums = sums_of_rings(clean[3:-3, 3:-3], finest(clean) ** 2 - moved.variance, (y - 3, x - 3))
        moved = replace(moved, rings=sums, folded=folded_share(diffraction_px, found.sigma_px))
    height = None if found is core else _value_near(smooth, y, x)
    moved = moved and replace(moved, rival=rival, from_whole=from_whole, phase=doubt, choice=choice, height=height)
    brightest = float(np.nanmax(window))
    return FrameMeasure(y, x, peak, flux, noise * n_pixels**0.5, sky, snr, sharpness, brightest, found is core, moved)


def _core_of(
    image: Float32Array, sigma_px: float, hit_peak: float, near: tuple[float, float, float] | None
) -> tuple[Float32Array, Complex64Array, _Peak, FloatArray]:
    """Return a window without cosmic rays that outshine the star, its spectrum, its highest point and it smoothed."""
    most = max(MOST_SHARPNESS, 2 * sigma_px**2 / (sigma_px**2 + LEAST_VARIANCE))
    for _ in range(MOST_HITS):
        spectrum = fft.rfft2(image)
        core, smooth = _highest_point(spectrum, image.shape, sigma_px, near)
        if core.terms[0, 0] < hit_peak or _sharpness(core.terms, sigma_px) <= most:
            break
        y, x = np.ogrid[: image.shape[0], : image.shape[1]]
        distance = np.hypot(y - core.y, x - core.x)
        around = image[(distance > HIT_PX) & (distance <= 2 * HIT_PX)]
        image = np.where(distance <= HIT_PX, np.float32(median_of_all(around)), image)
    return image, spectrum, core, smooth


def _within(rival: RivalPeak | None, core: _Peak, near: tuple[float, float, float] | None) -> RivalPeak | None:
    """Return a rival unless it is further from a place than the core may be."""
    if near is None or rival is None:
        return rival
    far_y, far_x = np.array([core.y - near[0], core.x - near[1]]) + rival.offset
    return rival if np.hypot(far_y, far_x) <= near[2] else None


def _margin_of_core(
    image: Float32Array,
    core: _Peak,
    rival: RivalPeak | None,
    sharpness: float,
    from_whole: Float64Array,
    scale_px: float,
) -> tuple[float, PositionNoise | None]:
    """Return the sharpness of the highest point beyond the least one of a core, and its noise where that is in doubt.

    The first is negative where it is no core.
    """
    offset = float(np.hypot(*from_whole)) / scale_px
    least = SHARPNESS_AT_CENTRE + SHARPNESS_PER_OFFSET * offset
    is_clear = sharpness >= CLEAR * least
    noise = None if is_clear else position_noise(image, (core.y, core.x), core.terms, core.sigma_px)
    if noise is None:
        return sharpness - least, None
    covariance = replace(noise, rival=rival).covariance(noise.grain)
    # without noise any offset is significant
    significance = np.inf
    if np.linalg.det(covariance) > 0:
        significance = math.sqrt(max(float(from_whole @ np.linalg.solve(covariance, from_whole)), 0.0))
    # the error of a place is the smaller, the sharper the peak is
    significant = sharpness * OFFSET_SIGNIFICANCE / significance if significance > 0 else np.inf
    return sharpness - min(least, max(SHARPNESS_OF_BLUNT + SHARPNESS_PER_SQUARE * offset**2, significant)), noise


def _sky(window: FloatArray) -> tuple[float, float]:
    """Return median and robust standard deviation of the rim of a window."""
    edge = rim(window)
    edge = edge[np.isfinite(edge)]
    if not edge.size:
        return np.nan, np.nan
    sky = median_of_all(edge)
    return sky, MAD_TO_SIGMA * median_of_all(np.abs(edge - sky))


@lru_cache(maxsize=64)
def _gaussian_transfer(shape: tuple[int, int], sigma_px: float) -> Float32Array:
    """Return the Fourier transform of a Gaussian of unit sum, in the layout of `scipy.fft.rfft2`."""
    frequency2 = fft.fftfreq(shape[0])[:, np.newaxis] ** 2 + fft.rfftfreq(shape[1]) ** 2
    transfer: Float32Array = np.exp(-2 * (np.pi * sigma_px) ** 2 * frequency2).astype(np.float32)
    return transfer


@lru_cache(maxsize=16)
def _wave_numbers(shape: tuple[int, int]) -> tuple[tuple[FloatArray, Complex128Array], ...]:
    """Return the wave numbers k [radian/pixel] along y and x, and the factors (ik)^n of derivatives of orders n to 2.

    Those along x are multiplied with the weight of each column in the full spectrum.
    """
    # the half plane of a real image: columns but the first and the Nyquist one stand for two
    counts = np.full(shape[1] // 2 + 1, 2.0)
    counts[0] = 1
    if shape[1] % 2 == 0:
        counts[-1] = 1
    ky, kx = 2 * np.pi * fft.fftfreq(shape[0]), 2 * np.pi * fft.rfftfreq(shape[1])
    orders = np.arange(3)[:, np.newaxis]
    return (ky, (1j * ky) ** orders), (kx, counts / np.prod(shape) * (1j * kx) ** orders)


def _highest_point(
    spectrum: Complex64Array, shape: tuple[int, int], sigma_px: float, near: tuple[float, float, float] | None = None
) -> tuple[_Peak, FloatArray]:
    """Return the maximum of the smoothed window, or of its part near a place, by Newton's method; and the window."""
    smooth_spectrum = spectrum * _gaussian_transfer(shape, float(sigma_px))
    smooth = fft.irfft2(smooth_spectrum, s=shape)
    looked_at = smooth
    if near is not None:
        y, x = np.ogrid[: shape[0], : shape[1]]
        looked_at = np.where((y - near[0]) ** 2 + (x - near[1]) ** 2 <= near[2] ** 2, smooth, -np.inf)
    start = np.array(np.unravel_index(np.argmax(looked_at), shape), dtype=float)
    position = start.copy()
    for _ in range(3):
        terms = _derivatives(smooth_spectrum, shape, position)
        ((_, by_x, by_xx), (by_y, by_yx, _), (by_yy, _, _)) = terms.tolist()
        determinant = by_yy * by_xx - by_yx**2
        if by_yy + by_xx >= 0 or determinant <= 0:
            break  # no maximum here, a window without a star: the pixel has to do
        step = np.array([by_xx * by_y - by_yx * by_x, by_yy * by_x - by_yx * by_y]) / determinant
        # a step beyond the neighbouring pixels would leave the region where the expansion holds; a long one would lead
        # from one side of a peak between wide pixels to the other, and back
        position = np.clip(position - np.clip(step, -MOST_STEP_PX, MOST_STEP_PX), start - 1, start + 1)
    terms = _derivatives(smooth_spectrum, shape, position)
    return _Peak(float(position[0]), float(position[1]), sigma_px, terms), smooth


def _derivatives(spectrum: Complex64Array, shape: tuple[int, int], position: Float64Array) -> FloatArray:
    """Return the derivatives [a, b] of the Fourier series at a position, of orders a in y and b in x, up to 2."""
    (ky, powers_y), (kx, powers_x) = _wave_numbers(shape)
    waves_y, waves_x = np.exp(1j * ky * position[0]) * powers_y, np.exp(1j * kx * position[1]) * powers_x
    # single precision as the spectrum has it: numpy would otherwise copy it to double
    terms: FloatArray = (waves_y.astype(spectrum.dtype) @ spectrum @ waves_x.T.astype(spectrum.dtype)).real
    return terms


def _curvatures(spectrum: Complex64Array, shape: tuple[int, int], peak: _Peak) -> FloatArray:
    """Return the curvatures at a peak, mean of both axes, after each smoothing of `SCALES`."""
    place = np.array([peak.y, peak.x])
    smooth = (spectrum * _gaussian_transfer(shape, scale * peak.sigma_px) for scale in SCALES)
    terms = [_derivatives(each, shape, place) for each in smooth]
    return np.array([-(each[2, 0] + each[0, 2]) / 2 for each in terms])


def _sharpness(terms: FloatArray, core_sigma_px: float) -> float:
    """Return the smaller curvature of a peak over that of a bare core smoothed with a core-sized Gaussian."""
    if terms[0, 0] <= 0:
        return 0.0
    least, _ = least_and_greatest(-np.array([[terms[2, 0], terms[1, 1]], [terms[1, 1], terms[0, 2]]]))
    return max(least * 2 * core_sigma_px**2 / float(terms[0, 0]), 0.0)


def _value_near(image: FloatArray, y: float, x: float) -> float:
    """Return the value of the pixel that is nearest to a position."""
    ny, nx = image.shape
    return float(image[min(max(round(y), 0), ny - 1), min(max(round(x), 0), nx - 1)])


@njit(cache=True)
def _aperture(image, y, x, radius):  # type: ignore[no-untyped-def]
    """Sum and number of the pixels whose centre lies within the radius."""
    ny, nx = image.shape
    total, n = 0.0, 0
    for v in range(max(0, int(y - radius)), min(ny, int(y + radius) + 2)):
        for u in range(max(0, int(x - radius)), min(nx, int(x + radius) + 2)):
            if (v - y) ** 2 + (u - x) ** 2 <= radius**2:
                total += image[v, u]
                n += 1
    return total, n
