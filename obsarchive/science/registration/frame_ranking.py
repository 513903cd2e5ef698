"""Frame selection of a lucky-imaging sequence by its guide star (detection and measurement: :mod:`.guide_star`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IndexArray
from obsarchive.science.registration.frame_measure import FrameMeasure, measure
from obsarchive.science.registration.guide_star import GuideStar, guide_star, locate
from obsarchive.science.registration.windows import cut
from obsarchive.science.statistics import median_of_all

__all__ = [
    "MIN_STEADY_FRAMES",
    "Classification",
    "FrameMeasure",
    "FrameRanking",
    "GuideStar",
    "classify",
    "cut",
    "guide_star",
    "locate",
    "measure",
    "rank_frames",
    "without_star",
]

Classification = Literal["zero_flux", "faint", "high_flux", "failed"]

STAR_MIN_SNR = 5.0  # below: no star in the frame
FLUX_MIN_SNR = 20.0  # above: peaks are compared at equal flux
HIGH_FLUX_MIN_SNR = 10.0  # median of the frames; below, registration on single frames follows the noise
BLACK_FRACTION = 0.02  # of the usual peak and flux; thick clouds still let through more
BRIGHT_TIMES = 5.0  # of the usual flux: no star varies so, sums of frames and frames of another star do
BRIGHT_QUANTILE = 0.75  # of the fluxes is the usual one: clouds may dim half of the frames
MIN_KEPT_FRACTION = 0.1
STEADY_RADIUS_PX = 32.0  # image motion and drift of a tracking telescope within one observation
MIN_STEADY_FRAMES = 15  # of fewer, a star that is somewhere else in one may as well have been moved there


@dataclass(frozen=True)
class FrameRanking:
    """Ranking, rejection and shift of each frame.

    Attributes
    ----------
    quality : ndarray (n,)
        Peak of the smoothed guide star, scaled to the median flux where fluxes are well measured, so that clouds and
        different exposures are not mistaken for bad seeing [counts/pixel]. NaN without a star.
    kept : ndarray (n,) of bool
        Frames to stack.
    reasons : tuple of str
        Why a frame is rejected; "" for those that are kept.
    order : ndarray (n_kept,) of int
        Kept frames, best first.
    shifts : ndarray (n, 2)
        (dy, dx) that moves the star of each frame to `reference` [pixel]; 0 for frames not kept.
    reference : (float, float)
        Median position (y, x) of the kept frames [pixel]; (0, 0) if there are none.
    snr : ndarray (n,)
        Significance of the star's core in each frame.
    """

    quality: Float64Array
    kept: BoolArray
    reasons: tuple[str, ...]
    order: IndexArray
    shifts: Float64Array
    reference: tuple[float, float]
    snr: Float64Array

    def best(self, fraction: float) -> IndexArray:
        """Return the best `fraction` (0 to 1) of the kept frames, at least one where there is any."""
        return self.order[: max(1, round(fraction * len(self.order)))]


def rank_frames(
    measures: Sequence[FrameMeasure],
    origins: FloatArray | None = None,
    *,
    saturation: float = np.inf,
) -> FrameRanking:
    """Rank frames by sharpness, and reject those that are black, bright, saturated or slipped.

    A frame has slipped when the star is displaced from its position in the others: most frames lie within a small
    radius of the median position and this one far outside of their scatter. Where the star has no such position, as in
    a dithered, slewing or short sequence, no frame counts as slipped and all frames with a star are kept.

    Parameters
    ----------
    measures : sequence of n FrameMeasure
        Guide star of every frame.
    origins : ndarray (n, 2), optional
        (y0, x0) of the window of each frame [pixel]; all windows are at the same position by default.
    saturation : float
        Level of the brightest pixel from which on a frame is saturated [counts].

    Returns
    -------
    FrameRanking
        Ranking of the n frames.
    """
    n = len(measures)
    snr = np.array([m.snr for m in measures], dtype=float)
    brightest = np.array([m.brightest for m in measures], dtype=float)
    positions = np.array([(m.y, m.x) for m in measures], dtype=float).reshape(n, 2)
    positions = positions + (0 if origins is None else origins)
    quality = _quality(measures, snr)

    has_star = np.isfinite(quality) & ~without_star(measures)
    saturated = brightest >= saturation
    light = _light(measures, has_star)
    bright = has_star & (light > BRIGHT_TIMES)
    # frames without a star have meaningless positions, and saturated ones biased
    slipped, reference = _slipped(positions, has_star & ~saturated & ~bright)
    kept = has_star & ~saturated & ~bright & ~slipped
    reasons = tuple(
        "black: no star stands out" if not snr[i] > 0
        else f"black: no star, S/N {snr[i]:.1f}" if not snr[i] >= STAR_MIN_SNR
        else f"black: {100 * light[i]:.2g} % of the usual light" if not has_star[i]
        else f"saturated: brightest pixel {brightest[i]:.0f} ADU, the limit is {saturation:.0f}" if saturated[i]
        else f"bright: {light[i]:.0f} times the usual light" if bright[i]
        else f"slipped: star {np.hypot(*(positions[i] - reference)):.0f} px off" if slipped[i]
        else ""
        for i in range(n)
    )  # fmt: skip
    order = np.flatnonzero(kept)
    # stable, so that equal frames keep the order of time
    order = order[np.argsort(-quality[order], kind="stable")]
    shifts = np.where(kept[:, np.newaxis], reference - positions, 0.0)
    return FrameRanking(quality, kept, reasons, order, shifts, (float(reference[0]), float(reference[1])), snr)


def without_star(measures: Sequence[FrameMeasure]) -> BoolArray:
    """Return which frames have no star: no signal, or a small share of the usual one.

    Parameters
    ----------
    measures : sequence of n FrameMeasure
        Guide star of every frame.

    Returns
    -------
    ndarray (n,) of bool
        True without a star.
    """
    snr, peak, flux = (np.array([getattr(m, name) for m in measures], dtype=float) for name in ("snr", "peak", "flux"))
    empty: BoolArray = ~(snr >= STAR_MIN_SNR)
    if empty.all():
        return empty
    with np.errstate(invalid="ignore"):
        faint = [values < BLACK_FRACTION * median_of_all(values[~empty]) for values in (peak, flux)]
    # both must be faint: bad seeing lowers the peak but not the flux
    empty |= faint[0] & faint[1]
    return empty


def classify(ranking: FrameRanking) -> Classification:
    """Return the kind of an observation.

    Parameters
    ----------
    ranking : FrameRanking
        Ranking of its frames.

    Returns
    -------
    {"zero_flux", "failed", "faint", "high_flux"}
        No frame has a star; less than a tenth of all frames can be used; the median
        signal-to-noise ratio of the star's core in the kept frames is below 10; none of these.
    """
    n_with_star = int(np.sum(ranking.snr >= STAR_MIN_SNR))
    if n_with_star == 0:
        return "zero_flux"
    n_kept = int(ranking.kept.sum())
    if n_kept < MIN_KEPT_FRACTION * len(ranking.kept) or n_kept == 0:
        return "failed"
    return "high_flux" if median_of_all(ranking.snr[ranking.kept]) >= HIGH_FLUX_MIN_SNR else "faint"


def _quality(measures: Sequence[FrameMeasure], snr: Float64Array) -> Float64Array:
    peak = np.array([m.peak for m in measures], dtype=float)
    flux = np.array([m.flux for m in measures], dtype=float)
    error = np.array([m.flux_error for m in measures], dtype=float)
    usable = (snr >= STAR_MIN_SNR) & (flux > 0)
    if not usable.any() or median_of_all(flux[usable]) < FLUX_MIN_SNR * median_of_all(error[usable]):
        # faint stars: a flux dominated by noise would make the ranking worse, not better
        return peak
    scaled = peak * median_of_all(flux[usable])
    quality: Float64Array = np.divide(scaled, flux, out=np.full(len(peak), np.nan), where=usable)
    return quality


def _light(measures: Sequence[FrameMeasure], has_star: BoolArray) -> Float64Array:
    """Return the flux of each frame over the usual one; 1 where it is not measured well."""
    flux, error = (np.array([getattr(m, name) for m in measures], dtype=float) for name in ("flux", "flux_error"))
    with np.errstate(invalid="ignore"):
        is_known = has_star & (flux > FLUX_MIN_SNR * error)
    if not is_known.any():
        return np.ones(len(flux))
    usual = float(np.quantile(flux[is_known], BRIGHT_QUANTILE))
    return np.where(is_known | ~has_star, flux / usual, 1.0)


def _slipped(positions: Float64Array, candidates: BoolArray) -> tuple[BoolArray, Float64Array]:
    """Return which frames have lost the star, and the median position (y, x) of the others."""
    none = np.zeros(len(positions), bool)
    if not candidates.any():
        return none, np.zeros(2)
    centre = np.median(positions[candidates], axis=0)
    distance = np.hypot(*(positions - centre).T)
    typical = median_of_all(distance[candidates])
    if candidates.sum() < MIN_STEADY_FRAMES or typical > STEADY_RADIUS_PX:
        return none, centre
    # six times the typical distance: far beyond image motion, and beyond the ends of a steady drift
    slipped = candidates & (distance > max(6 * typical, 8.0))
    return slipped, np.median(positions[candidates & ~slipped], axis=0)
