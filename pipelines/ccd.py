"""Ordinary CCD images: exposures of a field are registered, cleaned of cosmic rays and added, on their own pixels."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import PositiveFloat

from obsarchive.errors import Unprocessable
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float32Array
from obsarchive.science.photometry.source_detection import detect
from pipelines.faint_star import classify, shift_plot, summary, table
from pipelines.shared.faint_sequence import FaintSequence
from pipelines.shared.preview_step import PREVIEWS, PreviewSettings, publish_previews
from pipelines.shared.product_headers import header_wcs, product_header

SCALE = 1
LEAST_SNR = 10.0
"""Of the brightest source of a stack, in the smoothed image."""

BELIEVED_GAIN = 0.01, 50.0
"""Least and greatest gain that is believed: cameras write the number of a setting under it, too [e-/ADU]."""


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
            checked = sequence.check(found, image, SCALE)
            is_placed = found.kept[0] and 0 not in found.turns
            coordinates = header_wcs(work, frames, tuple(found.shifts[0])) if is_placed else None
        header = product_header(work, (SCALE, stack.shape))
        header.update(coordinates or {})
        header["NCOMBINE"] = (stack.n_frames, "exposures added")
        gain = work.observation.number("gain")
        if gain is not None and BELIEVED_GAIN[0] <= gain <= BELIEVED_GAIN[1]:
            header["EGAIN"] = (gain * stack.n_frames, "[e-/adu] of the mean of the exposures")
        if np.isfinite(sequence.saturation):
            header["SATURATE"] = (sequence.saturation, "[adu] saturated from here on")
        work.publish_fits("{id}_stack.fits", image, header, sequence.calibrator.masters)
        work.publish("shifts.txt", table(found))
        return {**summary(found, SCALE), **checked, "cosmic_ray_pixels": hits, "calibration": sequence.calibrator.text}

    @step(makes=[*PREVIEWS, "preview/{id}_shifts.png"], after=["stack"], settings=FieldPreviewSettings)
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Make previews of the stack, and a plot of the shifts between the exposures."""
        work.publish("preview/{id}_shifts.png", shift_plot(work))
        return publish_previews(work, "{id}_stack.fits", SCALE)
