"""Faint-star pipeline: frames are registered on a star too faint for lucky imaging, and averaged.

After the Robo-AO faint-star pipeline (Jensen-Clem et al. 2018, AJ 155, 32): cross-correlation of each frame with the
mean of all.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import PositiveFloat

from obsarchive.errors import Unprocessable
from obsarchive.figures.shifts import frame_shifts
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float32Array
from obsarchive.science.imaging.cosmics import common_signal, without_cosmic_rays_drizzled
from obsarchive.science.registration.stack_check import star_snr
from pipelines.shared.faint_sequence import FEW_FRAMES, FaintSequence, Registered
from pipelines.shared.frame_faults import BLACK, WITHOUT_VALUES
from pipelines.shared.frame_sequence import SCALE, plain_mean
from pipelines.shared.preview_step import PREVIEWS, PreviewSettings, labels_of, publish_previews
from pipelines.shared.product_headers import (
    frame_table,
    product_header,
    read_frame_table,
    reasons_listed,
    reasons_text,
    stack_position,
)
from pipelines.shared.psf_subtraction_step import SUBTRACTION, SubtractionSettings, subtract_and_publish
from pipelines.shared.strehl_step import STREHL, measure_and_publish

MIN_KEPT_FRACTION = 0.1
LEAST_SNR = 6.0
"""Of the star in the sum: noise and patterns of the detector, on which frames of an empty field agree, reach 5."""
WITNESSES = 5
"""Parts of the frames: what most of them show is no cosmic ray."""
HIGH_FLUX_SIGNIFICANCE = 150.0
"""Of the star's flux in the median frame: lucky imaging does better on such a star."""


@dataclass(frozen=True)
class Settings:
    """Settings of the faint-star pipeline."""

    window_arcsec: PositiveFloat = field(
        default=4.5, metadata={"help": "side of the window on which frames are registered [arcsec]"}
    )


