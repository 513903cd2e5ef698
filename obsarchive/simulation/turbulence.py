"""Point spread functions through the atmosphere, with and without adaptive optics.

Short exposures come from frozen-flow phase screens whose power spectrum is that of von Karman turbulence, thinned out
below the cut-off of the deformable mirror as a servo lag leaves it (Jolissaint et al. 2006, JOSA A 23, 382): a sharp
core that flickers, speckles, and a seeing halo beyond the control radius. Long exposures without correction come
from the Kolmogorov transfer function (Fried 1966, JOSA 56, 1372).
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, signal
from scipy.optimize import brentq
from scipy.special import j0

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array
from obsarchive.science.psf.model import ARCSEC_PER_RAD, Optics, telescope_otf
from obsarchive.simulation.stamp import Stamp

_SCREEN_SAMPLES = 512
_COLOURS = 3
"""Wavelengths across the filter, one per sub-exposure in turn."""

_TELESCOPE, _STATIC_WAVES, _STATIC_CYCLES = 351, 80, 20.0
"""Seed of the telescope's own aberrations; how many waves they consist of, and their highest frequency [1/aperture]."""

_ALIASED = 0.15
"""Outer part of the OTF, in units of the Nyquist frequency, allowed to alias: it holds < 1 % there."""


@dataclass(frozen=True)
class Conditions:
    """Atmosphere and adaptive optics of an observation; the defaults are an average Robo-AO night.

    Parameters
    ----------
    r0_m, outer_scale_m : float
        Fried parameter at 500 nm and outer scale of the turbulence [m].
    wind_m_s : float
        Wind speed [m/s].
    actuator_pitch_m : float
        Spacing of the actuators as projected on the primary [m].
    lag_s : float
        Delay of the correction [s]; it stands for all errors inside the control radius.
    variability, variability_s : float
        Relative rms of the residual phase amplitude from frame to frame, and its correlation time [s].
    motion_arcsec, motion_s : float
        Rms per axis of the image motion, which a laser guide star does not sense [arcsec]; its correlation time [s].
    drift_arcsec_s : (float, float)
        Steady drift (y, x) of the telescope [arcsec/s].
    smear_arcsec : float
        Rms image motion per axis inside one frame [arcsec].
    sub_exposures : int
        Snapshots averaged into a frame.
    static_nm : float
        Rms of the telescope's own aberrations [nm]: they make speckles that all observations share.
    """

    r0_m: float = 0.10
    outer_scale_m: float = 20.0
    wind_m_s: float = 8.0
    actuator_pitch_m: float = 0.19
    lag_s: float = 0.013
    variability: float = 0.12
    variability_s: float = 1.0
    motion_arcsec: float = 0.12
    motion_s: float = 0.4
    drift_arcsec_s: tuple[float, float] = (0.0, 0.0)
    smear_arcsec: float = 0.012
    sub_exposures: int = 4
    static_nm: float = 0.0

    def r0_at(self, wavelength_nm: float) -> float:
        """Return the Fried parameter at a wavelength [m]."""
        r0: float = self.r0_m * (wavelength_nm / 500) ** 1.2
        return r0

    def residual_psd(self, frequency: Float64Array, wavelength_nm: float) -> Float64Array:
        """Compute the power spectrum of the residual phase after correction.

        Parameters
        ----------
        frequency : ndarray
            Spatial frequencies [1/m].
        wavelength_nm : float
            Wavelength [nm].

        Returns
        -------
        ndarray
            Power spectral density, same shape [rad^2 m^2].
        """
        open_loop = 0.0229 * self.r0_at(wavelength_nm) ** (-5 / 3)
        open_loop = open_loop * (frequency**2 + self.outer_scale_m**-2) ** (-11 / 6)
        controlled = frequency < 0.5 / self.actuator_pitch_m
        # A delay t leaves |1 - exp(2 pi i f v t cos a)|^2 of the power, half of (2 pi f v t)^2 averaged over the
        # angle a to the wind; where correcting would do harm the loop does nothing.
        phase = 2 * np.pi * frequency * self.wind_m_s * self.lag_s
        lagged = np.minimum(phase**2 / 2, 1)
        residual: Float64Array = np.where(controlled, open_loop * lagged, open_loop)
        return residual


def correlated_noise(n: int, step_s: float, time_s: float, rng: np.random.Generator) -> Float64Array:
    """Simulate a stationary first-order autoregressive series of unit rms.

    Parameters
    ----------
    n : int
        Number of values.
    step_s, time_s : float
        Time step and correlation time [s].
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    ndarray (n,)
    """
    rho = np.exp(-step_s / time_s)
    white = rng.standard_normal(n) * np.sqrt(1 - rho**2)
    # the first value has no predecessor: unit rms from the start
    white[:1] /= np.sqrt(1 - rho**2)
    series: Float64Array = signal.lfilter([1.0], [1.0, -rho], white)
    return series


