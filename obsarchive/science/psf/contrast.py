"""Contrast curves and companions of a PSF-subtracted star.

Noise is that of apertures of one FWHM on a ring, with small-sample statistics (Mawet et al. 2014, ApJ 792, 97): close
to the star there are only few of them. The throughput of the subtraction is that of injected companions. The curve is
the contrast at which the list of companions holds half of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, FloatArray
from obsarchive.science.psf.companion_detection import (
    LEAST_FWHM_PX,
    brightest_source,
    noise_tail,
    significance,
    snr_at,
    snr_map,
    without_halo,
)
from obsarchive.science.psf.companion_fit import fit_companion
from obsarchive.science.psf.injected_companions import (
    HALO_FWHM,
    INNER_FWHM,
    ContrastCurve,
    Place,
    Throughputs,
    robust_scatter,
)
from obsarchive.science.psf.subtraction import (
    STAMP_SIDE,
    Components,
    References,
    best_correlated,
    candidate_counts,
    central,
    radii,
    subtraction_mask,
)

__all__ = ["ContrastCurve", "Detection", "Subtraction", "companion_of", "subtract_star"]

FOUND = 5.0
"""Significance of a companion [standard deviations]."""
FOUND_BY_HALO = 6.0
"""The same where only the halo is subtracted: the speckles of a star have longer tails than what is left of them."""
CANDIDATE = 3.5
"""Significance from which a source is fitted: in the map its own wings count as noise [standard deviations]."""
BRIGHT, MAX_BRIGHT = 8.0, 3
"""S/N of companions, and number of them, that do not count when the number of components is chosen."""
MAX_DETECTIONS = 8
LEAST_LIKENESS = 0.6
"""Least likeness of a companion and the PSF: that of cosmic rays and ridges of speckles is lower."""
LEAST_OTHERS = 3
"""Number of other stars needed to distinguish speckles from companions."""
SHORTLIST = 4
"""Candidates, in units of the references wanted: those best correlated with the star before the high-pass filter."""
GHOSTS = ((6.0, 0.05), (HALO_FWHM, 0.01))
"""Distances from a companion [FWHM] and flux ratios to it, below both of which a source is what its subtraction leaves.

Far out it is the noise of its halo, which the other places of the ring around the star do not have.
"""
PASSES = 5
"""Most searches for companions, each with a model of the star without those of the one before."""
SETTLED = 3e-4
"""Change of a flux ratio from one search to the next below which no other one is needed."""
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
        Length of the tail of the noise: five sigma are this many times the S/N of Gaussian noise. In a margin, which
        no reference reaches, the tail is another one.
    """

    residual: Float32Array
    used: tuple[int, ...]
    n_components: int
    curve: ContrastCurve
    detections: tuple[Detection, ...] = field(default=())
    snr: Float32Array = field(default_factory=lambda: np.empty((0, 0), np.float32))
    tail: float = 1.0

    @property
    def holds_star(self) -> bool:
        """Whether a companion as bright as the star would be found anywhere; if not, the star itself is noise.

        Contrasts are negative where the middle of the star is darker than the background.
        """
        return bool(((self.curve.contrast > 0) & (self.curve.contrast < 1)).any())


@dataclass(frozen=True)
class _Tail:
    """Lengths of the tail of the noise: where references are subtracted, and in the margin around."""

    inner: float
    outer: float
    radius_px: float

    @classmethod
    def of(cls, snr: Float32Array, place: Place, components: Components) -> "_Tail":
        # apertures on the border hold noise of both
        radius = components.references.radius_px - place.fwhm_px / 2
        if components.references.beyond is None:
            radius = np.inf
        inner = noise_tail(snr, place.fwhm_px, INNER_FWHM * place.fwhm_px, radius)
        return cls(inner, noise_tail(snr, place.fwhm_px, radius) if np.isfinite(radius) else inner, radius)

    def at(self, radius_px: FloatArray) -> FloatArray:
        return np.where(radius_px <= self.radius_px, self.inner, self.outer)


