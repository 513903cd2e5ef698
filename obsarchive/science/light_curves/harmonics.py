"""The shape of a periodic light curve: harmonics of a known period, as many as the data tell apart from noise."""

from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array, FloatArray

MOST_HARMONICS = 4
SPARE_EPOCHS = 4
"""Epochs that are needed beyond the number of unknowns."""
GRID = np.linspace(0.0, 1.0, 400, endpoint=False)


@dataclass(frozen=True)
class Wave:
    """A light curve that repeats itself.

    Parameters
    ----------
    period_d, epoch : float
        Period, and time of phase 0 [d].
    coefficients : ndarray (2 n + 1,)
        Mean magnitude, cosines and sines of the harmonics [mag].
    covariance : ndarray (2 n + 1, 2 n + 1)
        Their covariance; the errors of the data are scaled to the scatter where that is larger.
    chi2 : float
        Chi-square, in the errors as given.
    dof : int
        Degrees of freedom.
    """

    period_d: float
    epoch: float
    coefficients: Float64Array
    covariance: Float64Array
    chi2: float
    dof: int

    def at_phase(self, phase: FloatArray) -> Float64Array:
        """Return the magnitude at phases."""
        model: Float64Array = _design(phase, len(self.coefficients) // 2) @ self.coefficients
        return model

    def magnitude(self, time: FloatArray) -> Float64Array:
        """Return the magnitude at times [d]."""
        return self.at_phase((np.asarray(time) - self.epoch) / self.period_d)

    @property
    def amplitude(self) -> tuple[float, float]:
        """Half of the range of the model, and its error [mag]."""
        design = _design(GRID, len(self.coefficients) // 2)
        model = design @ self.coefficients
        slope = (design[np.argmax(model)] - design[np.argmin(model)]) / 2
        return float(np.ptp(model)) / 2, float(np.sqrt(slope @ self.covariance @ slope))


def fit_wave(time: FloatArray, mag: FloatArray, error: FloatArray, period_d: float, epoch: float = 0.0) -> Wave | None:
    """Fit the harmonics of a period to a light curve.

    Their number is that with the least information criterion (Akaike 1974), scaled to the scatter.

    Parameters
    ----------
    time, mag, error : ndarray (n,)
        Times [d], magnitudes and errors [mag]; epochs that are not finite, or without an error, are ignored.
    period_d : float
        The period [d].
    epoch : float
        Time of phase 0 [d].

    Returns
    -------
    Wave or None
        None where there are too few epochs.
    """
    good = np.isfinite(time) & np.isfinite(mag) & (error > 0) & np.isfinite(error)
    phase = (np.asarray(time, np.float64)[good] - epoch) / period_d
    wanted, scale = np.asarray(mag, np.float64)[good], np.asarray(error, np.float64)[good]
    most = min(MOST_HARMONICS, (len(phase) - SPARE_EPOCHS - 1) // 2)
    if most < 1:
        return None
    fits = [_solve(phase, wanted, scale, n) for n in range(1, most + 1)]
    excess = max(1.0, fits[-1][2] / (len(phase) - 2 * most - 1))
    n = int(np.argmin([chi2 + 4 * excess * number for number, (*_, chi2) in enumerate(fits)])) + 1
    coefficients, inverse, chi2 = fits[n - 1]
    dof = len(phase) - 2 * n - 1
    return Wave(period_d, epoch, coefficients, inverse * max(1.0, chi2 / dof), chi2, dof)


def _design(phase: FloatArray, n: int) -> Float64Array:
    angle = 2 * np.pi * np.asarray(phase, np.float64)[:, None] * np.arange(1, n + 1)
    return np.hstack([np.ones((len(angle), 1)), np.cos(angle), np.sin(angle)])


def _solve(
    phase: Float64Array, mag: Float64Array, error: Float64Array, n: int
) -> tuple[Float64Array, Float64Array, float]:
    weighted = _design(phase, n) / error[:, None]
    inverse = np.asarray(np.linalg.pinv(weighted.T @ weighted), np.float64)
    coefficients = inverse @ (weighted.T @ (mag / error))
    return coefficients, inverse, float(np.sum((mag / error - weighted @ coefficients) ** 2))
