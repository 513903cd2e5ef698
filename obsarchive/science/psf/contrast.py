"""Contrast curves and companions of a PSF-subtracted star.

Noise is that of apertures of one FWHM on a ring, with small-sample statistics (Mawet et al. 2014, ApJ 792, 97): close
to the star there are only few of them. The throughput of the subtraction is that of injected companions. The curve is
the contrast at which the list of companions holds half of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.psf.companion_detection import (
    LEAST_FWHM_PX,
    aperture_at,
    aperture_flux,
    brightest_source,
    least_fluxes,
    least_snr,
    noise_tail,
    significance,
    snr_at,
    snr_map,
    without_halo,
)
from obsarchive.science.psf.companion_fit import fit_companion
from obsarchive.science.psf.subtraction import (
    Components,
    References,
    best_correlated,
    candidate_counts,
    radii,
    subtraction_mask,
)

FOUND = 5.0
"""Significance of a companion [standard deviations]."""
FOUND_BY_HALO = 6.0
"""The same where only the halo is subtracted: the speckles of a star have longer tails than what is left of them."""
CHOSEN_PLACE = 2.0
"""Mean excess of the square of the S/N where a source is fitted: both coordinates follow the noise."""
QUIET_SHARE = 0.1
"""Share of the rings whose noise is that of photons more than of speckles."""
CANDIDATE = 3.5
"""Significance from which a source is fitted: in the map its own wings count as noise [standard deviations]."""
BRIGHT, MAX_BRIGHT = 8.0, 3
"""S/N of companions, and number of them, that do not count when the number of components is chosen."""
LARGE_SCALE = 2.5
"""Sigma of the Gaussian high-pass filter that removes the halo [FWHM]."""
INNER_FWHM = 1.5
"""Innermost radius at which companions are searched [FWHM]."""
INJECTED_ANGLES = 6
LEAST_THROUGHPUT = 0.02
"""One near zero, or negative by noise, would give meaningless limits."""
MAX_DETECTIONS = 8
LEAST_LIKENESS = 0.6
"""Least correlation of a companion with the PSF: that of cosmic rays and ridges of speckles is lower."""
LEAST_OTHERS = 3
"""Number of other stars needed to distinguish speckles from companions."""
SHORTLIST = 4
"""Candidates, in units of the references wanted: those best correlated with the star before the high-pass filter."""
GHOST_FWHM, GHOST_RATIO = 6.0, 0.05
"""Distance from a companion and flux ratio to it, below both of which a source is a residual of its subtraction."""
SUBTRACTED_FWHM = 1.0
"""Radius of the core of the star that is not subtracted [FWHM]."""


@dataclass(frozen=True)
class Detection:
    """A detected companion.

    Attributes
    ----------
    dy, dx : float
        Position relative to the star [pixel].
    flux_ratio, flux_ratio_error : float
        Flux over that of the star, corrected for the throughput.
    separation_error_px, tangential_error_px : float
        Errors of the position along the direction to the star, and across it [pixel].
    snr : float
        Signal-to-noise ratio relative to the apertures of its ring.
    significance : float
        Gaussian equivalent of `snr`, which allows for the tail of the noise [standard deviations].
    likeness : float
        Correlation with the PSF.
    """

    dy: float
    dx: float
    flux_ratio: float
    flux_ratio_error: float
    separation_error_px: float
    tangential_error_px: float
    snr: float
    significance: float
    likeness: float

    @property
    def separation_px(self) -> float:
        """Distance from the star [pixel]."""
        return float(np.hypot(self.dy, self.dx))

    @property
    def angle_error_deg(self) -> float:
        """One-sigma error of the position angle [deg]."""
        return float(np.degrees(np.arctan2(self.tangential_error_px, self.separation_px)))

    @property
    def delta_mag(self) -> float:
        """Magnitude difference to the star [mag]; NaN for a flux that is not positive."""
        return float(-2.5 * np.log10(self.flux_ratio)) if self.flux_ratio > 0 else float("nan")

    @property
    def delta_mag_error(self) -> float:
        """One-sigma error of the magnitude difference [mag]."""
        return 2.5 / np.log(10) * self.flux_ratio_error / self.flux_ratio if self.flux_ratio > 0 else float("nan")


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


@dataclass(frozen=True, eq=False)
class Subtraction:
    """Result of a PSF subtraction.

    Attributes
    ----------
    residual : ndarray (side, side)
        Star-subtracted stamp, flux of the star 1; NaN where unknown.
    used : tuple of int
        Numbers of the references, best correlated first.
    n_components : int
        Number of principal components subtracted.
    curve : ContrastCurve
        Detection limit by separation.
    detections : tuple of Detection
        Companions, brightest first.
    snr : ndarray (side, side)
        Signal-to-noise ratio of an aperture at every pixel.
    tail : float
        Length of the tail of the noise: five sigma are this many times the S/N of Gaussian noise.
    """

    residual: Float32Array
    used: tuple[int, ...]
    n_components: int
    curve: ContrastCurve
    detections: tuple[Detection, ...] = field(default=())
    snr: Float32Array = field(default_factory=lambda: np.empty((0, 0), np.float32))
    tail: float = 1.0


def subtract_star(target: FloatArray, stamps: FloatArray, fwhm_px: float, most: int = 50) -> Subtraction:
    """Subtract a star with references of other stars, and detect its companions.

    The smooth halo is removed from target and references by a high-pass filter first. The number of components is the
    one with the best detection limit: it minimises the mean logarithm of noise over throughput, which counts both the
    residuals of the star and the loss of companion flux.

    Parameters
    ----------
    target : ndarray (side, side)
        Centred stamp of flux 1, from :func:`.subtraction.cut_stamp`.
    stamps : ndarray (k, side, side)
        References, likewise.
    fwhm_px : float
        FWHM of the star [pixel].
    most : int
        Largest number of references, those best correlated with the target.

    Returns
    -------
    Subtraction
        Residual, contrast curve and companions.

    Raises
    ------
    Unprocessable
        There is no usable reference.
    """
    place = _Place(target, fwhm_px)
    mask = subtraction_mask(target, SUBTRACTED_FWHM * fwhm_px)
    others = np.asarray(stamps, np.float32).reshape(-1, *target.shape)
    # two passes: only references with a similar halo are high-pass filtered and compared again
    listed = best_correlated(target, others, mask, SHORTLIST * most)
    sharp, sharpened = place.sharp(target), np.array([place.sharp(stamp) for stamp in others[listed]], np.float32)
    used = best_correlated(sharp, sharpened.reshape(-1, *target.shape), mask, most)
    if not used.size:
        raise Unprocessable(f"none of the {len(others)} references can be used: they hold no light")
    components = References(sharpened[used], mask).components()
    counts = candidate_counts(len(components.values))
    # the residual is linear in the target, so the throughput is measured without the star
    injected = _Injected(place, components, counts)
    residuals = components.subtract(sharp, counts)
    best = _best_count(injected, components, counts, residuals)
    snr = snr_map(residuals[best], place.fwhm_px)
    detections, rest, tail = _companions(place, components, counts[best], residuals[best], snr)
    # companions must not count as noise of the final curve
    curve = injected.curve(rest, best, tail)
    return Subtraction(
        residuals[best],
        tuple(listed[used].tolist()),
        counts[best],
        curve,
        detections,
        snr,
        tail,
    )


def _best_count(injected: "_Injected", components: Components, counts: Sequence[int], residuals: Float32Array) -> int:
    """Return which of the numbers of components has the least noise, without bright companions.

    The components remove a part of a companion, and spread it over the image: counted as noise, a companion would let
    few components seem better, with which it may not be found.
    """
    place, clean = injected.place, residuals
    near = radii(place.side) < INNER_FWHM * place.fwhm_px
    for _ in range(MAX_BRIGHT):
        best = injected.quietest(clean, _robust_scatter)
        snr = np.where(near, -np.inf, np.nan_to_num(snr_map(clean[best], place.fwhm_px), nan=-np.inf))
        y, x = np.unravel_index(np.argmax(snr), snr.shape)
        if snr[y, x] < BRIGHT:
            break
        source, _ = _measured(place, components, counts[best], clean[best], (int(y), int(x)))
        if not source.flux_ratio > 0 or source.likeness < LEAST_LIKENESS:
            break
        companion = place.sharp_companion(source.dy, source.dx)
        clean = clean - np.float32(source.flux_ratio) * components.subtract(companion, counts)
    return injected.quietest(clean, np.std)


class _Place:
    """A target with the geometry of its stamp, and its own PSF as the model of a companion."""

    def __init__(self, target: FloatArray, fwhm_px: float) -> None:
        # smaller apertures would be undersampled
        self.fwhm_px = max(fwhm_px, LEAST_FWHM_PX)
        self.side = len(target)
        radius = radii(self.side)
        # the star out to four FWHM, beyond which a companion has no visible halo
        fade = np.clip((4 * self.fwhm_px - radius) / self.fwhm_px, 0, 1)
        self.psf = (np.nan_to_num(target) * fade).astype(np.float32)
        self.star_flux = float(aperture_flux(self.psf, self.fwhm_px)[self.side // 2, self.side // 2])
        self._sharp_psf = self.sharp(self.psf)
        self._light = aperture_flux(target, self.fwhm_px)
        known = np.isfinite(target)
        # rings end where an aperture would touch unknown pixels
        edge = float(radius[~known].min(initial=self.side // 2)) - self.fwhm_px / 2
        first = INNER_FWHM * self.fwhm_px
        self.radius_px = np.arange(first, min(edge, self.side // 2 - self.fwhm_px / 2), self.fwhm_px / 2)

    def companions(self, radius_px: float) -> tuple[FloatArray, Float32Array]:
        """Return positions (m, 2) on a ring, and a companion as bright as the star at each (m, side, side)."""
        angles = 2 * np.pi * (np.arange(INJECTED_ANGLES) + 0.25) / INJECTED_ANGLES
        places = radius_px * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        return places, np.stack([self.companion(*place) for place in places])

    def companion(self, dy: float, dx: float) -> Float32Array:
        """Return the high-pass filtered PSF of the star, shifted."""
        return _moved(self._sharp_psf, dy, dx)

    def photon_variance(self, residual: FloatArray) -> float:
        """Return the variance of the photons of an aperture over their flux, from the rings with the least noise.

        An upper limit: sky, read-out and speckles add to the noise of every ring.
        """
        flux = aperture_flux(residual, self.fwhm_px)
        ratios = [
            np.var(_ring(flux, radius, self.fwhm_px)) / light
            for radius in self.radius_px
            if (light := np.mean(_ring(self._light, radius, self.fwhm_px))) > 0
        ]
        return float(np.quantile(ratios, QUIET_SHARE)) if ratios else 0.0

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


class _Injected:
    """Throughput of the subtraction by radius, for several numbers of components."""

    def __init__(self, place: _Place, components: Components, counts: Sequence[int]) -> None:
        self.place = place
        self.throughput = np.ones((len(counts), len(place.radius_px)))
        for column, radius in enumerate(place.radius_px):
            places, injected = place.companions(float(radius))
            apertures = np.stack([aperture_at(where, place.fwhm_px, place.side) for where in places])
            left = components.throughput(apertures, injected, counts)
            self.throughput[:, column] = np.median(left, axis=1) / place.star_flux

    def curve(self, residual: FloatArray, number: int, tail: float = 1.0) -> ContrastCurve:
        """Return the contrast curve of a residual image, whose noise has a tail of this length."""
        place, throughput = self.place, np.clip(self.throughput[number], LEAST_THROUGHPUT, 1.0)
        flux = aperture_flux(residual, place.fwhm_px)
        least = np.sqrt(least_snr(place.radius_px, place.fwhm_px, tail) ** 2 - CHOSEN_PLACE)
        # the median of what each place needs: where single speckles make the noise of a ring, most places see all of
        # them, so that the scatter of the whole ring would be less than what a companion is compared to
        needed = np.array(
            [
                np.median(least_fluxes(flux, radius, place.fwhm_px, snr))
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


def _robust_scatter(values: FloatArray) -> float:
    """Return the median deviation from the median, which a companion on the ring hardly raises."""
    return float(np.median(np.abs(values - np.median(values))))


def _ring(flux: Float32Array, radius_px: float, fwhm_px: float) -> Float64Array:
    """Return the fluxes of the apertures of a ring, which do not overlap."""
    places = np.stack(_ring_places(radius_px, fwhm_px)) + len(flux) // 2
    fluxes: Float64Array = ndimage.map_coordinates(flux, places, order=1, mode="nearest").astype(float)
    return fluxes


def _ring_places(radius_px: float, fwhm_px: float) -> tuple[Float64Array, Float64Array]:
    """Return the positions (dy, dx) of apertures side by side on a ring."""
    n = max(int(2 * np.pi * radius_px / fwhm_px), 1)
    angles = 2 * np.pi * np.arange(n) / n
    return radius_px * np.sin(angles), radius_px * np.cos(angles)


def _companions(
    place: _Place, components: Components, count: int, residual: Float32Array, snr: Float32Array
) -> tuple[tuple[Detection, ...], Float32Array, float]:
    """Return companions, each subtracted before the next is searched, the residual without them, and its tail."""
    left, beyond = residual.copy(), INNER_FWHM * place.fwhm_px
    tail = noise_tail(snr, place.fwhm_px, beyond)
    refused = np.zeros(residual.shape, bool)
    found: list[Detection] = []
    while True:
        y, x, level = brightest_source(np.where(refused, np.nan, snr), place.fwhm_px, beyond, tail)
        if level < CANDIDATE or len(found) == MAX_DETECTIONS:
            return tuple(sorted(found, key=lambda item: -item.flux_ratio)), left, tail
        detection, model = _measured(place, components, count, left, (y, x))
        if _is_companion(detection) and not _is_ghost(detection, found, place):
            # a companion is no part of the noise whose tail it has to exceed
            rest_snr = snr_map(left - model, place.fwhm_px)
            rest_tail = noise_tail(rest_snr, place.fwhm_px, beyond)
            detection = replace(detection, significance=_significance(detection, place, rest_tail))
            if detection.significance >= FOUND:
                found.append(detection)
                left, snr, tail = left - model, rest_snr, rest_tail
                continue
        # rejected sources are masked, or the search would find them again
        refused |= np.hypot(*(np.indices(left.shape) - np.array([[[y]], [[x]]]))) < place.fwhm_px


def _significance(source: Detection, place: _Place, tail: float) -> float:
    """Return the significance of a source in noise whose tail has this length."""
    return float(significance(np.array([source.snr]), np.array([source.separation_px]), place.fwhm_px, tail)[0])


def _is_companion(source: Detection) -> bool:
    """Return whether a source is significant where it was fitted, and alike a star."""
    return source.significance >= FOUND and source.flux_ratio > 0 and source.likeness >= LEAST_LIKENESS


def _is_ghost(new: Detection, known: Sequence[Detection], place: _Place) -> bool:
    """Return whether a source is a residual of a brighter companion close to it."""
    return any(
        np.hypot(new.dy - other.dy, new.dx - other.dx) < GHOST_FWHM * place.fwhm_px
        and new.flux_ratio < GHOST_RATIO * other.flux_ratio
        for other in known
    )


def _measured(
    place: _Place,
    components: Components,
    count: int,
    residual: Float32Array,
    pixel: tuple[int, int],
) -> tuple[Detection, Float32Array]:
    """Return the source at a pixel, its significance that in Gaussian noise, and the model fitted."""
    fit = fit_companion(
        residual, lambda dy, dx: components.subtract(place.sharp_companion(dy, dx), [count])[0], pixel, place.fwhm_px
    )
    rest = residual - fit.model
    # not of the most significant pixel, which lies outwards of a source where the noise falls with the radius
    snr = snr_at(residual, rest, (fit.dy, fit.dx), place.fwhm_px)
    # the photons of the companion itself, which the other places of the ring do not have
    light = max(fit.flux_ratio * place.star_flux, 0.0)
    own = float(np.sqrt(1 + place.photon_variance(rest) * light * (snr / light) ** 2)) if light > 0 else 1.0
    detection = Detection(
        fit.dy,
        fit.dx,
        fit.flux_ratio,
        own * fit.flux_ratio_error,
        own * fit.radial_error_px,
        own * fit.tangential_error_px,
        snr,
        np.nan,
        fit.likeness,
    )
    return replace(detection, significance=_significance(detection, place, 1.0)), fit.model


def companion_of(stamp: FloatArray, others: FloatArray, fwhm_px: float) -> str:
    """Return a description of the companion that disqualifies a star as a reference; empty for a single star.

    The star is subtracted with other stars as references: structures common to them are speckles, not companions. With
    fewer than `LEAST_OTHERS`, the halo, the median of each ring, is subtracted instead.

    Parameters
    ----------
    stamp : ndarray (side, side)
        Centred stamp of flux 1.
    others : ndarray (k, side, side)
        Stamps of other stars with the same optics.
    fwhm_px : float
        FWHM of the star [pixel].

    Returns
    -------
    str
        Separation and significance of the companion.
    """
    if len(others) >= LEAST_OTHERS:
        found = subtract_star(stamp, others, fwhm_px).detections
        return f"a companion {found[0].separation_px:.0f} pixels away, {found[0].snr:.1f} sigma" if found else ""
    fwhm_px = max(fwhm_px, LEAST_FWHM_PX)
    # further out than otherwise: without references the speckles close to the star remain
    y, x, level = brightest_source(snr_map(without_halo(stamp), fwhm_px), fwhm_px, 2 * fwhm_px)
    distance = np.hypot(y - len(stamp) // 2, x - len(stamp) // 2)
    return f"something {distance:.0f} pixels away, {level:.1f} sigma" if level >= FOUND_BY_HALO else ""
