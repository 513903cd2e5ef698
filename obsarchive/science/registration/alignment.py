"""Registration of frames by cross-correlation with their own mean: stars too faint for one frame, and scenes.

The template is the mean of the frames, aligned iteratively. Windows are smoothed with a Gaussian little wider than the
core: a wider one would follow the photocentre of the halo instead, which costs more accuracy than the choice of the
estimator of the correlation peak.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import BoolArray, Complex64Array, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.registration.prepared_windows import Prepared, Windows, prepared, taper
from obsarchive.science.registration.subpixel_peaks import highest_point
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

MIN_ROUNDS, MAX_ROUNDS = 3, 10
SETTLED_PX = 0.02
"""Iterations stop when the 99th percentile of the changes of the shifts is smaller [pixel]."""
MIN_SIGNIFICANCE = 4.0
"""Significance of the template's flux below which a frame holds no star."""
MIN_AMPLITUDE = 0.2
"""Flux of the template over its median, where that is significant, below which a frame is black or covered."""
FEW_FRAMES = 20
MAX_AMPLITUDE = 5.0
"""Flux of the template over its median above which a frame is lit by another source."""
MAX_JITTERS = 6.0
"""Distance from the neighbouring frames, over its median, beyond which a frame has slipped."""
LEAST_JITTER_PX = 0.75
NEIGHBOURS = 9
NEARLY_AS_WELL = 0.5
"""Share of the highest correlation that a peak close to the neighbouring frames must reach to be preferred."""
POOR_QUALITY, LEAST_POORER = 4.0, 0.02
"""Robust standard deviations below the median correlation at which a frame is rejected, and the least difference."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Shifts of frames onto their common template, and the quality of each.

    Attributes
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) that moves each frame onto the template [pixel].
    errors : ndarray (n,)
        One-sigma error of a shift along an axis [pixel]; NaN where it cannot be computed.
    amplitude : ndarray (n,)
        Flux of the template in each frame over the median of the frames.
    significance : ndarray (n,)
        Flux of the template in each frame over its error.
    quality : ndarray (n,)
        Correlation coefficient of the aligned frame with the template, 0 to 1.
    expected : ndarray (n,)
        Quality of a frame that differs from the template by the noise of its pixels alone.
    template : ndarray (ny, nx)
        Mean of the aligned windows.
    """

    shifts: Float64Array
    errors: Float64Array
    amplitude: Float64Array
    significance: Float64Array
    quality: Float64Array
    expected: Float64Array
    template: Float32Array

    @property
    def is_dark(self) -> BoolArray:
        """Frames (n,) in which the star is not seen."""
        return ~(self.significance >= MIN_SIGNIFICANCE)

    @property
    def is_black(self) -> BoolArray:
        """Frames (n,) in which the star is not seen, or has little of its light."""
        # amplitudes of faint sequences scatter by their noise alone: only significant ones tell a dim frame
        is_seen = median_of_all(self.significance) >= 2 * MIN_SIGNIFICANCE
        return self.is_dark | ((self.amplitude < MIN_AMPLITUDE) & is_seen)

    def replaced(self, which: IndexArray, found: "Alignment") -> "Alignment":
        """Return the alignment with that of some of its frames, by number, and their template."""

        def put(values: Float64Array, better: Float64Array) -> Float64Array:
            every = values.copy()
            every[which] = better
            return every

        return Alignment(
            put(self.shifts, found.shifts),
            put(self.errors, found.errors),
            put(self.amplitude, found.amplitude),
            put(self.significance, found.significance),
            put(self.quality, found.quality),
            put(self.expected, found.expected),
            found.template,
        )

    def reasons(self) -> tuple[str, ...]:
        """Return why each frame should be rejected; an empty text for good frames."""
        n, dark, empty = len(self.shifts), self.is_dark, self.is_black
        bright = self.amplitude > MAX_AMPLITUDE
        # empty frames are registered on noise and would corrupt the running median
        distance, jitter, _ = _from_neighbours(self.shifts, ~empty)
        slipped = ~empty & (distance > MAX_JITTERS * jitter)
        good = ~(empty | slipped | bright)
        alike = _at_usual_light(self.quality, self.amplitude)
        poor = good & (alike < _floor(alike[good]))
        return tuple(
            f"black: no star, significance {self.significance[i]:.1f}" if dark[i]
            else f"black: {100 * max(self.amplitude[i], 0):.0f} % of the usual light" if empty[i]
            else f"bright: {self.amplitude[i]:.0f} times the usual light" if bright[i]
            else f"slipped: {distance[i]:.1f} px from its neighbours" if slipped[i]
            else f"poor: correlation {self.quality[i]:.2f}" if poor[i]
            else ""
            for i in range(n)
        )  # fmt: skip

    def among(self, n: int, which: Sequence[int]) -> "Alignment":
        """Return the alignment of these frames among `n`; the others have no quality and no shift."""
        none = np.zeros(n)
        empty = Alignment(np.zeros((n, 2)), np.full(n, np.nan), none, none, none, none, self.template)
        return empty.replaced(np.asarray(which, int), self)