class FaintStar(Pipeline):
    """Registered mean of frames in which the star is barely detected."""

    name = "faint_star"
    Settings = Settings

    @step(makes=["{id}_summed.fits", "{id}_simple_sum.fits", "shifts.txt"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        """Register the frames on their own mean, average the good ones and remove cosmic rays."""
        with work.frames() as frames:
            sequence = FaintSequence(work, frames, self.settings.window_arcsec)
            with sequence.faults_told():
                found = sequence.register()
            verdict = classify(found)
            image, simple, pixfrac, hits = clean_sum(sequence, found)
            require_star(found, image)
            checked = sequence.check(found, image)
        position, n_added = (found.star.y, found.star.x), int(found.kept.sum())
        header = product_header(work, (SCALE, simple.shape), position)
        header["NCOMBINE"] = (n_added, "frames added")
        header["PIXFRAC"] = (pixfrac, "side of the drizzled drops [raw pixel]")
        work.publish_fits("{id}_summed.fits", image, header, sequence.calibrator.masters)
        header = product_header(work, (1, simple.shape), position)
        header["NCOMBINE"] = (n_added, "frames added, not registered")
        work.publish_fits("{id}_simple_sum.fits", simple, header, sequence.calibrator.masters)
        work.publish("shifts.txt", table(found))
        return {
            "classified_as": verdict,
            **summary(found),
            **checked,
            "pixfrac": pixfrac,
            "cosmic_ray_pixels": hits,
            "calibration": sequence.calibrator.text,
        }

    @step(makes=STREHL, after=["reduce"])
    def strehl(self, work: Workspace) -> dict[str, Any]:
        """Measure the Strehl ratio of the sum: its peak over that of the telescope's diffraction-limited PSF."""
        return measure_and_publish(work, "{id}_summed.fits", SCALE)

    @step(makes=SUBTRACTION, after=["reduce"], follows=["strehl"], uses=["library"], settings=SubtractionSettings)
    def pca(self, work: Workspace) -> dict[str, Any]:
        """Subtract the star with the help of the PSF library, and measure the contrast curve."""
        return subtract_and_publish(work, "{id}_summed.fits", "100p")

    @step(makes=[*PREVIEWS, "preview/{id}_shifts.png"], after=["reduce"], follows=["strehl"], settings=PreviewSettings)
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Make previews of the sum, and a plot of the image motion."""
        work.publish("preview/{id}_shifts.png", shift_plot(work))
        return publish_previews(work, "{id}_summed.fits", SCALE)


def classify(found: Registered) -> str:
    """Return ``high_flux`` for a star that lucky imaging would serve better, else ``faint``.

    Raises
    ------
    Unprocessable
        There is no star (``zero_flux``), or there are too few usable frames (``failed``).
    """
    kept, n = int(found.kept.sum()), len(found.reasons)
    if all(reason.startswith((BLACK, WITHOUT_VALUES)) for reason in found.reasons):
        raise Unprocessable(f"no star in any of the {n} frames", "zero_flux")
    if kept < max(1, MIN_KEPT_FRACTION * n):
        raise Unprocessable(f"too few usable frames of {n}: {reasons_text(found.reasons)}", "failed")
    return "high_flux" if np.median(found.alignment.significance[found.kept]) >= HIGH_FLUX_SIGNIFICANCE else "faint"


def require_star(found: Registered, image: Float32Array) -> None:
    """Raise `Unprocessable` if the sum does not show the star on which its frames were registered."""
    snr = star_snr(image, stack_position((found.star.y, found.star.x), SCALE), SCALE * found.star.scale_px / 2)
    if snr < LEAST_SNR:
        raise Unprocessable(
            f"no star: where the {found.kept.sum()} frames were registered their sum has a S/N of {snr:.1f}, "
            f"needed is {LEAST_SNR:.0f}; without a master dark patterns of the detector pass for stars",
            "zero_flux",
        )


def clean_sum(sequence: FaintSequence, found: Registered) -> tuple[Float32Array, Float32Array, float, int]:
    """Add the good frames of a sequence.

    Parameters
    ----------
    sequence : FaintSequence
        The frames.
    found : Registered
        Their shifts.

    Returns
    -------
    image : ndarray (SCALE * ny, SCALE * nx) float32
        Their registered mean without cosmic rays [ADU per pixel of it].
    simple : ndarray (ny, nx) float32
        Their mean without registration [ADU].
    pixfrac : float
        Side of the drizzled drops [raw pixel].
    hits : int
        Pixels hit by cosmic rays that were replaced.
    """
    if found.kept.sum() <= FEW_FRAMES:  # the sequence itself removes cosmic rays from the frames
        stack, simple, hits = sequence.stack(found)
        return stack.image(), simple, stack.pixfrac, hits
    parts = [plain_mean(sequence.frames.shape) for _ in range(WITNESSES)]
    stack, simple, _ = sequence.stack(found, parts=parts)
    image, pixfrac = stack.image(), stack.pixfrac
    del stack  # as the parts one by one: memory that is needed for what follows

    def elsewhere() -> Float32Array:
        return common_signal((parts.pop().image() for _ in range(WITNESSES)), np.zeros((WITNESSES, 2)))

    image, hit = without_cosmic_rays_drizzled(image, SCALE, elsewhere)
    return image, simple, pixfrac, int(hit.sum())


def summary(found: Registered, scale: int = SCALE) -> dict[str, Any]:
    """Return the results of a registration: rejected frames, guide star, image motion.

    Parameters
    ----------
    found : Registered
        Registration of the frames.
    scale : int
        Pixels of the stack per raw pixel along each axis.

    Returns
    -------
    dict
        Part of the results of the step.
    """
    kept, star = found.kept, found.star
    relative = found.moves[kept] - np.median(found.moves[kept], axis=0)
    return {
        **reasons_listed(found.reasons),
        "guide_star": {"y": star.y, "x": star.x, "snr": star.snr, "size_px": star.scale_px},
        "lock_position": list(stack_position((star.y, star.x), scale)),
        "shift_rms_px": float(np.sqrt(np.mean(relative**2))),
        "shift_error_px": float(np.median(found.alignment.errors[kept])),
        "correlation": float(np.median(found.alignment.quality[kept])),
        "turned": [{"frame": i, "turn": str(found.turns[i])} for i in sorted(found.turns) if kept[i]],
    }


def shift_plot(work: Workspace) -> bytes:
    """Return the plot of ``shifts.txt``, a PNG."""
    rows, reasons = read_frame_table(work.product("shifts.txt").read_text())
    numbers = np.array([row[1:4] for row in rows], float)
    return frame_shifts(numbers[:, :2], numbers[:, 2], reasons, work.telescope.plate_scale_arcsec, labels_of(work))


def table(found: Registered) -> bytes:
    """Return the shifts of the frames as text, best first, then the rejected ones."""
    comments = [
        "Frames in the order of their quality; rejected ones follow, with the reason.",
        "dy, dx: shift that moves the frame onto the others [raw pixel]; error: of either of them [raw pixel];",
        "quality: correlation with the mean of all frames; light: of the star, 1 for the usual amount.",
        "turn: angle from x to y by which the frame is turned first [deg]; mirror: 1 if x is mirrored before that.",
        "frame         dy         dx      error    quality      light     turn mirror  left_out",
    ]
    a = found.alignment

    def columns(i: int) -> str:
        dy, dx = found.moves[i]
        turn = found.turns.get(i)
        angle, mirror = (0.0, 0) if turn is None else (turn.angle_deg, int(turn.is_mirrored))
        return (
            f"{dy:10.3f} {dx:10.3f} {a.errors[i]:10.3f} {a.quality[i]:10.4f} {a.amplitude[i]:10.4f} "
            f"{angle:8.3f} {mirror:6d}"
        )

    return frame_table(comments, found.ranked(a.quality), columns, found.reasons)
