"""Adaptive optics: a modal integrator behind a delay, at one kilohertz, and the images that it leaves."""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.instrument import zernike
from benchmarks.quality.instrument.layers import FrozenFlow, Layer
from benchmarks.quality.instrument.optics import ARCSEC, Air, Band, Imager, Telescope

_SENSOR_SAMPLES = 40
"""Points across the pupil at which the wavefront sensor looks."""
_TAPER = 12
"""Pixels at the edge of an image within which it falls to zero."""
_BATCH = 400


@dataclass(frozen=True)
class Atmosphere:
    """Turbulence in layers, and refraction.

    Parameters
    ----------
    r0_m, outer_m : float
        Fried parameter at 500 nm and outer scale [m].
    layers : tuple of Layer
        Shares and winds.
    air : Air
        Refraction.
    scintillation : float
        Relative rms of a star's light from frame to frame.
    """

    r0_m: float = 0.10
    outer_m: float = 25.0
    layers: tuple[Layer, ...] = (Layer(0.6, 6.0, 20.0), Layer(0.25, 13.0, 80.0), Layer(0.15, 24.0, 140.0))
    air: Air = field(default_factory=Air)
    scintillation: float = 0.02


@dataclass(frozen=True)
class Loop:
    """Correction of Zernike modes; images move, as a laser beacon does not show tilts.

    Parameters
    ----------
    modes : int
        Last mode that is corrected, in Noll's order; 3 or less: none.
    rate_hz, delay, gain : float
        Steps per second, delay in steps, and gain of the integrator.
    noise_nm : float
        Noise of the measurement of one mode [nm].
    motion_left : float
        Share of the atmosphere's tilt that is left in the images.
    shake_arcsec, shake_hz : float
        Rms of the telescope's own vibration [arcsec], and its frequency.
    drift_arcsec_s : (float, float)
        Of the telescope, (y, x).
    """

    modes: int = 90
    rate_hz: float = 1000.0
    delay: int = 2
    gain: float = 0.3
    noise_nm: float = 15.0
    motion_left: float = 0.6
    shake_arcsec: float = 0.01
    shake_hz: float = 17.0
    drift_arcsec_s: tuple[float, float] = (0.004, -0.003)


@dataclass(frozen=True)
class Exposures:
    """How long, how often and on which pixels images are taken.

    Parameters
    ----------
    frame_s : float
        Length of an exposure [s].
    pixel_arcsec : float
        Plate scale [arcsec].
    size : int
        Pixels along a side of the images, even.
    snapshots : int
        Instants averaged into an exposure.
    """

    frame_s: float = 0.116
    pixel_arcsec: float = 0.0347
    size: int = 256
    snapshots: int = 8


@dataclass(frozen=True, eq=False)
class Bank:
    """Images of a point source in consecutive exposures.

    Parameters
    ----------
    images : ndarray, shape (n, size, size)
        Share of the flux per sample; samples are `oversampling` times finer than pixels, and do not integrate over
        pixels. Without tilt: the source is at sample ``(size // 2, size // 2)``.
    motion_arcsec : ndarray, shape (n, snapshots, 2)
        Image motion (y, x) within each exposure.
    ideal : ndarray, shape (size, size)
        Image of a flat wavefront.
    pixel_arcsec : float
        Plate scale of the pixels.
    oversampling : int
        Samples per pixel.
    """

    images: NDArray
    motion_arcsec: NDArray
    ideal: NDArray
    pixel_arcsec: float
    oversampling: int


@lru_cache(maxsize=3)
def bank(parts: tuple[Telescope, Band, Atmosphere, Loop, Exposures], n: int, seed: int) -> Bank:
    """Compute consecutive exposures of a point source; those of the last few calls are kept."""
    telescope, band, atmosphere, loop, exposures = parts
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    finest = (band.centre_nm - band.width_nm / 2) * 1e-9 / telescope.primary_m / ARCSEC
    oversampling = max(1, int(np.ceil(2 * exposures.pixel_arcsec / finest - 0.1)))
    imager = Imager(
        telescope, band, atmosphere.air, exposures.pixel_arcsec / oversampling, exposures.size * oversampling
    )
    flow = FrozenFlow(_turned(atmosphere.layers, rng), atmosphere.r0_m, atmosphere.outer_m, telescope.step_m, rng)
    steps = int(np.ceil(n * exposures.frame_s * loop.rate_hz)) + loop.delay + 1
    times = np.arange(steps) / loop.rate_hz
    seen = measured_modes(telescope, flow, times, max(loop.modes, 3))
    commands = corrected(seen, loop, rng)
    taken = (np.arange(n * exposures.snapshots) + 0.5) / exposures.snapshots * exposures.frame_s
    taken = np.round(taken * loop.rate_hz).astype(int)
    drift = rng.normal(0, 0.15)
    left = Residual(telescope, flow, commands, drift)
    images = np.stack(
        [imager.image(left.path(times, steps_of_one)) for steps_of_one in taken.reshape(n, exposures.snapshots)]
    )
    motion = _motion(seen[:, :2], telescope, loop, rng)[taken].reshape(n, exposures.snapshots, 2)
    taper = _tapered(exposures.size, oversampling)
    ideal = imager.image(np.zeros((1, telescope.samples, telescope.samples), np.float32))
    return Bank(images * taper, motion, ideal * taper, exposures.pixel_arcsec, oversampling)


