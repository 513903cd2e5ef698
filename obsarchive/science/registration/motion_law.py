"""Image motion as a Markov chain on a grid of shifts: the law of the motion, and the shifts that it makes probable."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array
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

    def posterior(self, steps: Float64Array, likelihood: Float64Array) -> tuple[Float64Array, "MotionLaw"]:
        """Return the posterior of each shift given all frames (forward-backward), and the motion that it shows."""
        ahead, n = self._transition(steps), len(likelihood)
        posterior, _ = self._forward(steps, likelihood)
        # backwards, frame by frame in place of the forward probabilities: all frames fill the memory once
        products, backward = np.zeros(n), np.ones_like(posterior[-1])
        for i in range(n - 1, -1, -1):
            posterior[i] = normal(posterior[i] * backward)
            if i:
                after = likelihood[i] * backward
                products[i] = _products(steps, ahead, posterior[i - 1], after)
                backward = normal(ahead @ after @ ahead.T)
        marginal = posterior.sum(axis=2) + posterior.sum(axis=1)
        variance = float((marginal @ steps**2).mean()) / 2
        correlation = float(products.sum()) / 2 / max(n - 1, 1) / variance if variance > 0 else 0.0
        return posterior, MotionLaw(math.sqrt(variance), min(max(correlation, 0.0), MAX_CORRELATION))

    def evidence(self, steps: Float64Array, likelihood: Float64Array) -> float:
        """Return the logarithm of the probability of the frames under this law."""
        if self.correlation == 0:
            every = likelihood.reshape(len(likelihood), -1) @ self.usual(steps).ravel()
            return float(np.log(every + np.finfo(float).tiny).sum())
        return self._forward(steps, likelihood)[1]

    def _forward(self, steps: Float64Array, likelihood: Float64Array) -> tuple[Float64Array, float]:
        """Return the probability of each shift given the frames up to its own, and the evidence of all."""
        initial, ahead = self.usual(steps), self._transition(steps)
        forward, evidence, expected = np.empty_like(likelihood), 0.0, initial
        for i, here in enumerate(likelihood):
            if i:
                expected = ahead.T @ forward[i - 1] @ ahead + STRAYS * initial
            forward[i] = expected * here
            total = float(forward[i].sum())
            forward[i] = forward[i] / total if total > 0 else initial
            evidence += math.log(total) if total > 0 else 0.0
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
    likelihood = likelihoods(scores)
    laws = [MotionLaw(rms_px, correlation) for correlation in USUAL_CORRELATIONS]
    evidence = np.array([law.evidence(steps, likelihood) for law in laws])
    weights = np.exp(evidence - evidence.max())
    total = float(evidence.max()) + math.log(weights.mean()) + float(scores.max(axis=(1, 2)).sum(dtype=float))
    weights = np.where(weights < LEAST_WEIGHT * weights.sum(), 0, weights)
    weights /= weights.sum()
    kept = [(weight, law) for weight, law in zip(weights.tolist(), laws, strict=True) if weight > 0]
    posterior = sum(weight * law.posterior(steps, likelihood)[0] for weight, law in kept)
    correlation = sum(weight * law.correlation for weight, law in kept)
    return np.asarray(posterior, np.float32), MotionLaw(rms_px, correlation), total


def likelihoods(scores: Float32Array) -> Float64Array:
    """Return the likelihood of each shift over that of the likeliest of its frame."""
    likelihood = scores - scores.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.exp(likelihood, out=likelihood), np.float64)


def _products(steps: Float64Array, ahead: Float64Array, before: Float64Array, after: Float64Array) -> float:
    """Return the expected sum over both axes of the product of the shifts of two consecutive frames."""
    column, row = steps[:, np.newaxis], steps[np.newaxis, :]
    weight = float(np.sum(before * (ahead @ after @ ahead.T)))
    along_y = np.sum(before * column * (ahead @ (after * column) @ ahead.T))
    along_x = np.sum(before * row * (ahead @ (after * row) @ ahead.T))
    return float(along_y + along_x) / weight if weight > 0 else 0.0


def normal(values: Float64Array) -> Float64Array:
    """Return values over their sum; equal ones where they are all zero."""
    total = float(values.sum())
    return values / total if total > 0 else np.full_like(values, 1 / values.size)
