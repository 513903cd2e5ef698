"""Seeing of a night: the width of a star in each seeing file."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from obsarchive.core.documents import Night
from obsarchive.core.values import as_mappings
from obsarchive.errors import BadRawData, Lacking, Unprocessable
from obsarchive.figures.night import seeing_frame, seeing_of_night
from obsarchive.io.raw_frames import Frames
from obsarchive.io.raw_headers import read_header
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float32Array
from obsarchive.science.psf.seeing import StarWidth, measure_width, refuse_saturated
from obsarchive.science.psf.seeing_trend import combined_width, trend_with_errors
from obsarchive.science.registration.windows import cut
from pipelines.shared.calibrator import SATURATED
from pipelines.shared.frame_faults import pixel_fault, with_faults

log = logging.getLogger(__name__)

LONG_EXPOSURE_S = 0.5
"""Frames this long are measured one by one; shorter ones are added first, as seeing is that of a long exposure."""
TREND_H = 0.35
"""Width of the smoothing kernel of the trend [h]; less in a short series."""
MAX_FRAMES = 25
"""Of a file of long exposures: more would take long and tell little."""


class Seeing(Pipeline):
    """Seeing through the night."""

    name = "seeing"
    scope = "night"
    folder = "summary"

    @step(makes=["seeing/{time}.png", "seeing/seeing.{id}.txt", "seeing/seeing.{id}.png"], uses=["seeing"])
    def measure(self, work: Workspace) -> dict[str, Any]:
        """Measure the FWHM of the star in each seeing file, and the trend through the night."""
        night = work.subject
        files = night.raw_files("seeing") if isinstance(night, Night) else ()
        if not files:
            raise Lacking("seeing files", f"no seeing files in the night {night.id}: the seeing is not known")
        measured = []
        former = {str(each.get("file")): each for each in as_mappings(work.results("measure").get("frames"))}
        for number, file in enumerate(sorted(files, key=lambda item: item["date_utc"])):
            work.progress(number / len(files), f"measuring {file['name']}")
            if file["path"].exists():
                measured.append(_measure(work, file))
            else:
                measured.append(_kept(work, file, former.get(file["name"])))
        valid = [item for item in measured if item["fwhm_arcsec"] is not None]
        if not valid:
            raise Unprocessable(f"no seeing from any of the {len(files)} files; the last: {measured[-1]['reason']}")
        hours = np.array([item["date_utc"].timestamp() / 3600 for item in valid])
        width_h = min(TREND_H, float(np.ptp(hours)) / 6) or TREND_H
        widths, errors = (np.array([item[key] for item in valid]) for key in ("fwhm_arcsec", "fwhm_error_arcsec"))
        course = trend_with_errors(hours, widths, errors, width_h)
        work.publish("seeing/seeing.{id}.txt", _table(measured).encode())
        title = f"Seeing of {night.id}"
        work.publish("seeing/seeing.{id}.png", seeing_of_night(valid, course.values, title))
        frames = [{**item, "date_utc": item["date_utc"].isoformat()} for item in measured]
        return {
            "frames": frames,
            "median_arcsec": course.median,
            "median_error_arcsec": course.median_error,
            "trend_arcsec": course.values.tolist(),
            "trend_error_arcsec": course.errors.tolist(),
        }


def _kept(work: Workspace, file: Mapping[str, Any], former: Mapping[str, Any] | None) -> dict[str, Any]:
    """Seeing of a file that has gone since it was measured, with its picture."""
    if former is None:
        work.require_present("seeing", [file["path"]])
        lacking = {"fwhm_arcsec": None, "reason": "the file has gone and was not measured before"}
        return {"file": file["name"], "date_utc": file["date_utc"], "filter": str(file.get("filter") or ""), **lacking}
    picture = _picture(file)
    if former.get("fwhm_arcsec") is not None and work.product(picture).exists():
        work.publish(picture, work.product(picture).read_bytes())
    return {**former, "date_utc": file["date_utc"]}


def _picture(file: Mapping[str, Any]) -> str:
    """Return the name of the picture of a file's star."""
    return f"seeing/{file['date_utc']:%Y%m%d_%H%M%S}.png"


