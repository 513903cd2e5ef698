"""Zernike polynomials of unit variance in Noll's order, and their covariance in Kolmogorov turbulence.

Noll (1976), J. Opt. Soc. Am. 66, 207.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import eval_jacobi, gamma


def order(j: int) -> tuple[int, int]:
    """Return radial and azimuthal order (n, m) of mode `j`, counted from 1; m < 0: sine."""
    n, rest = 0, j - 1
    while rest > n:
        n += 1
        rest -= n
    return n, (-1) ** j * (n % 2 + 2 * ((rest + (n + 1) % 2) // 2))


def mode(j: int, radius: NDArray, angle: NDArray) -> NDArray:
    """Return mode `j` at points of the unit disc, mean square 1 over the disc."""
    n, m = order(j)
    turns = abs(m)
    k = (n - turns) // 2
    radial = np.sqrt(n + 1) * (-1) ** k * radius**turns * eval_jacobi(k, turns, 0, 1 - 2 * radius**2)
    if m == 0:
        return radial
    return np.sqrt(2) * radial * (np.cos(turns * angle) if m > 0 else np.sin(turns * angle))


def modes(first: int, last: int, y: NDArray, x: NDArray) -> NDArray:
    """Return modes `first` to `last` at points (y, x) of the unit disc, shape (modes, ...)."""
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    return np.array([mode(j, radius, angle) for j in range(first, last + 1)])


def covariance(j: int, k: int) -> float:
    """Return the covariance of two modes in Kolmogorov turbulence [rad^2], for D / r0 = 1."""
    (n, m), (p, q) = order(j), order(k)
    if m != q or min(n, p) == 0:
        return 0.0
    sign = (-1) ** ((n + p - 2 * abs(m)) // 2)
    top = gamma(14 / 3) * gamma((n + p - 5 / 3) / 2)
    bottom = gamma((n - p + 17 / 3) / 2) * gamma((p - n + 17 / 3) / 2) * gamma((n + p + 23 / 3) / 2)
    return float(0.007194 * sign * np.sqrt((n + 1) * (p + 1)) * np.pi ** (8 / 3) * top / bottom)


def residual(last: int) -> float:
    """Return the phase variance left when modes 1 to `last` are corrected [rad^2], for D / r0 = 1."""
    return 1.0299 - sum(covariance(j, j) for j in range(2, last + 1))