def measured_modes(telescope: Telescope, flow: FrozenFlow, times: NDArray, last: int) -> NDArray:
    """Return the coefficients of modes 2 to `last` that a sensor sees [nm], shape (times, modes)."""
    axis = (np.arange(_SENSOR_SAMPLES) - (_SENSOR_SAMPLES - 1) / 2) * telescope.primary_m / _SENSOR_SAMPLES
    y, x = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    radius = np.hypot(y, x)
    lit = (radius < telescope.primary_m / 2) & (radius > telescope.secondary_m / 2)
    y, x = y[lit], x[lit]
    basis = zernike.modes(1, last, 2 * y / telescope.primary_m, 2 * x / telescope.primary_m).T
    inverse = np.linalg.pinv(basis).astype(np.float32)[1:].T
    batches = np.array_split(times, max(1, len(times) // _BATCH))
    return np.concatenate([flow.path(batch, y, x) @ inverse for batch in batches])


def corrected(seen: NDArray, loop: Loop, rng: np.random.Generator) -> NDArray:
    """Return what the mirror subtracts [nm], as `seen`: tilts wholly, further modes by an integrator behind a delay."""
    commands = np.zeros_like(seen)
    if loop.modes > 3:
        noise = loop.noise_nm * rng.standard_normal(seen.shape, np.float32)
        for step in range(loop.delay, len(seen) - 1):
            error = seen[step - loop.delay] - commands[step - loop.delay] + noise[step]
            commands[step + 1] = commands[step] + np.float32(loop.gain) * error
    # motion is kept apart, as it moves images without changing them
    commands[:, :2] = seen[:, :2]
    return commands


class Residual:
    """Optical path behind the correction.

    Parameters
    ----------
    telescope : Telescope
        Its pupil and its own aberrations.
    flow : FrozenFlow
        Turbulence.
    commands : ndarray
        See `corrected`.
    drift : float
        See `Telescope.aberration_nm`.
    """

    def __init__(self, telescope: Telescope, flow: FrozenFlow, commands: NDArray, drift: float) -> None:
        y, x = (each.ravel() for each in np.meshgrid(telescope.axis_m, telescope.axis_m, indexing="ij"))
        self._lit = np.flatnonzero(telescope.aperture.ravel() > 0)
        self._y, self._x = y[self._lit], x[self._lit]
        radius_m = telescope.primary_m / 2
        last = commands.shape[1] + 1
        self._basis = zernike.modes(2, last, self._y / radius_m, self._x / radius_m).astype(np.float32)
        self._static = telescope.aberration_nm(drift).ravel()[self._lit]
        self._flow, self._commands = flow, commands
        self._shape = (telescope.samples, telescope.samples)

    def path(self, times: NDArray, steps: NDArray) -> NDArray:
        """Return the optical path [nm] at some steps, shape (steps, samples, samples)."""
        total = np.zeros((len(steps), self._shape[0] * self._shape[1]), np.float32)
        left = self._flow.path(times[steps], self._y, self._x) - self._commands[steps] @ self._basis
        total[:, self._lit] = left + self._static
        return total.reshape(-1, *self._shape)


def _turned(layers: tuple[Layer, ...], rng: np.random.Generator) -> tuple[Layer, ...]:
    """Return the layers with all winds turned by one random angle, so that nights differ."""
    angle = rng.uniform(0, 360)
    return tuple(replace(layer, direction_deg=layer.direction_deg + angle) for layer in layers)


def _motion(tilts_nm: NDArray, telescope: Telescope, loop: Loop, rng: np.random.Generator) -> NDArray:
    """Return the image motion (y, x) [arcsec] at every step: tilts of the air, vibration and drift of the telescope."""
    times = np.arange(len(tilts_nm)) / loop.rate_hz
    # mode 2 is 2 rho cos(theta): a slope of two amplitudes per radius
    motion = loop.motion_left * tilts_nm[:, ::-1] * 2e-9 / (telescope.primary_m / 2) / ARCSEC
    motion = motion - motion.mean(axis=0)
    phases = rng.uniform(0, 2 * np.pi, 2)
    for axis in range(2):
        frequency = loop.shake_hz * (1 + 0.1 * axis)
        motion[:, axis] += np.sqrt(2) * loop.shake_arcsec * np.sin(2 * np.pi * frequency * times + phases[axis])
    return motion + np.outer(times - times.mean(), loop.drift_arcsec_s)


def _tapered(size: int, oversampling: int) -> NDArray:
    """Return a window that falls to zero at the edge of the images, where the camera's frames may go on."""
    edge = np.minimum(np.arange(size * oversampling), np.arange(size * oversampling)[::-1]) / (_TAPER * oversampling)
    window = np.sin(np.pi / 2 * np.clip(edge, 0, 1)) ** 2
    return (window[:, None] * window).astype(np.float32)
