"""Registration of one sequence of frames on an extended object."""

from dataclasses import dataclass

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, Float64Array
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.extended_source import Box, find_object, sharpness
from obsarchive.science.registration.alignment import align
from pipelines.shared.frame_faults import BLACK, FULL, SATURATED_PIXELS
from pipelines.shared.frame_sequence import SCALE, FrameSequence, Registration, pixfrac_for, plain_mean

MAX_PIXELS = 2e7
"""Pixels of all windows together; larger ones are binned for the registration."""
SAMPLE_FRAMES, SUBSETS = 25, 5
"""The object is looked for in the mean of so many frames, hot pixels in those of subsets."""
SMOOTH_PX = 1.0
MIN_KEPT_LIGHT = 0.3
"""Of the usual light: an object with less was behind a cloud, or is not there."""


@dataclass(frozen=True, eq=False)
class Registered(Registration):
    """Registration of the frames of a sequence, and their sharpness.

    Attributes
    ----------
    box : Box
        Part of a frame that holds the object.
    sharpness, light : ndarray (n,)
        Detail and flux of the object in each frame, relative to the usual.
    """

    box: Box
    sharpness: Float64Array
    light: Float64Array


class DiscSequence(FrameSequence):
    """The frames of an observation of an extended object: registered on the whole object, added in two halves."""

    def register(self) -> Registered:
        """Find the object, then the shifts of the frames on each other.

        Raises
        ------
        Unprocessable
            There is no object in the frames.
        """
        n = len(self.frames)
        sample = range(0, n, max(1, n // SAMPLE_FRAMES))
        means, every = [self.mean(sample[k::SUBSETS]) for k in range(min(SUBSETS, n))], plain_mean(self.frames.shape)
        self.fill_hot_pixels(means)
        for mean in means:
            every.add(mean, 0, 0)
        box = find_object(every.image())
        windows, binning, full = self._windows(box)
        found = align(windows, SMOOTH_PX)
        sharp = sharpness(windows, found.shifts, found.template)
        faint = found.amplitude < MIN_KEPT_LIGHT
        reasons = found.reasons()
        if all(reason.startswith(BLACK) for reason in reasons):
            raise Unprocessable(f"no object in any of the {len(reasons)} frames", "zero_flux")
        # the sharpness of a frame decides instead of a poor correlation
        kept = ["" if reason.startswith("poor") else reason for reason in reasons]
        reasons = tuple(
            f"{FULL}: {100 * full[i]:.0f} % of the window, from {self.saturation:.0f} ADU on"
            if full[i] > SATURATED_PIXELS
            else f"faint: {found.amplitude[i]:.2f} of the usual light"
            if faint[i] and not reason
            else reason
            for i, reason in enumerate(kept)
        )
        return Registered(binning * found.shifts, self.explained(reasons), box, sharp, found.amplitude)

    def _windows(self, box: Box) -> tuple[Float32Array, int, Float64Array]:
        """Calibrated windows around the object without background, binned if they are large.

        Also the binning, and the saturated share of each window.
        """
        n = len(self.frames)
        binning = max(1, int(np.ceil(np.sqrt(n * box.shape[0] * box.shape[1] / MAX_PIXELS))))
        ny, nx = box.shape[0] // binning, box.shape[1] // binning
        windows, full = np.empty((n, ny, nx), np.float32), np.zeros(n)
        for i in range(n):
            window = self.read_window(i, (box.y0, box.x0), (ny * binning, nx * binning))
            full[i] = np.count_nonzero(window >= self.saturation) / window.size
            windows[i] = window.reshape(ny, binning, nx, binning).mean(axis=(1, 3))
            known = np.isfinite(windows[i])
            windows[i] -= np.percentile(windows[i][known], 2) if known.any() else 0
            self.work.progress(0.3 * i / n, "reading windows")
        return windows, binning, full

    def stacks(self, found: Registered, chosen: list[int]) -> tuple[Drizzle, Drizzle]:
        """Make two stacks, each of half of the frames, so that one can be checked against the other.

        Parameters
        ----------
        found : Registered
            Shifts of the frames.
        chosen : list of int
            Numbers of the frames to add, in the order of their sharpness: they go to the two halves in turn.

        Returns
        -------
        (Drizzle, Drizzle)
            Means of the two halves; the second one is empty if a single frame was chosen.
        """
        pixfrac = pixfrac_for(found.shifts[chosen])
        halves = [Drizzle(self.frames.shape, SCALE, pixfrac) for _ in range(2)]
        for done, (i, frame) in enumerate(self.calibrated(chosen, 0.4, 0.9, "adding frames")):
            halves[done % 2].add(frame, *found.shifts[i])
        return halves[0], halves[1]
