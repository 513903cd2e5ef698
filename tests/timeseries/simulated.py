"""Simulated datasets whose truth is known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from obsarchive.execution.work import run_locally
from obsarchive.science.astrometry.plate_solution import project
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import Camera, SimulatedFrame, StarField
from obsarchive.timeseries.ensemble import Series
from obsarchive.timeseries.light_curve_at import reopened
from obsarchive.timeseries.reduction import Reduction, ReductionResult

N_FRAMES = 10
SMALL = StarField(seed=4, n_stars=110, camera=Camera(shape=(384, 384)))
"""As few stars as tell all that does not hang on their number."""


@dataclass
class Reduced:
    """A reduced dataset and its truth."""

    folder: Path
    field: StarField
    frames: list[SimulatedFrame]
    outcome: ReductionResult
    series: Series

    def matched(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the series, and the simulated stars that they are."""
        centre = self.field.centre
        truth = np.stack(project(*self.field.sky, centre), axis=1)
        found = np.stack(project(self.series.stars.ra, self.series.stars.dec, centre), axis=1)
        distance, star = cKDTree(truth).query(found)
        rows = np.flatnonzero((distance < 0.2) & self.series.stars.is_known)
        return rows, star[rows]


def reduce(folder: Path, again: bool = False) -> ReductionResult:
    return Reduction(folder, run_locally, cache=folder.parent / "cache").reduce(again)


def make(folder: Path, field: StarField, n_frames: int = N_FRAMES) -> Reduced:
    frames = demo_field.write_dataset(folder, field, n_frames)
    outcome = reduce(folder)
    assert outcome.state == "done", outcome.message
    return Reduced(folder, field, frames, outcome, reopened(folder)[0])