def align(
    windows: Windows | Prepared,
    sigma_px: float = 0.8,
    reach_px: float | None = None,
    most_rounds: int = MAX_ROUNDS,
) -> Alignment:
    """Register windows on their own mean.

    The maximum of the cross-correlation with the template (Gratadour et al. 2005, A&A 443, 357) is found on its
    grid, then between the pixels by the vertex of a paraboloid; the template is the mean of the aligned windows,
    weighted with their amplitudes, and is recomputed until the shifts converge. The error of a shift follows from the
    residuals: with gradient g of the template and residual r, its variance is sum(g^2 r^2) / sum(g^2)^2.

    Parameters
    ----------
    windows : Windows (n, ny, nx) or Prepared
        Calibrated counts, the star or the scene in the middle; pixels that are not finite count as background.
    sigma_px : float
        Sigma of the Gaussian by which windows and template are smoothed [pixel].
    reach_px : float, optional
        Largest shift searched [pixel]; a quarter of the smaller side by default.
    most_rounds : int
        Most iterations.

    Returns
    -------
    Alignment
        Shifts, errors and qualities of the n windows.

    Raises
    ------
    Unprocessable
        All windows are empty.
    """
    clean = prepared(windows)
    n, ny, nx = clean.shape
    if not clean.noise.any():
        raise Unprocessable(f"nothing to register on: all {n} frames are empty")
    grid, smooth = _smoothing((ny, nx), sigma_px)
    spectra = clean.spectra(smooth)
    reach = int(min(reach_px or min(ny, nx) / 4, (min(ny, nx) - 3) / 2))
    template, weights = _first_template(spectra), np.ones(n)
    shifts = np.zeros((n, 2))
    for made in range(most_rounds):
        before = shifts
        shifts = _shifts_onto(template, spectra, (ny, nx), reach)
        # a shift common to all frames is not constrained by them: the median frame stays where it is
        shifts -= np.median(shifts, axis=0)
        template = _mean_moved(spectra, shifts, grid, weights)
        amplitude = _amplitudes(spectra, shifts, grid, template)
        # bounded, so that a frame lit by something else does not become the template; never all zero
        weights = np.clip(amplitude, 0.0, 2.0) + 1e-6
        if made + 1 >= MIN_ROUNDS and np.percentile(np.abs(shifts - before), 99) < SETTLED_PX:
            break
    return _measured(spectra, shifts, grid, clean.noise, smooth)


def aligned_at(
    windows: Windows | Prepared, shifts: Float64Array, errors: Float64Array, sigma_px: float = 0.8
) -> Alignment:
    """Return the alignment of windows whose shifts are known.

    Parameters
    ----------
    windows, sigma_px
        As of :func:`align`.
    shifts : ndarray (n, 2)
        (dy, dx) that moves each frame onto the others [pixel].
    errors : ndarray (n,)
        One-sigma error of a shift along an axis [pixel].

    Returns
    -------
    Alignment
        With amplitudes and qualities on the mean of the shifted windows.
    """
    clean = prepared(windows)
    grid, smooth = _smoothing(clean.shape[1:], sigma_px)
    return replace(_measured(clean.spectra(smooth), shifts, grid, clean.noise, smooth), errors=errors)


def _smoothing(shape: tuple[int, int], sigma_px: float) -> tuple[tuple[FloatArray, FloatArray], Float32Array]:
    """Return the spatial frequencies of windows along x and y [cycle/pixel], and the spectrum of a Gaussian."""
    along_x, along_y = fft.rfftfreq(shape[1]), fft.fftfreq(shape[0])[:, np.newaxis]
    smooth = np.exp(-2 * (np.pi * sigma_px) ** 2 * (along_x**2 + along_y**2)).astype(np.float32)
    return (along_x, along_y), smooth


def _first_template(spectra: Complex64Array) -> Complex64Array:
    """Return the mean spectrum, or that of the frame closest to it: few unaligned frames would show the star twice."""
    mean: Complex64Array = spectra.mean(axis=0)
    if len(spectra) > FEW_FRAMES:
        return mean
    best: Complex64Array = spectra[int(np.argmax(np.einsum("ijk,jk->i", spectra, np.conj(mean)).real))]
    return best


