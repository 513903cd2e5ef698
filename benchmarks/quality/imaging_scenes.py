"""Stars through turbulence, with and without adaptive optics, and cameras: by Fourier optics, for the truth of errors.

Nothing here comes from `obsarchive.simulation` or the models that the measurements fit.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy.special import gamma, kv

from benchmarks.quality.instrument import Atmosphere, Instrument, Sky, Telescope, Truth

ARCSEC = 180 * 3600 / np.pi
WAVELENGTH_M, PRIMARY_M, SECONDARY_M = 765e-9, 2.1, 0.5
N_SCREENS = 160
"""Short exposures from which frames are composed."""
N_INDEPENDENT = 60
"""The same of the instrument of truth."""


@dataclass(frozen=True)
class Camera:
    """An electron-multiplying CCD, or a plain one with `gain` 1; noise in photo-electrons, images in ADU."""

    gain: float = 30.0
    read_noise_e: float = 0.4
    sky_e: float = 0.1

    def expose(self, light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a frame of expected photo-electrons, the mean sky subtracted."""
        electrons = rng.poisson(np.maximum(light, 0) + self.sky_e)
        # a register of many stages makes n electrons a gamma deviate of shape n
        amplified = electrons.astype(np.float32)
        if self.gain > 1:
            hit = electrons > 0
            amplified[hit] = rng.standard_gamma(electrons[hit])
        read = self.read_noise_e * rng.standard_normal(light.shape, np.float32)
        return (self.gain * (amplified - self.sky_e + read)).astype(np.float32)


@dataclass
class Field:
    """Stars on a square of so many pixels by their transfer function, rendered with any sub-pixel position."""

    side: int
    transfer: np.ndarray
    places: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, y: float, x: float, light: float) -> None:
        self.places.append((y, x, light))

    def image(self) -> np.ndarray:
        fy, fx = frequencies(self.side)
        total = sum(light * np.exp(-2j * np.pi * (fy * y + fx * x)) for y, x, light in self.places)
        return np.fft.irfft2(total * self.transfer, (self.side, self.side))


def frequencies(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies along y and x of a real transform [1/pixel]."""
    return np.fft.fftfreq(side)[:, np.newaxis], np.fft.rfftfreq(side)[np.newaxis]


def seeing_transfer(
    side: int, pixel_arcsec: float, seeing_arcsec: float, outer_scale_m: float, motion_arcsec: float
) -> np.ndarray:
    """Return the transfer function of a long exposure: von Karman turbulence, telescope, image motion, pixel."""
    fy, fx = frequencies(side)
    angular = np.hypot(fy, fx) / pixel_arcsec
    baseline = angular * WAVELENGTH_M * ARCSEC
    r0 = 0.98 * WAVELENGTH_M * ARCSEC / seeing_arcsec
    # Bessel functions of a few hundred baselines instead of all
    table = np.linspace(0, float(baseline.max()), 800)
    z = np.maximum(2 * np.pi * table / outer_scale_m, 1e-9)
    correlation = 2 ** (1 / 6) / gamma(5 / 6) * z ** (5 / 6) * kv(5 / 6, z)
    structure = 0.17253 * (outer_scale_m / r0) ** (5 / 3) * np.interp(baseline, table, 1 - correlation)
    share = np.clip(baseline / PRIMARY_M, 0, 1)
    telescope = 2 / np.pi * (np.arccos(share) - share * np.sqrt(1 - share**2))
    motion = np.exp(-2 * (np.pi * angular * motion_arcsec) ** 2)
    return np.exp(-0.5 * structure) * telescope * motion * np.sinc(fy) * np.sinc(fx)


def width_px(transfer: np.ndarray) -> float:
    """Return the FWHM of a round image of a transfer function [pixel]."""
    side = len(transfer)
    along = transfer.sum(axis=0).real * np.where((np.arange(side // 2 + 1) % (side / 2)) > 0, 2, 1)
    x = np.linspace(0, side / 4, 6001)
    profile = np.cos(2 * np.pi * np.outer(x, np.fft.rfftfreq(side))) @ along
    i = int(np.argmax(profile < profile[0] / 2))
    return 2 * float(np.interp(0.5 * profile[0], profile[i - 1 : i + 1][::-1], x[i - 1 : i + 1][::-1]))


def pupil(side: int, pixel_arcsec: float) -> tuple[np.ndarray, float]:
    """Return the pupil on the grid whose transform has so many pixels, and its step [m]."""
    step = WAVELENGTH_M * ARCSEC / (side * pixel_arcsec)
    radius = np.hypot(*np.meshgrid(*2 * [(np.arange(side) - side / 2 + 0.5) * step], indexing="ij"))
    return ((radius < PRIMARY_M / 2) & (radius > SECONDARY_M / 2)).astype(float), step


def transfer_of_pupil(field_of_pupil: np.ndarray) -> np.ndarray:
    """Return the transfer function of a complex pupil, without the pixel, of flux 1 and star on pixel (0, 0)."""
    psf = np.abs(np.fft.fft2(field_of_pupil)) ** 2
    return np.fft.rfft2(psf / psf.sum()).astype(np.complex64)


@cache
def corrected_transfers(side: int, pixel_arcsec: float, seed: int, r0_m: float = 0.13) -> np.ndarray:
    """Return the transfer functions of short exposures behind adaptive optics, (n, side, side // 2 + 1).

    Turbulence finer than the actuators stays, and a fifth of the rest: residual phase by filtered noise.
    """
    rng = np.random.default_rng(seed)
    aperture, step = pupil(side, pixel_arcsec)
    frequency = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(side, step)], indexing="ij"))
    frequency[0, 0] = np.inf
    amplitude = np.sqrt(0.023) * r0_m ** (-5 / 6) * frequency ** (-11 / 6) / (side * step)
    # actuators of 0.2 m correct what is coarser than 0.4 m, up to the lag
    amplitude *= np.clip(frequency * 0.4, 0.12, 1.0)
    found = []
    for _ in range(N_SCREENS // 2):
        noise = rng.standard_normal((side, side)) + 1j * rng.standard_normal((side, side))
        both = np.fft.ifft2(noise * amplitude) * side**2
        found += [transfer_of_pupil(aperture * np.exp(1j * phase)) for phase in (both.real, both.imag)]
    return np.array(found)


@cache
def independent_transfers(seed: int, r0_m: float) -> np.ndarray:
    """Return transfer functions as `corrected_transfers`, of exposures of the instrument of truth on its own pixels.

    The wings of a star are those of its atmosphere and of the aberrations of its telescope: both are of the seed.
    """
    instrument = Instrument(atmosphere=Atmosphere(r0_m=r0_m), telescope=Telescope(seed=seed))
    bank = instrument.bank(N_INDEPENDENT, seed)
    truth = Truth(instrument, Sky(()), bank, 0, N_INDEPENDENT, np.ones(N_INDEPENDENT))
    fy, fx = frequencies(instrument.exposures.size)
    images = np.fft.ifftshift([truth.psf(i) for i in range(N_INDEPENDENT)], axes=(1, 2))
    images /= images.sum(axis=(1, 2), keepdims=True)
    transfers: np.ndarray = (np.fft.rfft2(images) / (np.sinc(fy) * np.sinc(fx))).astype(np.complex64)
    return transfers
