"""Search for companions in a star-subtracted stamp: each is measured in the noise that is left without the others."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.psf.companion_detection import (
    aperture_flux,
    brightest_source,
    noise_tail,
    significance,
    snr_at,
    snr_map,
)
from obsarchive.science.psf.companion_fit import fit_companion
from obsarchive.science.psf.injected_companions import HALO_FWHM, INNER_FWHM, Place
from obsarchive.science.psf.subtraction import Components, radii
from obsarchive.science.statistics import median_of_all, robust_sigma

FOUND = 5.0
"""Significance of a companion [standard deviations]."""
CANDIDATE = 3.5
"""Significance from which a source is fitted: in the map its own wings count as noise [standard deviations]."""
BRIGHT = 8.0
"""S/N above robust noise of companions that may hide others, and the significance that these need together."""
MAX_DETECTIONS = 8
LEAST_LIKENESS = 0.6
"""Least likeness of a companion and the PSF: that of cosmic rays and ridges of speckles is lower."""
GHOSTS = ((6.0, 0.05), (HALO_FWHM, 0.01))
"""Distances from a companion [FWHM] and flux ratios to it, below both of which a source is what its subtraction leaves.

Far out it is the noise of its halo, which the other places of the ring around the star do not have.
"""


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
        Correlation with the PSF, over that of a companion in the noise around.
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


@dataclass(frozen=True)
class Tail:
    """Lengths of the tail of the noise: where references are subtracted, and in the margin around.

    Attributes
    ----------
    inner, outer : float
        See :func:`.companion_detection.noise_tail`.
    radius_px : float
        Where the margin begins [pixel].
    """

    inner: float
    outer: float
    radius_px: float

    @classmethod
    def of(cls, snr: Float32Array, place: Place, components: Components) -> "Tail":
        """Return the tails of a map of S/N (side, side)."""
        # apertures on the border hold noise of both
        radius = components.references.radius_px - place.fwhm_px / 2
        if components.references.beyond is None:
            radius = np.inf
        inner = noise_tail(snr, place.fwhm_px, INNER_FWHM * place.fwhm_px, radius)
        return cls(inner, noise_tail(snr, place.fwhm_px, radius) if np.isfinite(radius) else inner, radius)

    def at(self, radius_px: FloatArray) -> FloatArray:
        """Return the tail at each separation [pixel]."""
        return np.where(radius_px <= self.radius_px, self.inner, self.outer)


def find_companions(
    place: Place, components: Components, count: int, residual: Float32Array, snr: Float32Array
) -> tuple[tuple[Detection, ...], Float32Array, Tail]:
    """Find companions, each subtracted before the next is searched.

    Parameters
    ----------
    place : Place
        The star.
    components : Components
        What was subtracted.
    count : int
        Number of components subtracted.
    residual : ndarray (side, side)
        Star-subtracted stamp; NaN where unknown.
    snr : ndarray (side, side)
        Its map, from :func:`.companion_detection.snr_map`.

    Returns
    -------
    companions : tuple of Detection
        Brightest first.
    left : ndarray (side, side)
        The residual without them.
    tail : Tail
        That of its noise.
    """
    beyond, radius = INNER_FWHM * place.fwhm_px, radii(place.side)
    found, left = _together(place, components, count, residual)
    if found:
        snr = snr_map(left, place.fwhm_px)
    tail = Tail.of(snr, place, components)
    refused = np.zeros(residual.shape, bool)
    while True:
        y, x, level = brightest_source(np.where(refused, np.nan, snr), place.fwhm_px, beyond, tail.at(radius))
        if level < CANDIDATE or len(found) == MAX_DETECTIONS:
            return tuple(_by_light(found)), left, tail
        detection, model = measured(place, components, count, left, (y, x))
        if _is_companion(detection) and not _is_ghost(detection, found, place):
            # a companion is no part of the noise whose tail it has to exceed
            rest_snr = snr_map(left - model, place.fwhm_px)
            rest_tail = Tail.of(rest_snr, place, components)
            detection = _in_noise(detection, place, rest_tail)
            if detection.significance >= FOUND:
                found.append(detection)
                left, snr, tail = left - model, rest_snr, rest_tail
                # those that were refused may exceed the tail without this one
                refused[:] = False
                continue
        # rejected sources are masked, or the search would find them again
        refused |= np.hypot(*(np.indices(left.shape) - np.array([[[y]], [[x]]]))) < place.fwhm_px


def _together(
    place: Place, components: Components, count: int, residual: Float32Array
) -> tuple[list[Detection], Float32Array]:
    """Return bright companions of which each is noise on the rings of others, and the residual without them.

    One by one none would stand out: two equal ones at one separation have an S/N of 6 in 50 apertures.
    """
    sources: list[Detection] = []
    pixels: list[tuple[int, int]] = []
    left = residual
    while len(sources) < MAX_DETECTIONS:
        snr = _robust_snr(left, place)
        y, x = (int(c) for c in np.unravel_index(np.argmax(snr), snr.shape))
        if snr[y, x] < BRIGHT:
            break
        source, model = measured(place, components, count, left, (y, x))
        if not source.flux_ratio > 0 or source.likeness < LEAST_LIKENESS:
            break
        sources.append(source)
        pixels.append((y, x))
        left = left - model
    found: list[Detection] = []
    if len(sources) < 2:
        return found, residual
    # copies of companions in the model of each other would be noise, too
    alone = place.without([(item.dy, item.dx, item.flux_ratio) for item in _by_light(sources)])
    models = [
        np.float32(item.flux_ratio) * components.subtract(alone.sharp_companion(item.dy, item.dx), [count])[0]
        for item in sources
    ]
    left = residual - np.sum(models, axis=0)
    tail, rest = Tail.of(snr_map(left, place.fwhm_px), place, components), residual
    again = [
        measured(alone, components, count, left + model, pixel) for model, pixel in zip(models, pixels, strict=True)
    ]
    for source, model in sorted(again, key=lambda item: -item[0].flux_ratio):
        seen = _in_noise(source, place, tail)
        if seen.significance >= BRIGHT and _is_companion(source) and not _is_ghost(source, found, place):
            found.append(seen)
            rest = rest - model
    return found, rest


def _by_light(sources: Sequence[Detection]) -> list[Detection]:
    """Return sources, brightest first."""
    return sorted(sources, key=lambda item: -item.flux_ratio)


def _robust_snr(residual: Float32Array, place: Place) -> Float64Array:
    """Return how far apertures lie above the median of their ring, which few companions on it hardly raise."""
    flux, radius = aperture_flux(residual, place.fwhm_px), radii(place.side)
    snr = np.full(residual.shape, -np.inf)
    inside = (radius >= INNER_FWHM * place.fwhm_px) & (radius <= place.radius_px[-1])
    known = np.flatnonzero(np.isfinite(residual) & inside)
    rings = np.rint(radius.flat[known]).astype(int)
    order = np.argsort(rings, kind="stable")
    for ring in np.split(known[order], np.flatnonzero(np.diff(rings[order])) + 1):
        scatter = robust_sigma(flux.flat[ring])
        if scatter > 0:
            snr.flat[ring] = (flux.flat[ring] - median_of_all(flux.flat[ring])) / scatter
    return snr


def _in_noise(source: Detection, place: Place, tail: Tail) -> Detection:
    """Return a source with the significance that it has in noise with this tail."""
    return replace(source, significance=_significance(source, place, float(tail.at(np.array(source.separation_px)))))


def _significance(source: Detection, place: Place, tail: float) -> float:
    """Return the significance of a source in noise whose tail has this length."""
    return float(significance(np.array([source.snr]), np.array([source.separation_px]), place.fwhm_px, tail)[0])


def _is_companion(source: Detection) -> bool:
    """Return whether a source is significant where it was fitted, and alike a star."""
    return source.significance >= FOUND and source.flux_ratio > 0 and source.likeness >= LEAST_LIKENESS


def _is_ghost(new: Detection, known: Sequence[Detection], place: Place) -> bool:
    """Return whether a source is a residual of a brighter companion close to it."""
    return any(
        np.hypot(new.dy - other.dy, new.dx - other.dx) < distance_fwhm * place.fwhm_px
        and new.flux_ratio < ratio * other.flux_ratio
        for other in known
        for distance_fwhm, ratio in GHOSTS
    )


def measured(
    place: Place,
    components: Components,
    count: int,
    residual: Float32Array,
    pixel: tuple[int, int],
) -> tuple[Detection, Float32Array]:
    """Fit a source.

    Parameters
    ----------
    place : Place
        The star.
    components : Components
        What was subtracted.
    count : int
        Number of components subtracted.
    residual : ndarray (side, side)
        Star-subtracted stamp; NaN where unknown.
    pixel : (int, int)
        Highest pixel of the source.

    Returns
    -------
    source : Detection
        Its significance is that in Gaussian noise.
    model : ndarray (side, side)
        What the subtraction leaves of it.
    """
    fit = fit_companion(
        residual, lambda dy, dx: components.subtract(place.sharp_companion(dy, dx), [count])[0], pixel, place.fwhm_px
    )
    rest = residual - fit.model
    # not of the most significant pixel, which lies outwards of a source where the noise falls with the radius
    snr = snr_at(residual, rest, (fit.dy, fit.dx), place.fwhm_px)
    of_ring = np.array([fit.flux_ratio_error, fit.radial_error_px, fit.tangential_error_px])
    photon_variance = place.photon_variance(rest, fit.weights[0], (fit.dy, fit.dx))
    errors = np.sqrt(of_ring**2 + fit.photon_variances(place.psf, photon_variance))
    detection = Detection(
        fit.dy,
        fit.dx,
        fit.flux_ratio,
        float(errors[0]),
        float(errors[1]),
        float(errors[2]),
        snr,
        np.nan,
        fit.likeness,
    )
    return replace(detection, significance=_significance(detection, place, 1.0)), fit.model
