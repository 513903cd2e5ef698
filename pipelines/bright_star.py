"""Bright-star pipeline: lucky imaging. Frames are ranked by their guide star, shifted and drizzled.

After Law, Mackay & Baldwin (2006, A&A 446, 739); Fruchter & Hook (2002, PASP 114, 144) for the drizzle; as used by
Robo-AO (Jensen-Clem et al. 2018, AJ 155, 32).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.figures import frame_quality
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.rawdata import Frames
from obsarchive.science.drizzle import Drizzle
from obsarchive.science.registration import (
    MIN_STEADY_FRAMES,
    FrameMeasure,
    Grades,
    GuideStar,
    classify,
    grade,
    guide_star,
)
from obsarchive.science.registration import locate as locate_star
from obsarchive.science.registration import measure as measure_star
from pipelines.masters import Calibrator, calibrator
from pipelines.previews import PreviewSettings, labels_of, publish_previews
from pipelines.products import optics_of, product_header
from pipelines.strehl import measure_and_publish

log = logging.getLogger(__name__)

SCALE = 2
PIXFRACS = (0.45, 0.6, 0.8, 1.0)
"""Sides of a drop: the first for as many frames as lucky imaging has, the last covers evenly with a single one."""
LEAST_COVERAGE, LEAST_FRAMES = 0.25, 3
"""Of the mean weight, and of frames on average: what every pixel of a stack must have."""
SUBSETS, SUBSET_FRAMES = 5, 9
"""The guide star is looked for on medians of this many subsets, of at most so many frames each."""
MOVING_MIN_SNR = 10.0
"""A star that is somewhere else in every frame must stand out in each: single electrons reach 8."""
NO_STAR = FrameMeasure(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, snr=0.0, sharpness=np.nan, brightest=np.nan)
SATURATED = 0.97
"""Of the saturation level: calibrated pixels above this are taken for saturated."""


@dataclass(frozen=True)
class Settings:
    """Settings of the bright-star pipeline."""

    best_fraction: float = field(default=0.2, metadata={"help": "fraction of the frames in 20p.fits"})
    window_arcsec: float = field(
        default=4.0, metadata={"help": "least side of the window around the guide star [arcsec]"}
    )
    core_px: float = field(
        default=1.0, metadata={"help": "sigma of the star's core where the filter is unknown [raw pixel]"}
    )


class BrightStar(Pipeline):
    """Lucky imaging of a star bright enough to be measured in every frame."""

    name = "bright_star"
    Settings = Settings

    @step(makes=["100p.fits", "20p.fits", "frames.txt"])
    def reduce(self, work: Workspace) -> dict[str, Any]:
        """Rank the frames by the guide star; stack the best fifth and all good ones."""
        with work.frames() as frames:
            sequence = _Sequence(work, frames, calibrator(work, frames.shape), self.settings)
            star, measures, origins = sequence.measure()
            grades = grade(measures, origins, saturation=sequence.saturation)
            verdict = classify(grades)
            if verdict in ("zero_flux", "failed"):
                raise _classified(verdict, grades)
            best, every = sequence.stack(grades, self.settings.best_fraction)
        work.publish("frames.txt", _table(grades, measures, origins).encode())
        for name, stack in (("20p.fits", best), ("100p.fits", every)):
            header = product_header(work, stack, grades.reference)
            header["NFRAMES"] = (stack.n_frames, "frames stacked")
            header["PIXFRAC"] = (stack.pixfrac, "side of the drizzled drops [raw pixel]")
            work.publish_fits(name, stack.image(), header, sequence.calibrator.masters)
        return {
            "classified_as": verdict,
            **_summary(grades, star),
            "best_frames": best.n_frames,
            "pixfrac": every.pixfrac,
            "calibration": sequence.calibrator.text,
        }

    @step(makes=["strehl/{id}_strehl.txt", "strehl/{id}_box.fits", "strehl/{id}_profile.png"], after=["reduce"])
    def strehl(self, work: Workspace) -> dict[str, Any]:
        """Strehl ratio of 100p: its peak over that of the telescope's perfect PSF."""
        return measure_and_publish(work, "100p.fits", SCALE, work.results("reduce").get("pixfrac", PIXFRACS[0]))

    @step(
        makes=[
            "preview/{id}_full.png",
            "preview/{id}_cropped.png",
            "preview/{id}_thumb.png",
            "preview/{id}_quality.png",
        ],
        after=["reduce"],
        follows=["strehl"],
        settings=PreviewSettings,
    )
    def preview(self, work: Workspace) -> dict[str, Any]:
        """Pictures of 100p for people, and how the frames were chosen."""
        work.publish("preview/{id}_quality.png", _quality_plot(work, self.settings.best_fraction))
        return publish_previews(work, "100p.fits", SCALE)


