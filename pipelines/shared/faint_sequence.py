"""Registration of one sequence on a star, or a field, that is too faint to be measured in its frames."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.imaging.cosmics import SHARP_OBJECT_LIMIT, common_signal, moved, without_cosmic_rays
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.registration.alignment import Alignment, align, coarse_shifts
from obsarchive.science.registration.frame_ranking import MIN_STEADY_FRAMES, GuideStar, guide_star, locate
from obsarchive.science.registration.guide_star import LEAST_SIDE_PX
from obsarchive.science.registration.subpixel_peaks import star_near
from pipelines.shared.calibrator import Calibrator
from pipelines.shared.lucky_sequence import SCALE, pixfrac_for

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

Cleaner = Callable[[NDArray, NDArray], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Removes cosmic rays from a frame of a shift; returns the frame and where they were."""


@dataclass(frozen=True, eq=False)
class Registered:
    """How the frames of a sequence lie on each other.

    Parameters
    ----------
    star : GuideStar
        What they were registered on, in the frame to which the shifts lead.
    alignment : Alignment
        Of the windows around it.
    shifts : ndarray (n, 2)
        (dy, dx) that moves each whole frame onto the others [pixel].
    reasons : tuple of str
        Why a frame is left out.
    """

    star: GuideStar
    alignment: Alignment
    shifts: NDArray[np.float64]
    reasons: tuple[str, ...]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Frames worth adding."""
        return np.array([not reason for reason in self.reasons], bool)


class FaintSequence:
    """The frames of an observation: registered on a window around the brightest stable star, then added.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    with_masters : Calibrator
        What they are calibrated with.
    window_arcsec : float
        Side of the window around the star [arcsec].
    """

    def __init__(self, work: Workspace, frames: Frames, with_masters: Calibrator, window_arcsec: float) -> None:
        self.work, self.frames, self.calibrator = work, frames, with_masters
        telescope = work.telescope
        self.half = max(16, round(window_arcsec / telescope.plate_scale_arcsec / 2))
        self.saturation = with_masters.saturation(telescope.saturation_adu or frames.saturation)

    def register(self) -> Registered:
        """Find the star, then the shifts of the frames on each other."""
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
        return Registered(found, alignment, shifts, reasons)

    def _steady_star(self) -> GuideStar | None:
        """Brightest star that stays in one place; None when nothing does."""
        n = len(self.frames)
        for most in (SUBSET_FRAMES, n):
            subsets = [list(range(k, n, SUBSETS)) for k in range(SUBSETS)]
            means = [self._mean(subset[:: max(1, len(subset) // most)], k) for k, subset in enumerate(subsets)]
            try:
                return guide_star(np.stack(means))
            except Unprocessable:
                log.info("no star that stays in one place on means of %d frames", most)
        return None

    def _mean(self, indices: list[int], subset: int) -> NDArray[np.float32]:
        self.work.progress(0.2 * subset / SUBSETS, "looking for a star")
        total = np.zeros(self.frames.shape, np.float32)
        for i in indices:
            total += np.nan_to_num(self._read(i), posinf=0.0, neginf=0.0)
        return total / np.float32(len(indices))

    def _moving_star(self) -> tuple[GuideStar, NDArray[np.float64]]:
        """Brightest star of a field that moves from frame to frame, and the moves of the whole frames [pixel]."""
        n = len(self.frames)
        if n > MAX_MOVING_FRAMES:
            raise Unprocessable(f"no star stays in one place in the {n} frames, not even in their means", "zero_flux")
        images = [self._read(i) for i in range(n)]
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

    def _windows(self, star: GuideStar, offsets: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Calibrated windows around the star, and where each begins (y, x)."""
        ny, nx = self.frames.shape
        half = min(max(self.half, 2 * star.half_window_px), ny // 2, nx // 2)
        windows = np.empty((len(self.frames), 2 * half, 2 * half), np.float32)
        origins = np.empty((len(self.frames), 2))
        for i, (dy, dx) in enumerate(np.rint(offsets)):
            y0 = int(np.clip(round(star.y - dy) - half, 0, ny - 2 * half))
            x0 = int(np.clip(round(star.x - dx) - half, 0, nx - 2 * half))
            raw = self.frames.window(i, y0, y0 + 2 * half, x0, x0 + 2 * half)
            windows[i] = self.calibrator.calibration.apply(raw, origin=(y0, x0))
            origins[i] = y0, x0
            self.work.progress(0.2 + 0.2 * i / len(self.frames), "reading windows")
        return windows, origins

    def _with_saturation(self, windows: NDArray, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Add frames that are saturated over more than a star's core."""
        full = np.count_nonzero(windows >= self.saturation, axis=(1, 2)) / windows[0].size
        return tuple(
            f"saturated: {100 * share:.0f} % of the window" if share > SATURATED_SHARE else reason
            for share, reason in zip(full, reasons, strict=True)
        )

    def stack(self, found: Registered, scale: int = SCALE) -> tuple[Drizzle, NDArray[np.float32], int]:
        """Add the good frames: registered and drizzled, and as they are; pixels hit by cosmic rays are counted."""
        indices = np.flatnonzero(found.kept)
        pixfrac = pixfrac_for(found.shifts[indices]) if scale > 1 else 1.0
        summed = Drizzle(self.frames.shape, scale, pixfrac)
        simple = np.zeros(self.frames.shape, np.float64)
        hits = 0
        clean = self._cleaner(indices, found.shifts) if len(indices) <= FEW_FRAMES else None
        for done, i in enumerate(indices.tolist()):
            self.work.progress(0.4 + 0.5 * done / len(indices), "adding frames")
            frame = self._read(i)
            if clean is not None:
                frame, hit = clean(frame, found.shifts[i])
                hits += int(hit.sum())
            summed.add(frame, *found.shifts[i])
            simple += frame
        return summed, (simple / len(indices)).astype(np.float32), hits

    def _cleaner(self, indices: NDArray[np.intp], shifts: NDArray[np.float64]) -> Cleaner:
        """Return what removes cosmic rays from a long exposure; what other exposures show as well is none."""
        if len(indices) == 1:
            return lambda frame, shift: without_cosmic_rays(frame, object_limit=SHARP_OBJECT_LIMIT)  # noqa: ARG005
        witnesses = indices[:MOST_WITNESSES]
        common = common_signal((self._read(i) for i in witnesses.tolist()), shifts[witnesses])

        def clean(frame: NDArray, shift: NDArray) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
            return without_cosmic_rays(frame, elsewhere=moved(common, *-np.rint(shift).astype(int)))

        return clean

    def _read(self, i: int) -> NDArray[np.float32]:
        return self.calibrator.calibration.apply(self.frames.read(i))


def frames_in_order(found: Registered) -> Iterator[int]:
    """Numbers of the frames, best first, then those left out."""
    quality = np.where(found.kept, found.alignment.quality, -1.0)
    yield from np.argsort(-quality, kind="stable").tolist()
