"""Ordinary CCD images: exposures of a field are registered, cleaned of cosmic rays and added, on their own pixels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from obsarchive.errors import Unprocessable
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float32Array
from obsarchive.science.imaging.medians import median_5x5
from obsarchive.science.imaging.resampling import turned
from obsarchive.science.photometry.filled_pixels import filled_pixels
from obsarchive.science.photometry.source_detection import detect
from obsarchive.science.statistics import robust_sigma
from pipelines.faint_star import classify, shift_plot, summary, table
from pipelines.shared.faint_sequence import FaintSequence, Registered
from pipelines.shared.frame_sequence import plain_mean
from pipelines.shared.preview_step import PREVIEWS, PreviewSettings, publish_previews
from pipelines.shared.product_headers import FILLED, header_wcs, product_header

SCALE = 1
LEAST_SNR = 10.0
"""Of the brightest source of a stack, in the smoothed image."""

BELIEVED_GAIN = 0.01, 50.0
"""Least and greatest gain that is believed: cameras write the number of a setting under it, too [e-/ADU]."""
DARK_VARIANCE, DARK_RANGE = 10.0, 0.03
"""A dark current is subtracted, not filled, up to so many times the variance of a frame and this share of its range."""


@dataclass(frozen=True)
class Settings:
    """Settings of the CCD pipeline."""

    window_arcsec: PositiveFloat = field(
        default=60.0, metadata={"help": "side of the window on which exposures are registered [arcsec]"}
    )


@dataclass(frozen=True)
class FieldPreviewSettings(PreviewSettings):
    """Settings of the previews of a field."""

    crop_arcsec: PositiveFloat = field(
        default=120.0, metadata={"help": "side of the cropped preview, its middle [arcsec]"}
    )


def believed_gain(work: Workspace) -> float | None:
    """Return the gain of the raw frames, if it is known [e-/ADU]."""
    gain = work.observation.number("gain")
    return gain if gain is not None and BELIEVED_GAIN[0] <= gain <= BELIEVED_GAIN[1] else None


def _require_source(image: Float32Array, n: int) -> None:
    """Reject a stack of noise: exposures with a closed shutter, or bias frames that claim to be exposures."""
    if not len(detect(image, threshold=LEAST_SNR)):
        text = f"nothing in the stack of {n} exposure(s): no source of a signal-to-noise ratio of {LEAST_SNR:g}"
        raise Unprocessable(text, "zero_flux")


class FieldSequence(FaintSequence):
    """The exposures of a field, whose brightest star may be saturated, with columns full of its light.

    However many they are, each is exposed so long that the mean would show its cosmic rays.
    """

    saturated_share = 0.5
    most_cleaned = np.inf

    def harmless_adu(self) -> float:
        """Return the excess of hot pixels up to which the master dark is subtracted from them as from all others [ADU].

        Filled, the core of a star would lose its light; the noise of a small dark current costs less.
        """
        gain = believed_gain(self.work)
        if gain is None or all(master.kind != "dark" for master in self.work.task.masters):
            return 0.0
        raw = self.frames.read(0, self._raw)
        noise = robust_sigma(raw - median_5x5(raw))
        full = self._raw_saturation or np.inf
        return min(DARK_VARIANCE * gain * noise**2, DARK_RANGE * full) if np.isfinite(noise) else 0.0

    def filled(self, found: Registered) -> NDArray[np.void] | None:
        """Return which pixels of the stack hold values of bad pixels, which were filled from those around them.

        Parameters
        ----------
        found : Registered
            Shifts of the frames.

        Returns
        -------
        structured ndarray or None
            ``y_px``, ``x_px`` of the pixels and the ``share`` of their weight that was filled; None without bad pixels.
        """
        bad = self.calibrator.calibration.bad
        if bad is None:
            return None
        share = plain_mean(self.frames.shape)
        for i in np.flatnonzero(found.kept).tolist():
            frame = bad.astype(np.float32)
            share.add(turned(frame, self.turns[i]) if i in self.turns else frame, *found.shifts[i])
        return filled_pixels(share.image())


class CcdStack(Pipeline):
    """Registered mean of the exposures of a field."""

    name = "ccd"
    Settings = Settings

    @step(makes=["{id}_stack.fits", "shifts.txt"])
    def stack(self, work: Workspace) -> dict[str, Any]:
        """Register the exposures on the brightest star, remove cosmic rays and average."""
        with work.frames() as frames:
            sequence = FieldSequence(work, frames, self.settings.window_arcsec)
            with sequence.faults_told():
                found = sequence.register()
            classify(found)
            stack, _, hits = sequence.stack(found, SCALE)
            image = stack.image()
            _require_source(image, len(frames))
            checked, filled = sequence.check(found, image, SCALE), sequence.filled(found)
            is_placed = found.kept[0] and 0 not in found.turns
            coordinates = header_wcs(work, frames, tuple(found.shifts[0])) if is_placed else None
        header = product_header(work, (SCALE, stack.shape))
        header.update(coordinates or {})
        header["NCOMBINE"] = (stack.n_frames, "exposures added")
        gain = believed_gain(work)
        if gain is not None:
            header["EGAIN"] = (gain * stack.n_frames, "[e-/adu] of the mean of the exposures")
        if np.isfinite(sequence.saturation):
            header["SATURATE"] = (sequence.saturation, "[adu] saturated from here on")
        work.publish_fits("{id}_stack.fits", {"": image, FILLED: filled}, header, sequence.calibrator.masters)
        work.publish("shifts.txt", table(found))
        return {**summary(found, SCALE), **checked, "cosmic_ray_pixels": hits, "calibration": sequence.calibrator.text}

    @step(makes=[*PREVIEWS, "preview/{id}_shifts.png"], after=["stack"], settings=FieldPreviewSettings)
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Make previews of the stack, and a plot of the shifts between the exposures."""
        work.publish("preview/{id}_shifts.png", shift_plot(work))
        return publish_previews(work, "{id}_stack.fits", SCALE)