class ResidualSpeckles:
    """Short-exposure PSFs behind adaptive optics: each frame is computed on its own, reproducibly for a seed.

    Parameters
    ----------
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    conditions : Conditions
        Atmosphere and correction.
    seed : int
        Seed of the phase screens.
    """

    def __init__(self, optics: Optics, pixel_arcsec: float, conditions: Conditions, seed: int) -> None:
        self.conditions = conditions
        colours_nm = optics.wavelengths_nm(_COLOURS)
        finest_arcsec = colours_nm[0] * 1e-9 / optics.primary_m * ARCSEC_PER_RAD
        oversampling = max(1, int(np.ceil(2 * pixel_arcsec / finest_arcsec - _ALIASED)))
        seeing_arcsec = 0.98 * optics.wavelength_nm * 1e-9 / conditions.r0_at(optics.wavelength_nm) * ARCSEC_PER_RAD
        self.stamp = Stamp.covering(8 * seeing_arcsec, pixel_arcsec, oversampling)
        seeds = np.random.SeedSequence(seed).spawn(_COLOURS)
        field_rad = self.stamp.size * pixel_arcsec / ARCSEC_PER_RAD
        self._colours = [
            _Colour(optics, nm, field_rad, conditions, np.random.default_rng(child))
            for nm, child in zip(colours_nm, seeds, strict=True)
        ]
        smear_px = conditions.smear_arcsec / pixel_arcsec
        blur = np.exp(-2 * (np.pi * smear_px * pixel_arcsec * self.stamp.frequency) ** 2)
        self._blur = (blur * self.stamp.pixel_otf()).astype(np.float32)

    def otf(self, start_s: float, exposure_s: float, strength: float = 1.0) -> Complex64Array:
        """Compute the transfer function of a frame of unit flux, pixel included.

        Parameters
        ----------
        start_s, exposure_s : float
            Begin and length of the exposure [s].
        strength : float
            Factor on the residual phase.

        Returns
        -------
        ndarray of complex64
            On the half plane of the stamp.
        """
        n = self.conditions.sub_exposures
        points = self.stamp.points
        intensity = np.zeros((points, points), np.float32)
        for k in range(n):
            colour = self._colours[k % _COLOURS]
            field = colour.field(start_s + (k + 0.5) / n * exposure_s, strength)
            amplitude = fft.fft2(field, s=(points, points))
            intensity += (amplitude.real**2 + amplitude.imag**2) / np.sum(np.abs(field) ** 2)
        # Parseval: every snapshot sums to points^2
        otf: Complex64Array = fft.rfft2(intensity) * (self._blur / (n * points**2))
        return otf


class _Colour:
    """Pupil and phase screens at one wavelength, sampled so that the transform matches the detector's grid."""

    def __init__(
        self, optics: Optics, wavelength_nm: float, field_rad: float, conditions: Conditions, rng: np.random.Generator
    ) -> None:
        self._step_m = wavelength_nm * 1e-9 / field_rad
        self._pupil = _pupil(optics, self._step_m)
        self._screens = _screens(self._step_m, len(self._pupil), conditions, wavelength_nm, rng)
        angles = rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.0])
        self._static = _static_phase(optics, self._step_m, len(self._pupil), conditions.static_nm / wavelength_nm)
        self._winds = conditions.wind_m_s * np.stack([np.sin(angles), np.cos(angles)], axis=1)

    def field(self, time_s: float, strength: float) -> Complex64Array:
        """Return the complex amplitude in the pupil at a time."""
        n = len(self._pupil)
        phase = np.zeros((n, n), np.float32)
        for screen, wind in zip(self._screens, self._winds, strict=True):
            # screens are periodic, so they can blow over the pupil for ever
            y, x = np.round(wind * time_s / self._step_m).astype(int) % _SCREEN_SAMPLES
            phase += screen[y : y + n, x : x + n]
        phase *= np.float32(strength)
        phase += self._static
        field = np.empty((n, n), np.complex64)
        field.real = self._pupil * np.cos(phase)
        field.imag = self._pupil * np.sin(phase)
        return field


