"""Telescope, filter and air: the aperture with its spider, images by matrix Fourier transform, refraction.

Images are computed at the pixels' own angles from a pupil of fixed sampling, for each wavelength (Soummer et al. 2007).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

ARCSEC = np.pi / 180 / 3600


@dataclass(frozen=True)
class Telescope:
    """An aperture with a central obstruction held by four vanes, and its polished surfaces.

    Parameters
    ----------
    primary_m, secondary_m, vane_m : float
        Diameters of the primary and of the obstruction, and width of a vane [m].
    samples : int
        Of the pupil, across the primary.
    static_nm : float
        Rms of the aberrations that the adaptive optics do not see [nm].
    static_power : float
        Falling power of their spectrum.
    seed : int
        Of those aberrations.
    """

    primary_m: float = 2.1
    secondary_m: float = 0.5
    vane_m: float = 0.02
    samples: int = 128
    static_nm: float = 60.0
    static_power: float = 2.5
    seed: int = 11

    @property
    def step_m(self) -> float:
        """Sampling of the pupil [m]."""
        return self.primary_m / self.samples

    @cached_property
    def axis_m(self) -> NDArray:
        """Positions of the samples [m]."""
        return (np.arange(self.samples) - (self.samples - 1) / 2) * self.step_m

    @cached_property
    def aperture(self) -> NDArray:
        """Share of each sample of the pupil that light passes, by 5 x 5 points in each, shape (samples, samples)."""
        fine = (np.arange(5 * self.samples) - (5 * self.samples - 1) / 2) * self.step_m / 5
        y, x = fine[:, None], fine
        radius = np.hypot(y, x)
        passes = (radius < self.primary_m / 2) & (radius > self.secondary_m / 2)
        # vanes stand at 45 degrees
        vanes = (np.abs(y - x) < self.vane_m / np.sqrt(2)) | (np.abs(y + x) < self.vane_m / np.sqrt(2))
        passes &= ~vanes
        return passes.reshape(self.samples, 5, self.samples, 5).mean(axis=(1, 3)).astype(np.float32)

    def aberration_nm(self, drift: float) -> NDArray:
        """Return the optical path of the telescope's own aberrations [nm], turned by the angle `drift` [rad]."""
        first, second = _polish(self.samples, self.static_power, self.seed)
        inside = self.aperture > 0
        path = np.cos(drift) * first + np.sin(drift) * second
        path = path - path[inside].mean()
        return np.float32(self.static_nm) * (path / path[inside].std()).astype(np.float32)


@lru_cache(maxsize=8)
def _polish(samples: int, power: float, seed: int) -> tuple[NDArray, NDArray]:
    """Draw two patterns whose power falls with frequency; tilts, which only move images, are taken away."""
    rng = np.random.default_rng(seed)
    cycles = np.fft.fftfreq(2 * samples, 1 / samples)  # per aperture
    frequency = np.hypot(cycles[:, None], cycles)
    amplitude = np.where(frequency >= 0.5, np.maximum(frequency, 0.5) ** (-power / 2), 0)
    white = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    waves = np.fft.ifft2(amplitude * white)[:samples, :samples]
    axis = np.linspace(-1, 1, samples)
    y, x = (each.ravel() for each in np.meshgrid(axis, axis, indexing="ij"))
    plane = np.stack([np.ones_like(y), y, x], axis=1)
    inside = np.hypot(y, x) < 1
    patterns = []
    for part in (waves.real.ravel(), waves.imag.ravel()):
        flat = part - plane @ np.linalg.lstsq(plane[inside], part[inside], rcond=None)[0]
        patterns.append((flat / flat[inside].std()).reshape(samples, samples))
    return patterns[0], patterns[1]


@dataclass(frozen=True)
class Band:
    """A filter, a box in wavelength.

    Parameters
    ----------
    centre_nm, width_nm : float
        Wavelength and full width [nm].
    colours : int
        Wavelengths at which images are computed.
    """

    centre_nm: float = 763.0
    width_nm: float = 153.0
    colours: int = 3

    @property
    def wavelengths_nm(self) -> NDArray:
        """Abscissae of Gauss and Legendre [nm]."""
        return self.centre_nm + self.width_nm / 2 * np.polynomial.legendre.leggauss(self.colours)[0]

    @property
    def weights(self) -> NDArray:
        """Their weights, of sum 1."""
        return np.polynomial.legendre.leggauss(self.colours)[1] / 2