def _classified(verdict: str, grades: Grades) -> Unprocessable:
    reasons = ", ".join(f"{count} {reason}" for reason, count in _reasons(grades).items())
    words = {"zero_flux": "no star in any frame", "failed": "too few usable frames"}
    return Unprocessable(f"{words[verdict]} of {len(grades.kept)}: {reasons}", verdict)


def _reasons(grades: Grades) -> dict[str, int]:
    kinds = [reason.partition(":")[0] for reason in grades.reasons if reason]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _summary(grades: Grades, star: GuideStar) -> dict[str, Any]:
    left_out = [{"frame": i, "reason": reason} for i, reason in enumerate(grades.reasons) if reason]
    return {
        "frames_total": len(grades.kept),
        "frames_used": int(grades.kept.sum()),
        "left_out": left_out[:1000],
        "left_out_by_reason": [{"reason": k, "frames": n} for k, n in _reasons(grades).items()],
        "guide_star": {"y": grades.reference[0], "x": grades.reference[1], "snr": star.snr, "size_px": star.scale_px},
        "lock_position": list(SCALE * (np.array(grades.reference) + 0.5) - 0.5),
        "frame_snr": float(np.median(grades.snr[grades.kept])),
        "shift_rms_px": float(np.sqrt(np.mean(grades.shifts[grades.kept] ** 2))),
    }


