"""Contrast curves and companions of a PSF-subtracted star.

Noise is that of apertures of one FWHM on a ring, with small-sample statistics (Mawet et al. 2014, ApJ 792, 97): close
to the star there are only few of them. The throughput of the subtraction is that of injected companions. The curve is
the contrast at which the list of companions holds half of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, FloatArray
from obsarchive.science.psf.companion_detection import (
    LEAST_FWHM_PX,
    brightest_source,
    snr_map,
    without_halo,
)
from obsarchive.science.psf.companion_search import BRIGHT, LEAST_LIKENESS, Detection, find_companions, measured
from obsarchive.science.psf.injected_companions import (
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

FOUND_BY_HALO = 6.0
"""Significance of a companion where only the halo is subtracted [standard deviations]: the speckles of a star have
longer tails than what is left of them."""
MAX_BRIGHT = 3
"""Number of bright companions that do not count when the number of components is chosen."""
LEAST_OTHERS = 3
"""Number of other stars needed to distinguish speckles from companions."""
SHORTLIST = 4
"""Candidates, in units of the references wanted: those best correlated with the star before the high-pass filter."""
PASSES = 5
"""Most searches for companions, each with a model of the star without those of the one before."""
SETTLED = 3e-4
"""Change of a flux ratio from one search to the next below which no other one is needed."""
SUBTRACTED_FWHM = 1.0
"""Radius of the core of the star that is not subtracted [FWHM]."""


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
        detections, rest, tail = find_companions(model, components, counts[best], residuals[best], snr)
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
        source, _ = measured(place, components, counts[best], clean[best], (int(y), int(x)))
        if not source.flux_ratio > 0 or source.likeness < LEAST_LIKENESS:
            break
        companion = place.sharp_companion(source.dy, source.dx)
        clean = clean - np.float32(source.flux_ratio) * components.subtract(companion, counts)
    return injected.quietest(clean, np.std)


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