def subtract_star(
    target: FloatArray,
    stamps: FloatArray,
    fwhm_px: float,
    most: int = 50,
    photon_variance: float | None = None,
) -> Subtraction:
    """Subtract a star with references of other stars, and detect its companions.

    The smooth halo is removed from target and references by a high-pass filter first. The number of components is the
    one with the best detection limit: it minimises the mean logarithm of noise over throughput, which counts both the
    residuals of the star and the loss of companion flux.

    Parameters
    ----------
    target : ndarray (side, side)
        Centred stamp of flux 1, from :func:`.subtraction.cut_stamp`, with or without a margin.
    stamps : ndarray (k, side, side)
        References, likewise, without a margin. In the margin of the target the mean profile of the star is subtracted.
    fwhm_px : float
        FWHM of the star [pixel].
    most : int
        Largest number of references, those best correlated with the target.
    photon_variance : float, optional
        Variance of the photons of the star over their flux, for the errors of companions; None to take an upper limit
        from the target: speckles add to it.

    Returns
    -------
    Subtraction
        Residual, contrast curve and companions.

    Raises
    ------
    Unprocessable
        There is no usable reference, or no ring around the star is known.
    """
    place = Place(target, fwhm_px, photon_variance)
    others = np.asarray(stamps, np.float32)
    others = others.reshape(-1, *(others.shape[-2:] if others.size else target.shape))
    inner = central(target, others.shape[-1])
    mask = subtraction_mask(inner, SUBTRACTED_FWHM * fwhm_px)
    # two passes: only references with a similar halo are high-pass filtered and compared again
    listed = best_correlated(inner, others, mask, SHORTLIST * most)
    sharp, sharpened = place.sharp(inner), np.array([place.sharp(stamp) for stamp in others[listed]], np.float32)
    used = best_correlated(sharp, sharpened.reshape(-1, *inner.shape), mask, most)
    if not used.size:
        raise Unprocessable(f"none of the {len(others)} references can be used: they hold no light")
    references = References(sharpened[used], mask)
    if place.side > len(inner):
        sharp, references = _with_margin(place, target, sharp, references)
    components = references.components()
    counts = candidate_counts(len(components.values))
    residuals = components.subtract(sharp, counts)
    found: tuple[Detection, ...] = ()
    for _ in range(PASSES):
        model = place.without([(item.dy, item.dx, item.flux_ratio) for item in found]) if found else place
        # the residual is linear in the target, so the throughput is measured without the star
        injected = Throughputs(model, components, counts)
        best = _best_count(injected, components, counts, residuals)
        snr = snr_map(residuals[best], place.fwhm_px)
        detections, rest, tail = _companions(model, components, counts[best], residuals[best], snr)
        settled = _are_settled(found, detections)
        found = detections
        if settled:
            break
    # companions must not count as noise of the final curve
    curve = injected.curve(rest, best, tail.at(place.radius_px))
    return Subtraction(
        residuals[best],
        tuple(listed[used].tolist()),
        counts[best],
        curve,
        found,
        snr,
        tail.inner,
    )


def _are_settled(before: Sequence[Detection], now: Sequence[Detection]) -> bool:
    """Return whether companions that are removed from the model of the star are found again with the same light."""
    if not now:
        return True
    return len(before) == len(now) and all(
        abs(new.flux_ratio - old.flux_ratio) < SETTLED for old, new in zip(before, now, strict=True)
    )


