"""Faint-star pipeline: frames are registered on a star too faint for lucky imaging, and added.

After the Robo-AO faint-star pipeline (Jensen-Clem et al. 2018, AJ 155, 32): cross-correlation of each frame with the
mean of all.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.figures.shifts import frame_shifts
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.imaging.cosmics import without_cosmic_rays_drizzled
from pipelines.shared.calibrator import calibrator
from pipelines.shared.faint_sequence import FEW_FRAMES, FaintSequence, Registered, frames_in_order
from pipelines.shared.lucky_sequence import PIXFRACS, SCALE
from pipelines.shared.preview_step import PREVIEWS, PreviewSettings, labels_of, publish_previews
from pipelines.shared.product_headers import product_header, reasons_counted, reasons_listed
from pipelines.shared.psf_subtraction_step import SUBTRACTION, SubtractionSettings, subtract_and_publish
from pipelines.shared.strehl_step import STREHL, measure_and_publish

MIN_KEPT_FRACTION = 0.1
HIGH_FLUX_SIGNIFICANCE = 150.0
"""Of the star's light in the median frame: lucky imaging does better on such a star."""


@dataclass(frozen=True)
class Settings:
    """Settings of the faint-star pipeline."""

    window_arcsec: float = field(
        default=4.5, metadata={"help": "side of the window on which frames are registered [arcsec]"}
    )


class FaintStar(Pipeline):
    """Registered sum of frames in which the star can hardly be seen."""

    name = "faint_star"
    Settings = Settings

    @step(makes=["{id}_summed.fits", "{id}_simple_sum.fits", "shifts.txt"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        """Register the frames on their own mean and add the good ones, cosmic rays removed."""
        with work.frames() as frames:
            masters = calibrator(work, frames.shape)
            sequence = FaintSequence(work, frames, masters, self.settings.window_arcsec)
            found = sequence.register()
            verdict = classify(found)
            stack, simple, hits = sequence.stack(found)
        image = stack.image()
        if found.kept.sum() > FEW_FRAMES:
            image, hit = without_cosmic_rays_drizzled(image, SCALE)
            hits = int(hit.sum())
        place = found.star.y, found.star.x
        header = product_header(work, (stack.scale, stack.shape), place)
        header["NCOMBINE"] = (stack.n_frames, "frames added")
        header["PIXFRAC"] = (stack.pixfrac, "side of the drizzled drops [raw pixel]")
        work.publish_fits("{id}_summed.fits", image, header, masters.masters)
        header = product_header(work, (1, stack.shape), place)
        header["NCOMBINE"] = (stack.n_frames, "frames added, not registered")
        work.publish_fits("{id}_simple_sum.fits", simple, header, masters.masters)
        work.publish("shifts.txt", table(found).encode())
        return {
            "classified_as": verdict,
            **summary(found),
            "pixfrac": stack.pixfrac,
            "cosmic_ray_pixels": hits,
            "calibration": masters.text,
        }

    @step(makes=STREHL, after=["reduce"])
    def strehl(self, work: Workspace) -> dict[str, Any]:
        """Strehl ratio of the sum: its peak over that of the telescope's perfect PSF."""
        pixfrac = work.results("reduce").get("pixfrac", PIXFRACS[0])
        return measure_and_publish(work, "{id}_summed.fits", SCALE, pixfrac)

    @step(
        makes=SUBTRACTION,
        after=["reduce"],
        follows=["strehl"],
        uses=["library"],
        settings=SubtractionSettings,
    )
    def pca(self, work: Workspace) -> dict[str, Any]:
        """Subtract the star with the help of the PSF library, and say how faint a companion could be seen."""
        return subtract_and_publish(work, "{id}_summed.fits", "100p")

    @step(
        makes=[*PREVIEWS, "preview/{id}_shifts.png"],
        after=["reduce"],
        follows=["strehl"],
        settings=PreviewSettings,
    )
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Pictures of the sum for people, and how the star moved."""
        work.publish("preview/{id}_shifts.png", shift_plot(work))
        return publish_previews(work, "{id}_summed.fits", SCALE)


def classify(found: Registered) -> str:
    """Verdict on the data; rejects those without a star or without usable frames."""
    kept, n = int(found.kept.sum()), len(found.reasons)
    if all(reason.startswith("black") for reason in found.reasons):
        raise Unprocessable(f"no star in any of the {n} frames", "zero_flux")
    if kept < max(1, MIN_KEPT_FRACTION * n):
        counted = ", ".join(f"{count} {kind}" for kind, count in reasons_counted(found.reasons).items())
        raise Unprocessable(f"too few usable frames of {n}: {counted}", "failed")
    return "high_flux" if np.median(found.alignment.significance[found.kept]) >= HIGH_FLUX_SIGNIFICANCE else "faint"


def summary(found: Registered, scale: int = SCALE) -> dict[str, Any]:
    """What is kept of a registration: frames left out, the star, how it moved."""
    kept, star = found.kept, found.star
    relative = found.shifts[kept] - np.median(found.shifts[kept], axis=0)
    return {
        **reasons_listed(found.reasons),
        "guide_star": {"y": star.y, "x": star.x, "snr": star.snr, "size_px": star.scale_px},
        "lock_position": list(scale * (np.array([star.y, star.x]) + 0.5) - 0.5),
        "shift_rms_px": float(np.sqrt(np.mean(relative**2))),
        "shift_error_px": float(np.median(found.alignment.errors[kept])),
        "correlation": float(np.median(found.alignment.quality[kept])),
    }


def shift_plot(work: Workspace) -> bytes:
    """Plot of ``shifts.txt``."""
    rows = [line.split() for line in work.product("shifts.txt").read_text().splitlines() if not line.startswith("#")]
    rows.sort(key=lambda row: int(row[0]))
    numbers = np.array([row[1:4] for row in rows], float)
    reasons = ["" if row[-1] == "-" else row[-1].partition(":")[0] for row in rows]
    return frame_shifts(numbers[:, :2], numbers[:, 2], reasons, work.telescope.plate_scale_arcsec, labels_of(work))


def table(found: Registered) -> str:
    """Frames, best first, then those left out: the numbers that people look at."""
    lines = [
        "# Frames in the order of their quality; those left out follow, with the reason.",
        "# dy, dx: shift that moves the frame onto the others [raw pixel]; error: of either of them [raw pixel];",
        "# quality: correlation with the mean of all frames; light: of the star, 1 for the usual amount.",
        "# frame         dy         dx      error    quality      light  left_out",
    ]
    a = found.alignment
    for i in frames_in_order(found):
        dy, dx = found.shifts[i]
        reason = found.reasons[i].replace(" ", "_") or "-"
        lines.append(
            f"{i:7d} {dy:10.3f} {dx:10.3f} {a.errors[i]:10.3f} {a.quality[i]:10.4f} {a.amplitude[i]:10.4f}  {reason}"
        )
    return "\n".join(lines) + "\n"
