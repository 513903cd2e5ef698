"""Registration of one sequence on a star, or a field, that is too faint to be measured in its frames."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from obsarchive.science.imaging.cosmics import (
    SHARP_OBJECT_LIMIT,
    common_signal,
    moved,
    without_cosmic_rays,
    without_cosmic_rays_unaligned,
)
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.resampling import Turn, placed, turned
from obsarchive.science.photometry.source_detection import GAUSS_FWHM
from obsarchive.science.registration.alignment import Alignment
from obsarchive.science.registration.coarse_shifts import coarse_shifts
from obsarchive.science.registration.frame_orientation import Orientation
from obsarchive.science.registration.frame_ranking import MIN_STEADY_FRAMES, GuideStar, guide_star, locate
from obsarchive.science.registration.guide_star import LEAST_SIDE_PX
from obsarchive.science.registration.image_motion import align_star
from obsarchive.science.registration.prepared_windows import Windows
from obsarchive.science.registration.stack_check import LEAST_STARS
from obsarchive.science.registration.star_patterns import DETECTION_SNR, Agreement, StarList, star_list
from obsarchive.science.registration.subpixel_peaks import star_near
from obsarchive.science.statistics import median_of_all
from pipelines.shared.field_stars import checked, field_orientation
from pipelines.shared.frame_sequence import SCALE, FrameSequence, Registration, pixfrac_for, plain_mean
from pipelines.shared.star_windows import StarWindows

log = logging.getLogger(__name__)

SUBSETS, SUBSET_FRAMES = 5, 20
"""The star is looked for on means of this many subsets, of so many frames each; of all frames if it is not there."""
MAX_MOVING_FRAMES = 60
"""A sequence in which nothing stays in one place is registered as a whole only if it is this short."""
SATURATED_SHARE = 0.01
"""Of the window: more than the core of a star."""
FEW_FRAMES, MOST_WITNESSES = 20, 5
"""So few frames of any camera are long exposures: cosmic rays are removed from each, where others do not show the same;
of more the sum can be cleaned."""

MOST_STARS, LEAST_LIGHT = 4, 0.1
"""Most stars on whose windows frames are registered together, and the least light of one over the brightest's."""

MOST_APART_PX, MOST_APART_WIDTHS = 1.0, 2.0
"""Difference of the shift on a window from that by many stars [pixel], and by a single one [its FWHM]."""
LEAST_HALF_PX, LEAST_HALF_SIZES = 16, 5.0
"""Half of the least side of a window around a star near the edge of the frames [pixel, sigma of the star]."""
LEAST_DRIFT_PX, KNOWN_DRIFT = 1.0, 0.02
"""Drift of a star from which on windows follow it [pixel], if its error is less than this share of it."""
COSMIC_SIGNIFICANCE, COSMIC_ALIKE = 30.0, 0.9
"""A source so significant that is no star in any frame, and correlates less than this, is a cosmic ray in each.

The correlation is that over the one that noise would leave."""

Cleaner = Callable[[Float32Array, int], tuple[Float32Array, BoolArray]]
"""Removes cosmic rays from a frame of a number; returns the frame and where they were."""


@dataclass(frozen=True, eq=False)
class Registered(Registration):
    """Registration of the frames of a sequence, by a star or a field.

    Attributes
    ----------
    star : GuideStar
        What they were registered on, in the frame to which the shifts lead.
    alignment : Alignment
        Of the windows around it.
    turns : dict of Turn
        Frames by number that are turned before they are shifted.
    moves : ndarray (n, 2)
        (dy, dx) by which turn and shift move the middle of each frame [pixel].
    lists : dict of StarList
        Stars of single frames by number, of those that were looked at.
    """

    star: GuideStar
    alignment: Alignment
    turns: Mapping[int, Turn]
    moves: Float64Array
    lists: Mapping[int, StarList]