def _shifts_onto(template: Complex64Array, spectra: Complex64Array, shape: tuple[int, int], reach: int) -> Float64Array:
    """Return the shifts (n, 2) that move frames onto the template [pixel].

    A peak far from the shifts of neighbouring frames is replaced by the peak close to them if that correlates nearly as
    well: in noise a distant peak may be the highest.
    """
    maps = np.empty((len(spectra), 2 * reach + 3, 2 * reach + 3), np.float32)
    for found, spectrum in zip(maps, spectra, strict=True):
        found[:] = _correlation_map(template, spectrum, shape, reach)
    peaks = [highest_point(found) for found in maps]
    # pixel (reach + 1, reach + 1) of a correlation map is the shift zero
    shifts = np.array([(y, x) for y, x, _ in peaks]) - reach - 1
    distance, jitter, path = _from_neighbours(shifts, np.ones(len(shifts), bool))
    near = min(max(round(MAX_JITTERS * jitter), 3), reach)
    for i in np.flatnonzero(distance > near).tolist():
        y0, x0 = (int(np.clip(round(c) + reach - near, 0, 2 * reach - 2 * near)) for c in path[i])
        y, x, value = highest_point(maps[i, y0 : y0 + 2 * near + 3, x0 : x0 + 2 * near + 3])
        if value >= NEARLY_AS_WELL * peaks[i][2]:
            shifts[i] = y0 + y - reach - 1, x0 + x - reach - 1
    return shifts


def _correlation_map(
    template: Complex64Array, spectrum: Complex64Array, shape: tuple[int, int], reach: int
) -> Float32Array:
    """Return the correlation with the template by shift, from -reach - 1 to reach + 1 along both axes."""
    correlation = fft.irfft2(template * np.conj(spectrum), shape)
    # one more than the reach on each side, for the parabola through the peak
    cut: Float32Array = np.roll(correlation, (reach + 1, reach + 1), axis=(0, 1))[: 2 * reach + 3, : 2 * reach + 3]
    return cut


def _moved(
    spectra: Complex64Array, shifts: Float64Array, grid: tuple[FloatArray, FloatArray]
) -> Iterator[Complex64Array]:
    """Yield the spectra of the shifted frames: the phase factor is a product of one along y and one along x."""
    along_x = np.exp(-2j * np.pi * shifts[:, 1, np.newaxis] * grid[0]).astype(np.complex64)
    along_y = np.exp(-2j * np.pi * shifts[:, 0, np.newaxis] * grid[1].ravel()).astype(np.complex64)
    for spectrum, right, down in zip(spectra, along_x, along_y, strict=True):
        moved = spectrum * right
        moved *= down[:, np.newaxis]
        yield moved


def _mean_moved(
    spectra: Complex64Array, shifts: Float64Array, grid: tuple[FloatArray, FloatArray], weights: Float64Array
) -> Complex64Array:
    """Return the weighted mean of the spectra of the shifted frames."""
    total = np.zeros(spectra.shape[1:], np.complex128)
    for moved, weight in zip(_moved(spectra, shifts, grid), weights.astype(np.float32), strict=True):
        total += weight * moved
    mean: Complex64Array = (total / weights.sum()).astype(np.complex64)
    return mean


def _amplitudes(
    spectra: Complex64Array, shifts: Float64Array, grid: tuple[FloatArray, FloatArray], template: Complex64Array
) -> Float64Array:
    """Return the flux of the template in each frame, relative to the median frame."""
    dots = np.array([np.vdot(template, moved).real for moved in _moved(spectra, shifts, grid)], float)
    usual = median_of_all(dots)
    return dots / usual if usual > 0 else np.ones(len(dots))


