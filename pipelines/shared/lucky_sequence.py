"""Lucky imaging of one sequence: its guide star, and the stacks of its frames."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.hot_pixels import remove_spikes
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
from pipelines.shared.calibrator import Calibrator
from pipelines.shared.product_headers import optics_of

SCALE = 2
PIXFRACS = (0.45, 0.6, 0.8, 1.0)
"""Sides of a drop: the first for as many frames as lucky imaging has, the last covers evenly with a single one."""
LEAST_COVERAGE, LEAST_FRAMES = 0.25, 3
"""Of the mean weight, and of frames on average: what every pixel of a stack must have."""
SUBSETS, SUBSET_FRAMES = 5, 9
"""The guide star is looked for on medians of this many subsets, of at most so many frames each."""
MOVING_MIN_SNR = 10.0
"""A star that is somewhere else in every frame must stand out in each: single electrons reach 8."""
SPIKE = 10.0
"""Times the brightest thousandth of the sky's pixels: no chain of single electrons reaches it."""
NO_STAR = FrameMeasure(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, snr=0.0, sharpness=np.nan, brightest=np.nan)


class LuckySequence:
    """The frames of an observation, looked at twice: the guide star in each, then the stack.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    with_masters : Calibrator
        What they are calibrated with.
    window_arcsec : float
        Least side of the window around the guide star [arcsec].
    core_px : float
        Sigma of the star's core where the filter is unknown [raw pixel].
    """

    def __init__(
        self, work: Workspace, frames: Frames, with_masters: Calibrator, window_arcsec: float, core_px: float
    ) -> None:
        self.work, self.frames, self.calibrator = work, frames, with_masters
        telescope = work.telescope
        self.half = max(8, round(window_arcsec / telescope.plate_scale_arcsec / 2))
        optics = optics_of(work)
        self.core_px = core_px
        if optics is not None:
            self.core_px = max(0.6, 0.5 * optics.lambda_over_d_arcsec / telescope.plate_scale_arcsec)
        self.saturation = with_masters.saturation(telescope.saturation_adu or frames.saturation)

    def measure(self) -> tuple[GuideStar, list[FrameMeasure], np.ndarray]:
        """Find the guide star and measure it in every frame; windows' origins (n, 2) come along."""
        stars = self._stars()
        found = [star for star in stars if star]
        if not found:
            raise Unprocessable(f"no guide star: none of the {len(self.frames)} frames holds one", "zero_flux")
        # One window and aperture for all, those of the largest image: peaks are compared at equal flux.
        scale = max(star.scale_px for star in found)
        measures, origins = [], np.zeros((len(stars), 2))
        for i, star in enumerate(stars):
            self._progress(0.4, i, "measuring the guide star")
            if star is None:
                measures.append(NO_STAR)
                continue
            window, origins[i] = self._window(i, replace(star, scale_px=scale))
            measures.append(measure_star(window, self.core_px, scale))
        for i in np.flatnonzero(without_star(measures)).tolist():
            self._look_elsewhere(i, scale, measures, origins)
        return max(found, key=lambda star: star.snr), measures, origins

    def _look_elsewhere(self, i: int, scale: float, measures: list[FrameMeasure], origins: np.ndarray) -> None:
        """Measure the star of a frame where it has slipped to; a frame without any stays as it is."""
        star = self._locate(i)
        if star is not None:
            window, origins[i] = self._window(i, replace(star, scale_px=scale))
            measures[i] = measure_star(window, self.core_px, scale)

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
        try:
            return guide_star(medians)
        except Unprocessable:
            if n > SUBSETS * SUBSET_FRAMES:
                raise
            return None

    def _median(self, indices: list[int]) -> np.ndarray:
        chosen = indices[:: max(1, len(indices) // SUBSET_FRAMES)][:SUBSET_FRAMES]
        return np.median([self._read(i) for i in chosen], axis=0)

    def _locate(self, i: int) -> GuideStar | None:
        """Brightest star of one frame; None when there is no clear one."""
        try:
            star = locate_star(self._read(i))
        except Unprocessable:
            return None
        return star if star.snr >= MOVING_MIN_SNR else None

    def _window(self, i: int, star: GuideStar) -> tuple[np.ndarray, tuple[int, int]]:
        ny, nx = self.frames.shape
        half = max(self.half, star.half_window_px)
        y0 = min(max(round(star.y) - half, 0), max(ny - 2 * half, 0))
        x0 = min(max(round(star.x) - half, 0), max(nx - 2 * half, 0))
        raw = self.frames.window(i, y0, min(y0 + 2 * half, ny), x0, min(x0 + 2 * half, nx))
        return self.calibrator.calibration.apply(raw, origin=(y0, x0)), (y0, x0)

    def stack(self, ranking: FrameRanking, best_fraction: float) -> tuple[Drizzle, Drizzle]:
        """Drizzle every good frame once: the best ones apart, then all together."""
        chosen = set(ranking.best(best_fraction).tolist())
        pixfrac = pixfrac_for(ranking.shifts[sorted(chosen)])
        best = Drizzle(self.frames.shape, SCALE, pixfrac)
        every = Drizzle(self.frames.shape, SCALE, pixfrac)
        threshold = self._spike_level(ranking)
        for i, frame in self._calibrated(np.flatnonzero(ranking.kept)):
            remove_spikes(frame, threshold)
            (best if i in chosen else every).add(frame, *ranking.shifts[i])
        return best, every.merge(best)

    def _spike_level(self, ranking: FrameRanking) -> float:
        """Level that only cosmic rays reach in a single pixel: far above single electrons beside the star."""
        sample = np.flatnonzero(ranking.kept)[:: max(1, int(ranking.kept.sum()) // SUBSET_FRAMES)]
        y, x = np.ogrid[: self.frames.shape[0], : self.frames.shape[1]]
        star_y, star_x = ranking.reference
        beside = np.maximum(abs(y - star_y), abs(x - star_x)) > self.half
        if not beside.any():
            return np.inf
        levels = [np.nanpercentile(self._read(i)[beside], [50, 99.9]) for i in sample.tolist()]
        sky, bright = np.median(levels, axis=0)
        return float(sky + SPIKE * max(bright - sky, 1.0))

    def _calibrated(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        raw = np.empty(self.frames.shape, np.float32)
        frame = np.empty_like(raw)
        for done, i in enumerate(indices.tolist()):
            self._progress(0.4 + 0.6 * done / len(indices), None, "stacking")
            self.frames.read(i, raw)
            yield i, self.calibrator.calibration.apply(raw, frame)

    def _read(self, i: int) -> np.ndarray:
        return self.calibrator.calibration.apply(self.frames.read(i))

    def _progress(self, upto: float, i: int | None, text: str) -> None:
        self.work.progress(upto if i is None else upto * i / len(self.frames), text)


def pixfrac_for(shifts: np.ndarray) -> float:
    """Smallest drop with which frames of these shifts (n, 2) leave neither gaps nor pixels of a frame or two."""
    for pixfrac in PIXFRACS:
        sample = Drizzle((6, 6), SCALE, pixfrac)
        for dy, dx in shifts % 1.0:
            sample.add(np.zeros(sample.shape, np.float32), dy, dx)
        weights = sample.weights()[2 * SCALE : -2 * SCALE, 2 * SCALE : -2 * SCALE]
        enough = len(shifts) * pixfrac**2 >= LEAST_FRAMES
        if enough and weights.min() >= LEAST_COVERAGE * weights.mean():
            return pixfrac
    return PIXFRACS[-1]
