"""How faint a companion could be seen beside a subtracted star, and which ones are there.

Noise is that of apertures one FWHM wide on a ring, with the statistics of small samples (Mawet et al. 2014, ApJ 792,
97): close to the star there are only few of them. The throughput of the subtraction is that of injected companions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from obsarchive.errors import Unprocessable
from obsarchive.science.psf.companion_detection import (
    LEAST_FWHM_PX,
    aperture_at,
    aperture_flux,
    brightest_source,
    snr_map,
    without_halo,
)
from obsarchive.science.psf.subtraction import (
    Components,
    Image,
    References,
    best_correlated,
    candidate_counts,
    radii,
    subtraction_mask,
)

FIVE_SIGMA = float(special.ndtr(-5.0))
"""False alarms per place that five standard deviations of a Gaussian allow."""
FOUND = 6.0
"""Significance of a companion [standard deviations]: speckles have longer tails than a Gaussian."""
LARGE_SCALE = 2.5
"""What is smoother than a Gaussian of this sigma is halo, not companion [FWHM]."""
INNER_FWHM = 1.5
"""Innermost radius at which companions are looked for [FWHM]."""
INJECTED_ANGLES = 6
MAX_DETECTIONS = 8
LEAST_LIKENESS = 0.6
"""Correlation of a source with the PSF: cosmic rays and ridges of speckles are less alike."""
LEAST_OTHERS = 3
"""So many other stars tell speckles from companions."""
SHORTLIST = 4
"""So many times the references wanted are looked at closely: those that resemble the star with its halo."""
GHOST_FWHM, GHOST_RATIO = 6.0, 0.05
"""What is so near to a companion, and so much fainter, is what its subtraction left over."""
SUBTRACTED_FWHM = 1.0
"""The core of the star inside this radius takes no part [FWHM]."""


@dataclass(frozen=True)
class Detection:
    """A companion.

    Attributes
    ----------
    dy, dx : float
        Position relative to the star [pixel].
    flux_ratio, flux_ratio_error : float
        Flux over that of the star, corrected for the throughput.
    snr : float
        Signal-to-noise ratio among the apertures of its ring.
    significance : float
        The same as standard deviations of a Gaussian with as many false alarms.
    likeness : float
        Correlation with the PSF.
    """

    dy: float
    dx: float
    flux_ratio: float
    flux_ratio_error: float
    snr: float
    significance: float
    likeness: float

    @property
    def separation_px(self) -> float:
        """Distance from the star [pixel]."""
        return float(np.hypot(self.dy, self.dx))

    @property
    def delta_mag(self) -> float:
        """Magnitudes fainter than the star."""
        return float(-2.5 * np.log10(self.flux_ratio)) if self.flux_ratio > 0 else float("nan")

    @property
    def delta_mag_error(self) -> float:
        """One-sigma error of it."""
        return 2.5 / np.log(10) * self.flux_ratio_error / self.flux_ratio if self.flux_ratio > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class ContrastCurve:
    """Faintest companion that would be found, by distance.

    Attributes
    ----------
    radius_px : ndarray (n,)
        Distance from the star [pixel].
    contrast : ndarray (n,)
        Flux ratio of a companion at five sigma.
    throughput : ndarray (n,)
        Part of a companion's light that survives the subtraction.
    """

    radius_px: NDArray[np.float64]
    contrast: NDArray[np.float64]
    throughput: NDArray[np.float64]

    @property
    def magnitudes(self) -> NDArray[np.float64]:
        """Contrast in magnitudes; NaN where it is not known."""
        positive = np.where(self.contrast > 0, self.contrast, np.nan)
        return -2.5 * np.log10(positive)


@dataclass(frozen=True, eq=False)
class Subtraction:
    """A subtracted star.

    Attributes
    ----------
    residual : ndarray (side, side)
        The stamp without the star, flux of the star 1; NaN where nothing is known.
    used : tuple of int
        Numbers of the references, best first.
    n_components : int
        How many of their components were subtracted.
    curve : ContrastCurve
        What could be seen.
    detections : tuple of Detection
        What is seen, brightest first.
    snr : ndarray (side, side)
        Signal-to-noise ratio of an aperture at every pixel.
    """

    residual: Image
    used: tuple[int, ...]
    n_components: int
    curve: ContrastCurve
    detections: tuple[Detection, ...] = field(default=())
    snr: Image = field(default_factory=lambda: np.empty((0, 0), np.float32))


def subtract_star(target: NDArray, stamps: NDArray, fwhm_px: float, most: int = 50) -> Subtraction:
    """Subtract a star with references of other stars, and say what is beside it.

    What is smooth, the halo, is removed from target and references first. The number of components is the one that
    shows the faintest companions: it minimises the mean logarithm of the contrast, which counts both what is left of
    the star and what is lost of a companion.

    Parameters
    ----------
    target : ndarray (side, side)
        Centred stamp of flux 1, from :func:`.subtraction.cut_stamp`.
    stamps : ndarray (k, side, side)
        References, likewise.
    fwhm_px : float
        FWHM of the star [pixel].
    most : int
        The references that resemble the target most, this many, are used.

    Returns
    -------
    Subtraction

    Raises
    ------
    Unprocessable
        There is no usable reference.
    """
    place = _Place(target, fwhm_px)
    mask = subtraction_mask(target, SUBTRACTED_FWHM * fwhm_px)
    others = np.asarray(stamps, np.float32).reshape(-1, *target.shape)
    listed = best_correlated(target, others, mask, SHORTLIST * most)
    sharp, sharpened = place.sharp(target), np.array([place.sharp(stamp) for stamp in others[listed]], np.float32)
    used = best_correlated(sharp, sharpened.reshape(-1, *target.shape), mask, most)
    if not used.size:
        raise Unprocessable(f"none of the {len(others)} references can be used: they hold no light")
    components = References(sharpened[used], mask).components()
    counts = candidate_counts(len(components.values))
    injected = _Injected(place, components, counts)
    residuals = components.subtract(sharp, counts)
    curves = [injected.curve(residual, number) for number, residual in enumerate(residuals)]
    best = int(np.argmin([_mean_log(curve.contrast) for curve in curves]))
    detections, rest = _companions(place, components, counts[best], residuals[best])
    curve = injected.curve(rest, best)
    return Subtraction(
        residuals[best],
        tuple(listed[used].tolist()),
        counts[best],
        curve,
        detections,
        snr_map(residuals[best], fwhm_px),
    )


def _mean_log(contrast: NDArray) -> float:
    known = contrast[contrast > 0]
    return float(np.mean(np.log(known))) if known.size else np.inf


class _Place:
    """A target and what its stamp allows: radii, and its own PSF as a companion would have it."""

    def __init__(self, target: NDArray, fwhm_px: float) -> None:
        self.fwhm_px = max(fwhm_px, LEAST_FWHM_PX)
        self.side = len(target)
        self.psf = _core(target, self.fwhm_px)
        self.star_flux = float(aperture_flux(self.psf, self.fwhm_px)[self.side // 2, self.side // 2])
        self._sharp_psf = self.sharp(self.psf)
        radius = radii(self.side)
        known = np.isfinite(target)
        edge = float(radius[~known].min(initial=self.side // 2)) - self.fwhm_px / 2
        first = INNER_FWHM * self.fwhm_px
        self.radius_px = np.arange(first, min(edge, self.side // 2 - self.fwhm_px / 2), self.fwhm_px / 2)

    def companions(self, radius_px: float) -> tuple[NDArray, Image]:
        """Positions (m, 2) on a ring, and a companion as bright as the star at each (m, side, side)."""
        angles = 2 * np.pi * (np.arange(INJECTED_ANGLES) + 0.25) / INJECTED_ANGLES
        places = radius_px * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        return places, np.stack([self.companion(*place) for place in places])

    def companion(self, dy: float, dx: float) -> Image:
        """The star's own PSF, moved, without large scales."""
        return np.asarray(ndimage.shift(self._sharp_psf, (dy, dx), order=1, mode="constant"), np.float32)

    def sharp(self, stamp: NDArray) -> Image:
        """Stamp without what is smooth; NaN stays."""
        sigma = LARGE_SCALE * self.fwhm_px
        known = np.isfinite(stamp)
        if known.all():
            return np.asarray(stamp - ndimage.gaussian_filter(stamp, sigma), np.float32)
        weight = ndimage.gaussian_filter(known.astype(np.float32), sigma)
        smooth = ndimage.gaussian_filter(np.where(known, stamp, 0).astype(np.float32), sigma)
        return np.where(known, stamp - smooth / np.maximum(weight, 1e-3), np.nan).astype(np.float32)


