"""Simulated crowded star fields of known truth, with variable stars, a microlensing event and variable conditions.

Each frame depends on the seed and its own number only. Positions are (y, x) in pixels; fluxes are in electrons.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array
from obsarchive.science.astrometry.plate_solution import PlateSolution, deproject

MOFFAT_BETA = 3.0
REACH_FWHM = 6.0
"""Radius of the images of stars [FWHM]."""


@dataclass(frozen=True)
class Microlensing:
    """A point lens passing a point source (Paczynski 1986, ApJ 304, 1).

    Parameters
    ----------
    peak_mjd : float
        Time of the closest approach [d].
    einstein_d : float
        Time in which the lens moves by its Einstein radius [d].
    impact : float
        Closest approach [Einstein radii].
    mag : float
        Magnitude of the source outside the event.
    """

    peak_mjd: float = 60500.0
    einstein_d: float = 10.0
    impact: float = 0.3
    mag: float = 17.0

    def magnification(self, mjd: float) -> float:
        """Return the magnification of the source at a time [d]."""
        u2 = self.impact**2 + ((mjd - self.peak_mjd) / self.einstein_d) ** 2
        return float((u2 + 2) / np.sqrt(u2 * (u2 + 4)))


@dataclass(frozen=True)
class ObservingConditions:
    """Observing conditions of a frame.

    Parameters
    ----------
    fwhm_px : float
        Seeing [pixel].
    airmass : float
        ObservingConditions mass.
    cloud_mag : float
        Extinction by clouds [mag].
    sky_e_s : float
        Sky background [e-/s/pixel].
    ellipticity : float
        1 minus the ratio of the axes of a star's image.
    """

    fwhm_px: float = 4.0
    airmass: float = 1.2
    cloud_mag: float = 0.0
    sky_e_s: float = 5.0
    ellipticity: float = 0.05


@dataclass(frozen=True)
class Camera:
    """A camera.

    Parameters
    ----------
    shape : (ny, nx)
        Pixels.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    zero_point : float
        Magnitude of a star that gives one electron a second, above the atmosphere [mag].
    read_noise_e : float
        Rms noise of the read-out [e-].
    full_well_e : float
        Saturation level [e-].
    bad_columns : int
        Number of dead columns.
    cosmic_rays : int
        Hits in each frame.
    """

    shape: tuple[int, int] = (512, 512)
    pixel_arcsec: float = 0.389
    zero_point: float = 24.0
    read_noise_e: float = 8.0
    full_well_e: float = 120_000.0
    bad_columns: int = 2
    cosmic_rays: int = 20


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A calibrated frame and its truth.

    Attributes
    ----------
    image : ndarray (ny, nx)
        Pixels [e-].
    variance : ndarray (ny, nx)
        Variance as the camera's pipeline would estimate it [e-^2].
    bad : ndarray (ny, nx)
        Bad-pixel mask.
    exposure_s, mjd_middle : float
        Exposure time [s] and its middle [d, UTC].
    plate, claimed : PlateSolution
        True plate solution, and that of the frame's header.
    y, x, electrons : ndarray (n,)
        Positions of the stars [pixel], and their expected fluxes [e-].
    """

    image: Float32Array
    variance: Float32Array
    bad: BoolArray
    exposure_s: float
    mjd_middle: float
    plate: PlateSolution
    claimed: PlateSolution
    y: Float64Array
    x: Float64Array
    electrons: Float64Array


