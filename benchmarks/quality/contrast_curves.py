"""Planets injected into raw frames at the contrast curve: how often they are found, and how often nothing is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from obsarchive.errors import Unprocessable
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.contrast import Subtraction, subtract_star
from obsarchive.science.psf.model import Optics, drizzled_response
from obsarchive.science.psf.strehl import measure_strehl
from obsarchive.science.psf.subtraction import cut_stamp
from obsarchive.science.registration.frame_ranking import cut, guide_star, measure, rank_frames
from pipelines.shared.frame_sequence import SCALE, pixfrac_for

SIDE, PIXEL_ARCSEC = 128, 0.0347
PRIMARY_M, SECONDARY_M, WAVELENGTH_M = 2.1, 0.76, 765e-9
OPTICS = Optics(PRIMARY_M, SECONDARY_M, 1e9 * WAVELENGTH_M)
FINE_ARCSEC = PIXEL_ARCSEC / SCALE
LIMIT_PX = 1e-3 * OPTICS.diffraction_fwhm_mas / FINE_ARCSEC
CORE_PX = 0.5 * OPTICS.lambda_over_d_arcsec / PIXEL_ARCSEC
N_FRAMES, SNAPSHOTS, SUBSETS = 40, 4, 5
SCREEN, SPECKLED = 512, 0.4
STATIC_NM, CHANGED_NM = 90.0, 25.0
SKY_E, READ_NOISE_E = 0.15, 0.5
LIBRARY_STARS, LIBRARY_E = 56, (5e4, 4e5)
TARGET_E = {"bright": 2e5, "faint": 6e3}
FRACTION = {"100p": 1.0, "20p": 0.2}


class Night:
    """Pupil, aberrations and turbulence of a night: instantaneous images by Fourier optics."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([2718, seed])
        field_rad = np.radians(SIDE * PIXEL_ARCSEC / 3600)
        self.step_m = WAVELENGTH_M / field_rad
        self.n = int(PRIMARY_M / self.step_m) + 2
        offset = (np.arange(self.n) - (self.n - 1) / 2) * self.step_m
        radius = np.hypot(offset[:, None], offset)
        outer, inner = (np.clip((d / 2 - radius) / self.step_m + 0.5, 0, 1) for d in (PRIMARY_M, SECONDARY_M))
        self.pupil = outer - inner
        self.screens = np.pad(self._noise(_residual_psd), (0, self.n), mode="wrap")
        # of the phases: the transform of their power, at the lags of the optical transfer function
        lags = fft.fftfreq(SIDE, 1 / SIDE).astype(int)
        covariance = fft.fft2(self._power(_residual_psd, SCREEN)).real / (SCREEN * self.step_m) ** 2
        self.structure = 2 * (covariance[0, 0] - covariance[np.ix_(lags, lags[: SIDE // 2 + 1])])
        self.static = self._aberrations(STATIC_NM)
        frequency = fft.fftfreq(SIDE)[:, None], fft.rfftfreq(SIDE)
        self.pixel = np.sinc(frequency[0]) * np.sinc(frequency[1])
        self.waves = -2j * np.pi * frequency[0], -2j * np.pi * frequency[1]

    def _power(self, psd: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
        frequency = fft.fftfreq(n, self.step_m)
        power = psd(np.maximum(np.hypot(frequency[:, None], frequency), 0.5 / (n * self.step_m)))
        power[0, 0] = 0
        return power

    def _noise(self, psd: Callable[[np.ndarray], np.ndarray], n: int = SCREEN) -> np.ndarray:
        power = self._power(psd, n)
        white = self.rng.standard_normal((n, n)) + 1j * self.rng.standard_normal((n, n))
        return fft.fft2(np.sqrt(power) / (n * self.step_m) * white).real

    def _aberrations(self, rms_nm: float) -> np.ndarray:
        phase = self._noise(lambda f: f**-2.5 * (f > 0.8 / PRIMARY_M), 128)[: self.n, : self.n]
        inside = self.pupil > 0.5
        phase = phase - phase[inside].mean()
        return 2 * np.pi * rms_nm * 1e-9 / WAVELENGTH_M * phase / phase[inside].std()

    def star(self) -> np.ndarray:
        """Return Fourier transforms of the images of a star, one a frame, flux 1, with image motion."""
        static = self.static + self._aberrations(CHANGED_NM)
        perfect = fft.rfft2(self._intensity(static))
        strength = self.rng.uniform(0.85, 1.15)
        spectra = np.empty((N_FRAMES, SIDE, SIDE // 2 + 1), np.complex64)
        for spectrum in spectra:
            seeing = strength * self.rng.uniform(0.8, 1.2)
            snapshots = sum(self._snapshot(seeing, static) for _ in range(SNAPSHOTS)) / SNAPSHOTS
            # the mean of very many snapshots, and some: as strong speckles as a long sequence leaves
            mean = perfect * np.exp(-0.5 * seeing**2 * self.structure)
            # image motion, besides that of the screens
            dy, dx = SIDE / 2 + self.rng.normal(0, 0.8, 2)
            mixed = (1 - SPECKLED) * mean + SPECKLED * fft.rfft2(snapshots)
            spectrum[:] = mixed * self.pixel * np.exp(self.waves[0] * dy + self.waves[1] * dx)
        return spectra

    def _snapshot(self, seeing: float, static: np.ndarray) -> np.ndarray:
        y, x = self.rng.integers(0, SCREEN, 2)
        return self._intensity(seeing * self.screens[y : y + self.n, x : x + self.n] + static)

    def _intensity(self, phase: np.ndarray) -> np.ndarray:
        intensity = np.abs(fft.fft2(self.pupil * np.exp(1j * phase), s=(SIDE, SIDE))) ** 2
        return intensity / intensity.sum()

    def planets(self, places_px: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
        """Return the transform of points at places (n, 2) from the star [raw pixel]."""
        return sum(
            contrast * np.exp(self.waves[0] * dy + self.waves[1] * dx)
            for (dy, dx), contrast in zip(places_px, contrasts, strict=True)
        )


def _residual_psd(frequency: np.ndarray) -> np.ndarray:
    """Power of the phase behind adaptive optics [rad^2 m^2]: what is too fine, and what is too fast for it."""
    r0, cut = 0.16, 1 / (2 * 0.19)
    return 0.023 * r0 ** (-5 / 3) * frequency ** (-11 / 3) * np.where(frequency > cut, 1, 0.8 * (frequency / cut) ** 2)


def images(spectra: np.ndarray) -> np.ndarray:
    return np.maximum(fft.irfft2(spectra, s=(SIDE, SIDE)), 0)


def detected(light_e: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return photo-electrons after a register of high gain, in electrons before it."""
    return rng.standard_gamma(rng.poisson(light_e)).astype(np.float32)


def exposed(light_e: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return detected(light_e + SKY_E, rng) + rng.normal(0, READ_NOISE_E, light_e.shape).astype(np.float32)


def lucky(frames: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Return stamp and FWHM of the stacks that the bright-star pipeline makes of frames."""
    star = guide_star(np.stack([np.median(frames[k::SUBSETS], axis=0) for k in range(SUBSETS)]))
    windows = [cut(frame, star.y, star.x, max(58, star.half_window_px)) for frame in frames]
    measures = [measure(window, CORE_PX, star.scale_px) for window, _ in windows]
    ranking = rank_frames(measures, np.array([origin for _, origin in windows], float))
    stacks, fwhm_px = {}, LIMIT_PX
    for name, fraction in FRACTION.items():
        chosen = ranking.best(fraction)
        stack = Drizzle((SIDE, SIDE), SCALE, pixfrac_for(ranking.shifts[np.sort(ranking.best(0.2))]))
        for i in chosen:
            stack.add(frames[i], *ranking.shifts[i])
        image, centre = stack.image(), stack.output_position(*ranking.reference)
        if name == "100p":
            fwhm_px = _core_px(image, centre, stack.pixfrac)
        stacks[name] = cut_stamp(image, centre)
    return {name: (stamp, fwhm_px) for name, stamp in stacks.items()}


def _core_px(image: np.ndarray, centre: tuple[float, float], pixfrac: float) -> float:
    try:
        found = measure_strehl(image, OPTICS, FINE_ARCSEC, drizzled_response(SCALE, pixfrac), centre=centre)
    except Unprocessable:
        return LIMIT_PX
    measured = found.core_arcsec / FINE_ARCSEC if found.flag == "OK" else 0.0
    return float(np.clip(measured, LIMIT_PX, 2 * LIMIT_PX))
