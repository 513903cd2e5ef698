"""Lucky imaging of one sequence: its guide star, and the stacks of its frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import Float32Array, Float64Array, IndexArray
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.hot_pixels import FIFTH, THIRD, remove_spikes, sharpest_star
from obsarchive.science.imaging.medians import median_of
from obsarchive.science.imaging.resampling import Turn
from obsarchive.science.registration.frame_measure import LEAST_CORE_PX
from obsarchive.science.registration.frame_orientation import orient
from obsarchive.science.registration.frame_ranking import (
    MIN_STEADY_FRAMES,
    FrameMeasure,
    FrameRanking,
    GuideStar,
    guide_star,
    without_star,
)
from obsarchive.science.registration.frame_ranking import locate as locate_star
from obsarchive.science.registration.frame_ranking import measure as measure_star
from obsarchive.science.registration.guide_star_neighbours import (
    centred,
    followed,
    is_pair,
    light_at,
    neighbours,
    opposites,
    smoothed,
)
from obsarchive.science.registration.stack_check import LEAST_STARS
from obsarchive.science.registration.star_patterns import star_list
from pipelines.shared.field_stars import checked
from pipelines.shared.frame_sequence import SCALE, FrameSequence, pixfrac_for
from pipelines.shared.product_headers import optics_of

SUBSETS, SUBSET_FRAMES = 5, 9
"""The guide star is looked for on medians of this many subsets, of at most so many frames each."""
MOVING_MIN_SNR = 10.0
"""A star that is somewhere else in every frame must stand out in each: single electrons reach 8."""
SPIKE = 10.0
"""Times the brightest thousandth of the sky's pixels: no chain of single electrons reaches it."""
MOST_APART_PX = 4.0
"""Difference of the shift by the guide star from that by all stars; at least the FWHM."""
LEAST_NEIGHBOUR_SNR = 50.0
"""Of the guide star in the median frame: a star of a tenth of its light is then seen in each."""
NEIGHBOUR_CORES, LEAST_NEIGHBOUR_PX = 4.0, 5.0
"""Least distance of another star from the guide star."""
NO_STAR = FrameMeasure(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, snr=0.0, sharpness=np.nan, brightest=np.nan)