def _core(target: NDArray, fwhm_px: float) -> Image:
    """PSF of a companion: the star out to where only its halo is left, which no companion shows."""
    radius = radii(len(target))
    fade = np.clip((4 * fwhm_px - radius) / fwhm_px, 0, 1)
    return (np.nan_to_num(target) * fade).astype(np.float32)


class _Injected:
    """What the subtraction leaves of companions at every radius, for several numbers of components."""

    def __init__(self, place: _Place, components: Components, counts: Sequence[int]) -> None:
        self.place = place
        self.throughput = np.ones((len(counts), len(place.radius_px)))
        for column, radius in enumerate(place.radius_px):
            places, injected = place.companions(float(radius))
            apertures = np.stack([aperture_at(where, place.fwhm_px, place.side) for where in places])
            left = components.throughput(apertures, injected, counts)
            self.throughput[:, column] = np.median(left, axis=1) / place.star_flux

    def curve(self, residual: NDArray, number: int) -> ContrastCurve:
        """Contrast curve of a residual image."""
        place, throughput = self.place, np.clip(self.throughput[number], 0.02, 1.0)
        flux = aperture_flux(residual, place.fwhm_px)
        noise = np.array([_ring_noise(flux, r, place.fwhm_px) for r in place.radius_px])
        return ContrastCurve(place.radius_px, noise / throughput / place.star_flux, throughput)


