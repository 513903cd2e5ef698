"""The frames of one observation as the imaging pipelines use them: read, calibrated, registered and drizzled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from obsarchive.errors import BadRawData, Unprocessable
from obsarchive.io.raw_frames import Frames
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from obsarchive.science.imaging.calibration import calibrate
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.hot_pixels import hot_pixels
from obsarchive.science.registration.frame_ranking import GuideStar
from pipelines.shared.calibrator import calibrator
from pipelines.shared.frame_faults import BLACK, pixel_fault, with_faults

SCALE = 2
"""Pixels of a drizzled stack per raw pixel, along each axis."""
PIXFRACS = (0.45, 0.6, 0.8, 1.0)
"""Sides of a drop: the first for as many frames as lucky imaging has, the last covers evenly with a single one."""
LEAST_COVERAGE, LEAST_FRAMES = 0.25, 3
"""Of the mean weight, and of frames on average: what every pixel of a stack must have."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Registration of the frames of a sequence.

    Attributes
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) that moves each whole frame onto the others [pixel].
    reasons : tuple of str
        Why a frame is rejected; empty for good frames.
    """

    shifts: Float64Array
    reasons: tuple[str, ...]

    @property
    def kept(self) -> BoolArray:
        """Which frames are good (n,)."""
        return np.array([not reason for reason in self.reasons], bool)

    def ranked(self, quality: FloatArray) -> list[int]:
        """Return the numbers of all frames: good ones by their `quality` (n,), best first, then rejected ones."""
        numbers: list[int] = np.argsort(-np.where(self.kept, quality, -np.inf), kind="stable").tolist()
        return numbers


class FrameSequence:
    """The frames of an observation, calibrated as they are read: one in memory at a time.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.

    Attributes
    ----------
    calibrator : Calibrator
        Master dark and flat that fit the frames.

    Raises
    ------
    Unprocessable
        A master is missing and the configuration requires calibration.
    """

    def __init__(self, work: Workspace, frames: Frames) -> None:
        self.work, self.frames = work, frames
        # filled again by each frame: new memory for each takes longer than reading it
        self._raw = np.empty(frames.shape, np.float32)
        self.calibrator = calibrator(work, frames.shape, frames.sections, self.harmless_adu())

    @cached_property
    def saturation(self) -> float:
        """Level above which a calibrated pixel counts as saturated [ADU]."""
        return self.calibrator.saturation(self._raw_saturation)

    def saturation_near(self, star: GuideStar) -> float:
        """Return the level above which a calibrated pixel near a star counts as saturated [ADU]."""
        return self.calibrator.saturation(self._raw_saturation, (star.y, star.x))

    @property
    def _raw_saturation(self) -> float | None:
        known = self.work.telescope.saturation_adu
        return self.frames.above_overscan(known) if known else self.frames.saturation

    def harmless_adu(self) -> float:
        """Return the excess of pixels of the master dark up to which they are not filled in the frames [ADU]."""
        return 0.0

    def fault(self, i: int) -> str:
        """Return why frame `i` cannot show anything, see :func:`.pixel_fault`."""
        return pixel_fault(self.frames.read(i, self._raw), self._raw_saturation)

    def explained(self, reasons: Sequence[str]) -> tuple[str, ...]:
        """Return why frames are rejected: of those that are black, their :meth:`fault` if they have one.

        Parameters
        ----------
        reasons : sequence of n str
            Why each frame is rejected; empty for good frames.

        Returns
        -------
        tuple of n str
        """
        return tuple((self.fault(i) if reason.startswith(BLACK) else "") or reason for i, reason in enumerate(reasons))

    @contextmanager
    def faults_told(self) -> Iterator[None]:
        """Where nothing is found in the frames, say how many of them cannot show anything, and why."""
        try:
            yield
        except BadRawData:
            raise
        except Unprocessable as err:
            told = with_faults(err, map(self.fault, range(len(self.frames))))
            if told is err:
                raise
            raise told from err

    def half_window_px(self, window_arcsec: float, least_px: int) -> int:
        """Return half the side of a window, in whole pixels.

        Parameters
        ----------
        window_arcsec : float
            Side of the window [arcsec].
        least_px : int
            Smallest half side [pixel].

        Returns
        -------
        int
            Half the side [pixel].
        """
        return max(least_px, round(window_arcsec / self.work.telescope.plate_scale_arcsec / 2))

    def read(self, i: int) -> Float32Array:
        """Return the calibrated frame `i`, shape (ny, nx) [ADU]."""
        return self.calibrator.calibration.apply(self.frames.read(i, self._raw))

    def read_window(self, i: int, corner: tuple[int, int], shape: tuple[int, int]) -> Float32Array:
        """Return a calibrated part of a frame.

        Parameters
        ----------
        i : int
            Number of the frame.
        corner : (y0, x0)
            First pixel of the window.
        shape : (ny, nx)
            Its size [pixel]; it is cut off at the edges of the frame.

        Returns
        -------
        ndarray (ny, nx) float32
            Calibrated pixels [ADU].
        """
        y0, x0 = corner
        y1, x1 = min(y0 + shape[0], self.frames.shape[0]), min(x0 + shape[1], self.frames.shape[1])
        return self.calibrator.calibration.apply(self.frames.window(i, y0, y1, x0, x1), origin=corner)

    def calibrated(
        self, indices: Sequence[int], begin: float, end: float, message: str
    ) -> Iterator[tuple[int, Float32Array]]:
        """Read frames one after the other and report the progress.

        Parameters
        ----------
        indices : sequence of int
            Numbers of the frames.
        begin, end : float
            Progress of the step before the first frame and after the last, 0 to 1.
        message : str
            What is done with the frames, for the progress report.

        Yields
        ------
        i : int
            Number of the frame.
        frame : ndarray (ny, nx) float32
            Calibrated frame [ADU]; the next one takes its place, so that memory is used once.
        """
        frame = np.empty_like(self._raw)
        for done, i in enumerate(indices):
            self.work.progress(begin + (end - begin) * done / len(indices), message)
            yield i, self.calibrator.calibration.apply(self.frames.read(i, self._raw), frame)

    def fill_hot_pixels(self, images: Sequence[Float32Array]) -> None:
        """Fill hot pixels that the masters do not know, in these images and in every frame that is read from now on.

        Parameters
        ----------
        images : sequence of ndarray (ny, nx)
            Frames, or means or medians of subsets of them, on the pixels of the detector; changed [ADU].
        """
        hot = hot_pixels(images)
        if hot.any():
            self.calibrator = self.calibrator.without(hot)
            for image in images:
                calibrate(image, None, None, hot, image)

    def mean(self, indices: Sequence[int]) -> Float32Array:
        """Return the mean of some frames.

        Parameters
        ----------
        indices : sequence of n int
            Numbers of the frames.

        Returns
        -------
        ndarray (ny, nx) float32
            Mean [ADU]; NaN where no frame has a finite value.
        """
        mean = plain_mean(self.frames.shape)
        for i in indices:
            mean.add(self.read(i), 0, 0)
        return mean.image()


def plain_mean(shape: tuple[int, int]) -> Drizzle:
    """Return an empty mean of frames (ny, nx) on their own pixels, for shifts by whole pixels."""
    return Drizzle(shape, 1, 1.0)


def pixfrac_for(shifts: FloatArray) -> float:
    """Return the smallest drop with which frames of these shifts (n, 2) cover every pixel well [raw pixel].

    With it there are no gaps in the stack, and no pixels that a frame or two alone contribute to.
    """
    for pixfrac in PIXFRACS:
        sample = Drizzle((6, 6), SCALE, pixfrac)
        for dy, dx in shifts % 1.0:
            sample.add(np.zeros(sample.shape, np.float32), dy, dx)
        weights = sample.weights()[2 * SCALE : -2 * SCALE, 2 * SCALE : -2 * SCALE]
        enough = len(shifts) * pixfrac**2 >= LEAST_FRAMES
        if enough and weights.min() >= LEAST_COVERAGE * weights.mean():
            return pixfrac
    return PIXFRACS[-1]