@dataclass(frozen=True)
class StarField:
    """A field of stars around a microlensed one, which is star 0.

    Parameters
    ----------
    centre : (float, float)
        Right ascension and declination of the middle [deg].
    n_stars : int
        Stars on the frame.
    mag_range : (float, float)
        Brightest and faintest magnitude [mag].
    slope : float
        Slope of the number counts, d log10(n) / dm.
    camera : Camera
        The camera.
    event : Microlensing
        Event of star 0.
    variable_fraction : float
        Share of variable stars.
    second_order : float
        Second-order extinction [mag per air mass and magnitude of colour].
    pointing_px : float
        Rms pointing differences between frames, and errors of the plate solutions of their headers [pixel].
    seed : int
        Seed of everything.
    """

    centre: tuple[float, float] = (268.5, -29.5)
    n_stars: int = 600
    mag_range: tuple[float, float] = (13.0, 20.0)
    slope: float = 0.25
    camera: Camera = field(default_factory=Camera)
    event: Microlensing = field(default_factory=Microlensing)
    variable_fraction: float = 0.03
    second_order: float = -0.02
    pointing_px: float = 8.0
    seed: int = 1

    @cached_property
    def _drawn(self) -> dict[str, Float64Array]:
        """Random properties of the stars, the same for all frames."""
        rng = np.random.default_rng([self.seed, 0])
        ny, nx = self.camera.shape
        low, high = (10 ** (self.slope * m) for m in self.mag_range)
        # inverse of the cumulated counts, which rise as 10^(slope m)
        mag = np.log10(rng.uniform(low, high, self.n_stars)) / self.slope
        mag[0] = self.event.mag
        y, x = rng.uniform(-20, ny + 20, self.n_stars), rng.uniform(-20, nx + 20, self.n_stars)
        # off the pixel centre, so that sub-pixel errors show
        y[0], x[0] = ny / 2 + 0.3, nx / 2 - 0.2
        varies = rng.random(self.n_stars) < self.variable_fraction
        varies[0] = False
        return {
            "mag": mag,
            "y": y,
            "x": x,
            "colour": rng.normal(1.2, 0.4, self.n_stars).clip(0.2, 3.0),
            "amplitude": np.where(varies, rng.uniform(0.05, 0.5, self.n_stars), 0.0),
            "period_d": rng.uniform(0.3, 5.0, self.n_stars),
            "phase": rng.uniform(0, 2 * np.pi, self.n_stars),
            "bad": rng.choice(nx, self.camera.bad_columns, replace=False).astype(float),
        }

    @property
    def mag(self) -> Float64Array:
        """Mean magnitudes above the atmosphere (n,) [mag]; of star 0 that outside its event."""
        return self._drawn["mag"]

    @property
    def colour(self) -> Float64Array:
        """Colours (n,) [mag]."""
        return self._drawn["colour"]

    @property
    def is_variable(self) -> BoolArray:
        """Whether a star is variable (n,); star 0 is."""
        found = self._drawn["amplitude"] > 0
        found[0] = True
        return found

    @cached_property
    def sky(self) -> tuple[Float64Array, Float64Array]:
        """Right ascension and declination of the stars (n,) [deg]."""
        return self._plate((0.0, 0.0), 0.0).sky(self._drawn["y"], self._drawn["x"])

    def _plate(self, shift_px: tuple[float, float], turn_deg: float) -> PlateSolution:
        ny, nx = self.camera.shape
        c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
        matrix = self.camera.pixel_arcsec * np.array([[-c, s], [s, c]])
        # a shift of the stars is the opposite shift of the tangent point
        xi, eta = -matrix @ np.array([shift_px[1], shift_px[0]])
        ra, dec = deproject(xi, eta, self.centre)
        return PlateSolution((float(ra), float(dec)), ((ny - 1) / 2, (nx - 1) / 2), matrix)

    def magnitudes(self, mjd: float) -> Float64Array:
        """Return magnitudes above the atmosphere at a time [d], shape (n,) [mag]."""
        drawn = self._drawn
        found = drawn["mag"] + drawn["amplitude"] * np.sin(2 * np.pi * mjd / drawn["period_d"] + drawn["phase"])
        found[0] = drawn["mag"][0] - 2.5 * np.log10(self.event.magnification(mjd))
        return found

    def frame(
        self, number: int, mjd_middle: float, exposure_s: float = 60.0, air: ObservingConditions | None = None
    ) -> SimulatedFrame:
        """Simulate one frame.

        Parameters
        ----------
        number : int
            Number of the frame, on which its noise, pointing and cosmic rays depend.
        mjd_middle : float
            Middle of the exposure [d, UTC].
        exposure_s : float
            Exposure time [s].
        air : ObservingConditions, optional
            Observing conditions.

        Returns
        -------
        SimulatedFrame
            Pixels (ny, nx) and their truth.
        """
        air, camera = air or ObservingConditions(), self.camera
        rng = np.random.default_rng([self.seed, 1, number])
        shift, turn = rng.normal(0, self.pointing_px, 2), rng.normal(0, 0.02)
        plate = self._plate((shift[0], shift[1]), turn)
        # the header's solution: pointing error, rotation not known
        claimed = self._plate(tuple(shift + rng.normal(0, self.pointing_px, 2)), 0.0)
        y, x = plate.pixels(*self.sky)
        # relative to a star of colour 1.2, the mean of the field
        extinction = air.airmass * (0.1 + self.second_order * (self.colour - 1.2)) + air.cloud_mag
        electrons = exposure_s * 10 ** (0.4 * (camera.zero_point - self.magnitudes(mjd_middle) - extinction))
        light = np.full(camera.shape, exposure_s * air.sky_e_s)
        _add_stars(light, y, x, electrons, (air.fwhm_px, air.ellipticity, float(rng.uniform(0, np.pi))))
        image = rng.poisson(light) + rng.normal(0, camera.read_noise_e, camera.shape)
        self._hit(image, rng)
        saturated = image >= camera.full_well_e
        bad = np.zeros(camera.shape, bool)
        bad[:, self._drawn["bad"].astype(int)] = True
        image = np.where(bad, 0.0, np.minimum(image, camera.full_well_e))
        variance = np.maximum(image, 0) + camera.read_noise_e**2
        return SimulatedFrame(
            image.astype(np.float32),
            variance.astype(np.float32),
            # saturated pixels are recognised by their level, not by the mask
            bad & ~saturated,
            exposure_s,
            mjd_middle,
            plate,
            claimed,
            y,
            x,
            electrons,
        )

    def _hit(self, image: Float64Array, rng: np.random.Generator) -> None:
        """Add the tracks of cosmic rays."""
        ny, nx = image.shape
        for _ in range(self.camera.cosmic_rays):
            y, x, angle = rng.uniform(0, ny), rng.uniform(0, nx), rng.uniform(0, 2 * np.pi)
            steps = np.arange(rng.integers(1, 8))
            rows = (y + steps * np.sin(angle)).astype(int).clip(0, ny - 1)
            columns = (x + steps * np.cos(angle)).astype(int).clip(0, nx - 1)
            image[rows, columns] += rng.uniform(500, 5000)