class _Sequence:
    """The frames of an observation, looked at twice: the guide star in each, then the stack."""

    def __init__(self, work: Workspace, frames: Frames, with_masters: Calibrator, settings: Settings) -> None:
        self.work, self.frames, self.calibrator, self.settings = work, frames, with_masters, settings
        telescope = work.telescope
        self.half = max(8, round(settings.window_arcsec / telescope.plate_scale_arcsec / 2))
        optics = optics_of(work)
        self.core_px = settings.core_px
        if optics is not None:
            self.core_px = max(0.6, 0.5 * optics.lambda_over_d_arcsec / telescope.plate_scale_arcsec)
        level = telescope.saturation_adu or frames.saturation or np.inf
        dark = with_masters.calibration.dark
        self.saturation = SATURATED * (level - (0.0 if dark is None else float(np.median(dark))))

    def measure(self) -> tuple[GuideStar, list[FrameMeasure], np.ndarray]:
        """Find the guide star and measure it in every frame; windows' origins (n, 2) come along."""
        stars = self._stars()
        found = [star for star in stars if star]
        if not found:
            raise Unprocessable(f"no guide star: none of the {len(self.frames)} frames holds one", "zero_flux")
        # One window and aperture for all, those of the largest image: peaks are compared at equal flux.
        scale = max(star.scale_px for star in found)
        measures, origins = [], np.zeros((len(stars), 2))
        for i, star in enumerate(stars):
            self._progress(0.4, i, "measuring the guide star")
            if star is None:
                measures.append(NO_STAR)
                continue
            window, origins[i] = self._window(i, replace(star, scale_px=scale))
            measures.append(measure_star(window, self.core_px, scale))
        return max(found, key=lambda star: star.snr), measures, origins

    def _stars(self) -> list[GuideStar | None]:
        """Guide star by frame: found in each of a short sequence, in which it may jump, else once for all."""
        n = len(self.frames)
        located = [self._locate(i) for i in range(n)] if n < MIN_STEADY_FRAMES else []
        if sum(star is not None for star in located) > n / 2:
            return located
        steady = self._find()
        return [steady] * n if steady else located or [self._locate(i) for i in range(n)]

    def _find(self) -> GuideStar | None:
        """Guide star on medians of subsets; None when the star does not stay in one place."""
        n = len(self.frames)
        if n < SUBSETS:
            return None
        subsets = [range(k, n, SUBSETS) for k in range(SUBSETS)]
        medians = np.stack([self._median(list(subset)) for subset in subsets])
        try:
            return guide_star(medians)
        except Unprocessable:
            if n > SUBSETS * SUBSET_FRAMES:
                raise
            return None

    def _median(self, indices: list[int]) -> np.ndarray:
        chosen = indices[:: max(1, len(indices) // SUBSET_FRAMES)][:SUBSET_FRAMES]
        return np.median([self._read(i) for i in chosen], axis=0)

    def _locate(self, i: int) -> GuideStar | None:
        """Brightest star of one frame; None when there is no clear one."""
        try:
            star = locate_star(self._read(i))
        except Unprocessable:
            return None
        return star if star.snr >= MOVING_MIN_SNR else None

    def _window(self, i: int, star: GuideStar) -> tuple[np.ndarray, tuple[int, int]]:
        ny, nx = self.frames.shape
        half = max(self.half, star.half_window_px)
        y0 = min(max(round(star.y) - half, 0), max(ny - 2 * half, 0))
        x0 = min(max(round(star.x) - half, 0), max(nx - 2 * half, 0))
        raw = self.frames.window(i, y0, min(y0 + 2 * half, ny), x0, min(x0 + 2 * half, nx))
        return self.calibrator.calibration.apply(raw, origin=(y0, x0)), (y0, x0)

    def stack(self, grades: Grades, best_fraction: float) -> tuple[Drizzle, Drizzle]:
        """Drizzle every good frame once: the best ones apart, then all together."""
        chosen = set(grades.best(best_fraction).tolist())
        pixfrac = _pixfrac(grades.shifts[sorted(chosen)])
        best = Drizzle(self.frames.shape, SCALE, pixfrac)
        every = Drizzle(self.frames.shape, SCALE, pixfrac)
        for i, frame in self._calibrated(np.flatnonzero(grades.kept)):
            (best if i in chosen else every).add(frame, *grades.shifts[i])
        return best, every.merge(best)

    def _calibrated(self, indices: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        raw = np.empty(self.frames.shape, np.float32)
        frame = np.empty_like(raw)
        for done, i in enumerate(indices.tolist()):
            self._progress(0.4 + 0.6 * done / len(indices), None, "stacking")
            self.frames.read(i, raw)
            yield i, self.calibrator.calibration.apply(raw, frame)

    def _read(self, i: int) -> np.ndarray:
        return self.calibrator.calibration.apply(self.frames.read(i))

    def _progress(self, upto: float, i: int | None, text: str) -> None:
        self.work.progress(upto if i is None else upto * i / len(self.frames), text)


def _pixfrac(shifts: np.ndarray) -> float:
    """Smallest drop with which frames of these shifts (n, 2) leave neither gaps nor pixels of a frame or two."""
    for pixfrac in PIXFRACS:
        sample = Drizzle((6, 6), SCALE, pixfrac)
        for dy, dx in shifts % 1.0:
            sample.add(np.zeros(sample.shape, np.float32), dy, dx)
        weights = sample.weights()[2 * SCALE : -2 * SCALE, 2 * SCALE : -2 * SCALE]
        enough = len(shifts) * pixfrac**2 >= LEAST_FRAMES
        if enough and weights.min() >= LEAST_COVERAGE * weights.mean():
            return pixfrac
    return PIXFRACS[-1]


def _quality_plot(work: Workspace, best_fraction: float) -> bytes:
    rows = [line.split() for line in work.product("frames.txt").read_text().splitlines() if not line.startswith("#")]
    rows.sort(key=lambda row: int(row[0]))
    quality = np.array([float(row[1]) for row in rows])
    reasons = ["" if row[-1] == "-" else row[-1].partition(":")[0] for row in rows]
    return frame_quality(quality, reasons, labels_of(work), selected_fraction=best_fraction)


def _table(grades: Grades, measures: list[FrameMeasure], origins: np.ndarray) -> str:
    """Frames, best first, then those left out: the numbers that people look at."""
    lines = [
        "# Frames in the order of their quality; those left out follow, with the reason.",
        "# quality: peak of the guide star [ADU]; x, y: its position in the raw frame, 0-based [pixel];",
        "# snr: of its core; flux, background: [ADU], [ADU/pixel].",
        "# frame      quality        snr           flux          x          y   background  left_out",
    ]
    left_out = np.flatnonzero(~grades.kept)
    for i in [*grades.order.tolist(), *left_out.tolist()]:
        m = measures[i]
        y, x = origins[i] + (m.y, m.x)
        reason = grades.reasons[i].replace(" ", "_") or "-"
        lines.append(
            f"{i:7d} {grades.quality[i]:12.3f} {m.snr:10.2f} {m.flux:14.1f} {x:10.3f} {y:10.3f}"
            f" {m.background:12.3f}  {reason}"
        )
    return "\n".join(lines) + "\n"
