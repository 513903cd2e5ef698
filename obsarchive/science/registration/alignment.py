"""Registration of frames on a star too faint for one frame, or on a whole scene, by cross-correlation.

The template is made from the frames themselves: their mean, aligned again and again. Windows are smoothed with
a Gaussian little wider than the core; a wider one would follow the photocentre of the halo instead of the core, and
that, not the estimator of the correlation's peak, decides on the accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import fft, ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.registration.subpixel_peaks import highest_point
from obsarchive.science.statistics import MAD_TO_SIGMA

Image = NDArray[np.float32]

BACKGROUND_CELLS = 16
MIN_ROUNDS, MAX_ROUNDS = 3, 10
SETTLED_PX = 0.02
"""The template is made again until no shift but a hundredth changes by more."""
MIN_SIGNIFICANCE = 4.0
"""A frame in which the template's light is less significant has no star."""
MIN_AMPLITUDE = 0.2
"""Of the usual amount of the template's light, where that is significant: below, a frame is black or covered."""
FEW_FRAMES = 20
MAX_AMPLITUDE = 5.0
"""Of the usual amount of light: above, something else lights the frame."""
MAX_JITTERS = 6.0
"""A frame farther from its neighbours than so many times their usual distance has slipped."""
LEAST_JITTER_PX = 0.75
NEIGHBOURS = 9
NEARLY_AS_WELL = 0.5
"""Of the highest correlation: what a place near the neighbours must reach to be believed."""
POOR_QUALITY = 4.0
"""A frame whose correlation lies so many robust standard deviations below the usual one is left out."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the frames lie on each other.

    Attributes
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) that moves each frame onto the template [pixel].
    errors : ndarray (n,)
        One-sigma error of a shift along an axis [pixel]; NaN where it is not known.
    amplitude : ndarray (n,)
        Light of the template in each frame, 1 for the usual amount.
    significance : ndarray (n,)
        The same over its error.
    quality : ndarray (n,)
        Correlation coefficient of the aligned frame with the template, 0 to 1.
    template : ndarray (ny, nx)
        Mean of the aligned windows.
    """

    shifts: NDArray[np.float64]
    errors: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    significance: NDArray[np.float64]
    quality: NDArray[np.float64]
    template: Image

    def reasons(self) -> tuple[str, ...]:
        """Say why frames should be left out; nothing for good ones."""
        n = len(self.shifts)
        usual = float(np.median(self.significance))
        empty = ~(self.significance >= MIN_SIGNIFICANCE)
        if usual >= 2 * MIN_SIGNIFICANCE:
            empty |= self.amplitude < MIN_AMPLITUDE
        bright = self.amplitude > MAX_AMPLITUDE
        distance, jitter, _ = _from_neighbours(self.shifts, ~empty)
        slipped = ~empty & (distance > MAX_JITTERS * jitter)
        good = ~(empty | slipped | bright)
        poor = good & (self.quality < _floor(self.quality[good]))
        return tuple(
            f"black: no star, significance {self.significance[i]:.1f}" if empty[i]
            else f"bright: {self.amplitude[i]:.0f} times the usual light" if bright[i]
            else f"slipped: {distance[i]:.1f} px from its neighbours" if slipped[i]
            else f"poor: correlation {self.quality[i]:.2f}" if poor[i]
            else ""
            for i in range(n)
        )  # fmt: skip


