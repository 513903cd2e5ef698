"""What is known of the shifts of frames: their probabilities on a grid, means and errors."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray
from obsarchive.science.registration.shift_grid import STEP_PX, ShiftGrid
from obsarchive.science.registration.subpixel_peaks import vertex

NARROW_PX = 0.8 * STEP_PX
"""Width of a posterior, by steps of the grid, below which the parabola through its peak replaces its mean [pixel]."""


@dataclass(frozen=True, eq=False)
class ShiftPosteriors:
    """What is known of the shifts of the frames.

    Attributes
    ----------
    posterior : ndarray (n, cells, cells)
        Probabilities on the grid.
    shifts, errors : ndarray (n, 2), (n,)
        Of the frames [pixel].
    """

    posterior: Float32Array
    shifts: Float64Array
    errors: Float64Array

    @classmethod
    def at_rest(cls, n: int, grid: ShiftGrid) -> "ShiftPosteriors":
        """Certainty that no frame has moved."""
        posterior = np.zeros((n, *grid.cells), np.float32)
        posterior[:, grid.cells[0] // 2, grid.cells[1] // 2] = 1.0
        return cls(posterior, np.zeros((n, 2)), np.zeros(n))

    def after(self, grid: ShiftGrid, posterior: Float32Array, scores: Float32Array) -> "ShiftPosteriors":
        """Return the moments of a posterior, or the vertex of the scores where it is narrower than the grid."""
        shifts, errors = moments(grid.steps, posterior, scores)
        if len(shifts) == 2:
            # both halfway: two frames that were moved onto each other would change places forever
            shifts = (self.shifts + shifts) / 2
        return ShiftPosteriors(posterior, shifts, errors)

    def factor(self, grid: ShiftGrid, i: int) -> Complex64Array:
        """Return the factor by which the spectrum of a frame becomes that of its mean over its shifts."""
        if len(self.errors) == 2 or self.errors[i] < NARROW_PX:
            return grid.moved_to(self.shifts[i], float(self.errors[i]))
        return grid.moved(self.posterior[i])


def moments(steps: Float64Array, posterior: FloatArray, scores: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Return means (n, 2) and standard deviations along an axis (n,) of posteriors on a grid.

    Of those that are narrower than the grid, vertex and curvature of the likelihood stand in their place.

    Parameters
    ----------
    steps : ndarray (m,)
        Grid of shifts along an axis [pixel].
    posterior, scores : ndarray (n, m, m)
        Probability of each shift, and logarithm of its likelihood.

    Returns
    -------
    shifts : ndarray (n, 2)
        Of the frames [pixel].
    errors : ndarray (n,)
        Standard deviations along an axis [pixel].
    """
    shifts, variances = np.empty((len(posterior), 2)), np.empty(len(posterior))
    for i, cells in enumerate(posterior):
        along = cells.sum(axis=1, dtype=float), cells.sum(axis=0, dtype=float)
        mean = [float(values @ steps) for values in along]
        variance = [float(values @ steps**2) - m**2 for values, m in zip(along, mean, strict=True)]
        shifts[i], variances[i] = mean, sum(variance) / 2
    return _refined(scores, shifts, np.sqrt(np.maximum(variances, 0)))


def _refined(scores: Float32Array, shifts: Float64Array, errors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Replace the moments of posteriors that are narrower than the grid by vertex and curvature of the likelihood."""
    half = scores.shape[1] // 2
    for i in np.flatnonzero(errors < NARROW_PX).tolist():
        y, x = (int(np.clip(round(cell), 1, 2 * half - 1)) for cell in shifts[i] / STEP_PX + half)
        lines = scores[i, y - 1 : y + 2, x], scores[i, y, x - 1 : x + 2]
        curvature = [2 * float(line[1]) - float(line[0]) - float(line[2]) for line in lines]
        if min(curvature) > 0:
            shifts[i] = [STEP_PX * (cell - half + vertex(line)) for cell, line in zip((y, x), lines, strict=True)]
            errors[i] = STEP_PX * math.sqrt(sum(1 / value for value in curvature) / 2)
        else:
            # no vertex within the cell: the shift is anywhere in it
            errors[i] = max(errors[i], STEP_PX / math.sqrt(12))
    return shifts, errors