def _pupil(optics: Optics, step_m: float) -> Float32Array:
    """Return an annular pupil with edges one sample soft."""
    n = int(np.ceil(optics.primary_m / step_m)) + 2
    coordinate = (np.arange(n) - (n - 1) / 2) * step_m
    radius = np.hypot(coordinate[:, None], coordinate)
    inside = np.clip((optics.primary_m / 2 - radius) / step_m + 0.5, 0, 1)
    outside = np.clip((radius - optics.secondary_m / 2) / step_m + 0.5, 0, 1)
    pupil: Float32Array = (inside * (outside if optics.secondary_m > 0 else 1)).astype(np.float32)
    return pupil


def _static_phase(optics: Optics, step_m: float, n: int, rms_waves: float) -> Float32Array:
    """Return the aberrations of the telescope [rad], the same for all observations: waves across the pupil.

    Their power spectral density falls with the square of the frequency, like that of polished surfaces.
    """
    rng = np.random.default_rng(_TELESCOPE)
    cycles = rng.uniform(1, _STATIC_CYCLES, _STATIC_WAVES)
    angles, phases = rng.uniform(0, 2 * np.pi, (2, _STATIC_WAVES))
    coordinate = (np.arange(n) - (n - 1) / 2) * step_m / optics.primary_m
    amplitude = 1 / np.sqrt(cycles)  # as many waves at each frequency as on a line, not in a plane
    total = np.zeros((n, n))
    for cycle, angle, phase, height in zip(cycles, angles, phases, amplitude, strict=True):
        along = cycle * (np.sin(angle) * coordinate[:, None] + np.cos(angle) * coordinate)
        total += height * np.cos(2 * np.pi * along + phase)
    rms = np.sqrt(0.5 * np.sum(amplitude**2))
    phase_rad: Float32Array = (2 * np.pi * rms_waves * total / rms).astype(np.float32)
    return phase_rad


def _screens(
    step_m: float, margin: int, conditions: Conditions, wavelength_nm: float, rng: np.random.Generator
) -> tuple[Float32Array, Float32Array]:
    """Return two independent periodic screens of residual phase [rad], each repeated over `margin` more samples."""
    n = _SCREEN_SAMPLES
    frequency = fft.fftfreq(n, step_m)
    psd = conditions.residual_psd(np.hypot(frequency[:, None], frequency), wavelength_nm)
    # piston does not affect the image
    psd[0, 0] = 0
    # half of the variance in each layer; real and imaginary part of the transform are independent
    amplitude = np.sqrt(psd / 2) / (n * step_m)
    white = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    screens = fft.fft2(amplitude * white).astype(np.complex64)
    screens = np.pad(screens, (0, margin), mode="wrap")
    return np.ascontiguousarray(screens.real), np.ascontiguousarray(screens.imag)


def seeing_otf(frequency: Float64Array, optics: Optics, fwhm_arcsec: float) -> Float64Array:
    """Compute the transfer function of a long exposure without correction.

    Parameters
    ----------
    frequency : ndarray
        Spatial frequency [cycles/arcsec].
    optics : Optics
        Telescope and filter.
    fwhm_arcsec : float
        FWHM of the whole image, diffraction included [arcsec].

    Returns
    -------
    ndarray
        Transfer function, same shape.

    Raises
    ------
    ValueError
        The FWHM is below the diffraction limit.
    """
    sharpest = 1.02e-3 * optics.diffraction_fwhm_mas
    if fwhm_arcsec < sharpest:
        raise ValueError(f"expected fwhm_arcsec above the diffraction limit {sharpest:.3f}, found {fwhm_arcsec}")

    # the width of the turbulence alone, by which the transfer function is scaled
    width = brentq(lambda w: _half_peak(optics, w, fwhm_arcsec), fwhm_arcsec / 100, 2 * fwhm_arcsec)
    return telescope_otf(frequency, optics) * _turbulence_otf(frequency, width)


def _turbulence_otf(frequency: Float64Array, fwhm_arcsec: float) -> Float64Array:
    """Return the Kolmogorov long-exposure OTF; FWHM = 0.976 lambda / r0."""
    return np.exp(-3.44 * (frequency * fwhm_arcsec / 0.976) ** (5 / 3))


def _half_peak(optics: Optics, width_arcsec: float, fwhm_arcsec: float) -> float:
    """Return the intensity at half of `fwhm_arcsec` from the centre, minus half of the peak, relative to the peak."""
    cutoff = 1 / optics.lambda_over_d_arcsec
    frequency = np.linspace(0, cutoff, 4000)
    spectrum = frequency * telescope_otf(frequency, optics) * _turbulence_otf(frequency, width_arcsec)
    # Hankel transform of a radially symmetric OTF at one radius
    bessel = j0(np.pi * frequency * fwhm_arcsec)
    return float(np.sum(spectrum * bessel) / np.sum(spectrum) - 0.5)