def _with_margin(
    place: Place, target: FloatArray, sharp: Float32Array, references: References
) -> tuple[Float32Array, References]:
    """Return the filtered target and its references with the margin of the target, where no reference is known."""
    side = len(sharp)
    whole, pad = place.sharp(without_halo(target)), (place.side - side) // 2
    radius = radii(place.side)
    central(whole, side)[references.mask] = sharp[references.mask]
    return whole, References(
        np.pad(references.stamps, ((0, 0), (pad, pad), (pad, pad))),
        np.pad(references.mask, pad),
        np.isfinite(target) & (radius > side // 2) & (radius <= place.side // 2),
    )


def _best_count(injected: Throughputs, components: Components, counts: Sequence[int], residuals: Float32Array) -> int:
    """Return which of the numbers of components has the least noise, without bright companions.

    The components remove a part of a companion, and spread it over the image: counted as noise, a companion would let
    few components seem better, with which it may not be found.
    """
    place, clean = injected.place, residuals
    near = radii(place.side) < INNER_FWHM * place.fwhm_px
    for _ in range(MAX_BRIGHT):
        best = injected.quietest(clean, robust_scatter)
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


def _companions(
    place: Place, components: Components, count: int, residual: Float32Array, snr: Float32Array
) -> tuple[tuple[Detection, ...], Float32Array, _Tail]:
    """Return companions, each subtracted before the next is searched, the residual without them, and its tail."""
    left, beyond, radius = residual.copy(), INNER_FWHM * place.fwhm_px, radii(place.side)
    tail = _Tail.of(snr, place, components)
    refused = np.zeros(residual.shape, bool)
    found: list[Detection] = []
    while True:
        y, x, level = brightest_source(np.where(refused, np.nan, snr), place.fwhm_px, beyond, tail.at(radius))
        if level < CANDIDATE or len(found) == MAX_DETECTIONS:
            return tuple(sorted(found, key=lambda item: -item.flux_ratio)), left, tail
        detection, model = _measured(place, components, count, left, (y, x))
        if _is_companion(detection) and not _is_ghost(detection, found, place):
            # a companion is no part of the noise whose tail it has to exceed
            rest_snr = snr_map(left - model, place.fwhm_px)
            rest_tail = _Tail.of(rest_snr, place, components)
            here = float(rest_tail.at(np.array(detection.separation_px)))
            detection = replace(detection, significance=_significance(detection, place, here))
            if detection.significance >= FOUND:
                found.append(detection)
                left, snr, tail = left - model, rest_snr, rest_tail
                # those that were refused may exceed the tail without this one
                refused[:] = False
                continue
        # rejected sources are masked, or the search would find them again
        refused |= np.hypot(*(np.indices(left.shape) - np.array([[[y]], [[x]]]))) < place.fwhm_px


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


def _measured(
    place: Place,
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


def companion_of(stamp: FloatArray, others: FloatArray, fwhm_px: float) -> str:
    """Return a description of the companion that disqualifies a star as a reference; empty for a single star.

    The star is subtracted with other stars as references: structures common to them are speckles, not companions. With
    fewer than `LEAST_OTHERS`, the halo, the median of each ring, is subtracted instead, and what lies beyond the stamps
    of references, where the edge of an image may be, does not count.

    Parameters
    ----------
    stamp : ndarray (side, side)
        Centred stamp of flux 1, with or without a margin.
    others : ndarray (k, side, side)
        Stamps of other stars with the same optics, without a margin.
    fwhm_px : float
        FWHM of the star [pixel].

    Returns
    -------
    str
        Separation and significance of the companion.

    Raises
    ------
    Unprocessable
        No ring around the star is known: it lies on the edge of the image.
    """
    if len(others) >= LEAST_OTHERS:
        found = subtract_star(stamp, others, fwhm_px).detections
        return f"a companion {found[0].separation_px:.0f} pixels away, {found[0].snr:.1f} sigma" if found else ""
    fwhm_px = max(fwhm_px, LEAST_FWHM_PX)
    # further out than otherwise: without references the speckles close to the star remain
    snr = snr_map(without_halo(stamp), fwhm_px)
    snr = np.where(radii(len(snr)) <= STAMP_SIDE // 2, snr, np.nan)
    y, x, level = brightest_source(snr, fwhm_px, 2 * fwhm_px)
    distance = np.hypot(y - len(stamp) // 2, x - len(stamp) // 2)
    return f"something {distance:.0f} pixels away, {level:.1f} sigma" if level >= FOUND_BY_HALO else ""
