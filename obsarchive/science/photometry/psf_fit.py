"""Fit of an empirical PSF to neighbouring stars at once."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.statistics import median_of_all

OVERSAMPLING = 2
ROUNDS = 4
CLIP_SIGMA = 6.0
UNRESOLVED_FWHM = 0.35
"""Separation below which stars are unresolved and measured as one [FWHM]."""
PIXEL_ERROR = 0.03
"""Least error of a profile in each of its pixels, relative: sampling and positions are not better known."""
WIDTH_STEP = 0.02
"""Relative change of width over which the profile is differentiated."""
LEAST_LIGHT = 0.02
"""Least share of the flux of a star within a box for the star to be fitted."""


@dataclass(frozen=True, eq=False)
class EmpiricalPSF:
    """Empirical PSF of a frame: an elliptical Moffat profile and its residuals.

    Attributes
    ----------
    form : (float, float, float)
        Elements xx, xy, yy of the quadratic form of the profile [1/pixel^2].
    beta : float
        Exponent.
    details : ndarray (m, m)
        Residuals of the profile, in steps of half a pixel; empty if not measured.
    peak : float
        Normalisation, so that the flux within the radius is 1.
    reach : float
        Radius within which the PSF is known [pixel].
    width_error : float
        Scatter of the widths of stars about that of the PSF, relative; 0: all are the same.
    pixel_error : float
        Scatter of the pixels of stars about the PSF of their width, relative.
    """

    form: tuple[float, float, float]
    beta: float
    details: Float64Array
    peak: float
    reach: float
    width_error: float = 0.0
    pixel_error: float = PIXEL_ERROR

    def at(self, dy: FloatArray, dx: FloatArray) -> Float64Array:
        """Return the PSF at distances from its centre.

        Parameters
        ----------
        dy, dx : ndarray
            Distances of pixels from the centre [pixel]; they broadcast.

        Returns
        -------
        ndarray
            Share of the flux per pixel, 0 beyond the radius; shape of the broadcast distances.
        """
        return np.where(np.hypot(dy, dx) <= self.reach, self.peak * self._bare(dy, dx), 0.0)

    def widened(self, dy: FloatArray, dx: FloatArray) -> Float64Array:
        """Return the change of the PSF per relative change of its width, at distances from its centre [pixel]."""
        scale = 1 + WIDTH_STEP
        change = (self.peak * self._bare(dy / scale, dx / scale) / scale**2 - self.at(dy, dx)) / WIDTH_STEP
        return np.where(np.hypot(dy, dx) <= self.reach, change, 0.0)

    def _bare(self, dy: FloatArray, dx: FloatArray) -> Float64Array:
        profile = moffat((*self.form, self.beta), dy, dx)
        if not self.details.size:
            return profile
        middle = (len(self.details) - 1) / 2
        places = np.stack([np.asarray(axis) * OVERSAMPLING + middle for axis in np.broadcast_arrays(dy, dx)])
        details: Float64Array = ndimage.map_coordinates(self.details, places, order=1, mode="constant")
        return profile + details

    @property
    def fwhm_px(self) -> float:
        """FWHM, geometric mean of both axes [pixel]."""
        xx, xy, yy = self.form
        return float(2 * np.sqrt((2 ** (1 / self.beta) - 1) / np.sqrt(max(xx * yy - xy * xy, 1e-12))))


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame and its stars.

    Attributes
    ----------
    image, variance : ndarray (ny, nx)
        Pixels, NaN where they are bad, and their variance.
    y, x : ndarray (n,)
        Positions of all stars [pixel].
    saturation : float
        Level at and above which a pixel is saturated.
    """

    image: FloatArray
    variance: FloatArray
    y: Float64Array
    x: Float64Array
    saturation: float = np.inf


def moffat(parameters: tuple[float, ...] | Float64Array, dy: FloatArray, dx: FloatArray) -> Float64Array:
    """Return a Moffat profile (xx, xy, yy, beta) of height 1 at distances from its centre [pixel]."""
    xx, xy, yy, beta = parameters
    return np.asarray((1 + np.maximum(xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy, 0)) ** -beta)


def fit_star(frame: Frame, i: int, shape: EmpiricalPSF, box_px: float) -> tuple[float, float]:
    """Fit a star and all its neighbours at once, together with a plane for the sky.

    Positions are fixed, so that the fit is linear. The width of the star is free within the scatter of widths.
    Unresolved neighbours are part of the star. Pixels that no star explains (cosmic rays) are rejected: those brighter
    than noise and errors of the profile allow.

    Parameters
    ----------
    frame : Frame
        Pixels and all stars.
    i : int
        Number of the star.
    shape : EmpiricalPSF
        PSF.
    box_px : float
        Half the side of the square that is fitted [pixel].

    Returns
    -------
    (float, float)
        Flux and its standard error [unit of the image]; NaN where the star is outside of the good pixels.
    """
    fit = fit_box(frame, i, shape, box_px)
    return (np.nan, np.nan) if fit is None else (float(fit.solution[0]), fit.error)