def _ring_noise(flux: Image, radius_px: float, fwhm_px: float) -> float:
    """Flux of a companion at five sigma, Student's t: mean of the apertures of a ring plus t times their scatter."""
    values = _ring(flux, radius_px, fwhm_px)
    n = len(values)
    if n < 3:
        return float("nan")
    return float(-special.stdtrit(n - 1, FIVE_SIGMA) * np.std(values, ddof=1) * np.sqrt(1 + 1 / n))


def _ring(flux: Image, radius_px: float, fwhm_px: float) -> NDArray[np.float64]:
    """Fluxes of apertures that do not overlap on a ring."""
    n = max(int(2 * np.pi * radius_px / fwhm_px), 1)
    angles = 2 * np.pi * np.arange(n) / n
    half = len(flux) // 2
    y, x = half + radius_px * np.sin(angles), half + radius_px * np.cos(angles)
    return ndimage.map_coordinates(flux, [y, x], order=1, mode="nearest").astype(float)


def _companions(
    place: _Place, components: Components, count: int, residual: Image
) -> tuple[tuple[Detection, ...], Image]:
    """Companions, each subtracted before the next is looked for, and what is left without them."""
    left = residual.copy()
    refused = np.zeros(residual.shape, bool)
    found: list[Detection] = []
    while len(found) < MAX_DETECTIONS:
        snr = np.where(refused, np.nan, snr_map(left, place.fwhm_px))
        y, x, level = brightest_source(snr, place.fwhm_px, INNER_FWHM * place.fwhm_px)
        if level < FOUND:
            break
        detection, model = _measured(place, components, count, left, (y, x), (snr[y, x], level))
        if not detection.flux_ratio > 0 or detection.likeness < LEAST_LIKENESS or _is_ghost(detection, found, place):
            refused |= np.hypot(*(np.indices(left.shape) - np.array([[[y]], [[x]]]))) < place.fwhm_px
            continue
        found.append(detection)
        left = left - model
    return tuple(sorted(found, key=lambda item: -item.flux_ratio)), left