def align(windows: Image, sigma_px: float = 0.8, reach_px: float | None = None) -> Alignment:
    """Register windows on their own mean.

    The maximum of the cross-correlation with the template (Gratadour et al. 2005, A&A 443, 357) is found on its
    grid, then between the pixels by the vertex of a paraboloid; the template is the mean of the aligned windows,
    weighted with their amplitudes, and is made again until the shifts settle. The error of a shift follows from the
    residuals: with gradient g of the template and residual r, its variance is sum(g^2 r^2) / sum(g^2)^2.

    Parameters
    ----------
    windows : ndarray (n, ny, nx)
        Calibrated counts, the star or the scene in the middle part; pixels that are not finite count as background.
    sigma_px : float
        Gaussian with which both are smoothed [pixel].
    reach_px : float, optional
        Largest shift looked for [pixel]; a quarter of the smaller side by default.

    Returns
    -------
    Alignment

    Raises
    ------
    Unprocessable
        There is nothing to register on: no light in any window.
    """
    n, ny, nx = windows.shape
    clean, noise = _prepared(windows)
    if not noise.any():
        raise Unprocessable(f"nothing to register on: all {n} frames are empty")
    grid = fft.rfftfreq(nx), fft.fftfreq(ny)[:, np.newaxis]
    smooth = np.exp(-2 * (np.pi * sigma_px) ** 2 * (grid[0] ** 2 + grid[1] ** 2)).astype(np.float32)
    spectra = fft.rfft2(clean * _taper(ny, nx)) * smooth
    reach = int(min(reach_px or min(ny, nx) / 4, (min(ny, nx) - 3) / 2))
    template, weights = _first_template(spectra), np.ones(n)
    shifts = np.zeros((n, 2))
    for made in range(MAX_ROUNDS):
        before = shifts
        shifts = _shifts_onto(template, spectra, (ny, nx), reach)
        shifts -= np.median(shifts, axis=0)
        moved = _moved(spectra, shifts, grid)
        template = np.tensordot(weights, moved, axes=(0, 0)).astype(np.complex64) / weights.sum()
        amplitude = _amplitudes(moved, template)
        weights = np.clip(amplitude, 0.0, 2.0) + 1e-6
        if made + 1 >= MIN_ROUNDS and np.percentile(np.abs(shifts - before), 99) < SETTLED_PX:
            break
    return _measured(moved, shifts, noise, smooth, (ny, nx))


def coarse_shifts(frames: Sequence[Image], cell_px: int = 2) -> NDArray[np.float64]:
    """Shifts of whole frames against the first, for telescopes that moved between them.

    Frames are binned, their background is removed and bright stars are compressed, so that the whole field decides
    and not its brightest star or a cosmic ray; then they are correlated without wrapping around.

    Parameters
    ----------
    frames : sequence of ndarray (ny, nx)
        Calibrated counts.
    cell_px : int
        Binning [pixel].

    Returns
    -------
    ndarray (n, 2)
        (dy, dx) that moves each frame onto the first, good to about `cell_px` [pixel].
    """
    fields = [_field(frame, cell_px) for frame in frames]
    ny, nx = fields[0].shape
    padded = fft.next_fast_len(2 * ny), fft.next_fast_len(2 * nx)
    first = np.conj(fft.rfft2(fields[0], padded))
    found = np.zeros((len(fields), 2))
    for i, field in enumerate(fields[1:], start=1):
        correlation = fft.irfft2(np.conj(fft.rfft2(field, padded) * first), padded)
        y, x = np.unravel_index(np.argmax(correlation), padded)
        found[i] = (_wrapped(int(y), padded[0]), _wrapped(int(x), padded[1]))
    return found * cell_px


def _prepared(windows: Image) -> tuple[Image, NDArray[np.float64]]:
    """Windows without background, and the noise of a pixel in each."""
    clean = np.array(windows, np.float32)
    finite = np.isfinite(clean)
    noise = np.zeros(len(clean))
    for i in range(len(clean)):
        if finite[i].any():
            edge = np.concatenate([clean[i][:4].ravel(), clean[i][-4:].ravel(), clean[i][:, :4].ravel()])
            edge = edge[np.isfinite(edge)]
            level = float(np.median(edge if edge.size else clean[i][finite[i]]))
            clean[i] -= np.float32(level)
            noise[i] = _spread(clean[i][finite[i]])
    clean[~finite] = 0
    # cosmic rays are brought down, lest they outshine a faint star
    cap = 2 * np.median(clean.max(axis=(1, 2)))
    return np.minimum(clean, np.float32(cap if cap > 0 else np.inf), out=clean), noise


def _spread(values: NDArray) -> float:
    """Robust noise; of counts that are mostly zero, the plain standard deviation without the highest hundredth."""
    mad = MAD_TO_SIGMA * float(np.median(np.abs(values - np.median(values))))
    if mad > 0:
        return mad
    return float(np.std(values[values <= np.percentile(values, 99)])) or float(np.std(values))


