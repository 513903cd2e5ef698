"""Layers of frozen turbulence: long strips of optical path, made by Fourier series and sub-harmonics.

A strip lies along the wind and is periodic in that direction; across it, the row of frequency zero is replaced by rows
of ever lower frequencies (sub-harmonics: Lane, Glindemann and Dainty 1992), as tilts come from waves longer than the
strip is wide.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft

REFERENCE_NM = 500.0
"""Wavelength at which Fried parameters are given."""
ROWS, COLUMNS = 256, 8192
"""Samples of a strip; powers of two."""
SUBHARMONICS = 4


@dataclass(frozen=True)
class Layer:
    """A layer of turbulence: its share of the total, and its wind.

    Parameters
    ----------
    share : float
        Of the turbulence, where shares of all layers add up to 1.
    wind_m_s, direction_deg : float
        Speed and direction of the wind, from the x axis to the y axis.
    """

    share: float
    wind_m_s: float
    direction_deg: float


def spectrum(frequency: NDArray, r0_m: float, outer_m: float) -> NDArray:
    """Return von Karman's spectrum of the optical path [nm^2 m^2] at frequencies [1/m]."""
    rad2 = 0.0229 * r0_m ** (-5 / 3) * (frequency**2 + outer_m**-2) ** (-11 / 6)
    return rad2 * (REFERENCE_NM / (2 * np.pi)) ** 2


def strips(r0_m: float, outer_m: float, step_m: float, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Draw two independent strips of optical path [nm], shape (ROWS, COLUMNS) in steps of `step_m`."""
    fy, fx = fft.fftfreq(ROWS, step_m)[:, None], fft.fftfreq(COLUMNS, step_m)
    dy, dx = 1 / (ROWS * step_m), 1 / (COLUMNS * step_m)
    amplitude = np.sqrt(spectrum(np.hypot(fy, fx), r0_m, outer_m) * dy * dx)
    amplitude[0] = 0
    waves = amplitude.astype(np.float32) * _complex(rng, (ROWS, COLUMNS))
    strip = fft.fft2(waves)
    y = (np.arange(ROWS) - ROWS / 2) * step_m
    widths = dy / 3.0 ** np.arange(1, SUBHARMONICS + 1)
    rows = [(sign * width, width) for width in widths for sign in (-1, 1)] + [(0.0, widths[-1])]
    for frequency, width in rows:
        row = np.sqrt(spectrum(np.hypot(frequency, fx), r0_m, outer_m) * width * dx) * _complex(rng, COLUMNS)
        strip += np.exp(2j * np.pi * frequency * y)[:, None] * fft.fft(row.astype(np.complex64))
    return np.ascontiguousarray(strip.real, np.float32), np.ascontiguousarray(strip.imag, np.float32)


class FrozenFlow:
    """Layers blown over points of the pupil.

    Parameters
    ----------
    layers : tuple of Layer
        Their winds and shares.
    r0_m, outer_m : float
        Fried parameter at 500 nm of all layers together, and outer scale [m].
    step_m : float
        Sampling of the strips [m].
    rng : numpy.random.Generator
        Of the strips.
    """

    def __init__(
        self, layers: tuple[Layer, ...], r0_m: float, outer_m: float, step_m: float, rng: np.random.Generator
    ) -> None:
        self._step_m = step_m
        drawn: list[NDArray] = []
        while len(drawn) < len(layers):
            drawn.extend(strips(r0_m, outer_m, step_m, rng))
        self._layers = [
            (np.float32(np.sqrt(layer.share)) * strip, layer) for layer, strip in zip(layers, drawn, strict=False)
        ]

    def path(self, times_s: NDArray, y_m: NDArray, x_m: NDArray) -> NDArray:
        """Return the optical path [nm] at points of the pupil [m], shape (times, points)."""
        total = np.zeros((len(times_s), len(y_m)), np.float32)
        for strip, layer in self._layers:
            angle = np.radians(layer.direction_deg)
            along = (x_m * np.cos(angle) + y_m * np.sin(angle)) / self._step_m
            across = (y_m * np.cos(angle) - x_m * np.sin(angle)) / self._step_m + ROWS / 2
            # frozen flow: what is upwind now arrives later
            begins = -layer.wind_m_s * np.asarray(times_s) / self._step_m
            _add_sampled(strip, across, along, begins, total)
        return total


def _complex(rng: np.random.Generator, shape: int | tuple[int, int]) -> NDArray:
    return rng.standard_normal(shape, np.float32) + 1j * rng.standard_normal(shape, np.float32)


@njit(cache=True)
def _add_sampled(strip, across, along, begins, total):  # type: ignore[no-untyped-def]
    """Add a strip, interpolated linearly, seen through points that move along it."""
    for t in range(begins.size):
        for p in range(across.size):
            x = along[p] + begins[t]
            i, whole = int(across[p]), int(np.floor(x))
            fy, fx = np.float32(across[p] - i), np.float32(x - whole)
            # the number of columns is a power of two
            k, n = whole & (COLUMNS - 1), (whole + 1) & (COLUMNS - 1)
            low = strip[i, k] + (strip[i, n] - strip[i, k]) * fx
            high = strip[i + 1, k] + (strip[i + 1, n] - strip[i + 1, k]) * fx
            total[t, p] += low + (high - low) * fy
