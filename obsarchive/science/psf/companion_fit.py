"""Position and flux of a companion in a star-subtracted stamp, with errors from the noise at the same separation.

The model is a companion as the subtraction leaves it. The fit is linear in the pixels, so that the same fit at the
other places of the ring, where there is only noise, shows the errors of flux and position, whatever the noise is. The
photons of a bright companion, and those of the star that is its model, add to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray

STEPS = 3
"""The subtraction distorts a companion by its position: the model follows each step."""
LIKENESS_FWHM = 1.2
"""Radius within which a companion is compared with the model [FWHM]."""
SPREAD_FWHM = 4.0
"""Sigma of the smoothing before the highest pixel is taken and the flux is measured, as a fraction of the FWHM.

Beyond the frequencies that the telescope transmits there are noise, and what the places of the frames leave of their
pixels: another pattern on the star than on the companion, of 0.004 mag with 24 frames. Positions are better without.
"""


@dataclass(frozen=True, eq=False)
class CompanionFit:
    """A source fitted with the model of a companion.

    Attributes
    ----------
    dy, dx : float
        Position relative to the star [pixel].
    flux_ratio, flux_ratio_error : float
        Flux over that of the star.
    radial_error_px, tangential_error_px : float
        Errors of the position along the direction to the star, and across it [pixel].
    likeness : float
        Correlation with the model, over that of a companion in the noise of the ring where this is known.
    model : ndarray (side, side)
        The companion as the subtraction leaves it.
    weights : ndarray (3, side, side)
        Of the pixels in the flux, and in its products with the shifts along the direction to the star, and across it.
    """

    dy: float
    dx: float
    flux_ratio: float
    flux_ratio_error: float
    radial_error_px: float
    tangential_error_px: float
    likeness: float
    model: Float32Array
    weights: Float64Array

    def photon_variances(self, star: FloatArray, photon_variance: float) -> Float64Array:
        """Compute the variances of flux, radial and tangential position by the photons of companion and star.

        The errors from the ring do not hold them. The star is the model of the companion: relative to its light, its
        photons count as those of the companion do.

        Parameters
        ----------
        star : ndarray (side, side)
            The star, of flux 1, as the telescope images it.
        photon_variance : float
            Variance of the photons over their flux.

        Returns
        -------
        ndarray (3,)
            In the squared units of the errors; 0 for a flux that is not positive.
        """
        ratio = self.flux_ratio
        if not ratio > 0:
            return np.zeros(3)
        light = ndimage.shift(np.maximum(star, 0), (self.dy, self.dx), order=1, mode="constant")
        relative = (self.weights**2 * light).sum(axis=(1, 2)) * photon_variance * (1 / ratio + 1)
        variances: Float64Array = relative * [ratio**2, 1, 1]
        return variances


def fit_companion(
    residual: FloatArray,
    response: Callable[[float, float], FloatArray],
    pixel: tuple[int, int],
    fwhm_px: float,
) -> CompanionFit:
    """Fit a companion to a source.

    Parameters
    ----------
    residual : ndarray (side, side)
        Star-subtracted stamp; NaN where unknown.
    response : callable
        Returns what the subtraction leaves of a companion as bright as the star at (dy, dx) [pixel].
    pixel : (int, int)
        Highest pixel of the source.
    fwhm_px : float
        FWHM of the star [pixel].

    Returns
    -------
    CompanionFit
        Position and flux, with errors; the errors are NaN where the ring has too few known places.
    """
    image = np.nan_to_num(residual)
    half, sigma_px = len(image) // 2, fwhm_px / SPREAD_FWHM
    smooth = _smoothed(image, sigma_px)
    y, x = _highest(smooth, pixel, fwhm_px)
    for _ in range(STEPS):
        shape = np.nan_to_num(response(y - half, x - half))
        near = _near(image, (y, x), fwhm_px)
        estimator = _estimator(shape, near)
        ratio, *moved = estimator @ image[near]
        # the expansion holds for a fraction of the FWHM only
        step = np.clip(np.array(moved[:2]) / ratio, -fwhm_px / 3, fwhm_px / 3) if ratio != 0 else np.zeros(2)
        y, x = y + float(step[0]), x + float(step[1])
    estimator[0] = _estimator(_smoothed(shape, sigma_px), near)[0]
    ratio = estimator[0] @ smooth[near]
    model = np.asarray(ratio * shape, np.float32)
    rest, place = np.asarray(residual) - model, (y - half, x - half)
    smooth_rest = _smoothed(np.nan_to_num(rest), sigma_px)
    errors, noise = _errors(rest, smooth_rest, estimator, near, place, fwhm_px)
    close = _near(image, (y, x), LIKENESS_FWHM * fwhm_px)
    likeness = _likeness(image[close], model[close], noise)
    return CompanionFit(
        y - half,
        x - half,
        float(ratio),
        float(errors[0]),
        float(errors[1] / abs(ratio)) if ratio != 0 else np.nan,
        float(errors[2] / abs(ratio)) if ratio != 0 else np.nan,
        likeness,
        model,
        _weights(estimator, near, np.arctan2(*place), sigma_px),
    )


def _smoothed(image: FloatArray, sigma_px: float) -> FloatArray:
    """Return an image smoothed with a Gaussian, zero beyond its border."""
    smooth: FloatArray = ndimage.gaussian_filter(image, sigma_px, mode="constant")
    return smooth


def _weights(estimator: Float64Array, near: BoolArray, angle: float, sigma_px: float) -> Float64Array:
    """Return the weights (3, side, side) of the pixels before smoothing, positions along and across this direction."""
    weights = np.zeros((3, *near.shape))
    weights[:, near] = estimator[0], *_turned(estimator[1], estimator[2], angle)
    weights[0] = _smoothed(weights[0], sigma_px)
    return weights


def _near(image: FloatArray, centre: tuple[float, float], radius_px: float) -> BoolArray:
    """Return the pixels within a radius of a position."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    return np.asarray(np.hypot(rows - centre[0], columns - centre[1]) < radius_px)