@njit(cache=True)
def _add_stars(light, y, x, electrons, shape):  # type: ignore[no-untyped-def]
    """Add elliptical Moffat profiles, each normalised within its radius."""
    fwhm, ellipticity, angle = shape
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    ratio = np.sqrt(1 - ellipticity)
    c, s = np.cos(angle), np.sin(angle)
    reach = int(REACH_FWHM * fwhm) + 1
    ny, nx = light.shape
    patch = np.empty((2 * reach + 2, 2 * reach + 2))
    for i in range(len(y)):
        top, left = int(np.floor(y[i])) - reach, int(np.floor(x[i])) - reach
        if top >= ny or left >= nx or top + 2 * reach + 2 <= 0 or left + 2 * reach + 2 <= 0:
            continue
        # normalised by the sum over pixels: an undersampled star has its whole flux, too
        total = 0.0
        for a in range(patch.shape[0]):
            for b in range(patch.shape[1]):
                dy, dx = top + a - y[i], left + b - x[i]
                u, v = (c * dx + s * dy) * ratio, (-s * dx + c * dy) / ratio
                patch[a, b] = (1 + (u * u + v * v) / alpha**2) ** -MOFFAT_BETA
                total += patch[a, b]
        for a in range(max(0, -top), min(patch.shape[0], ny - top)):
            for b in range(max(0, -left), min(patch.shape[1], nx - left)):
                light[top + a, left + b] += electrons[i] / total * patch[a, b]