@dataclass(frozen=True)
class Air:
    """Refraction that a corrector leaves.

    Parameters
    ----------
    zenith_deg : float
        Distance from the zenith.
    parallactic_deg : float
        Direction of the zenith, from +y to +x.
    left : float
        Share of the dispersion that the corrector leaves.
    pressure_hpa, temperature_c : float
        At the telescope.
    """

    zenith_deg: float = 30.0
    parallactic_deg: float = 40.0
    left: float = 0.05
    pressure_hpa: float = 790.0
    temperature_c: float = 8.0

    def refraction_arcsec(self, wavelength_nm: NDArray | float) -> NDArray:
        """Return the refraction at wavelengths, as Filippenko (1982) computes it for dry air."""
        s2 = (1e3 / np.asarray(wavelength_nm, float)) ** 2
        at_sea = 64.328 + 29498.1 / (146 - s2) + 255.4 / (41 - s2)
        hg, t = self.pressure_hpa * 0.750062, self.temperature_c
        air = at_sea * hg * (1 + (1.049 - 0.0157 * t) * 1e-6 * hg) / (720.883 * (1 + 0.003661 * t))
        return 206265e-6 * air * np.tan(np.radians(self.zenith_deg))

    def offset_arcsec(self, wavelength_nm: float, centre_nm: float) -> NDArray:
        """Return where light of a wavelength falls (y, x) [arcsec], relative to that of the centre of the band."""
        length = self.left * (self.refraction_arcsec(wavelength_nm) - self.refraction_arcsec(centre_nm))
        angle = np.radians(self.parallactic_deg)
        return float(length) * np.array([np.cos(angle), np.sin(angle)])


class Imager:
    """Images of a point source on the camera's pixels, summed over the colours of a band.

    Parameters
    ----------
    telescope, band, air
        See there.
    pixel_arcsec : float
        Distance of the samples [arcsec].
    size : int
        Samples along a side, even; the source is at sample ``(size // 2, size // 2)``.
    """

    def __init__(self, telescope: Telescope, band: Band, air: Air, pixel_arcsec: float, size: int) -> None:
        self._telescope = telescope
        pupil = telescope.aperture
        angles = (np.arange(size) - size // 2) * pixel_arcsec * ARCSEC
        self._colours = []
        for wavelength, weight in zip(band.wavelengths_nm, band.weights, strict=True):
            metres = wavelength * 1e-9
            dy, dx = air.offset_arcsec(wavelength, band.centre_nm) * ARCSEC
            rows, columns = (
                np.exp(-2j * np.pi / metres * np.outer(angles - moved, telescope.axis_m)).astype(np.complex64)
                for moved in (dy, dx)
            )
            # the flux of one period of the image is 1
            scale = weight * (pixel_arcsec * ARCSEC * telescope.step_m / metres) ** 2 / np.sum(pupil.astype(float) ** 2)
            self._colours.append((rows, np.ascontiguousarray(columns.T), np.float32(2 * np.pi / wavelength), scale))

    def image(self, paths_nm: NDArray) -> NDArray:
        """Return the mean image of pupils of given optical paths [nm], shape (pupils, samples, samples)."""
        total: NDArray | float = 0.0
        pupil = self._telescope.aperture
        field = np.empty(paths_nm.shape, np.complex64)
        for rows, columns, wave, scale in self._colours:
            phase = wave * paths_nm
            np.multiply(pupil, np.cos(phase), out=field.real)
            np.multiply(pupil, np.sin(phase), out=field.imag)
            amplitude = rows @ (field @ columns)
            total = total + np.float32(scale / len(paths_nm)) * (amplitude.real**2 + amplitude.imag**2).sum(axis=0)
        return np.asarray(total)