def _measured(
    spectra: Complex64Array,
    shifts: Float64Array,
    grid: tuple[FloatArray, FloatArray],
    noise: Float64Array,
    smooth: Float32Array,
) -> Alignment:
    """Return amplitudes, qualities and errors of aligned frames.

    White noise of variance sigma^2, smoothed with S, adds sigma^2 |S * f|^2 to the variance of its product with any f.
    """
    # the last frequency along x is 0.5 for an even number of pixels
    n, shape = len(spectra), (len(grid[1]), 2 * len(grid[0]) - (2 if grid[0][-1] == 0.5 else 1))
    template = np.asarray(fft.irfft2(_mean_moved(spectra, shifts, grid, np.ones(n)), shape), np.float32)
    power = float(np.sum(template**2))
    slopes = [(slope**2, _correlation(slope, smooth)) for slope in map(np.asarray, np.gradient(template))]
    norms, dots, errors = np.zeros(n), np.zeros(n), np.full(n, np.nan)
    for i, moved in enumerate(_moved(spectra, shifts, grid)):
        aligned = fft.irfft2(moved, shape)
        norms[i], dots[i] = np.linalg.norm(aligned), np.vdot(aligned, template)
        scale = dots[i] / power if power > 0 else 0.0
        # a single frame is its own template, to which it has no shift
        errors[i] = _shift_error(aligned - np.float32(scale) * template, slopes, scale) if n > 1 else np.nan
    scales = _quotient(dots, power)
    # of the variance of the pixels, so much is left by the edges and the smoothing
    left = float(np.sum(taper(*shape) ** 2)) * float(np.sum(fft.irfft2(smooth.astype(np.complex64), shape) ** 2))
    error = _quotient(noise * np.sqrt(_power_smoothed(template, smooth)), power)
    usual = median_of_all(scales)
    return Alignment(
        shifts=shifts,
        errors=errors,
        amplitude=scales / usual if usual > 0 else scales,
        significance=_quotient(scales, error),
        quality=np.clip(_quotient(dots, norms * np.sqrt(power)), 0, 1),
        expected=_quotient(scales * np.sqrt(power), np.sqrt(scales**2 * power + noise**2 * left)),
        template=template,
    )


def _quotient(values: FloatArray, divisor: FloatArray | float) -> Float64Array:
    divisors = np.broadcast_to(np.asarray(divisor, float), values.shape)
    quotients: Float64Array = np.divide(values, divisors, out=np.zeros(values.shape), where=divisors > 0)
    return quotients


def _power_smoothed(image: FloatArray, smooth: Float32Array) -> float:
    return float(np.sum(fft.irfft2(fft.rfft2(image) * smooth, image.shape) ** 2))


def _correlation(slope: FloatArray, smooth: Float32Array) -> float:
    """Return the variance of the product of smoothed noise with a slope, relative to white noise of equal rms."""
    # the smoothing kernel's sum of squares is the variance that it leaves of white noise of variance 1
    variance = float(np.sum(fft.irfft2(smooth.astype(np.complex64), slope.shape) ** 2))
    power = float(np.sum(slope**2)) * variance
    return _power_smoothed(slope, smooth) / power if power > 0 else 1.0


def _shift_error(residual: FloatArray, slopes: Sequence[tuple[FloatArray, float]], scale: float) -> float:
    variances, squared = [], residual**2
    for power, correlation in slopes:
        information = float(np.sum(power)) * scale
        if information <= 0:
            return float("nan")
        variances.append(correlation * float(np.sum(power * squared)) / information**2)
    return float(np.sqrt(np.mean(variances)))


def _from_neighbours(shifts: FloatArray, good: BoolArray) -> tuple[Float64Array, float, FloatArray]:
    """Return the distance of each frame from the running median, its median, and the running median [pixel].

    Only good frames enter the medians; sequences too short for a running median have no distances.
    """
    if good.sum() < 2 * NEIGHBOURS:
        return np.zeros(len(shifts)), LEAST_JITTER_PX, shifts
    where = np.flatnonzero(good)
    median = ndimage.median_filter(shifts[good], size=(NEIGHBOURS, 1), mode="nearest")
    # frames that are not good are compared with the interpolated path of the good ones
    smooth = np.stack([np.interp(np.arange(len(shifts)), where, median[:, axis]) for axis in (0, 1)], axis=1)
    distance = np.hypot(*(shifts - smooth).T)
    return distance, max(median_of_all(distance[good]), LEAST_JITTER_PX), smooth


def _at_usual_light(quality: Float64Array, amplitude: Float64Array) -> Float64Array:
    """Return the correlation that frames would have with the usual light: noise hides more of a frame behind clouds.

    Noise of the background does not depend on the light, that of photons grows with it: frames get the benefit.
    """
    light = np.maximum(amplitude, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise_power = np.minimum(light, light**2) * (1 / quality**2 - 1)
    alike: Float64Array = 1 / np.sqrt(1 + noise_power)
    return alike


def _floor(quality: FloatArray) -> float:
    if len(quality) < NEIGHBOURS:
        # too few frames for a meaningful scatter: none is rejected by it
        return -np.inf
    middle = median_of_all(quality)
    spread = MAD_TO_SIGMA * median_of_all(np.abs(quality - middle))
    return middle - max(POOR_QUALITY * spread, LEAST_POORER)
