"""Observations: a sky seen through air, telescope, adaptive optics and camera, with their truth."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, signal

from benchmarks.quality.instrument.camera import Camera
from benchmarks.quality.instrument.correction import Atmosphere, Bank, Exposures, Loop, bank
from benchmarks.quality.instrument.optics import ARCSEC, Band, Telescope


@dataclass(frozen=True)
class Star:
    """A star.

    Parameters
    ----------
    dy, dx : float
        Place from the origin of the sky: up and right on the detector [arcsec].
    electrons : float
        Photo-electrons per frame.
    colour_nm : float
        Effective wavelength beyond that of the band: differential refraction moves the star.
    """

    dy: float = 0.0
    dx: float = 0.0
    electrons: float = 2e4
    colour_nm: float = 0.0


@dataclass(frozen=True, eq=False)
class Sky:
    """What is observed.

    Parameters
    ----------
    stars : tuple of Star
        Point sources.
    background_e : float
        Sky [e/pixel/frame].
    extended : ndarray, optional
        Image [e/pixel/frame], its pixel ``(ny // 2, nx // 2)`` at the origin.
    origin_px : (float, float)
        Origin from the pixel ``(ny // 2, nx // 2)`` of a frame, (y, x).
    rotation_deg_s : float
        Turn of the field about the origin, from +y to -x; angles are those of the middle of the observation.
    """

    stars: tuple[Star, ...] = (Star(),)
    background_e: float = 0.1
    extended: NDArray | None = None
    origin_px: tuple[float, float] = (0.0, 0.0)
    rotation_deg_s: float = 0.0


@dataclass(frozen=True)
class Instrument:
    """Everything between sky and disk; see its parts."""

    telescope: Telescope = field(default_factory=Telescope)
    band: Band = field(default_factory=Band)
    atmosphere: Atmosphere = field(default_factory=Atmosphere)
    loop: Loop = field(default_factory=Loop)
    exposures: Exposures = field(default_factory=Exposures)
    camera: Camera = field(default_factory=Camera)

    def bank(self, n: int, seed: int) -> Bank:
        """Return `n` consecutive exposures of a point source; the last few banks are kept in memory."""
        return bank((self.telescope, self.band, self.atmosphere, self.loop, self.exposures), n, seed)


@dataclass(frozen=True, eq=False)
class Truth:
    """What was put into the frames.

    Parameters
    ----------
    instrument, sky : Instrument, Sky
        Of the observation.
    bank : Bank
        Images of a point source, of which exposures `first`, ... are used.
    first, n_frames : int
        See `bank`.
    light : ndarray, shape (n_frames,)
        Factor on the light of each frame.
    """

    instrument: Instrument
    sky: Sky
    bank: Bank
    first: int
    n_frames: int
    light: NDArray

    @cached_property
    def shifts_px(self) -> NDArray:
        """Mean image motion (y, x) of each frame, shape (n_frames, 2) [pixel]."""
        motion = self.bank.motion_arcsec[self.first : self.first + self.n_frames]
        return (motion.mean(axis=1) - motion.mean(axis=(0, 1))) / self.bank.pixel_arcsec

    @cached_property
    def matched_px(self) -> NDArray:
        """Where a matched filter finds the image of each frame, from where its wavefront points, shape (n_frames, 2).

        The core of an image is where the image stays longest during the exposure, by a quarter of a pixel and more away
        from its mean tilt. The filter is the mean image, put together where the filter found its parts.
        """
        images = fft.fft2([self.psf(i) for i in range(self.n_frames)])
        frequency = fft.fftfreq(images.shape[-1])
        found = np.zeros((self.n_frames, 2))
        for _ in range(3):
            ramps = np.exp(2j * np.pi * frequency * found[:, :, np.newaxis])
            template = np.mean(images * ramps[:, 0, :, np.newaxis] * ramps[:, 1, np.newaxis], axis=0)
            likeness = fft.fftshift(fft.ifft2(images * template.conj()).real, axes=(1, 2))
            found = np.array([highest(each)[1:] for each in likeness])
        return found

    @cached_property
    def peaks_px(self) -> NDArray:
        """Where the image of each frame, smoothed by half of lambda over D, is highest; as `matched_px`."""
        smooth = 0.5 * self.instrument.band.centre_nm * 1e-9 / self.instrument.telescope.primary_m / ARCSEC
        width = smooth / self.bank.pixel_arcsec
        return np.array(
            [highest(ndimage.gaussian_filter(self.psf(i), width, mode="wrap"))[1:] for i in range(self.n_frames)]
        )

    @cached_property
    def positions_px(self) -> NDArray:
        """Where the wavefront of each star points in each frame (y, x), shape (stars, n_frames, 2) [pixel]."""
        frame_s, ny, nx = self.instrument.exposures.frame_s, *self.instrument.camera.shape
        angle = np.radians(self.sky.rotation_deg_s) * frame_s * (np.arange(self.n_frames) - (self.n_frames - 1) / 2)
        origin = np.array([ny // 2, nx // 2]) + self.sky.origin_px + self.shifts_px
        places = np.zeros((len(self.sky.stars), self.n_frames, 2))
        for place, star in zip(places, self.sky.stars, strict=True):
            air, centre = self.instrument.atmosphere.air, self.instrument.band.centre_nm
            refracted = air.offset_arcsec(centre + star.colour_nm, centre)
            dy = star.dy * np.cos(angle) + star.dx * np.sin(angle)
            dx = star.dx * np.cos(angle) - star.dy * np.sin(angle)
            place[:] = origin + (np.stack([dy, dx], axis=1) + refracted) / self.bank.pixel_arcsec
        return places

    @cached_property
    def electrons(self) -> NDArray:
        """Photo-electrons of each star in each frame, without pixels' response, shape (stars, n_frames)."""
        return np.outer([star.electrons for star in self.sky.stars], self.light)

    def psf(self, i: int, y: float = 0.0, x: float = 0.0) -> NDArray:
        """Return the image of a star of unit flux in frame `i` on the camera's pixels, shape (size, size).

        Its place, without the image motion of the frame, is (y, x) from the pixel ``(size // 2, size // 2)``.
        """
        motion = self.bank.motion_arcsec[self.first + i] / self.bank.pixel_arcsec
        return _on_pixels(self.bank, self.bank.images[self.first + i], motion - motion.mean(axis=0) + (y, x))

    def ideal_psf(self, y: float = 0.0, x: float = 0.0) -> NDArray:
        """Return the image of a flat wavefront on the camera's pixels, as `psf`."""
        return _on_pixels(self.bank, self.bank.ideal, np.array([[y, x]]))

    @cached_property
    def long_exposure(self) -> NDArray:
        """Mean PSF of all frames, each where its motion is undone exactly."""
        return np.mean([self.psf(i) for i in range(self.n_frames)], axis=0)

    @cached_property
    def strehl(self) -> NDArray:
        """Strehl ratio of each frame: its highest point over that of a flat wavefront, shape (n_frames,)."""
        best = highest(self.ideal_psf())[0]
        return np.array([highest(self.psf(i))[0] / best for i in range(self.n_frames)])

    def stack_psf(self, fraction: float = 1.0, on_peaks: bool = False) -> NDArray:
        """Return the mean PSF of the sharpest frames, put together where they are or on their peaks."""
        order = np.argsort(-self.strehl)[: max(1, round(fraction * self.n_frames))]
        places = [highest(self.psf(i))[1:] if on_peaks else (0.0, 0.0) for i in order]
        return np.mean([self.psf(i, -y, -x) for i, (y, x) in zip(order, places, strict=True)], axis=0)

    def stack_strehl(self, fraction: float = 1.0, on_peaks: bool = False, aperture_arcsec: float = np.inf) -> float:
        """Return the Strehl ratio of `stack_psf`, where all light counts or that of an aperture."""
        peaks = []
        for image in (self.stack_psf(fraction, on_peaks), self.ideal_psf()):
            distance = np.hypot(*(np.indices(image.shape) - len(image) // 2)) * self.bank.pixel_arcsec
            flux = 1.0 if np.isinf(aperture_arcsec) else float(image[distance < aperture_arcsec].sum())
            peaks.append(highest(image)[0] / flux)
        return peaks[0] / peaks[1]

    @property
    def dark_adu(self) -> NDArray:
        """Expected frame without light [ADU]."""
        return self.instrument.camera.dark_adu(self.instrument.exposures.frame_s)

    @property
    def flat(self) -> NDArray:
        """Response of the pixels, mean 1."""
        return self.instrument.camera.flat

    def noiseless(self, i: int) -> NDArray:
        """Return the expected photo-electrons of frame `i` on an even detector, sky included."""
        frame = np.full(self.instrument.camera.shape, self.sky.background_e)
        for place, flux in zip(self.positions_px[:, i], self.electrons[:, i], strict=True):
            whole = np.round(place).astype(int)
            _add(frame, flux * self.psf(i, *(place - whole)), whole)
        if self.sky.extended is not None:
            place = np.array(frame.shape) // 2 + self.sky.origin_px + self.shifts_px[i]
            whole = np.round(place).astype(int)
            seen = signal.fftconvolve(self.sky.extended, self.psf(i, *(place - whole)))
            # centre of a full convolution: centres of both
            centre = np.array(self.sky.extended.shape) // 2 + self.bank.images.shape[1] // self.bank.oversampling // 2
            _add(frame, self.light[i] * seen, whole, centre)
        return np.maximum(frame, 0)


def observe(
    instrument: Instrument, sky: Sky, n_frames: int, seed: int, images: Bank | None = None
) -> tuple[NDArray, Truth]:
    """Observe a sky.

    Parameters
    ----------
    instrument : Instrument
        All of it.
    sky : Sky
        What is observed.
    n_frames : int
        Frames.
    seed : int
        Of everything but the fixed patterns of telescope and camera.
    images : Bank, optional
        Of at least `n_frames` exposures: consecutive ones from a random one on are used. Otherwise new ones are
        computed, which takes most of the time.

    Returns
    -------
    frames : ndarray of uint16, shape (n_frames, ny, nx)
        Raw frames [ADU].
    truth : Truth
        What was put into them.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    images = images or instrument.bank(n_frames, seed)
    first = int(rng.integers(len(images.images) - n_frames + 1))
    slow = np.convolve(rng.standard_normal(n_frames + 4), np.full(5, 5**-0.5), "valid")
    light = np.exp(instrument.atmosphere.scintillation * slow)
    truth = Truth(instrument, sky, images, first, n_frames, light)
    traps = np.zeros(instrument.camera.shape)
    frame_s = instrument.exposures.frame_s
    frames = [instrument.camera.expose(truth.noiseless(i), frame_s, traps, rng) for i in range(n_frames)]
    return np.stack(frames), truth


def highest(image: NDArray, points: int = 21) -> tuple[float, float, float]:
    """Return the height of the highest point of an image between its samples, and its place (y, x) from the centre."""
    y, x = np.unravel_index(np.argmax(image), image.shape)
    half, size = 12, 24
    top, left = (int(np.clip(c - half, 0, n - size)) for c, n in zip((y, x), image.shape, strict=True))
    window = np.hanning(size + 1)[:size] ** 0.25
    box = image[top : top + size, left : left + size]
    spectrum = fft.fft2(box * window[:, None] * window)
    frequency = fft.fftfreq(size)
    steps = np.linspace(-1, 1, points)
    rows = np.exp(2j * np.pi * np.outer(y - top + steps, frequency)) / size
    columns = np.exp(2j * np.pi * np.outer(x - left + steps, frequency)) / size
    fine = (rows @ spectrum @ columns.T).real
    i, k = np.unravel_index(np.argmax(fine), fine.shape)
    dy, dx = (steps[m] + _vertex(line, m) * (steps[1] - steps[0]) for m, line in ((i, fine[:, k]), (k, fine[i])))
    return float(fine[i, k]), float(y + dy - image.shape[0] // 2), float(x + dx - image.shape[1] // 2)


def _vertex(line: NDArray, middle: int) -> float:
    """Return where the parabola through three values is highest, from the middle one."""
    if not 0 < middle < len(line) - 1:
        return 0.0
    before, top, after = line[middle - 1 : middle + 2]
    return float(0.5 * (before - after) / (before - 2 * top + after))


def _on_pixels(images: Bank, image: NDArray, places_px: NDArray) -> NDArray:
    """Return an image moved to places, averaged over them, integrated over square pixels."""
    size, finer = len(image), images.oversampling
    fy, fx = fft.fftfreq(size)[:, None], fft.rfftfreq(size)
    moved = np.einsum(
        "ka,kb->ab",
        np.exp(-2j * np.pi * finer * np.outer(places_px[:, 0], fy[:, 0])),
        np.exp(-2j * np.pi * finer * np.outer(places_px[:, 1], fx)) / len(places_px),
        optimize=True,
    )
    response = np.sinc(fy * finer) * np.sinc(fx * finer)
    fine = fft.irfft2(fft.rfft2(image) * (moved * response).astype(np.complex64), s=image.shape)
    return fine[::finer, ::finer] * finer**2


def _add(frame: NDArray, image: NDArray, place: NDArray, centre: NDArray | None = None) -> None:
    """Add an image to a frame, its centre at a pixel; what falls outside is lost."""
    centre = np.array(image.shape) // 2 if centre is None else centre
    begin = place - centre
    low = np.maximum(begin, 0)
    high = np.minimum(begin + image.shape, frame.shape)
    if np.all(high > low):
        (y0, x0), (y1, x1) = low - begin, high - begin
        frame[low[0] : high[0], low[1] : high[1]] += image[y0:y1, x0:x1]
