"""Bright-star pipeline: lucky imaging. Frames are ranked by their guide star, shifted and drizzled.

After Law, Mackay & Baldwin (2006, A&A 446, 739); Fruchter & Hook (2002, PASP 114, 144) for the drizzle; as used by
Robo-AO (Jensen-Clem et al. 2018, AJ 155, 32).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from obsarchive.errors import Unprocessable
from obsarchive.figures.plot_style import frame_quality
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float64Array
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.coverage import uneven_coverage
from obsarchive.science.psf.stack_noise import noise_of_frames
from obsarchive.science.registration.frame_ranking import FrameMeasure, FrameRanking, GuideStar, classify, rank_frames
from obsarchive.science.registration.position_noise import position_errors
from pipelines.shared.frame_sequence import SCALE
from pipelines.shared.lucky_sequence import LuckySequence
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

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """Settings of the bright-star pipeline."""

    best_fraction: Annotated[float, Field(gt=0, le=1)] = field(
        default=0.2, metadata={"help": "fraction of the frames in 20p.fits"}
    )
    window_arcsec: PositiveFloat = field(
        default=4.0, metadata={"help": "least side of the window around the guide star [arcsec]"}
    )
    core_px: PositiveFloat = field(
        default=1.0, metadata={"help": "sigma of the star's core where the filter is unknown [raw pixel]"}
    )


@dataclass(frozen=True)
class StackSettings(SubtractionSettings):
    """Settings of the high-contrast step on lucky images."""

    stack: Literal["100p", "20p"] = field(default="100p", metadata={"help": "stack whose star is subtracted"})


class BrightStar(Pipeline):
    """Lucky imaging of a star bright enough to be measured in every frame."""

    name = "bright_star"
    Settings = Settings

    @step(makes=["100p.fits", "20p.fits", "frames.txt"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        """Rank the frames by the peak of the guide star; stack the best ones, and all good ones."""
        with work.frames() as frames:
            sequence = LuckySequence(work, frames, self.settings.window_arcsec, self.settings.core_px)
            with sequence.faults_told():
                star, measures, origins = sequence.measure()
            ranking = rank_frames(measures, origins, saturation=sequence.saturation_near(star))
            ranking = sequence.confirmed(ranking)
            verdict = classify(ranking)
            if verdict in ("zero_flux", "failed"):
                problem = "no star in any frame" if verdict == "zero_flux" else "too few usable frames"
                raise Unprocessable(f"{problem} of {len(ranking.kept)}: {reasons_text(ranking.reasons)}", verdict)
            best, every = sequence.stack(ranking, self.settings.best_fraction)
            checked = sequence.check(ranking, every.image())
        errors = position_errors([m.noise for m in measures])
        work.publish("frames.txt", _table(ranking, measures, origins, errors))
        for name, stack in (("20p.fits", best), ("100p.fits", every)):
            header = product_header(work, (stack.scale, stack.shape), ranking.reference)
            header["NCOMBINE"] = (stack.n_frames, "frames stacked")
            header["PIXFRAC"] = (stack.pixfrac, "side of the drizzled drops [raw pixel]")
            work.publish_fits(name, stack.image(), header, sequence.calibrator.masters)
        return {
            "classified_as": verdict,
            **_summary(ranking, star, errors),
            "stack_noise": _noise(measures, ranking, every, sequence.core_px),
            **checked,
            "best_frames": best.n_frames,
            "pixfrac": every.pixfrac,
            "calibration": sequence.calibrator.text,
        }

    @step(makes=STREHL, after=["reduce"])
    def strehl(self, work: Workspace) -> dict[str, Any]:
        """Measure the Strehl ratio of 100p: its peak over that of the telescope's diffraction-limited PSF."""
        return measure_and_publish(work, "100p.fits", SCALE)

    @step(makes=SUBTRACTION, after=["reduce"], follows=["strehl"], uses=["library"], settings=StackSettings)
    def pca(self, work: Workspace) -> dict[str, Any]:
        """Subtract the star with the help of the PSF library, and measure the contrast curve."""
        stack = work.settings.stack
        return subtract_and_publish(work, f"{stack}.fits", stack)

    @step(makes=[*PREVIEWS, "preview/{id}_quality.png"], after=["reduce"], follows=["strehl"], settings=PreviewSettings)
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Make previews of 100p, and a plot of how the frames were chosen."""
        rows, reasons = read_frame_table(work.product("frames.txt").read_text())
        quality = np.array([float(row[1]) for row in rows])
        plot = frame_quality(quality, reasons, labels_of(work), selected_fraction=self.settings.best_fraction)
        work.publish("preview/{id}_quality.png", plot)
        return publish_previews(work, "100p.fits", SCALE)


def _noise(
    measures: Sequence[FrameMeasure], ranking: FrameRanking, stack: Drizzle, core_px: float
) -> dict[str, float | int | tuple[float, float]]:
    """Noise of 100p, for the error of its Strehl ratio, and where its star is."""
    noise = noise_of_frames([measures[i] for i in ranking.order], stack.scale, stack.pixfrac)
    peaks = np.array([measures[i].peak for i in ranking.order])
    coverage = uneven_coverage(
        ranking.shifts[ranking.order], peaks, ranking.reference, core_px, stack.scale, stack.pixfrac
    )
    return {
        "sky_adu2": noise.sky,
        "grain_adu": noise.grain,
        "lift_adu": noise.lift,
        "light_lift": noise.light_lift,
        "chosen_adu": noise.chosen,
        "light_chosen": noise.light_chosen,
        "lift_error": noise.lift_error,
        "sampling": noise.sampling,
        "offset_px": coverage.offset,
        "coverage": coverage.peak,
        "widening": coverage.width,
        "n_places": coverage.n_places,
    }


def _summary(ranking: FrameRanking, star: GuideStar, errors: Float64Array) -> dict[str, Any]:
    # of positions without an error nothing is known, as of those of a window without a maximum
    known = np.nan_to_num(errors[ranking.kept])
    return {
        **reasons_listed(ranking.reasons),
        "guide_star": {"y": ranking.reference[0], "x": ranking.reference[1], "snr": star.snr, "size_px": star.scale_px},
        "lock_position": list(stack_position(ranking.reference, SCALE)),
        "frame_snr": float(np.median(ranking.snr[ranking.kept])),
        "shift_rms_px": float(np.sqrt(np.mean(ranking.shifts[ranking.kept] ** 2))),
        "shift_error_px": float(np.sqrt(np.mean(known**2))),
        "lock_position_error": (SCALE * np.sqrt(np.mean(known**2, axis=0) / max(len(known), 1))).tolist(),
    }


def _table(ranking: FrameRanking, measures: list[FrameMeasure], origins: Float64Array, errors: Float64Array) -> bytes:
    """Measurements of the frames, best first, then the rejected ones."""
    comments = [
        "Frames in the order of their quality; rejected ones follow, with the reason.",
        "quality: peak of the guide star [ADU]; x, y: its position in the raw frame, 0-based [pixel];",
        "snr: of its core; flux, background: [ADU], [ADU/pixel]; x_error, y_error: of the position by noise [pixel].",
        "frame      quality        snr           flux          x          y   background    x_error    y_error"
        "  left_out",
    ]

    def columns(i: int) -> str:
        m = measures[i]
        y, x = origins[i] + (m.y, m.x)
        error = f"{errors[i, 1]:10.4f} {errors[i, 0]:10.4f}"
        return (
            f"{ranking.quality[i]:12.3f} {m.snr:10.2f} {m.flux:14.1f} {x:10.3f} {y:10.3f} {m.background:12.3f} {error}"
        )

    order = [*ranking.order.tolist(), *np.flatnonzero(~ranking.kept).tolist()]
    return frame_table(comments, order, columns, ranking.reasons)
