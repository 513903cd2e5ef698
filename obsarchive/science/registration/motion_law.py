"""Image motion as a Markov chain on a grid of shifts: the law of the motion, and the shifts that it makes probable."""

import math
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array
from obsarchive.science.registration.shift_grid import STEP_PX

USUAL_RMS_PX, USUAL_CORRELATIONS = (0.25, 0.5, 1.0, 2.0, 4.0), (0.0, 0.5, 0.8, 0.95)
"""Laws of the motion that are all probable before a frame is seen: rms [pixel] and correlation."""
WELL_KNOWN = 0.5
"""Error of the shifts, over their rms, below which the frames tell the law of their motion."""
EVIDENCE_FRAMES = 100
"""Frames whose probability is compared."""
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
        forward, _ = self._forward(steps, likelihood)
        backward = np.ones_like(likelihood)
        for i in range(n - 1, 0, -1):
            backward[i - 1] = normal(ahead @ (likelihood[i] * backward[i]) @ ahead.T)
        posterior = np.stack([normal(a * b) for a, b in zip(forward, backward, strict=True)])
        marginal = posterior.sum(axis=2) + posterior.sum(axis=1)
        variance = float((marginal @ steps**2).mean()) / 2
        products = sum(_products(steps, ahead, forward[i - 1], likelihood[i] * backward[i]) for i in range(1, n))
        correlation = products / 2 / max(n - 1, 1) / variance if variance > 0 else 0.0
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


def posterior_shifts(
    steps: Float64Array, scores: Float32Array, law: MotionLaw, learn: bool
) -> tuple[Float32Array, MotionLaw]:
    """Compute the posterior of the shifts of all frames.

    Where the frames do not tell the law of their motion, it is the mean over all laws by their probability.

    Parameters
    ----------
    steps : ndarray (m,)
        Grid of shifts along an axis [pixel].
    scores : ndarray (n, m, m)
        Logarithm of the likelihood of each shift.
    law : MotionLaw
        Law that was found before.
    learn : bool
        Whether other laws are probable, too.

    Returns
    -------
    posterior : ndarray (n, m, m)
        Probability of each shift.
    law : MotionLaw
        Law that these shifts show.
    """
    likelihood = _likelihood(scores)
    posterior, found = law.posterior(steps, likelihood)
    if not learn:
        return posterior.astype(np.float32), law
    if _errors_rms(steps, posterior) < WELL_KNOWN * found.rms_px:
        return posterior.astype(np.float32), found
    laws = [law, *(MotionLaw(rms, rho) for rms in USUAL_RMS_PX for rho in USUAL_CORRELATIONS)]
    evidence = np.array([each.evidence(steps, likelihood[:EVIDENCE_FRAMES]) for each in laws])
    weights = np.exp(evidence - evidence.max())
    weights = np.where(weights < LEAST_WEIGHT * weights.sum(), 0, weights)
    weights /= weights.sum()
    posterior = np.zeros_like(likelihood)
    variance = covariance = 0.0
    for each, weight in zip(laws, weights.tolist(), strict=True):
        if weight > 0:
            part, found = each.posterior(steps, likelihood)
            posterior += weight * part
            variance += weight * found.rms_px**2
            covariance += weight * found.rms_px**2 * found.correlation
    return posterior.astype(np.float32), MotionLaw(math.sqrt(variance), covariance / variance if variance > 0 else 0.0)


def _errors_rms(steps: Float64Array, posterior: Float64Array) -> float:
    """Root mean square of the standard deviations of posteriors along an axis."""
    along = np.stack([posterior.sum(axis=2), posterior.sum(axis=1)])
    return float(np.sqrt(np.mean(along @ steps**2 - (along @ steps) ** 2)))


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
