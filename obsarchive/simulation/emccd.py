"""Simulated electron-multiplying CCD: bias, dark current, flat field, multiplication and read-out noise.

The multiplication register turns n electrons into a gamma distributed number (Basden et al. 2003, MNRAS 345, 985),
which doubles the photon noise variance. Darks, flats and science frames of one detector share its bias structure,
hot pixels and flat field.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float32Array, Float64Array, RawFrame


@dataclass(frozen=True)
class Detector:
    """An EMCCD; its fixed pattern depends on `shape` and `seed` only.

    Parameters
    ----------
    shape : (int, int)
        Pixels (ny, nx) of the whole detector.
    window : (int, int), optional
        Central part (ny, nx) that is read; all of it by default.
    em_gain : float
        Electron multiplication.
    e_per_adu : float
        Conversion after the register [e-/ADU].
    read_noise_e : float
        Rms noise of the read-out, after the register [e-].
    bias_adu : float
        Mean bias level [ADU].
    dark_e_s, hot_fraction, hot_e_s : float
        Dark current [e-/s/pixel], share of hot pixels and mean of their exponential distribution [e-/s].
    clock_induced_e : float
        Clock-induced charge [e-/pixel/frame].
    cosmic_rays_s : float
        Cosmic-ray hits on the whole detector [1/s].
    seed : int
        Seed of the fixed pattern.

    Raises
    ------
    ValueError
        The window is larger than the detector.
    """

    shape: tuple[int, int] = (1024, 1024)
    window: tuple[int, int] | None = None
    em_gain: float = 100.0
    e_per_adu: float = 3.86
    read_noise_e: float = 60.0
    bias_adu: float = 570.0
    dark_e_s: float = 0.02
    hot_fraction: float = 3e-4
    hot_e_s: float = 80.0
    clock_induced_e: float = 0.005
    cosmic_rays_s: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        if any(part > whole for part, whole in zip(self.read_shape, self.shape, strict=True)):
            raise ValueError(f"expected a window within {self.shape} pixels, found {self.window}")

    @property
    def read_shape(self) -> tuple[int, int]:
        """Pixels (ny, nx) of a frame."""
        return self.window or self.shape

    @cached_property
    def bias(self) -> Float32Array:
        """Bias level with a gradient, column offsets and pixel pattern, shape `read_shape` [ADU]."""
        # a stream per pattern: each is the same whichever is computed first
        rng = self._rng(0)
        ny, nx = self.shape
        slope = 8 * np.linspace(-1, 1, ny)[:, None] + 5 * np.linspace(-1, 1, nx) ** 2
        columns = 2 * rng.standard_normal(nx)
        pixels = 0.8 * rng.standard_normal(self.shape)
        return self._read(self.bias_adu + slope + columns + pixels)

    @cached_property
    def dark_current(self) -> Float32Array:
        """Dark current with hot pixels and a warm corner, shape `read_shape` [e-/s]."""
        rng = self._rng(1)
        ny, nx = self.shape
        glow = np.exp(-8 * np.hypot(np.linspace(0, 1, ny)[:, None], np.linspace(0, 1, nx)))
        dark = self.dark_e_s * (1 + 3 * glow)
        hot = rng.random(self.shape) < self.hot_fraction
        dark[hot] += rng.exponential(self.hot_e_s, np.count_nonzero(hot))
        return self._read(dark)

    @cached_property
    def flat(self) -> Float32Array:
        """Flat field with vignetting, dust and pixel response, shape `read_shape`, mean 1 over the whole detector."""
        rng = self._rng(2)
        ny, nx = self.shape
        y, x = np.linspace(-1, 1, ny)[:, None], np.linspace(-1, 1, nx)
        flat = (1 - 0.08 * (y**2 + x**2)) * (1 + 0.008 * rng.standard_normal(self.shape))
        for _ in range(12):
            cy, cx, size, depth = rng.uniform([-1, -1, 0.015, 0.01], [1, 1, 0.05, 0.05])
            ring = np.exp(-(((np.hypot(y - cy, x - cx) - size) / (0.35 * size)) ** 2))
            flat *= 1 - depth * ring
        return self._read(flat / flat.mean())

    def dark_adu(self, exposure_s: float) -> Float32Array:
        """Return the expected dark frame of an exposure time [s], bias included, shape `read_shape` [ADU]."""
        electrons = self.dark_current * exposure_s + self.clock_induced_e
        return self.bias + np.float32(self.em_gain / self.e_per_adu) * electrons

    def noise_adu(self, electrons: float) -> float:
        """Return the rms noise of a pixel of `electrons` expected before multiplication [ADU]."""
        # excess noise factor squared of a register of high gain
        excess = 2.0 if self.em_gain > 1 else 1.0
        return float(np.sqrt(excess * electrons * self.em_gain**2 + self.read_noise_e**2) / self.e_per_adu)

    def expose(self, light: Float32Array | float, exposure_s: float, rng: np.random.Generator) -> RawFrame:
        """Simulate a frame.

        Parameters
        ----------
        light : ndarray or float
            Expected photo-electrons per pixel before the flat field, shape `read_shape` [e-].
        exposure_s : float
            Exposure time, for dark current and cosmic rays [s].
        rng : numpy.random.Generator
            Source of all noise of this frame.

        Returns
        -------
        ndarray of uint16, shape `read_shape`
            Raw frame [ADU], clipped at 0 and 65535.
        """
        electrons = self.flat * light + self.dark_current * np.float32(exposure_s) + np.float32(self.clock_induced_e)
        self._add_cosmic_rays(electrons, exposure_s, rng)
        gain, noise = self.em_gain / self.e_per_adu, self.read_noise_e / self.e_per_adu
        frame = np.empty(self.read_shape, np.uint16)
        # one pass over the pixels: intermediate arrays of deviates would be larger than the frame
        _read_out(electrons.ravel(), self.bias.ravel(), (gain, noise, self.em_gain > 1), rng, frame.ravel())
        return frame

    def _add_cosmic_rays(self, electrons: Float32Array, exposure_s: float, rng: np.random.Generator) -> None:
        # a window collects its share of the hits on the whole detector
        share = electrons.size / (self.shape[0] * self.shape[1])
        for _ in range(rng.poisson(self.cosmic_rays_s * exposure_s * share)):
            length = 1 + rng.exponential(4)
            angle = rng.uniform(0, 2 * np.pi)
            along = np.arange(0, length, 0.5)
            y = (rng.uniform(0, electrons.shape[0]) + along * np.sin(angle)).astype(int) % electrons.shape[0]
            x = (rng.uniform(0, electrons.shape[1]) + along * np.cos(angle)).astype(int) % electrons.shape[1]
            electrons[y, x] += rng.uniform(500, 2000)

    def _read(self, pattern: Float64Array) -> Float32Array:
        """Central part of a pattern of the whole detector."""
        ny, nx = self.read_shape
        top, left = (self.shape[0] - ny) // 2, (self.shape[1] - nx) // 2
        # a copy: a view would keep the pattern of the whole detector in memory
        return np.ascontiguousarray(pattern[top : top + ny, left : left + nx], dtype=np.float32)

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(purpose,)))


@njit(cache=True)
def _read_out(electrons, bias, register, rng, frame):  # type: ignore[no-untyped-def]
    """Convert photo-electrons to counts; `register` is (ADU per electron, read noise [ADU], multiplies)."""
    gain, noise, multiplies = register
    for i in range(electrons.size):
        n = _poisson(electrons[i], rng)
        counts = gain * (_multiplied(n, rng) if multiplies else n)
        # half a count more, as the conversion to integers truncates
        counts += bias[i] + noise * rng.standard_normal() + 0.5
        frame[i] = min(max(counts, 0.0), 65535.0)


@njit(cache=True)
def _poisson(mean, rng):  # type: ignore[no-untyped-def]
    """Draw a Poisson deviate; by inversion for small means, which most pixels of a frame have."""
    if mean >= 10:
        return rng.poisson(mean)
    target = rng.random()
    n = 0
    probability = np.exp(-mean)
    cumulated = probability
    # bounded: rounding may keep the cumulated probability below 1
    while target > cumulated and n < 60:
        n += 1
        probability *= mean / n
        cumulated += probability
    return n


@njit(cache=True)
def _multiplied(n, rng):  # type: ignore[no-untyped-def]
    """Draw electrons after the register over its gain: gamma deviate of shape n, by exponentials where faster."""
    if n > 5:
        return rng.standard_gamma(n)
    product = 1.0
    for _ in range(n):
        # 1 - u, as a deviate of 0 would make the logarithm infinite
        product *= 1 - rng.random()
    return -np.log(product)
