"""What a star subtraction does to companions: injected ones show the throughput, and with it the contrast curve."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.psf.companion_detection import (
    LEAST_FWHM_PX,
    aperture_at,
    aperture_flux,
    least_fluxes,
    least_snr,
)
from obsarchive.science.psf.subtraction import Components, central, radii
from obsarchive.science.statistics import median_of_all

CHOSEN_PLACE = 2.0
"""Mean excess of the square of the S/N where a source is fitted: both coordinates follow the noise."""
ANNULUS_FWHM, ANNULUS_RATIO = 3.0, 1.5
"""Inner radius of the first annulus in which noise is compared with light [FWHM], and the ratio of radii of each."""
LEAST_LIT = 2.0
"""Ratio of the light of two annuli from which on it tells their noise apart."""
KERNEL_FWHM = 2.0
"""Reach of the weights of a fit [FWHM]."""
SIXTH_DIFFERENCE = (1.0, -6.0, 15.0, -20.0, 15.0, -6.0, 1.0)
LARGE_SCALE = 2.5
"""Sigma of the Gaussian high-pass filter that removes the halo [FWHM]."""
HALO_FWHM = 10.0
"""Radius of the PSF of a companion [FWHM]."""
INNER_FWHM = 1.5
"""Innermost radius at which companions are searched [FWHM]."""
INJECTED_ANGLES = 6
MOST_LIGHT = 1.3
"""Light of companions over that of the star up to which they are removed from its model: with more, noise is left."""
TURNS = 8
"""Turns of this removal: of one companion, what is left lies at nine times its separation, beyond `HALO_FWHM`."""
LEAST_THROUGHPUT = 0.02
"""One near zero, or negative by noise, would give meaningless limits."""


@dataclass(frozen=True, eq=False)
class ContrastCurve:
    """Contrast of the faintest detectable companion by separation.

    Attributes
    ----------
    radius_px : ndarray (n,)
        Separation from the star [pixel].
    contrast : ndarray (n,)
        Flux ratio of a companion that is found with a probability of one half, at a significance of five sigma.
    throughput : ndarray (n,)
        Share of a companion's flux that survives the subtraction.
    """

    radius_px: Float64Array
    contrast: Float64Array
    throughput: Float64Array

    @property
    def magnitudes(self) -> Float64Array:
        """Contrast [mag]; NaN where it is unknown."""
        positive = np.where(self.contrast > 0, self.contrast, np.nan)
        return -2.5 * np.log10(positive)


class Place:
    """A target with the geometry of its stamp, and its own PSF as the model of a companion.

    Companions of the star itself are in the model until they are known, see :meth:`without`.

    Parameters
    ----------
    target : ndarray (side, side)
        Stamp of flux 1.
    fwhm_px : float
        FWHM of the star [pixel].
    photon_variance : float, optional
        Variance of the photons over their flux, where it is known.

    Raises
    ------
    Unprocessable
        No ring around the star is known: it lies on the edge of the image, or pixels in its core are not finite.
    """

    def __init__(self, target: FloatArray, fwhm_px: float, photon_variance: float | None = None) -> None:
        # smaller apertures would be undersampled
        self.fwhm_px = max(fwhm_px, LEAST_FWHM_PX)
        self.side = len(target)
        radius = radii(self.side)
        # a companion close to the star is bright, and its halo is seen far out; but what is faint beyond is noise
        self._fade = np.clip(HALO_FWHM - radius / self.fwhm_px, 0, 1)
        self._known = known = np.isfinite(target)
        self._light = np.nan_to_num(target)
        self._model(self._light)
        self._sharp_psf = self.sharp(self.psf)
        self._known_variance = photon_variance
        # rings end where an aperture would touch unknown pixels
        edge = float(radius[~known].min(initial=self.side // 2)) - self.fwhm_px / 2
        first = INNER_FWHM * self.fwhm_px
        self.radius_px = np.arange(first, min(edge, self.side // 2 - self.fwhm_px / 2), self.fwhm_px / 2)
        if not self.radius_px.size:
            raise Unprocessable(
                f"no ring around the star: with a FWHM of {self.fwhm_px:.1f} pixels the first one needs pixels up to "
                f"{first + self.fwhm_px / 2:.0f} from it, and they are known up to {edge + self.fwhm_px / 2:.0f}"
            )

    def without(self, companions: Sequence[tuple[float, float, float]]) -> "Place":
        """Return the same place with the star alone as the model of a companion.

        A companion that stays in the model is seen again, fainter by its own ratio, at twice its separation.

        Parameters
        ----------
        companions : sequence of (float, float, float)
            Positions from the star (dy, dx) [pixel], and flux ratios, brightest first.
        """
        total = np.cumsum([ratio for _, _, ratio in companions])
        removed = [companion for companion, light in zip(companions, total, strict=True) if light <= MOST_LIGHT]
        star = self._light
        # a copy of the star holds copies of the companions: each turn moves what is left of them further out
        for _ in range(TURNS if removed else 0):
            rest = self._light.copy()
            for dy, dx, ratio in removed:
                rest -= ratio * ndimage.shift(star, (dy, dx), order=3, mode="constant")
            star = np.where(self._known, rest, 0)
        alone = copy(self)
        alone._model(star)
        # filtered before it fades: the filter makes a rim where a halo ends, and bright companions would leave it
        sharp = self.sharp(np.where(self._known, star, np.nan))
        alone._sharp_psf = (np.nan_to_num(sharp) * self._fade).astype(np.float32)
        return alone

    def _model(self, star: FloatArray) -> None:
        self.psf = (star * self._fade).astype(np.float32)
        self.star_flux = float(aperture_flux(self.psf, self.fwhm_px)[self.side // 2, self.side // 2])

    def companions(self, radius_px: float) -> tuple[FloatArray, Float32Array]:
        """Return positions (m, 2) on a ring, and a companion as bright as the star at each (m, side, side)."""
        angles = 2 * np.pi * (np.arange(INJECTED_ANGLES) + 0.25) / INJECTED_ANGLES
        places = radius_px * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        return places, np.stack([self.companion(*place) for place in places])

    def companion(self, dy: float, dx: float) -> Float32Array:
        """Return the high-pass filtered PSF of the star, shifted."""
        return _moved(self._sharp_psf, dy, dx)

    def photon_variance(self, rest: FloatArray, weights: FloatArray, where: tuple[float, float]) -> float:
        """Return the variance of the photons over their flux: as it is known, or from the annulus with the least noise.

        The latter is an upper limit: speckles add to the noise of every annulus.

        Parameters
        ----------
        rest : ndarray (side, side)
            Residual without the companion.
        weights : ndarray (side, side)
            Of the pixels in the flux of the companion.
        where : (float, float)
            Position of the companion from the star (dy, dx) [pixel].
        """
        if self._known_variance is not None:
            return self._known_variance
        reach = min(2 * int(KERNEL_FWHM * self.fwhm_px) + 1, self.side)
        kernel = central(np.roll(weights, [-round(c) for c in where], axis=(0, 1)), reach)[::-1, ::-1]
        noise = signal.fftconvolve(np.nan_to_num(rest), kernel, mode="same") ** 2
        passed = signal.fftconvolve(self._light, kernel**2, mode="same")
        fine = _fine_noise(self._light)
        half = self.side // 2
        y, x = np.ogrid[-half : half + 1, -half : half + 1]
        # nothing is left where the companion was fitted
        free = np.isfinite(rest) & (np.hypot(y - where[0], x - where[1]) > KERNEL_FWHM * self.fwhm_px)
        rings = np.log(np.hypot(y, x).clip(1) / (ANNULUS_FWHM * self.fwhm_px)) // np.log(ANNULUS_RATIO)
        annuli = [annulus for k in range(int(rings.max()) + 1) if (annulus := free & (rings == k)).any()]
        if not annuli:
            return 0.0
        ratios = [float(noise[annulus].sum() / max(passed[annulus].sum(), 1e-30)) for annulus in annuli]
        ratio, quietest = min(zip(ratios, annuli, strict=True), key=lambda item: item[0])
        # sky and read-out are as strong where there is less light
        (most, bright), (least, dark) = ((fine[a].mean(), self._light[a].mean()) for a in (quietest, annuli[-1]))
        if not bright > LEAST_LIT * max(dark, 0.0):
            return ratio
        return ratio * float(np.clip((1 - least / max(most, 1e-30)) / (1 - dark / bright), 0, 1))

    def sharp_companion(self, dy: float, dx: float) -> Float32Array:
        """Return the same without the blur of bilinear interpolation, by which a fitted flux would be too large."""
        return np.asarray(ndimage.shift(self._sharp_psf, (dy, dx), order=3, mode="constant"), np.float32)

    def sharp(self, stamp: FloatArray) -> Float32Array:
        """Return the high-pass filtered stamp; NaN stays."""
        sigma = LARGE_SCALE * self.fwhm_px
        known = np.isfinite(stamp)
        if known.all():
            return np.asarray(stamp - ndimage.gaussian_filter(stamp, sigma), np.float32)
        # normalised convolution: unknown pixels do not pull the smooth image towards zero
        weight = ndimage.gaussian_filter(known.astype(np.float32), sigma)
        smooth = ndimage.gaussian_filter(np.where(known, stamp, 0).astype(np.float32), sigma)
        return np.where(known, stamp - smooth / np.maximum(weight, 1e-3), np.nan).astype(np.float32)


def _fine_noise(image: FloatArray) -> Float64Array:
    """Return the square of what is finer than a telescope resolves: noise, also where there are speckles."""
    fine = np.asarray(image, float)
    for axis in range(2):
        fine = ndimage.convolve1d(fine, SIXTH_DIFFERENCE, axis)
    return fine**2


def _moved(image: Float32Array, dy: float, dx: float) -> Float32Array:
    """Return an image shifted with bilinear interpolation, zero beyond its border."""
    down, right = int(np.floor(dy)), int(np.floor(dx))
    wy, wx = np.float32(dy - down), np.float32(dx - right)
    out = np.zeros_like(image)
    # a weighted sum of four views is several times faster than interpolation at any positions
    for step_y, step_x, weight in (
        (down, right, (1 - wy) * (1 - wx)),
        (down, right + 1, (1 - wy) * wx),
        (down + 1, right, wy * (1 - wx)),
        (down + 1, right + 1, wy * wx),
    ):
        (to_y, from_y), (to_x, from_x) = (_views(step, len(image)) for step in (step_y, step_x))
        out[to_y, to_x] += weight * image[from_y, from_x]
    return out


def _views(step: int, n: int) -> tuple[slice, slice]:
    """Return where the pixels of an axis of n go by a shift of whole pixels, and where they come from."""
    kept = max(n - abs(step), 0)
    to, start = max(step, 0), max(-step, 0)
    return slice(to, to + kept), slice(start, start + kept)


class Throughputs:
    """Throughput of the subtraction by radius, for several numbers of components."""

    def __init__(self, place: Place, components: Components, counts: Sequence[int]) -> None:
        self.place = place
        self.throughput = np.ones((len(counts), len(place.radius_px)))
        beyond = components.references.radius_px + place.fwhm_px / 2 + 1
        for column, radius in enumerate(place.radius_px):
            if column and place.radius_px[column - 1] > beyond:
                # nothing but the filter takes light there
                self.throughput[:, column] = self.throughput[:, column - 1]
                continue
            places, injected = place.companions(float(radius))
            apertures = np.stack([aperture_at(where, place.fwhm_px, place.side) for where in places])
            left = components.throughput(apertures, injected, counts)
            self.throughput[:, column] = np.median(left, axis=1) / place.star_flux

    def curve(self, residual: FloatArray, number: int, tail: float | FloatArray = 1.0) -> ContrastCurve:
        """Return the contrast curve of a residual image, whose noise has tails of these lengths on the rings."""
        place, throughput = self.place, np.clip(self.throughput[number], LEAST_THROUGHPUT, 1.0)
        flux = aperture_flux(residual, place.fwhm_px)
        least = np.sqrt(least_snr(place.radius_px, place.fwhm_px, tail) ** 2 - CHOSEN_PLACE)
        # the median of what each place needs: where single speckles make the noise of a ring, most places see all of
        # them, so that the scatter of the whole ring would be less than what a companion is compared to
        needed = np.array(
            [
                median_of_all(least_fluxes(flux, radius, place.fwhm_px, snr))
                for radius, snr in zip(place.radius_px, least, strict=True)
            ]
        )
        return ContrastCurve(place.radius_px, needed / throughput / place.star_flux, throughput)

    def quietest(self, residuals: FloatArray, scatter: Callable[[FloatArray], float]) -> int:
        """Return which residual has the least noise over throughput, as the mean logarithm of the scatter of rings."""
        rings = [np.stack(_ring_places(radius, self.place.fwhm_px)) for radius in self.place.radius_px]
        places = np.concatenate(rings, axis=1) + self.place.side // 2
        ends = np.cumsum([ring.shape[1] for ring in rings])[:-1]
        levels = []
        for residual, throughput in zip(residuals, self.throughput, strict=True):
            flux = aperture_flux(residual, self.place.fwhm_px)
            values = ndimage.map_coordinates(flux, places, order=1, mode="nearest")
            noise = np.array([scatter(ring) for ring in np.split(values, ends)])
            known = noise > 0
            level = np.log(noise[known] / np.clip(throughput[known], LEAST_THROUGHPUT, 1.0))
            levels.append(level.mean() if known.any() else np.inf)
        return int(np.argmin(levels))


def robust_scatter(values: FloatArray) -> float:
    """Return the median deviation from the median, which a companion on the ring hardly raises."""
    return median_of_all(np.abs(values - median_of_all(values)))


def _ring_places(radius_px: float, fwhm_px: float) -> tuple[Float64Array, Float64Array]:
    """Return the positions (dy, dx) of apertures side by side on a ring."""
    n = max(int(2 * np.pi * radius_px / fwhm_px), 1)
    angles = 2 * np.pi * np.arange(n) / n
    return radius_px * np.sin(angles), radius_px * np.cos(angles)