def _measure(work: Workspace, file: Mapping[str, Any]) -> dict[str, Any]:
    """Seeing of one file, or the reason why it could not be measured."""
    results: dict[str, Any] = {
        "file": file["name"],
        "date_utc": file["date_utc"],
        "filter": str(file.get("filter") or ""),
        "fwhm_arcsec": None,
        "reason": "",
    }
    try:
        telescope = work.telescope_of(str(file.get("camera") or ""))
        scale = telescope.plate_scale_arcsec
        exposure = _exposure(read_header(file["path"]))
        with work.frames("seeing", [file["path"]]) as frames:
            results["exposure_s"] = exposure
            limit = telescope.saturation_adu or frames.saturation
            stars = list(_stars(frames, exposure, limit))
    except (Unprocessable, BadRawData) as err:
        log.warning("%s: %s", file["name"], err)
        return {**results, "reason": str(err)}
    widths = np.array([star.fwhm_px for _, star in stars]) * scale
    image, star = stars[int(np.argsort(widths)[len(widths) // 2])]  # the star of median width is shown
    width, error = combined_width(widths, np.array([star.error_px for _, star in stars]) * scale)
    half = int(3 * star.fwhm_px)
    window, (top, left) = cut(image, star.y, star.x, half)
    stamp = f"{file['date_utc']:%Y%m%d_%H%M%S}"
    title = f"{stamp} · {results['filter']}"
    work.publish(_picture(file), seeing_frame(window, star, (star.y - top, star.x - left), scale, title))
    return {
        **results,
        "fwhm_arcsec": width,
        "fwhm_error_arcsec": error,
        "elongation": star.elongation,
        "beta": star.beta,
        "n_images": len(stars),
    }


def _exposure(header: Mapping[str, Any]) -> float | None:
    value = header.get("EXPOSURE", header.get("EXPTIME"))
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _stars(
    frames: Frames, exposure_s: float | None, limit_adu: float | None
) -> Iterator[tuple[Float32Array, StarWidth]]:
    """Long-exposure images and the star in each; a frame without a star is rejected if others have one."""
    n, level = len(frames), SATURATED * (limit_adu or np.inf)
    is_long = n == 1 or exposure_s is None or exposure_s / n >= LONG_EXPOSURE_S
    numbers = range(0, n, max(1, -(-n // MAX_FRAMES)))
    singles = (frames.read(i) for i in numbers)
    pairs = ((image, iter(())) for image in singles) if is_long else iter([(_mean(frames), singles)])
    found, last = 0, Unprocessable("no frame")
    for image, parts in pairs:
        try:
            star = measure_width(image, level)
            for part in parts:
                refuse_saturated(part, (star.y, star.x), star.fwhm_px, level)
            yield image, star
            found += 1
        except Unprocessable as err:
            last = err
    if not found:
        raise with_faults(last, (pixel_fault(frames.read(i), limit_adu) for i in numbers))


def _mean(frames: Frames) -> Float32Array:
    total = np.zeros(frames.shape, np.float64)
    for i in range(len(frames)):
        total += np.nan_to_num(frames.read(i), posinf=0.0, neginf=0.0)
    return (total / len(frames)).astype(np.float32)


def _table(measured: list[dict[str, Any]]) -> str:
    lines = ["# date_utc                   filter  fwhm_arcsec  error_arcsec  elongation  file  reason"]
    for item in measured:
        numbers = [item.get(key) for key in ("fwhm_arcsec", "fwhm_error_arcsec", "elongation")]
        texts = [f"{value:11.3f}" if value is not None else f"{'-':>11s}" for value in numbers]
        lines.append(
            f"{item['date_utc']:%Y-%m-%dT%H:%M:%S.%f} {item['filter'] or '-':>8s} {'  '.join(texts)}  "
            f"{item['file']}  {item['reason']}".rstrip()
        )
    return "\n".join(lines) + "\n"