def _highest(image: FloatArray, pixel: tuple[int, int], fwhm_px: float) -> tuple[float, float]:
    """Return the highest pixel within half a FWHM of a pixel."""
    near = _near(image, pixel, fwhm_px / 2 + 1e-6)
    y, x = np.unravel_index(np.argmax(np.where(near, image, -np.inf)), image.shape)
    return float(y), float(x)


def _estimator(shape: FloatArray, near: BoolArray) -> Float64Array:
    """Return the matrix (4, n) that makes flux, its products with the shifts, and a background of n pixels."""
    slope_y, slope_x = map(np.asarray, np.gradient(shape))
    columns = np.stack([shape[near], -slope_y[near], -slope_x[near], np.ones(int(near.sum()))], axis=1)
    estimator: Float64Array = np.linalg.pinv(columns)
    return estimator


def _likeness(pixels: FloatArray, model: FloatArray, noise: float) -> float:
    """Return the correlation of pixels with a model over the one expected with noise of this variance."""
    light = float(np.var(model))
    if not light > 0:
        return 0.0
    return float(np.corrcoef(pixels, model)[0, 1] * np.sqrt(1 + noise / light))


def _turned(down: FloatArray, right: FloatArray, angle: float) -> tuple[FloatArray, FloatArray]:
    """Return shifts along a direction, and across it."""
    return down * np.sin(angle) + right * np.cos(angle), down * np.cos(angle) - right * np.sin(angle)


def _errors(
    rest: FloatArray,
    smooth: FloatArray,
    estimator: Float64Array,
    near: BoolArray,
    place: tuple[float, float],
    fwhm_px: float,
) -> tuple[Float64Array, float]:
    """Return the errors of flux, and of flux times the shifts along and across the radius, by the rest of the ring.

    The flux is that of the smoothed rest. Also returned is the variance of the pixels of a place about their mean, 0
    where errors are NaN.
    """
    radius, start = np.hypot(*place), np.arctan2(*place)
    # the neighbours are what the fit itself has left of the source
    turns = 2 * np.pi * np.arange(2, int(2 * np.pi * radius / fwhm_px) - 1) / max(int(2 * np.pi * radius / fwhm_px), 1)
    rows, columns = np.nonzero(near)
    fitted = []
    for angle in start + turns:
        down, right = (np.rint(radius * np.array([np.sin(angle), np.cos(angle)]) - place)).astype(int)
        y, x = rows + down, columns + right
        if min(y.min(), x.min()) < 0 or max(y.max(), x.max()) >= len(rest):
            continue
        pixels = rest[y, x]
        moved = _turned(estimator[1] @ pixels, estimator[2] @ pixels, angle)
        fitted.append((estimator[0] @ smooth[y, x], *moved, np.var(pixels)))
    known = np.array([row for row in fitted if np.isfinite(row).all()]).reshape(-1, 4)
    n = len(known)
    if n < 3:
        return np.full(3, np.nan), 0.0
    # of few places the scatter is often too small: the standard deviation of Student's distribution
    errors: Float64Array = np.sqrt(np.mean(known[:, :3] ** 2, axis=0) * n / (n - 2))
    return errors, float(np.mean(known[:, 3]))