@dataclass(frozen=True, eq=False)
class BoxFit:
    """Fit of a box: distances (p, n) of its pixels from the stars, design matrix, pixels, and solution.

    Columns of the design matrix are the star, its neighbours, a plane, and, where widths scatter, the change of the
    star whose width is one standard deviation from that of the PSF.
    """

    dy: Float64Array
    dx: Float64Array
    design: Float64Array
    light: Float64Array
    variance: Float64Array
    solution: Float64Array
    covariance: Float64Array
    kept: BoolArray

    @property
    def error(self) -> float:
        """Standard error of the flux of the first star."""
        return float(np.sqrt(self.covariance[0, 0]))


def fit_box(frame: Frame, i: int, shape: EmpiricalPSF, box_px: float) -> BoxFit | None:
    """Fit all stars of a box, star i first; None if it has too little flux on good pixels."""
    reach = box_px + shape.reach
    dy, dx = frame.y - frame.y[i], frame.x - frame.x[i]
    apart = np.hypot(dy, dx) > UNRESOLVED_FWHM * shape.fwhm_px
    # stars outside of the box whose PSF reaches into it are fitted, too
    order = np.concatenate([[i], np.flatnonzero((np.abs(dy) < reach) & (np.abs(dx) < reach) & apart)])
    y, x = frame.y[order], frame.x[order]
    if not np.isfinite(y[0] + x[0]):
        return None
    top, left = max(int(y[0] - box_px), 0), max(int(x[0] - box_px), 0)
    bottom, right = int(y[0] + box_px) + 2, int(x[0] + box_px) + 2
    cut = frame.image[top:bottom, left:right]
    if not cut.size:
        return None
    rows, columns = np.mgrid[top : top + cut.shape[0], left : left + cut.shape[1]]
    good = np.isfinite(cut) & (cut < frame.saturation)
    dy, dx = rows[good][:, np.newaxis] - y, columns[good][:, np.newaxis] - x
    profiles = shape.at(dy, dx)
    # a star of which next to nothing is in the box would make the fit degenerate
    seen = profiles.sum(axis=0) > LEAST_LIGHT
    if not seen[:1].any():
        return None
    plane = np.stack([np.ones(len(dy)), dy[:, 0] / box_px, dx[:, 0] / box_px], axis=1)
    design, light = np.hstack([profiles[:, seen], plane]), cut[good].astype(float)
    if shape.width_error:
        design = np.column_stack([design, shape.width_error * shape.widened(dy[:, 0], dx[:, 0])])
    variance = np.maximum(frame.variance[top:bottom, left:right][good], 1e-9)
    return BoxFit(dy, dx, design, light, variance, *_least_squares(design, light, variance, shape))


def _least_squares(
    design: Float64Array, light: Float64Array, variance: Float64Array, shape: EmpiricalPSF
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Solve iteratively without outliers; return the solution, its covariance, and the pixels kept."""
    kept = np.ones(len(light), bool)
    # how far the width may change the star follows from its flux, which a fit of the mean width gives
    columns, precision = (design[:, :-1] if shape.width_error else design), 0.0
    for _ in range(ROUNDS):
        solution, covariance = _solved(columns[kept], light[kept], variance[kept], precision)
        model = columns @ solution
        flux = max(float(solution[0]), float(np.sqrt(covariance[0, 0])))
        error = shape.pixel_error * (model - median_of_all(model))
        if columns is not design:
            error = np.hypot(error, flux * design[:, -1])
        # one-sided: cosmic rays are bright, and dark residuals belong to the model
        fine = light - model <= CLIP_SIGMA * np.sqrt(variance + error**2)
        enough = fine.sum() > design.shape[1]
        if columns is design and (not enough or np.array_equal(fine, kept)):
            break
        kept = fine if enough else kept
        columns, precision = design, (1 / flux**2 if shape.width_error else 0.0)
    return solution, covariance, kept


def _solved(
    design: Float64Array, light: Float64Array, variance: Float64Array, precision: float
) -> tuple[Float64Array, Float64Array]:
    """Return the weighted solution and its covariance; the last unknown is zero with some precision."""
    weight = 1 / np.sqrt(variance)
    scaled = design * weight[:, np.newaxis]
    normal = scaled.T @ scaled
    normal[-1, -1] += precision
    # pseudo-inverse: close neighbours make the matrix nearly singular
    covariance: Float64Array = np.linalg.pinv(normal, rcond=1e-10, hermitian=True).astype(np.float64)
    return covariance @ (scaled.T @ (light * weight)), covariance
