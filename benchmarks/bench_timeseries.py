"""Time-series photometry: a whole dataset of 2048 x 2048 pixels and 15 000 stars.

python benchmarks/bench_timeseries.py [frames]
"""

import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from obsarchive.config.model import Parallel
from obsarchive.execution.cluster import Cluster
from obsarchive.science.photometry.source_detection import detect
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import Camera, StarField
from obsarchive.timeseries.reduction import Reduction

GOAL, PUBLISHED_S = 40.0, 38.0


def table(frames: int = 10) -> str:
    """Reduce a dataset; returns a Markdown table."""
    field = StarField(n_stars=15_000, camera=Camera(shape=(2048, 2048)), mag_range=(13.0, 21.0))
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "target" / "sinistro" / "ip"
        demo_field.write_dataset(dataset, field, frames)
        with Cluster(Parallel(), Path(folder) / "tmp") as cluster:
            list(cluster.each(detect, [np.random.default_rng(1).normal(size=(64, 64))] * 2))  # the workers are there
            start = time.perf_counter()
            outcome = Reduction(dataset, cluster.each, cache=Path(folder)).reduce()
            seconds = (time.perf_counter() - start) / frames
    if outcome.state != "done":
        raise SystemExit(outcome.message)
    stars = outcome.record["n_stars"]
    return (
        "| what | ours [s] | published package [s] | ratio | goal |\n|---|---|---|---|---|\n"
        f"| wall time of a frame: {frames} of 2048x2048, {stars} stars, two workers"
        f" | {seconds:.2f} | {PUBLISHED_S:.0f} | {PUBLISHED_S / seconds:.0f} | {GOAL:g} |"
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.stdout.write(table(*map(int, sys.argv[1:2])) + "\n")