class LuckySequence(FrameSequence):
    """The frames of an observation, read twice: the guide star is measured in each, then they are stacked.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    window_arcsec : float
        Least side of the window around the guide star [arcsec].
    core_px : float
        Sigma of the star's core where the filter is unknown [raw pixel].
    """

    def __init__(self, work: Workspace, frames: Frames, window_arcsec: float, core_px: float) -> None:
        super().__init__(work, frames)
        self.half = self.half_window_px(window_arcsec, 8)
        optics = optics_of(work)
        if optics is not None:
            core_px = 0.5 * optics.lambda_over_d_arcsec / work.telescope.plate_scale_arcsec
        self.diffraction_px = core_px
        self.core_px = max(LEAST_CORE_PX, core_px)
        self.odd: list[int] = []

    def measure(self) -> tuple[GuideStar, list[FrameMeasure], Float64Array]:
        """Find the guide star and measure it in every frame.

        Returns
        -------
        star : GuideStar
            The guide star where it is most significant.
        measures : list of n FrameMeasure
            The guide star in every frame, within a window around it.
        origins : ndarray (n, 2)
            First pixel (y0, x0) of each window.

        Raises
        ------
        Unprocessable
            No frame shows a star.
        """
        stars = self._stars()
        found = [star for star in stars if star]
        if not found:
            raise Unprocessable(f"no guide star: no source stands out in any of the {len(stars)} frames", "zero_flux")
        # One window and aperture for all, those of the largest image: peaks are compared at equal flux.
        scale = max(star.scale_px for star in found)
        measures, origins = [NO_STAR] * len(stars), np.zeros((len(stars), 2))

        def measure_frame(i: int, star: GuideStar | None) -> None:
            if star is not None:
                window, origins[i] = self._window(i, replace(star, scale_px=scale))
                measures[i] = measure_star(window, self.diffraction_px, scale)

        for i, star in enumerate(stars):
            self.work.progress(0.4 * i / len(stars), "measuring the guide star")
            measure_frame(i, star)
        # In a frame that slipped the star is somewhere else; a frame without any stays as it is.
        for i in np.flatnonzero(without_star(measures)).tolist():
            measure_frame(i, self._locate(i))
        self._follow_one_star(measures, origins)
        return max(found, key=lambda star: star.snr), measures, origins

    def _follow_one_star(self, measures: list[FrameMeasure], origins: Float64Array) -> None:
        """Move frames that follow another star as bright to the guide star, and note those with other neighbours."""
        used = np.flatnonzero(~without_star(measures)).tolist()
        if len(used) < 2 or np.median([measures[i].snr for i in used]) < LEAST_NEIGHBOUR_SNR:
            return
        offsets, light = self._neighbours(measures, origins, used)
        if not len(offsets):
            return
        found = followed(light, offsets)
        self.odd = [i for i, is_odd in zip(used, found.is_odd, strict=True) if is_odd]
        if not is_pair(light):
            return
        reach_px = float(np.hypot(*offsets.T).min()) / 2
        for i, move in zip(used, found.moves, strict=True):
            noise = measures[i].noise
            if move.any():
                measures[i] = self._at_core(i, measures[i], origins[i], move, reach_px)
            elif noise is not None:
                measures[i] = replace(measures[i], noise=noise.within(reach_px))

    def _neighbours(
        self, measures: list[FrameMeasure], origins: Float64Array, used: list[int]
    ) -> tuple[IndexArray, Float64Array]:
        """Offsets of stars beside the guide star, and their light in each frame; of a pair, frames are put on cores.

        The centroid of a pair lies between its stars: where some frames show a core, it is the position in all.
        """
        beside = self._beside(measures, origins, used)
        blunt = [i for i in used if not measures[i].is_core]
        if not blunt or (len(blunt) == len(used) and not len(beside[0])):
            return beside
        cores = list(measures)
        for i in blunt:
            cores[i] = self._at_core(i, measures[i], origins[i])
        by_cores = self._beside(cores, origins, used)
        if not is_pair(by_cores[1]):
            return beside
        measures[:] = cores
        return by_cores

    def _beside(
        self, measures: list[FrameMeasure], origins: Float64Array, used: list[int]
    ) -> tuple[IndexArray, Float64Array]:
        """Offsets of stars beside the guide star in the mean of the used frames, and their light in each."""

        def view(i: int, core_px: float = 0) -> Float32Array:
            m = measures[i]
            place = origins[i] + np.array([m.y, m.x])
            window, corner = self._cut(i, place, self.half)
            y, x = place - corner
            above = (window - m.background) / m.peak
            return centred(smoothed(above, core_px) if core_px else above, y, x)

        total = np.zeros_like(view(used[0]), np.float64)
        count = np.zeros_like(total)
        for i in used:
            image = view(i)
            total += np.nan_to_num(image)
            count += np.isfinite(image)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > len(used) / 2)
        least_px = max(LEAST_NEIGHBOUR_PX, NEIGHBOUR_CORES * self.core_px)
        offsets = neighbours(smoothed(mean, self.core_px), least_px)

        def light(places: IndexArray) -> Float64Array:
            if not len(places):
                return np.zeros((len(used), 0))
            return np.array([light_at(view(i, self.core_px), places) for i in used])

        found = light(offsets)
        more = opposites(offsets, found)
        return np.vstack([offsets, more]), np.hstack([found, light(more)])

    def _at_core(
        self,
        i: int,
        measured: FrameMeasure,
        origin: Float64Array,
        move: Sequence[float] | Float64Array = (0.0, 0.0),
        reach_px: float = np.inf,
    ) -> FrameMeasure:
        """Return a measurement with the position of the core, within reach of a star that is (dy, dx) away."""
        place = origin + np.array([measured.y, measured.x]) + move
        window, corner = self._cut(i, place, self.half)
        y, x = (place - corner).tolist()
        star = measure_star(window, self.diffraction_px, near=(y, x, reach_px))
        y, x = np.array([star.y, star.x]) + corner - origin
        return replace(measured, y=float(y), x=float(x), peak=star.peak, is_core=True, noise=star.noise)

    def _cut(self, i: int, centre: Float64Array, half: int) -> tuple[Float32Array, tuple[int, int]]:
        """Window of a frame around a position, moved inwards at the edges, and its first pixel (y0, x0)."""
        (y0, x0) = (
            int(np.clip(round(place) - half, 0, max(n - 2 * half, 0)))
            for place, n in zip(centre.tolist(), self.frames.shape, strict=True)
        )
        return self.read_window(i, (y0, x0), (2 * half, 2 * half)), (y0, x0)

    def _stars(self) -> list[GuideStar | None]:
        """Guide star by frame: found in each of a short sequence, in which it may jump, else once for all."""
        n = len(self.frames)
        located = [self._locate(i) for i in range(n)] if n < MIN_STEADY_FRAMES else []
        if sum(star is not None for star in located) > n / 2:
            return located
        steady = self._find()
        return [steady] * n if steady else located or [self._locate(i) for i in range(n)]

    def _find(self) -> GuideStar | None:
        """Guide star on medians of subsets; None when the star does not stay in one place."""
        n = len(self.frames)
        if n < SUBSETS:
            return None
        subsets = [range(k, n, SUBSETS) for k in range(SUBSETS)]
        medians = np.stack([self._median(list(subset)) for subset in subsets])
        self.fill_hot_pixels(list(medians))
        try:
            return guide_star(medians)
        except Unprocessable:
            if n > SUBSETS * SUBSET_FRAMES:
                raise
            return None

    def _median(self, indices: list[int]) -> Float32Array:
        chosen = indices[:: max(1, len(indices) // SUBSET_FRAMES)][:SUBSET_FRAMES]
        return median_of([self.read(i) for i in chosen])

    def _locate(self, i: int) -> GuideStar | None:
        """Brightest star of one frame; None when there is no clear one."""
        try:
            star = locate_star(self.read(i))
        except Unprocessable:
            return None
        return star if star.snr >= MOVING_MIN_SNR else None

    def _window(self, i: int, star: GuideStar) -> tuple[Float32Array, tuple[int, int]]:
        """Window around the star, moved inwards at the edges of the frame, and its first pixel (y0, x0)."""
        return self._cut(i, np.array([star.y, star.x]), max(self.half, star.half_window_px))

    def stack(self, ranking: FrameRanking, best_fraction: float) -> tuple[Drizzle, Drizzle]:
        """Drizzle the best frames, and all good frames; each frame is read once.

        Parameters
        ----------
        ranking : FrameRanking
            Ranking and shifts of the frames.
        best_fraction : float
            Fraction of the good frames in the first stack, 0 to 1.

        Returns
        -------
        (Drizzle, Drizzle)
            Stacks of the best frames and of all good ones.
        """
        chosen = set(ranking.best(best_fraction).tolist())
        pixfrac = pixfrac_for(ranking.shifts[sorted(chosen)])
        best = Drizzle(self.frames.shape, SCALE, pixfrac)
        every = Drizzle(self.frames.shape, SCALE, pixfrac)
        threshold = self._spike_level(ranking)
        sharpest = [sharpest_star(self.diffraction_px, rank) for rank in (THIRD, FIFTH)]
        for i, frame in self.calibrated(np.flatnonzero(ranking.kept).tolist(), 0.4, 1.0, "stacking"):
            remove_spikes(frame, threshold, *sharpest)
            (best if i in chosen else every).add(frame, *ranking.shifts[i])
        # Both stacks have the same grid: the best frames need not be drizzled again.
        return best, every.merge(best)

    def confirmed(self, ranking: FrameRanking) -> FrameRanking:
        """Reject frames whose other stars contradict the guide star: those beside it, in a short sequence all.

        Of frames without a star it is said what is the matter with their pixels.

        Parameters
        ----------
        ranking : FrameRanking
            Ranking and shifts of the frames by the guide star.

        Returns
        -------
        FrameRanking
            The same, with fewer frames kept where stars contradict.
        """
        reasons = list(self.explained(ranking.reasons))
        for i in self.odd:
            reasons[i] = reasons[i] or "contradicted: a star beside the guide star is not where most frames have it"
        ranking = _rejected(ranking, reasons)
        chosen = np.flatnonzero(ranking.kept).tolist()
        if not 1 < len(chosen) < MIN_STEADY_FRAMES:
            return ranking
        lists = [star_list(self.read(i)) for i in chosen]
        field = orient(lists)
        known = field.shifts(self.frames.shape)
        apart = np.array([ranking.shifts[i] - known.get(k, (np.nan, np.nan)) for k, i in enumerate(chosen)])
        straight = [k for k in known if k not in field.turned and len(lists[k]) >= LEAST_STARS]
        if len(straight) < 2:
            return ranking
        distance = np.hypot(*(apart - _most_common(apart[straight])).T)
        for k, i in enumerate(chosen):
            if field.reasons[k] or k in field.turned:
                reasons[i] = field.reasons[k] or f"contradicted: {field.turned[k]}"
            elif k in straight and distance[k] > max(MOST_APART_PX, lists[k].usual_fwhm_px):
                reasons[i] = f"contradicted: other stars put the guide star {distance[k]:.0f} px away"
        return _rejected(ranking, reasons)

    def check(self, ranking: FrameRanking, image: Float32Array) -> dict[str, Any]:
        """Compare the stack of a short sequence with its best frame.

        Single frames of long sequences are speckled.

        Parameters
        ----------
        ranking : FrameRanking
            Ranking and shifts of the frames.
        image : ndarray
            Stack of all good frames.

        Returns
        -------
        dict
            For the results of the step; empty for long sequences, and if the frame shows too few stars.

        Raises
        ------
        Unprocessable
            The stars of the stack are not those of the frame.
        """
        if not 1 < len(ranking.order) < MIN_STEADY_FRAMES:
            return {}
        witness = int(ranking.order[0])
        stars = star_list(self.read(witness))
        if len(stars) < LEAST_STARS:
            return {}
        turn = Turn.shift(*ranking.shifts[witness])
        return checked(image, SCALE, stars, turn, witness, is_speckled=True)

    def _spike_level(self, ranking: FrameRanking) -> float:
        """Level that only cosmic rays reach in a single pixel: far above single electrons beside the star."""
        sample = np.flatnonzero(ranking.kept)[:: max(1, int(ranking.kept.sum()) // SUBSET_FRAMES)]
        y, x = np.ogrid[: self.frames.shape[0], : self.frames.shape[1]]
        star_y, star_x = ranking.reference
        beside = np.maximum(abs(y - star_y), abs(x - star_x)) > self.half
        if not beside.any():
            return np.inf
        levels = [np.nanpercentile(self.read(i)[beside], [50, 99.9]) for i in sample.tolist()]
        sky, bright = np.median(levels, axis=0)
        return float(sky + SPIKE * max(bright - sky, 1.0))


def _rejected(ranking: FrameRanking, reasons: list[str]) -> FrameRanking:
    """Return a ranking with these reasons why frames are rejected."""
    kept = np.array([not reason for reason in reasons], bool)
    shifts = np.where(kept[:, np.newaxis], ranking.shifts, 0.0)
    order = ranking.order[kept[ranking.order]]
    return replace(ranking, kept=kept, reasons=tuple(reasons), order=order, shifts=shifts)


def _most_common(differences: Float64Array) -> Float64Array:
    """Return the difference (dy, dx) that most others are close to, of (n, 2)."""
    near = np.hypot(*(differences[:, np.newaxis] - differences).transpose(2, 0, 1)) < MOST_APART_PX
    common: Float64Array = differences[int(np.argmax(near.sum(axis=1)))]
    return common
