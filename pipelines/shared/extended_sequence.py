"""Registration of one sequence of frames on an extended object."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.extended_source import Box, find_object, sharpness
from obsarchive.science.registration.alignment import align
from pipelines.shared.calibrator import Calibrator
from pipelines.shared.lucky_sequence import SCALE, pixfrac_for

MAX_PIXELS = 2e7
"""Pixels of all windows together; larger ones are binned for the registration."""
SAMPLE_FRAMES = 25
"""The object is looked for in the mean of so many frames."""
SMOOTH_PX = 1.0
MIN_KEPT_LIGHT = 0.3
"""Of the usual light: an object with less was behind a cloud, or is not there."""


@dataclass(frozen=True, eq=False)
class Registered:
    """How the frames of a sequence lie on each other, and how sharp they are.

    Parameters
    ----------
    box : Box
        Part of a frame that holds the object.
    shifts : ndarray (n, 2)
        (dy, dx) that moves each frame onto the others [pixel].
    sharpness, light : ndarray (n,)
        Relative to the usual.
    reasons : tuple of str
        Why a frame is left out.
    """

    box: Box
    shifts: NDArray[np.float64]
    sharpness: NDArray[np.float64]
    light: NDArray[np.float64]
    reasons: tuple[str, ...]

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Frames worth adding."""
        return np.array([not reason for reason in self.reasons], bool)


class DiscSequence:
    """The frames of an observation of an extended object.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    with_masters : Calibrator
        What they are calibrated with.
    """

    def __init__(self, work: Workspace, frames: Frames, with_masters: Calibrator) -> None:
        self.work, self.frames, self.calibrator = work, frames, with_masters

    def register(self) -> Registered:
        """Find the object, then the shifts of the frames on each other."""
        box = find_object(self._mean())
        windows, binning = self._windows(box)
        found = align(windows, SMOOTH_PX)
        sharp = sharpness(windows, found.shifts, found.template)
        faint = found.amplitude < MIN_KEPT_LIGHT
        reasons = tuple(
            f"faint: {found.amplitude[i]:.2f} of the usual light" if faint[i] and not reason else reason
            for i, reason in enumerate(_grave(found.reasons()))
        )
        return Registered(box, binning * found.shifts, sharp, found.amplitude, reasons)

    def _mean(self) -> NDArray[np.float32]:
        n = len(self.frames)
        total, count = np.zeros(self.frames.shape, np.float64), np.zeros(self.frames.shape, np.int32)
        for i in range(0, n, max(1, n // SAMPLE_FRAMES)):
            frame = self._read(i)
            known = np.isfinite(frame)
            total += np.where(known, frame, 0)
            count += known
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0).astype(np.float32)

    def _windows(self, box: Box) -> tuple[NDArray[np.float32], int]:
        """Calibrated windows around the object without background, binned if they are large; and the binning."""
        n = len(self.frames)
        binning = max(1, int(np.ceil(np.sqrt(n * box.shape[0] * box.shape[1] / MAX_PIXELS))))
        ny, nx = box.shape[0] // binning, box.shape[1] // binning
        windows = np.empty((n, ny, nx), np.float32)
        for i in range(n):
            raw = self.frames.window(i, box.y0, box.y0 + ny * binning, box.x0, box.x0 + nx * binning)
            window = self.calibrator.calibration.apply(raw, origin=(box.y0, box.x0))
            windows[i] = window.reshape(ny, binning, nx, binning).mean(axis=(1, 3))
            known = np.isfinite(windows[i])
            windows[i] -= np.percentile(windows[i][known], 2) if known.any() else 0
            self.work.progress(0.3 * i / n, "reading windows")
        return windows, binning

    def stacks(self, found: Registered, chosen: list[int]) -> tuple[Drizzle, Drizzle]:
        """Add the chosen frames, given in the order of their sharpness, to two halves in turn."""
        pixfrac = pixfrac_for(found.shifts[chosen])
        halves = [Drizzle(self.frames.shape, SCALE, pixfrac) for _ in range(2)]
        for done, i in enumerate(chosen):
            self.work.progress(0.4 + 0.5 * done / len(chosen), "adding frames")
            halves[done % 2].add(self._read(i), *found.shifts[i])
        return halves[0], halves[1]

    def _read(self, i: int) -> NDArray[np.float32]:
        return self.calibrator.calibration.apply(self.frames.read(i))


def _grave(reasons: tuple[str, ...]) -> tuple[str, ...]:
    """Reasons apart from a poor correlation: how sharp a frame is decides instead."""
    if all(reason.startswith("black") for reason in reasons):
        raise Unprocessable(f"no object in any of the {len(reasons)} frames", "zero_flux")
    return tuple("" if reason.startswith("poor") else reason for reason in reasons)
