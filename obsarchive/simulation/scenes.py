"""Simulated observations of known truth, for tests and for the demonstration night.

Frames are simulated one at a time and each depends on the seed and its own number only, so any frame can be recomputed
without the others. Positions are (y, x) in pixels; north is up (+y) and east is left (-x).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import ndimage, signal

from obsarchive.science.arrays import Complex64Array, Float32Array, Float64Array, FloatArray, RawFrame
from obsarchive.science.psf.model import Optics
from obsarchive.simulation.emccd import Detector
from obsarchive.simulation.stamp import Stamp, resampled_otf
from obsarchive.simulation.turbulence import Conditions, ResidualSpeckles, correlated_noise, seeing_otf

__all__ = [
    "Conditions",
    "Detector",
    "Faults",
    "Instrument",
    "Scene",
    "SimulatedObservation",
    "Star",
    "Truth",
    "dark_frames",
    "flat_frames",
    "ideal_stack",
    "planetary_disc",
    "seeing_frames",
]


@dataclass(frozen=True)
class Star:
    """A star, placed relative to the guide star: `dy_arcsec` north, `dx_arcsec` west, `mag` fainter."""

    dy_arcsec: float = 0.0
    dx_arcsec: float = 0.0
    mag: float = 0.0

    @property
    def separation_arcsec(self) -> float:
        """Distance from the guide star [arcsec]."""
        return float(np.hypot(self.dy_arcsec, self.dx_arcsec))

    @property
    def position_angle_deg(self) -> float:
        """Position angle from north through east, 0 to 360 [deg]."""
        return float(np.degrees(np.arctan2(-self.dx_arcsec, self.dy_arcsec)) % 360)


@dataclass(frozen=True, eq=False)
class Scene:
    """Sources in the field of view.

    Parameters
    ----------
    stars : tuple of Star
        The first one is the guide star; empty for an extended object alone.
    zero_flux_e : float
        Photo-electrons per frame of a star of magnitude 0.
    sky_e : float
        Sky background [e-/pixel/frame].
    extended : ndarray, optional
        Image of an extended object at the detector's plate scale [e-/pixel/frame], centred like the guide star.
    offset_px : (float, float)
        Mean position (y, x) of the guide star from the frame's centre pixel ``(ny // 2, nx // 2)`` [pixel].
    """

    stars: tuple[Star, ...] = (Star(),)
    zero_flux_e: float = 2e4
    sky_e: float = 0.05
    extended: FloatArray | None = None
    offset_px: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Instrument:
    """Telescope, filter and camera; the defaults are Robo-AO at the Kitt Peak 2.1 m in Sloan i.

    Parameters
    ----------
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    detector : Detector
        Camera.
    frame_s : float
        Exposure time of a frame [s].
    """

    optics: Optics = field(default_factory=lambda: Optics(2.1, 0.5, wavelength_nm=765.0, width_nm=150.0))
    pixel_arcsec: float = 0.0347
    detector: Detector = field(default_factory=Detector)
    frame_s: float = 1 / 8.6


@dataclass(frozen=True)
class Faults:
    """Numbers of the faulty frames.

    Parameters
    ----------
    black : tuple of int
        Frames without light.
    saturated : tuple of int
        Frames with five hundred times the light.
    slipped : tuple of int
        Frames whose read-out slipped: rows are rolled by a third of the frame.
    """

    black: tuple[int, ...] = ()
    saturated: tuple[int, ...] = ()
    slipped: tuple[int, ...] = ()

    def light(self, i: int) -> float:
        """Return the factor on the light of frame `i`."""
        return 0.0 if i in self.black else 500.0 if i in self.saturated else 1.0


@dataclass(frozen=True, eq=False)
class Truth:
    """True parameters of a simulated observation.

    Parameters
    ----------
    shifts_px : ndarray, shape (n_frames, 2)
        Image motion (y, x) of every frame [pixel].
    separations_arcsec, position_angles_deg, delta_mags : ndarray, shape (n_stars - 1,)
        Every further star relative to the guide star.
    dark_adu, flat : ndarray, shape (ny, nx)
        Expected dark frame [ADU] and flat field.
    """

    shifts_px: Float64Array
    separations_arcsec: Float64Array
    position_angles_deg: Float64Array
    delta_mags: Float64Array
    dark_adu: Float32Array
    flat: Float32Array


@dataclass(frozen=True, eq=False)
class SimulatedObservation:
    """A rapid-frame adaptive-optics observation.

    Parameters
    ----------
    scene : Scene
        Sources.
    n_frames : int
        Number of frames.
    instrument : Instrument
        Telescope and camera.
    conditions : Conditions
        Atmosphere and correction.
    faults : Faults
        Faulty frames.
    seed : int
        Seed of everything but the detector's fixed pattern.
    """

    scene: Scene = field(default_factory=Scene)
    n_frames: int = 100
    instrument: Instrument = field(default_factory=Instrument)
    conditions: Conditions = field(default_factory=Conditions)
    faults: Faults = field(default_factory=Faults)
    seed: int = 0

    @cached_property
    def shifts(self) -> Float64Array:
        """Image motion (y, x) of every frame, shape (n_frames, 2) [pixel]."""
        rng = _rng(self.seed, "motion")
        sky, step_s, n = self.conditions, self.instrument.frame_s, self.n_frames
        jitter = [sky.motion_arcsec * correlated_noise(n, step_s, sky.motion_s, rng) for _ in range(2)]
        # drift about the middle of the sequence, so that the mean position is that of the scene
        time_s = step_s * (np.arange(n) - (n - 1) / 2)
        drift = np.outer(time_s, sky.drift_arcsec_s)
        return (np.transpose(jitter) + drift) / self.instrument.pixel_arcsec

    @cached_property
    def truth(self) -> Truth:
        """True parameters, for comparison with those of a reduction."""
        guide, companions = self.scene.stars[:1], self.scene.stars[1:]
        detector = self.instrument.detector
        return Truth(
            shifts_px=self.shifts,
            separations_arcsec=np.array([star.separation_arcsec for star in companions]),
            position_angles_deg=np.array([star.position_angle_deg for star in companions]),
            delta_mags=np.array([star.mag - guide[0].mag for star in companions]),
            dark_adu=detector.dark_adu(self.instrument.frame_s),
            flat=detector.flat,
        )

    @property
    def stamp(self) -> Stamp:
        """Grid of the PSFs."""
        return self._speckles.stamp

    def otf(self, i: int) -> Complex64Array:
        """Return the transfer function of frame `i` on the Fourier grid of `stamp`, pixel included, no image motion."""
        step_s = self.instrument.frame_s
        return self._speckles.otf(i * step_s, step_s, self._strengths[i])

    def psf(self, i: int) -> Float32Array:
        """Return the PSF of frame `i` as sampled by the detector: flux 1, centred on the stamp, no image motion."""
        return self.stamp.render(self.otf(i))

    def noiseless(self, i: int) -> Float32Array:
        """Return the expected photo-electrons of frame `i` without sky, before the flat field, shape (ny, nx) [e-]."""
        shape = self.instrument.detector.read_shape
        return _project(self.scene, self.stamp, self.otf(i), shape, self.shifts[i])

    def frame(self, i: int) -> RawFrame:
        """Return raw frame `i`, shape (ny, nx) [ADU]."""
        light = (self.noiseless(i) + np.float32(self.scene.sky_e)) * np.float32(self.faults.light(i))
        raw = self.instrument.detector.expose(light, self.instrument.frame_s, _rng(self.seed, "science", i))
        return np.roll(raw, len(raw) // 3, axis=0) if i in self.faults.slipped else raw

    def frames(self) -> Iterator[RawFrame]:
        """Return an iterator over the raw frames in the order of time."""
        return (self.frame(i) for i in range(self.n_frames))

    @cached_property
    def _speckles(self) -> ResidualSpeckles:
        return ResidualSpeckles(self.instrument.optics, self.instrument.pixel_arcsec, self.conditions, self.seed)

    @cached_property
    def _strengths(self) -> Float64Array:
        """Factor on the residual phase of every frame."""
        rng = _rng(self.seed, "strength")
        noise = correlated_noise(self.n_frames, self.instrument.frame_s, self.conditions.variability_s, rng)
        return np.exp(self.conditions.variability * noise)


def dark_frames(instrument: Instrument, n: int, seed: int = 0) -> Iterator[RawFrame]:
    """Yield raw dark frames.

    Parameters
    ----------
    instrument : Instrument
        Camera and exposure time.
    n : int
        Number of frames.
    seed : int
        Seed of the noise.

    Yields
    ------
    ndarray (ny, nx) of uint16
        Raw frame [ADU].
    """
    for i in range(n):
        yield instrument.detector.expose(0.0, instrument.frame_s, _rng(seed, "dark", i))


def flat_frames(instrument: Instrument, n: int, level_e: float, seed: int = 0) -> Iterator[RawFrame]:
    """Yield raw flat-field frames.

    Parameters
    ----------
    instrument : Instrument
        Camera and exposure time.
    n : int
        Number of frames.
    level_e : float
        Mean level [e-].
    seed : int
        Seed of the noise.

    Yields
    ------
    ndarray (ny, nx) of uint16
        Raw frame [ADU].
    """
    for i in range(n):
        yield instrument.detector.expose(level_e, instrument.frame_s, _rng(seed, "flat", i))


def seeing_frames(
    instrument: Instrument, scene: Scene, fwhm_arcsec: float, n: int, seed: int = 0
) -> Iterator[RawFrame]:
    """Yield raw frames without adaptive optics, long enough for the turbulence to average out.

    Parameters
    ----------
    instrument : Instrument
        Telescope and camera; `frame_s` is the exposure of one frame.
    scene : Scene
        Stars; fluxes per frame.
    fwhm_arcsec : float
        FWHM of the recorded images [arcsec].
    n : int
        Number of frames.
    seed : int
        Seed of pointing errors (a quarter of the seeing) and noise.

    Yields
    ------
    ndarray (ny, nx) of uint16
        Raw frame [ADU].

    Raises
    ------
    ValueError
        The FWHM is below the diffraction limit.
    """
    stamp = Stamp.covering(10 * fwhm_arcsec, instrument.pixel_arcsec)
    otf = stamp.pixel_otf() * seeing_otf(stamp.frequency, instrument.optics, fwhm_arcsec)
    for i in range(n):
        rng = _rng(seed, "seeing", i)
        shift = 0.25 * fwhm_arcsec / instrument.pixel_arcsec * rng.standard_normal(2)
        light = _project(scene, stamp, otf.astype(np.complex64), instrument.detector.read_shape, shift) + np.float32(
            scene.sky_e
        )
        yield instrument.detector.expose(light, instrument.frame_s, rng)


def ideal_stack(
    observation: SimulatedObservation, fraction: float = 1.0, scale: int = 2, pixfrac: float = 0.45
) -> Float64Array:
    """Compute the noise-free shift-and-add stack of the sharpest frames, registered on their brightest point.

    Parameters
    ----------
    observation : SimulatedObservation
        Observation; its PSFs are stacked, the scene does not matter.
    fraction : float
        Share of the frames stacked, those of the highest peak.
    scale, pixfrac : int, float
        Drizzle scale and drop width; the responses are those of `psf.drizzled_response`.

    Returns
    -------
    ndarray, shape (scale * stamp.size, scale * stamp.size)
        PSF of flux 1, its peak at the centre of pixel ``(size // 2, size // 2)``.
    """
    stamp = observation.stamp
    fine = Stamp(stamp.pixel_arcsec / scale, stamp.size * scale)
    drop = fine.pixel_otf(scale * pixfrac) * fine.pixel_otf()
    # the brightest point on the drizzled grid, where the registration of a stack looks for it
    peaks = [
        _brightest(fine.render(resampled_otf(observation.otf(i), fine.points) * drop))
        for i in range(observation.n_frames)
    ]
    order = np.argsort([-value for value, _, _ in peaks])[: max(1, round(fraction * len(peaks)))]
    total = np.zeros(drop.shape, np.complex64)
    centre = fine.size // 2
    for i in order:
        _, y, x = peaks[i]
        # summed as transfer functions: the drop is the same for all frames, and one inverse transform is enough
        total += fine.shifted(resampled_otf(observation.otf(i), fine.points), centre - y, centre - x)
    return fine.render(total * drop / len(order)).astype(float)


def planetary_disc(radius_px: float, size: int, seed: int = 0) -> Float64Array:
    """Simulate the image of a planet: limb darkening, belts, storms, craters and fine texture.

    Parameters
    ----------
    radius_px : float
        Radius of the disc [pixel].
    size : int
        Side of the image [pixel].
    seed : int
        Seed of the surface.

    Returns
    -------
    ndarray, shape (size, size)
        Surface brightness, about 1 at the centre and 0 outside of the disc centred on pixel ``(size // 2, size // 2)``.
    """
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:size, :size] - size // 2) / radius_px
    radius = np.hypot(y, x)
    mu = np.sqrt(np.clip(1 - radius**2, 0, 1))
    tilt = rng.uniform(-0.5, 0.5)
    latitude = y * np.cos(tilt) + x * np.sin(tilt)
    surface = 1 + 0.12 * np.cos(9 * latitude + 1) + 0.06 * np.cos(23 * latitude)
    for _ in range(40):
        cy, cx = rng.uniform(-0.8, 0.8, 2)
        width = rng.uniform(0.02, 0.08)
        spot = np.hypot(y - cy, x - cx) / width
        surface += rng.uniform(-0.35, 0.25) * np.exp(-(spot**2)) + 0.12 * np.exp(-(((spot - 1.5) / 0.5) ** 2))
    surface += 0.3 * ndimage.gaussian_filter(rng.standard_normal((size, size)), 1.5)
    # an edge one pixel soft, against aliasing
    edge = np.clip((1 - radius) * radius_px + 0.5, 0, 1)
    disc: Float64Array = np.maximum(surface, 0) * edge * (0.35 + 0.65 * mu)
    return disc


def _project(
    scene: Scene, stamp: Stamp, otf: Complex64Array, shape: tuple[int, int], shift: Float64Array
) -> Float32Array:
    """Return the photo-electrons of the scene without sky on a detector, image shifted by `shift` (y, x) [pixel]."""
    frame = np.zeros(shape, np.float32)
    origin = np.array(shape) // 2 + scene.offset_px + shift
    for star in scene.stars:
        y, x = origin + np.array([star.dy_arcsec, star.dx_arcsec]) / stamp.pixel_arcsec
        # the sub-pixel shift is exact in Fourier space; whole pixels are a slice
        image = stamp.render(otf, y - round(y), x - round(x))
        image *= np.float32(scene.zero_flux_e * 10 ** (-0.4 * star.mag))
        _add(frame, image, round(y) - stamp.size // 2, round(x) - stamp.size // 2)
    if scene.extended is not None:
        y, x = origin - np.array(scene.extended.shape) // 2
        psf = stamp.render(otf, y - round(y), x - round(x))
        image = signal.fftconvolve(scene.extended.astype(np.float32), psf)
        _add(frame, image, round(y) - stamp.size // 2, round(x) - stamp.size // 2)
    # the Fourier shift may ring below zero, where there is no Poisson noise
    return np.maximum(frame, 0, out=frame)


def _add(frame: Float32Array, image: Float32Array, top: int, left: int) -> None:
    """Add an image to a frame with its first pixel at (top, left), cropped to the frame."""
    y, x = max(top, 0), max(left, 0)
    part = image[y - top : max(frame.shape[0] - top, 0), x - left : max(frame.shape[1] - left, 0)]
    frame[y : y + part.shape[0], x : x + part.shape[1]] += part


def _brightest(image: Float32Array) -> tuple[float, float, float]:
    """Return value and position (y, x) of the maximum of a well sampled image, by parabolas through its neighbours."""
    y, x = np.unravel_index(np.argmax(image), image.shape)
    value = float(image[y, x])
    position = []
    for before, after in ((image[y - 1, x], image[y + 1, x]), (image[y, x - 1], image[y, x + 1])):
        position.append(0.5 * float(before - after) / float(before - 2 * value + after))
    return value, y + position[0], x + position[1]


_PURPOSES = ("motion", "strength", "science", "dark", "flat", "seeing")
"""Independent streams of random numbers; their order fixes the simulated frames."""


def _rng(seed: int, purpose: str, i: int = 0) -> np.random.Generator:
    """Return the random generator of one frame for one purpose."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose), i))
    return np.random.Generator(np.random.SFC64(sequence))
