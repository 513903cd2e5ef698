"""Registration of one sequence on a star, or a field, that is too faint to be measured in its frames."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from obsarchive.science.imaging.cosmics import SHARP_OBJECT_LIMIT, common_signal, moved, without_cosmic_rays
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.registration.alignment import Alignment, align, coarse_shifts
from obsarchive.science.registration.frame_ranking import MIN_STEADY_FRAMES, GuideStar, guide_star, locate
from obsarchive.science.registration.guide_star import LEAST_SIDE_PX
from obsarchive.science.registration.subpixel_peaks import star_near
from pipelines.shared.frame_sequence import SCALE, FrameSequence, Registration, pixfrac_for

log = logging.getLogger(__name__)

SUBSETS, SUBSET_FRAMES = 5, 20
"""The star is looked for on means of this many subsets, of so many frames each; of all frames if it is not there."""
MAX_MOVING_FRAMES = 60
"""A sequence in which nothing stays in one place is registered as a whole only if it is this short."""
SATURATED_SHARE = 0.01
"""Of the window: more than the core of a star."""
FEW_FRAMES, MOST_WITNESSES = 20, 5
"""So few frames are long exposures: cosmic rays are removed from each, where others do not show the same; else from
their sum."""

Cleaner = Callable[[Float32Array, Float64Array], tuple[Float32Array, BoolArray]]
"""Removes cosmic rays from a frame of a shift; returns the frame and where they were."""


@dataclass(frozen=True, eq=False)
class Registered(Registration):
    """How the frames of a sequence lie on each other, by a star or a field.

    Attributes
    ----------
    star : GuideStar
        What they were registered on, in the frame to which the shifts lead.
    alignment : Alignment
        Of the windows around it.
    """

    star: GuideStar
    alignment: Alignment


class FaintSequence(FrameSequence):
    """The frames of an observation: registered on a window around the brightest stable star, then added.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    window_arcsec : float
        Side of the window around the star [arcsec].
    """

    def __init__(self, work: Workspace, frames: Frames, window_arcsec: float) -> None:
        super().__init__(work, frames)
        self.half = self.half_window_px(window_arcsec, 16)

    def register(self) -> Registered:
        """Find the star, then the shifts of the frames on each other.

        Raises
        ------
        Unprocessable
            The frames are too small, or show nothing to register on.
        """
        n, shape = len(self.frames), self.frames.shape
        if min(shape) < LEAST_SIDE_PX:
            raise Unprocessable(f"nothing to register on: frames of {shape}, at least {LEAST_SIDE_PX} pixels needed")
        offsets = np.zeros((n, 2))
        star = self._steady_star() if n >= MIN_STEADY_FRAMES else None
        if star is None:
            star, offsets = self._moving_star()
        windows, origins = self._windows(star, offsets)
        alignment = align(windows)
        shifts = alignment.shifts + origins[0] - origins
        middle = (windows.shape[1] / 2, windows.shape[2] / 2)
        y, x = origins[0] + star_near(alignment.template, middle, windows.shape[1] // 4)
        reasons = self._with_saturation(windows, alignment.reasons())
        found = replace(star, y=float(y), x=float(x), snr=float(np.median(alignment.significance)))
        return Registered(shifts, reasons, found, alignment)

    def _steady_star(self) -> GuideStar | None:
        """Brightest star that stays in one place; None when nothing does."""
        n = len(self.frames)
        for most in (SUBSET_FRAMES, n):
            means = []
            for k in range(SUBSETS):
                self.work.progress(0.2 * k / SUBSETS, "looking for a star")
                subset = range(k, n, SUBSETS)
                means.append(self.mean(subset[:: max(1, len(subset) // most)]))
            try:
                return guide_star(np.stack(means))
            except Unprocessable:
                log.info("no star that stays in one place on means of %d frames", most)
        return None

    def _moving_star(self) -> tuple[GuideStar, Float64Array]:
        """Brightest star of a field that moves from frame to frame, and the moves of the whole frames [pixel]."""
        n = len(self.frames)
        if n > MAX_MOVING_FRAMES:
            raise Unprocessable(f"no star stays in one place in the {n} frames, not even in their means", "zero_flux")
        images = [self.read(i) for i in range(n)]
        offsets = coarse_shifts(images)
        overlap = [moved(image, *move) for image, move in zip(images, np.rint(offsets).astype(int), strict=True)]
        known = np.asarray(np.isfinite(overlap).all(axis=0))
        if not known.any():
            raise Unprocessable(f"the {n} frames do not overlap, or hold nothing to register on", "zero_flux")
        common = np.median(overlap, axis=0) if n > 2 else np.mean(overlap, axis=0)
        try:
            return locate(np.where(known, common, np.nan), exclude=~known), offsets
        except Unprocessable as err:
            raise Unprocessable(f"{err} on the {n} frames together", "zero_flux") from err

    def _windows(self, star: GuideStar, offsets: Float64Array) -> tuple[Float32Array, Float64Array]:
        """Calibrated windows around the star, and where each begins (y, x)."""
        ny, nx = self.frames.shape
        half = min(max(self.half, 2 * star.half_window_px), ny // 2, nx // 2)
        windows = np.empty((len(self.frames), 2 * half, 2 * half), np.float32)
        origins = np.empty((len(self.frames), 2))
        for i, (dy, dx) in enumerate(np.rint(offsets)):
            y0 = int(np.clip(round(star.y - dy) - half, 0, ny - 2 * half))
            x0 = int(np.clip(round(star.x - dx) - half, 0, nx - 2 * half))
            windows[i] = self.read_window(i, (y0, x0), (2 * half, 2 * half))
            origins[i] = y0, x0
            self.work.progress(0.2 + 0.2 * i / len(self.frames), "reading windows")
        return windows, origins

    def _with_saturation(self, windows: Float32Array, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Add frames that are saturated over more than a star's core."""
        full = np.count_nonzero(windows >= self.saturation, axis=(1, 2)) / windows[0].size
        return tuple(
            f"saturated: {100 * share:.0f} % of the window" if share > SATURATED_SHARE else reason
            for share, reason in zip(full, reasons, strict=True)
        )

    def stack(self, found: Registered, scale: int = SCALE) -> tuple[Drizzle, Float32Array, int]:
        """Add the good frames, once registered and drizzled, once as they are.

        Cosmic rays are removed from the frames of a short sequence only: of many short exposures the sum is cleaned.

        Parameters
        ----------
        found : Registered
            Shifts of the frames.
        scale : int
            Pixels of the stack per raw pixel along each axis; 1 keeps the raw pixels.

        Returns
        -------
        summed : Drizzle
            Mean of the registered frames.
        simple : ndarray (ny, nx) float32
            Mean of the frames without registration [ADU].
        hits : int
            Pixels hit by cosmic rays that were replaced.
        """
        indices = np.flatnonzero(found.kept)
        pixfrac = pixfrac_for(found.shifts[indices]) if scale > 1 else 1.0
        summed = Drizzle(self.frames.shape, scale, pixfrac)
        simple = np.zeros(self.frames.shape, np.float64)
        hits = 0
        clean = self._cleaner(indices, found.shifts) if len(indices) <= FEW_FRAMES else None
        for i, raw in self.calibrated(indices.tolist(), 0.4, 0.9, "adding frames"):
            frame = raw
            if clean is not None:
                frame, hit = clean(raw, found.shifts[i])
                hits += int(hit.sum())
            summed.add(frame, *found.shifts[i])
            simple += frame
        return summed, (simple / len(indices)).astype(np.float32), hits

    def _cleaner(self, indices: IndexArray, shifts: Float64Array) -> Cleaner:
        """Return what removes cosmic rays from a long exposure; what other exposures show as well is none."""
        if len(indices) == 1:
            return lambda frame, shift: without_cosmic_rays(frame, object_limit=SHARP_OBJECT_LIMIT)  # noqa: ARG005
        witnesses = indices[:MOST_WITNESSES]
        common = common_signal((self.read(i) for i in witnesses.tolist()), shifts[witnesses])

        def clean(frame: Float32Array, shift: Float64Array) -> tuple[Float32Array, BoolArray]:
            return without_cosmic_rays(frame, elsewhere=moved(common, *-np.rint(shift).astype(int)))

        return clean