class FaintSequence(FrameSequence):
    """The frames of an observation: registered on a window around the brightest stable star, then added.

    Frames whose stars show that they are turned or mirrored are turned as they are read.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    window_arcsec : float
        Side of the window around the star [arcsec].
    """

    saturated_share = SATURATED_SHARE
    most_cleaned: float = FEW_FRAMES
    """Up to so many frames cosmic rays are removed from each."""

    def __init__(self, work: Workspace, frames: Frames, window_arcsec: float) -> None:
        super().__init__(work, frames)
        self.half = self.half_window_px(window_arcsec, 16)
        self.turns: dict[int, Turn] = {}

    def read(self, i: int) -> Float32Array:
        """Return the calibrated frame `i`, turned like the first good frame, shape (ny, nx) [ADU]."""
        frame = super().read(i)
        return turned(frame, self.turns[i]) if i in self.turns else frame

    def read_window(self, i: int, corner: tuple[int, int], shape: tuple[int, int]) -> Float32Array:
        """Return a calibrated part of a frame, see :meth:`.FrameSequence.read_window`."""
        if i not in self.turns:
            return super().read_window(i, corner, shape)
        (y0, x0), (ny, nx) = corner, shape
        return self.read(i)[y0 : y0 + ny, x0 : x0 + nx]

    def fill_hot_pixels(self, images: Sequence[Float32Array]) -> None:
        """Fill hot pixels, see :meth:`.FrameSequence.fill_hot_pixels`; in turned frames they have no common place."""
        if not self.turns:
            super().fill_hot_pixels(images)

    def register(self) -> Registered:
        """Find how the frames are turned, the star, then the shifts of the frames on each other.

        Raises
        ------
        Unprocessable
            The frames are too small, or show nothing to register on, or no two show the same stars.
        """
        n, shape = len(self.frames), self.frames.shape
        if min(shape) < LEAST_SIDE_PX:
            raise Unprocessable(f"nothing to register on: frames of {shape}, at least {LEAST_SIDE_PX} pixels needed")
        field, lists = field_orientation(n, self.read, self.mean)
        self.turns = field.turned
        usable = [i for i in range(n) if not field.reasons[i]]
        star, alignment, found = self._aligned(usable, field, lists)
        _require_star(alignment, [lists.get(i) for i in usable])
        shifts, reasons = np.zeros((n, 2)), list(field.reasons)
        shifts[usable] = alignment.shifts
        for i, reason in zip(usable, found, strict=True):
            reasons[i] = reason
        middle = (np.array(shape, float) - 1) / 2
        moves = shifts.copy()
        for i, turn in self.turns.items():
            moves[i] += placed(turn, shape)(middle) - middle
            if not turn.copies_pixels(shape):
                # pixels that are interpolated anyway are shifted at the same time
                self.turns[i], shifts[i] = Turn(turn.matrix, turn.offset + shifts[i]), 0.0
        return Registered(shifts, self.explained(reasons), star, alignment.among(n, usable), self.turns, moves, lists)

    def _aligned(
        self, usable: list[int], field: Orientation, lists: Mapping[int, StarList]
    ) -> tuple[GuideStar, Alignment, Sequence[str]]:
        """Star, alignment of the usable frames with the shifts of whole frames, and why they are rejected."""
        known = field.shifts(self.frames.shape)
        known_shifts = np.array([known.get(i, (np.nan, np.nan)) for i in usable])
        try:
            star, alignment, reasons = self._aligned_on_window(usable, known_shifts)
        except Unprocessable:
            # dithered so far that no star is in all frames
            if field.n_agreeing < 2:
                raise
            return self._aligned_by_stars(usable, field, lists)
        apart = alignment.shifts - known_shifts
        apart -= np.nanmedian(apart, axis=0) if not np.isnan(apart).all() else 0
        least = [_least_apart_px(field.agreements[i], lists.get(i)) for i in usable]
        if not (np.hypot(*apart.T) > least).any():
            return star, alignment, reasons
        return self._aligned_by_stars(usable, field, lists)

    def _aligned_on_window(self, usable: list[int], known: Float64Array) -> tuple[GuideStar, Alignment, Sequence[str]]:
        """Alignment on a window around the brightest star."""
        stars, offsets = self._steady_stars(usable) if len(usable) >= MIN_STEADY_FRAMES else [], np.zeros_like(known)
        is_steady = bool(stars)
        if not stars:
            star, offsets = self._moving_star(usable, known)
            stars = [star]
        self.work.progress(0.2, "registering frames")
        star = stars[0]
        windows, origins, alignment = self._aligned_windows(usable, stars, offsets, self._half_around(star))
        shifts = alignment.shifts + origins[0] - origins
        if is_steady and _is_far(shifts, alignment.errors):
            # whatever lies in the tapered edges of windows that stay where they are pulls at a star that moves
            offsets, half = shifts, self._half_within(star, float(np.abs(shifts).max()))
            windows, origins, alignment = self._aligned_windows(usable, stars, offsets, half, follow=True)
            shifts = alignment.shifts + origins[0] - origins
        # in the middle of the window, but of one that the edge of the frame moves inwards
        place = np.array([star.y, star.x]) - np.rint(offsets[0]) - origins[0]
        y, x = origins[0] + star_near(alignment.template, (place[0], place[1]), windows.shape[1] // 4)
        whole = replace(alignment, shifts=shifts)
        # of a dithered sequence no frame has slipped that is where the whole fields have it
        reasons = self._with_saturation(windows, (whole if is_steady else alignment).reasons())
        return replace(star, y=float(y), x=float(x), snr=float(np.median(alignment.significance))), whole, reasons

    def _aligned_by_stars(
        self, usable: list[int], field: Orientation, lists: Mapping[int, StarList]
    ) -> tuple[GuideStar, Alignment, Sequence[str]]:
        """Alignment by the stars of the field alone, whose positions agree."""
        known, empty = field.shifts(self.frames.shape), np.zeros(2)
        agreed = [field.agreements[i] for i in usable]
        light = np.array([1.0 if found is None else found.light for found in agreed])
        significance = np.array([DETECTION_SNR * (1 if found is None else len(found.stars)) ** 0.5 for found in agreed])
        errors = np.array([np.nan if found is None else found.error_px for found in agreed])
        stars = lists[field.first]
        size = stars.usual_fwhm_px / GAUSS_FWHM
        # the frame with which the others were compared is known as well as they are, a single star as its photons tell
        usual = median_of_all(errors[errors > 0]) if (errors > 0).any() else np.sqrt(2) * size / DETECTION_SNR
        errors[~(errors > 0) & [i in known for i in usable]] = usual
        alignment = Alignment(
            shifts=np.array([known.get(i, empty) for i in usable]),
            errors=errors,
            amplitude=light / np.median(light),
            significance=significance,
            quality=np.array([1.0 if found is None else found.share for found in agreed]),
            expected=np.ones(len(usable)),
            template=np.zeros((1, 1), np.float32),
        )
        y, x = (float(coordinate) for coordinate in stars.positions[0])
        star = GuideStar(y, x, float(stars.flux[0]), float(np.median(significance)), size)
        text = "contradicted: its stars, {}, do not tell how the frame lies on the others"
        return star, alignment, ["" if i in known else text.format(len(lists.get(i, ()))) for i in usable]

    def _steady_stars(self, usable: list[int]) -> list[GuideStar]:
        """Brightest star that stays in one place, and others like it; empty when nothing does."""
        n = len(usable)
        for most in (SUBSET_FRAMES, n):
            means = []
            for k in range(SUBSETS):
                self.work.progress(0.2 * k / SUBSETS, "looking for a star")
                subset = usable[k::SUBSETS]
                means.append(self.mean(subset[:: max(1, len(subset) // most)]))
            self.fill_hot_pixels(means)
            images = np.stack(means)
            try:
                return self._with_others(guide_star(images), images)
            except Unprocessable:
                log.info("no star that stays in one place on means of %d frames", most)
        return []

    def _with_others(self, star: GuideStar, means: Float32Array) -> list[GuideStar]:
        """Return the star, and others in windows that do not hold it."""
        found, half = [star], self._half_around(star)
        margin = np.array([half, half])
        hidden = means.copy()
        while len(found) < MOST_STARS:
            y, x = round(found[-1].y), round(found[-1].x)
            reach = half + half // 2
            hidden[:, max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach] = np.nan
            try:
                other = guide_star(hidden)
            except Unprocessable:
                break
            if other.flux < LEAST_LIGHT * star.flux:
                break
            found.append(other)
        inner = [
            other
            for other in found[1:]
            if (margin <= (other.y, other.x)).all() and ((other.y, other.x) <= self.frames.shape - margin).all()
        ]
        return [star, *inner]

    def _moving_star(self, usable: list[int], known: Float64Array) -> tuple[GuideStar, Float64Array]:
        """Brightest star of a field that moves from frame to frame, and the moves of the whole frames [pixel]."""
        n = len(usable)
        if n > MAX_MOVING_FRAMES:
            raise Unprocessable(f"no star stays in one place in the {n} frames, not even in their means", "zero_flux")
        images = [self.read(i) for i in usable]
        self.fill_hot_pixels(images)
        offsets = _offsets(images, known)
        overlap = [moved(image, *move) for image, move in zip(images, np.rint(offsets).astype(int), strict=True)]
        covered = np.asarray(np.isfinite(overlap).all(axis=0))
        if not covered.any():
            raise Unprocessable(f"the {n} frames do not overlap, or hold nothing to register on", "zero_flux")
        # the mean of two would show the cosmic rays of either
        common = np.median(overlap, axis=0) if n > 2 else np.min(overlap, axis=0)
        try:
            return locate(np.where(covered, common, np.nan), exclude=~covered), offsets
        except Unprocessable as err:
            raise Unprocessable(f"{err} on the {n} frames together", "zero_flux") from err

    def _aligned_windows(
        self, usable: list[int], stars: Sequence[GuideStar], offsets: Float64Array, half: int, follow: bool = False
    ) -> tuple[StarWindows, Float64Array, Alignment]:
        """Windows around the first star, where each begins (y, x), and their alignment with those of the others."""
        (windows, origins), *others = (self._windows(usable, star, offsets, half) for star in stars)
        clean = self._without_cosmic_rays(windows)
        return windows, origins, align_star(clean, [more for more, _ in others], follow=follow)

    def _half_around(self, star: GuideStar) -> int:
        return min(max(self.half, 2 * star.half_window_px), *(side // 2 for side in self.frames.shape))

    def _half_within(self, star: GuideStar, drift_px: float) -> int:
        """Half of the side of a window that has room around a star that drifts, but for one at the very edge."""
        room = min(*(min(c, n - 1 - c) for c, n in zip((star.y, star.x), self.frames.shape, strict=True))) - drift_px
        least = max(LEAST_HALF_PX, round(LEAST_HALF_SIZES * star.scale_px))
        return min(self._half_around(star), max(int(room), least))

    def _windows(
        self, usable: list[int], star: GuideStar, offsets: Float64Array, half: int
    ) -> tuple[StarWindows, Float64Array]:
        """Calibrated windows around a star, and where each begins (y, x)."""
        places = np.rint(np.array([star.y, star.x]) - np.rint(offsets)) - half
        corners = np.clip(places, 0, np.array(self.frames.shape) - 2 * half)
        return StarWindows(self.read_window, usable, corners.astype(int), 2 * half, self.turns), corners

    def _without_cosmic_rays(self, windows: StarWindows) -> Windows:
        """Return the windows, of a short sequence without cosmic rays, which may outshine the star."""
        n = windows.shape[0]
        if not 2 <= n < MIN_STEADY_FRAMES:
            return windows
        return np.stack(without_cosmic_rays_unaligned([windows[k] for k in range(n)]))

    def _with_saturation(self, windows: StarWindows, reasons: tuple[str, ...]) -> tuple[str, ...]:
        """Add frames that are saturated over more than a star's core."""
        n, ny, nx = windows.shape
        full = [np.count_nonzero(windows[k] >= self.saturation) / (ny * nx) for k in range(n)]
        return tuple(
            f"saturated: {100 * share:.0f} % of the window, from {self.saturation:.0f} ADU on"
            if share > self.saturated_share
            else reason
            for share, reason in zip(full, reasons, strict=True)
        )

    def stack(
        self, found: Registered, scale: int = SCALE, parts: Sequence[Drizzle] = ()
    ) -> tuple[Drizzle, Float32Array, int]:
        """Add the good frames, once registered and drizzled, once as they are.

        Cosmic rays are removed from up to `most_cleaned` frames; of more the caller may clean the sum.

        Parameters
        ----------
        found : Registered
            Shifts of the frames.
        scale : int
            Pixels of the stack per raw pixel along each axis; 1 keeps the raw pixels.
        parts : sequence of Drizzle
            To which the registered frames are added in turns, moved by whole pixels.

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
        simple, hits = plain_mean(self.frames.shape), 0
        clean = self._cleaner(indices, found.shifts) if len(indices) <= self.most_cleaned else None
        for number, (i, raw) in enumerate(self.calibrated(indices.tolist(), 0.4, 0.9, "adding frames")):
            frame = raw
            if clean is not None:
                frame, hit = clean(raw, i)
                hits += int(hit.sum())
            upright = turned(frame, self.turns[i]) if i in self.turns else frame
            summed.add(upright, *found.shifts[i])
            simple.add(frame, 0, 0)
            if parts:
                parts[number % len(parts)].add(upright, *np.rint(found.shifts[i]))
        return summed, simple.image(), hits

    def check(self, found: Registered, image: Float32Array, scale: int = SCALE) -> dict[str, Any]:
        """Compare a stack with a frame of usual sharpness among those whose stars are known.

        Parameters
        ----------
        found : Registered
            Registration of the frames.
        image : ndarray (scale * ny, scale * nx)
            The stack [ADU per pixel of the stack].
        scale : int
            Pixels of the stack per raw pixel along each axis.

        Returns
        -------
        dict
            For the results of the step; empty if single frames show too few stars.

        Raises
        ------
        Unprocessable
            The stars of the stack are not those of the frame.
        """
        best = [i for i in found.ranked(found.alignment.quality) if found.kept[i]]
        known = [i for i in best if len(found.lists.get(i, ())) >= LEAST_STARS]
        known.sort(key=lambda i: found.lists[i].usual_fwhm_px)
        witness = known[len(known) // 2] if known else best[0]
        stars = found.lists.get(witness) or star_list(super().read(witness))
        if len(best) < 2 or len(stars) < LEAST_STARS:
            return {}
        turn = Turn.shift(*found.shifts[witness])
        if witness in self.turns:
            turn = turn.after(placed(self.turns[witness], stars.shape))
        return checked(image, scale, stars, turn, witness)

    def _cleaner(self, indices: IndexArray, shifts: Float64Array) -> Cleaner:
        """Return what removes cosmic rays from a long exposure; what other exposures show as well is none."""
        if len(indices) == 1:
            return lambda frame, i: without_cosmic_rays(frame, object_limit=SHARP_OBJECT_LIMIT)  # noqa: ARG005
        # of all times: a field that drifts is covered as a whole
        witnesses = indices[np.linspace(0, len(indices) - 1, min(len(indices), MOST_WITNESSES)).round().astype(int)]
        common = common_signal((self.read(i) for i in witnesses.tolist()), shifts[witnesses])

        def clean(frame: Float32Array, i: int) -> tuple[Float32Array, BoolArray]:
            elsewhere = moved(common, *-np.rint(shifts[i]).astype(int))
            if i in self.turns:
                elsewhere = turned(elsewhere, placed(self.turns[i], frame.shape).inverse)
            return without_cosmic_rays(frame, elsewhere=elsewhere)

        return clean


def _require_star(alignment: Alignment, lists: Sequence[StarList | None]) -> None:
    """Reject frames of a short sequence that are registered on cosmic rays: as sharp, and not the same in all."""
    are_known = 1 < len(lists) < MIN_STEADY_FRAMES and not any(stars is None or len(stars) for stars in lists)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = alignment.quality / alignment.expected
    bright, alike = float(np.median(alignment.significance)), float(np.median(ratio))
    if are_known and bright > COSMIC_SIGNIFICANCE and alike < COSMIC_ALIKE:
        raise Unprocessable(
            f"no star in common: the {len(lists)} frames show only cosmic rays, correlation {alike:.2f}", "zero_flux"
        )


def _is_far(shifts: Float64Array, errors: Float64Array) -> bool:
    """Return whether a star that is well known moves so far that what its window cuts off would count."""
    far = float(np.abs(shifts - np.median(shifts, axis=0)).max())
    return far > LEAST_DRIFT_PX and float(np.median(errors)) < KNOWN_DRIFT * far


def _least_apart_px(found: Agreement | None, stars: StarList | None) -> float:
    """Distance from which on the stars of a frame contradict a shift [pixel]."""
    if stars is None or not len(stars) or (found is not None and not len(found.stars)):
        return np.inf
    is_certain = found is not None and found.is_certain and len(found.stars) >= LEAST_STARS
    return MOST_APART_PX if is_certain else max(4 * MOST_APART_PX, MOST_APART_WIDTHS * stars.usual_fwhm_px)


def _offsets(images: Sequence[Float32Array], known: Float64Array) -> Float64Array:
    """Shifts of whole frames: those known (n, 2), else by correlation with the first whose shift is known [pixel]."""
    lacking = np.flatnonzero(np.isnan(known).any(axis=1))
    if not lacking.size:
        return known
    reference = int(np.flatnonzero(np.isfinite(known).all(axis=1))[0]) if lacking.size < len(known) else 0
    offsets = np.where(np.isnan(known), 0.0, known)
    compared = [reference, *(k for k in lacking.tolist() if k != reference)]
    offsets[compared] = coarse_shifts([images[k] for k in compared]) + offsets[reference]
    return offsets
