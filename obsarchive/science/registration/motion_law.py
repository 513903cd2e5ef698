"""Image motion as a Markov chain on a grid of shifts: the law of the motion, and the shifts that it makes probable."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.registration.shift_grid import STEP_PX

USUAL_CORRELATIONS = (0.0, 0.5, 0.8, 0.95)
"""Correlations of consecutive frames that are all probable where the frames hardly tell."""
LEAST_WEIGHT = 0.02
"""Probability of a law that is not neglected."""
MAX_CORRELATION = 0.98
STRAYS = 1e-3
"""Share of frames that may lie anywhere, whatever the motion of the others."""


@dataclass(frozen=True)
class MotionLaw:
    """Motion as an autoregressive process of the first order, the same along both axes."""

    rms_px: float
    correlation: float

    def posterior(self, steps: Float64Array, scores: Float32Array) -> tuple[Float32Array, "MotionLaw"]:
        """Return the posterior of each shift given all frames (forward-backward), and the motion that it shows.

        The scores (n, m, m) are logarithms of the likelihood of each shift.
        """
        ahead, n = self._transition(steps), len(scores)
        posterior, _ = self._forward(steps, scores)
        # backwards, frame by frame in place of the forward probabilities: all frames fill the memory once
        products, backward = np.zeros(n), np.ones(scores.shape[1:])
        for i in range(n - 1, -1, -1):
            posterior[i] = normal(posterior[i] * backward)
            if i:
                after = _likelihood(scores[i]) * backward
                along_x = after @ ahead.T
                products[i] = _products(steps, ahead, posterior[i - 1], (ahead @ after, along_x))
                backward = normal(ahead @ along_x)
        marginal = posterior.sum(axis=2, dtype=float) + posterior.sum(axis=1, dtype=float)
        variance = float((marginal @ steps**2).mean()) / 2
        correlation = float(products.sum()) / 2 / max(n - 1, 1) / variance if variance > 0 else 0.0
        return posterior, MotionLaw(math.sqrt(variance), min(max(correlation, 0.0), MAX_CORRELATION))

    def evidence(self, steps: Float64Array, scores: Float32Array) -> float:
        """Return the logarithm of the probability of the frames under this law, over their likeliest shifts."""
        if self.correlation == 0:
            usual = self.usual(steps)
            every = np.array([np.sum(_likelihood(cells) * usual) for cells in scores])
            return float(np.log(every + np.finfo(float).tiny).sum())
        return self._forward(steps, scores)[1]

    def _forward(self, steps: Float64Array, scores: Float32Array) -> tuple[Float32Array, float]:
        """Return the probability of each shift given the frames up to its own, and the evidence of all."""
        initial, ahead = self.usual(steps), self._transition(steps)
        forward, evidence, expected = np.empty_like(scores), 0.0, initial
        for i, cells in enumerate(scores):
            here = expected * _likelihood(cells)
            total = float(here.sum())
            here = here / total if total > 0 else initial
            evidence += math.log(total) if total > 0 else 0.0
            forward[i] = here
            expected = ahead.T @ here @ ahead + STRAYS * initial
        return forward, evidence

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


def posterior_of_correlations(
    steps: Float64Array, scores: Float32Array, rms_px: float
) -> tuple[Float32Array, MotionLaw, float]:
    """Compute the posterior of the shifts of all frames, whatever their correlation in time.

    Parameters
    ----------
    steps : ndarray (m,)
        Grid of shifts along an axis [pixel].
    scores : ndarray (n, m, m)
        Logarithm of the likelihood of each shift.
    rms_px : float
        Rms of the motion [pixel].

    Returns
    -------
    posterior : ndarray (n, m, m)
        Probability of each shift.
    law : MotionLaw
        With the mean correlation.
    evidence : float
        Logarithm of the probability of the frames.
    """
    laws = [MotionLaw(rms_px, correlation) for correlation in USUAL_CORRELATIONS]
    evidence = np.array([law.evidence(steps, scores) for law in laws])
    weights = np.exp(evidence - evidence.max())
    total = float(evidence.max()) + math.log(weights.mean()) + float(scores.max(axis=(1, 2)).sum(dtype=float))
    weights = np.where(weights < LEAST_WEIGHT * weights.sum(), 0, weights)
    weights /= weights.sum()
    kept = [(weight, law) for weight, law in zip(weights.tolist(), laws, strict=True) if weight > 0]
    posterior = sum(weight * law.posterior(steps, scores)[0] for weight, law in kept)
    correlation = sum(weight * law.correlation for weight, law in kept)
    return np.asarray(posterior, np.float32), MotionLaw(rms_px, correlation), total


def _likelihood(scores: Float32Array) -> Float64Array:
    """Return the likelihood (m, m) of each shift of a frame over that of the likeliest."""
    return np.asarray(np.exp(scores - scores.max()), np.float64)


def _products(
    steps: Float64Array, ahead: Float64Array, before: FloatArray, after: tuple[Float64Array, Float64Array]
) -> float:
    """Return the expected sum over both axes of the product of the shifts of two consecutive frames.

    What is known of the frame after is summed over its shifts along y, and along x.
    """
    along_y, along_x = ahead * (before @ after[1].T), ahead * (before.T @ after[0])
    weight = float(along_y.sum())
    return float(steps @ (along_y + along_x) @ steps) / weight if weight > 0 else 0.0


def normal(values: Float64Array) -> Float64Array:
    """Return values over their sum; equal ones where they are all zero."""
    total = float(values.sum())
    return values / total if total > 0 else np.full_like(values, 1 / values.size)