def _first_template(spectra: NDArray) -> NDArray:
    """Mean of all frames; of a few the one most like it, as a mean of few that lie apart shows the star twice."""
    mean = spectra.mean(axis=0)
    if len(spectra) > FEW_FRAMES:
        return mean
    return spectra[int(np.argmax(np.einsum("ijk,jk->i", spectra, np.conj(mean)).real))]


def _taper(ny: int, nx: int) -> Image:
    """Cosine edges of an eighth of the window, so that opposite edges do not see each other."""
    sides = []
    for n in (ny, nx):
        edge = max(n // 8, 1)
        ramp = np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5
        sides.append(np.sin(np.pi / 2 * np.clip(ramp / edge, 0, 1)) ** 2)
    return np.outer(*sides).astype(np.float32)


def _shifts_onto(template: NDArray, spectra: NDArray, shape: tuple[int, int], reach: int) -> NDArray[np.float64]:
    """Shifts (n, 2) that move frames onto the template [pixel].

    A frame that seems far from its neighbours in time, but correlates nearly as well close to them, is there: in
    noise some far peak may be the highest.
    """
    maps = np.stack([_correlation_map(template, spectrum, shape, reach) for spectrum in spectra])
    peaks = [highest_point(found) for found in maps]
    shifts = np.array([(y, x) for y, x, _ in peaks]) - reach - 1
    distance, jitter, path = _from_neighbours(shifts, np.ones(len(shifts), bool))
    near = max(round(MAX_JITTERS * jitter), 3)
    for i in np.flatnonzero(distance > near).tolist():
        y0, x0 = (int(np.clip(round(c) + reach - near, 0, 2 * reach - 2 * near)) for c in path[i])
        y, x, value = highest_point(maps[i, y0 : y0 + 2 * near + 3, x0 : x0 + 2 * near + 3])
        if value >= NEARLY_AS_WELL * peaks[i][2]:
            shifts[i] = y0 + y - reach - 1, x0 + x - reach - 1
    return shifts


def _correlation_map(template: NDArray, spectrum: NDArray, shape: tuple[int, int], reach: int) -> Image:
    """Correlation with the template by shift, from -reach - 1 to reach + 1 along both axes."""
    correlation = fft.irfft2(template * np.conj(spectrum), shape)
    return np.roll(correlation, (reach + 1, reach + 1), axis=(0, 1))[: 2 * reach + 3, : 2 * reach + 3]


def _moved(spectra: NDArray, shifts: NDArray, grid: tuple[NDArray, NDArray]) -> NDArray:
    """Spectra of the shifted frames: the phase of a shift is a product of one along y and one along x."""
    along_x = np.exp(-2j * np.pi * shifts[:, 1, np.newaxis] * grid[0]).astype(np.complex64)
    along_y = np.exp(-2j * np.pi * shifts[:, 0, np.newaxis] * grid[1].ravel()).astype(np.complex64)
    moved = spectra * along_x[:, np.newaxis, :]
    moved *= along_y[:, :, np.newaxis]
    return moved


def _amplitudes(moved: NDArray, template: NDArray) -> NDArray[np.float64]:
    """Amount of the template's light in each frame, relative to the median frame."""
    dots = np.einsum("ijk,jk->i", moved, np.conj(template)).real
    usual = float(np.median(dots))
    return dots / usual if usual > 0 else np.ones(len(dots))


def _measured(moved: NDArray, shifts: NDArray, noise: NDArray, smooth: Image, shape: tuple[int, int]) -> Alignment:
    """Amplitudes, qualities and errors of aligned frames.

    Noise that was white before it was smoothed with S adds sigma^2 |S * f|^2 to the variance of its product with any f.
    """
    aligned = fft.irfft2(moved, shape)
    template = np.asarray(aligned.mean(axis=0), np.float32)
    power = float(np.sum(template**2))
    norms = np.sqrt(np.einsum("ijk,ijk->i", aligned, aligned))
    dots = np.einsum("ijk,jk->i", aligned, template)
    scale = _quotient(dots, power)
    error = _quotient(noise * np.sqrt(_power_smoothed(template, smooth)), power)
    usual = float(np.median(scale))
    slopes = [(slope, _correlation(slope, smooth)) for slope in map(np.asarray, np.gradient(template))]
    errors = [_shift_error(aligned[i] - np.float32(scale[i]) * template, slopes, scale[i]) for i in range(len(scale))]
    return Alignment(
        shifts=shifts,
        errors=np.array(errors),
        amplitude=scale / usual if usual > 0 else scale,
        significance=_quotient(scale, error),
        quality=np.clip(_quotient(dots, norms * np.sqrt(power)), 0, 1),
        template=template,
    )


def _quotient(values: NDArray, divisor: NDArray | float) -> NDArray[np.float64]:
    divisors = np.broadcast_to(np.asarray(divisor, float), values.shape)
    return np.divide(values, divisors, out=np.zeros(values.shape), where=divisors > 0)


def _power_smoothed(image: NDArray, smooth: Image) -> float:
    return float(np.sum(fft.irfft2(fft.rfft2(image) * smooth, image.shape) ** 2))


def _correlation(slope: NDArray, smooth: Image) -> float:
    """Variance of the product of smoothed noise with a slope, over that of white noise of the same strength."""
    power = float(np.sum(slope**2)) * _smoothed_variance(smooth, slope.shape)
    return _power_smoothed(slope, smooth) / power if power > 0 else 1.0


def _smoothed_variance(smooth: Image, shape: tuple[int, ...]) -> float:
    """Variance of white noise of variance 1 after smoothing."""
    return float(np.sum(fft.irfft2(smooth.astype(np.complex64), shape) ** 2))


def _shift_error(residual: NDArray, slopes: Sequence[tuple[NDArray, float]], scale: float) -> float:
    variances = []
    for slope, correlation in slopes:
        information = float(np.sum(slope**2)) * scale
        if information <= 0:
            return float("nan")
        variances.append(correlation * float(np.sum(slope**2 * residual**2)) / information**2)
    return float(np.sqrt(np.mean(variances)))


def _from_neighbours(shifts: NDArray, good: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float, NDArray]:
    """Distance of each frame from the running median of the good ones, the usual distance, and that median [pixel]."""
    if good.sum() < 2 * NEIGHBOURS:
        return np.zeros(len(shifts)), LEAST_JITTER_PX, shifts
    where = np.flatnonzero(good)
    median = ndimage.median_filter(shifts[good], size=(NEIGHBOURS, 1), mode="nearest")
    smooth = np.stack([np.interp(np.arange(len(shifts)), where, median[:, axis]) for axis in (0, 1)], axis=1)
    distance = np.hypot(*(shifts - smooth).T)
    return distance, max(float(np.median(distance[good])), LEAST_JITTER_PX), smooth


def _floor(quality: NDArray) -> float:
    if len(quality) < NEIGHBOURS:
        return -np.inf
    middle = float(np.median(quality))
    return middle - POOR_QUALITY * MAD_TO_SIGMA * float(np.median(np.abs(quality - middle)))


def _field(frame: Image, cell_px: int) -> Image:
    """Binned frame without background, noise at 1, bright sources compressed."""
    finite = np.isfinite(frame)
    level = float(np.median(frame[finite])) if finite.any() else 0.0
    filled = ndimage.median_filter(np.where(finite, frame, level).astype(np.float32), size=3)
    ny, nx = (side // cell_px * cell_px for side in filled.shape)
    binned = filled[:ny, :nx].reshape(ny // cell_px, cell_px, nx // cell_px, cell_px).mean(axis=(1, 3))
    binned = np.ascontiguousarray(binned, np.float32)
    binned -= sep.Background(binned, bw=BACKGROUND_CELLS, bh=BACKGROUND_CELLS).back()
    sigma = _spread(binned) or 1.0
    significance = np.maximum(binned / sigma - 2, 0)
    return np.log1p(significance).astype(np.float32)


def _wrapped(position: int, n: int) -> int:
    return int(position if position < n / 2 else position - n)