def _is_ghost(new: Detection, known: Sequence[Detection], place: _Place) -> bool:
    """Whether a source is rather what is left of a brighter companion close to it."""
    return any(
        np.hypot(new.dy - other.dy, new.dx - other.dx) < GHOST_FWHM * place.fwhm_px
        and new.flux_ratio < GHOST_RATIO * other.flux_ratio
        for other in known
    )


def _measured(
    place: _Place,
    components: Components,
    count: int,
    residual: Image,
    pixel: tuple[int, int],
    seen: tuple[float, float],
) -> tuple[Detection, Image]:
    """Position and flux of a source: what the subtraction would leave of a companion there is fitted to it."""
    half = place.side // 2
    smooth = ndimage.gaussian_filter(np.nan_to_num(residual), place.fwhm_px / 4)
    y, x = _highest(smooth, pixel, place.fwhm_px)
    for _ in range(3):
        shape = np.nan_to_num(components.subtract(place.companion(y - half, x - half), [count])[0])
        step, ratio = _refined(np.nan_to_num(residual), shape, (y, x), place.fwhm_px)
        y, x = y + step[0], x + step[1]
    near = np.hypot(*(np.indices(residual.shape) - np.array([[[y]], [[x]]]))) < 1.2 * place.fwhm_px
    likeness = float(np.corrcoef(np.nan_to_num(residual)[near], shape[near])[0, 1]) if shape[near].std() > 0 else 0.0
    error = abs(ratio) / max(float(seen[0]), 1e-6)
    detection = Detection(y - half, x - half, ratio, error, float(seen[0]), float(seen[1]), likeness)
    return detection, np.asarray(ratio * shape, np.float32)


def _highest(image: NDArray, pixel: tuple[int, int], fwhm_px: float) -> tuple[float, float]:
    """Highest pixel within half a FWHM of a pixel."""
    distance = np.hypot(*(np.indices(image.shape) - np.array(pixel).reshape(2, 1, 1)))
    y, x = np.unravel_index(np.argmax(np.where(distance <= fwhm_px / 2, image, -np.inf)), image.shape)
    return float(y), float(x)


def _refined(
    residual: NDArray, shape: NDArray, centre: tuple[float, float], fwhm_px: float
) -> tuple[tuple[float, float], float]:
    """One Gauss-Newton step of position and flux on the pixels within a FWHM of the source."""
    near = np.hypot(*(np.indices(residual.shape) - np.array(centre).reshape(2, 1, 1))) < fwhm_px
    slope_y, slope_x = np.gradient(shape)
    columns = np.stack([shape[near], -slope_y[near], -slope_x[near], np.ones(int(near.sum()))], axis=1)
    solution = np.linalg.lstsq(columns, residual[near], rcond=None)[0]
    ratio = float(solution[0])
    limit = fwhm_px / 3
    step = solution[1:3] / ratio if ratio != 0 else np.zeros(2)
    dy, dx = np.clip(step, -limit, limit)
    return (float(dy), float(dx)), ratio


def companion_of(stamp: NDArray, others: NDArray, fwhm_px: float) -> str:
    """Say which companion speaks against a star as a reference; nothing for a single star.

    The star is subtracted with the help of other stars: what they have in common are speckles, not companions. Of
    fewer than `LEAST_OTHERS` the halo, the median of each ring, is subtracted instead.

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
    """
    if len(others) >= LEAST_OTHERS:
        found = subtract_star(stamp, others, fwhm_px).detections
        return f"a companion {found[0].separation_px:.0f} pixels away, {found[0].snr:.1f} sigma" if found else ""
    fwhm_px = max(fwhm_px, LEAST_FWHM_PX)
    y, x, level = brightest_source(snr_map(without_halo(stamp), fwhm_px), fwhm_px, 2 * fwhm_px)
    distance = np.hypot(y - len(stamp) // 2, x - len(stamp) // 2)
    return f"something {distance:.0f} pixels away, {level:.1f} sigma" if level >= FOUND else ""
