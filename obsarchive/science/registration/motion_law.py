"""Image motion as a Markov chain on a grid of shifts: the law of the motion, and the shifts that it makes probable."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array
from obsarchive.science.registration.shift_grid import STEP_PX

FIRST_RMS_PX = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Rms of the motion from which the first is chosen [pixel]."""
MAX_CORRELATION = 0.98
STRAYS = 1e-3
"""Share of frames that may lie anywhere, whatever the motion of the others."""


@dataclass(frozen=True)
class MotionLaw:
    """Motion as an autoregressive process of the first order, the same along both axes."""

    rms_px: float
    correlation: float

    def posterior(self, steps: Float64Array, scores: Float32Array) -> tuple[Float32Array, "MotionLaw"]:
        """Return the posterior of each shift given all frames (forward-backward), and the motion that it shows."""
        likelihood = _likelihood(scores)
        initial, ahead = self.usual(steps), self._transition(steps)
        n = len(scores)
        forward, backward = np.empty_like(likelihood), np.ones_like(likelihood)
        forward[0] = normal(initial * likelihood[0])
        for i in range(1, n):
            forward[i] = normal((ahead.T @ forward[i - 1] @ ahead + STRAYS * initial) * likelihood[i])
        for i in range(n - 1, 0, -1):
            backward[i - 1] = normal(ahead @ (likelihood[i] * backward[i]) @ ahead.T)
        posterior = np.stack([normal(a * b) for a, b in zip(forward, backward, strict=True)])
        marginal = posterior.sum(axis=2) + posterior.sum(axis=1)
        variance = float((marginal @ steps**2).mean()) / 2
        products = sum(_products(steps, ahead, forward[i - 1], likelihood[i] * backward[i]) for i in range(1, n))
        correlation = products / 2 / max(n - 1, 1) / variance if variance > 0 else 0.0
        return posterior.astype(np.float32), MotionLaw(math.sqrt(variance), min(max(correlation, 0.0), MAX_CORRELATION))

    def usual(self, steps: Float64Array) -> Float64Array:
        """Probability of a shift if nothing is known of the other frames."""
        along = normal(np.exp(-0.5 * (steps / max(self.rms_px, STEP_PX / 2)) ** 2))
        return np.outer(along, along)

    def _transition(self, steps: Float64Array) -> Float64Array:
        """Probability of a step after another."""
        scatter = max(self.rms_px * math.sqrt(1 - self.correlation**2), STEP_PX / 2)
        law: Float64Array = np.exp(-0.5 * ((steps - self.correlation * steps[:, np.newaxis]) / scatter) ** 2)
        law /= law.sum(axis=1, keepdims=True)
        return law


def likeliest(steps: Float64Array, scores: Float32Array) -> MotionLaw:
    """Return the uncorrelated motion under which the frames are most probable: none, where they say nothing."""
    likelihood = _likelihood(scores).reshape(len(scores), -1)

    def evidence(motion: MotionLaw) -> float:
        return float(np.log(likelihood @ motion.usual(steps).ravel() + np.finfo(float).tiny).sum())

    return max((MotionLaw(rms_px, 0.0) for rms_px in FIRST_RMS_PX), key=evidence)


def _likelihood(scores: Float32Array) -> Float64Array:
    likelihood: Float64Array = np.exp(scores - scores.max(axis=(1, 2), keepdims=True)).astype(np.float64)
    return likelihood


def _products(steps: Float64Array, ahead: Float64Array, before: Float64Array, after: Float64Array) -> float:
    """Return the expected sum over both axes of the product of the shifts of two consecutive frames."""
    column, row = steps[:, np.newaxis], steps[np.newaxis, :]
    weight = float(np.sum(before * (ahead @ after @ ahead.T)))
    along_y = np.sum(before * column * (ahead @ (after * column) @ ahead.T))
    along_x = np.sum(before * row * (ahead @ (after * row) @ ahead.T))
    return float(along_y + along_x) / weight if weight > 0 else 0.0


def normal(values: Float64Array) -> Float64Array:
    total = float(values.sum())
    return values / total if total > 0 else np.full_like(values, 1 / values.size)
