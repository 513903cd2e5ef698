"""Summaries of a night: Strehl ratios and contrast curves of all its observations."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from obsarchive.core.document_paths import SEEING_NEAREST_ARCSEC
from obsarchive.core.documents import Observation, StepRecord
from obsarchive.core.step_state import State
from obsarchive.figures.night import Curve, contrast_of_night, median_curve, strehl_of_night
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float64Array
from pipelines.shared.night_results import nothing_found

STARS = ("bright_star", "faint_star")
"""Pipelines whose Strehl ratios and contrast curves are summarised; of an observation the first that has one."""


class StrehlSummary(Pipeline):
    """Strehl ratios against time and seeing."""

    name = "strehl"
    scope = "night"
    folder = "summary"
    follows_science = True

    @step(makes=["strehl.{id}.png", "strehl.{id}.txt"], uses=["observations"])
    def strehl(self, work: Workspace) -> dict[str, Any]:
        """Collect the Strehl ratios that are flagged OK, plot and list them."""
        items: list[dict[str, Any]] = [
            {
                "observation": observation.id,
                "date_utc": observation.date_utc,
                "filter": observation.filter,
                **{key: record.results.get(key) for key in ("ratio_percent", "ratio_error_percent", "fwhm_arcsec")},
                "seeing_arcsec": observation.number(SEEING_NEAREST_ARCSEC),
            }
            for observation, _, record in _done(work, "strehl")
            if record.results.get("flag") == "OK"
        ]
        if not items:
            raise nothing_found(work, f"no observation of {work.subject.id} has a Strehl ratio that can be trusted")
        items.sort(key=lambda item: item["date_utc"])
        work.publish("strehl.{id}.png", strehl_of_night(items, f"Strehl ratios of {work.subject.id}"))
        work.publish("strehl.{id}.txt", _strehl_table(items).encode())
        shown = [{**item, "date_utc": item["date_utc"].isoformat()} for item in items]
        return {"ratios": shown, "median_percent": float(np.median([item["ratio_percent"] for item in items]))}


class ContrastSummary(Pipeline):
    """Contrast curves and their median."""

    name = "contrast_curve"
    scope = "night"
    folder = "summary"
    follows_science = True

    @step(makes=["contrast_curve.{id}.png", "contrast_curve.{id}.txt"], uses=["observations"])
    def contrast_curve(self, work: Workspace) -> dict[str, Any]:
        """Collect the contrast curves, plot them and compute their median."""
        found = [(o.id, Curve(o.filter, pipeline, *_curve(record))) for o, pipeline, record in _done(work, "pca")]
        found = [(name, curve) for name, curve in found if len(curve.separation_arcsec) > 1]
        curves = [curve for _, curve in found]
        if not curves:
            raise nothing_found(work, f"no observation of {work.subject.id} has a contrast curve")
        grid, middle = median_curve(curves)
        work.publish("contrast_curve.{id}.png", contrast_of_night(curves, f"Contrast curves of {work.subject.id}"))
        lines = ["# median of the night's contrast curves", "# separation_arcsec  contrast_mag"]
        lines += [f"{separation:19.4f} {magnitude:13.4f}" for separation, magnitude in zip(grid, middle, strict=True)]
        work.publish("contrast_curve.{id}.txt", ("\n".join(lines) + "\n").encode())
        return {
            "observations": [name for name, _ in found],
            "median": np.round(np.stack([grid, middle], axis=1), 4),
        }


def _done(work: Workspace, name: str) -> Iterator[tuple[Observation, str, StepRecord]]:
    """Yield the observations in which a step is done, with its pipeline and its record."""
    for observation in work.observations:
        records = ((pipeline, observation.pipeline(pipeline).step(name)) for pipeline in STARS)
        found = next(((pipeline, record) for pipeline, record in records if record.state is State.DONE), None)
        if found is not None:
            yield observation, *found


def _curve(record: StepRecord) -> tuple[Float64Array, Float64Array]:
    """Separation [arcsec] and contrast [mag] where it was measured."""
    rows = [row for row in record.results.get("curve") or () if None not in row[:2]]
    table = np.array(rows, float).reshape(len(rows), -1)
    return (table[:, 0], table[:, 1]) if rows else (np.empty(0), np.empty(0))


def _strehl_table(items: list[dict[str, Any]]) -> str:
    lines = ["# date_utc             filter  strehl_percent  error_percent  fwhm_arcsec  seeing_arcsec  observation"]
    for item in items:
        numbers = [item[key] for key in ("ratio_percent", "ratio_error_percent", "fwhm_arcsec", "seeing_arcsec")]
        texts = [f"{value:13.3f}" if value is not None else f"{'-':>13s}" for value in numbers]
        lines.append(
            f"{item['date_utc']:%Y-%m-%dT%H:%M:%S} {item['filter']:>8s} {' '.join(texts)}  {item['observation']}"
        )
    return "\n".join(lines) + "\n"
