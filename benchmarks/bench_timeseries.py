"""Time-series photometry: a whole dataset of 2048 x 2048 pixels and 15 000 stars, and its aperture photometry beside
photutils and SEP on the same frame.

    python benchmarks/bench_timeseries.py [frames]
"""

import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sep
from photutils.aperture import CircularAnnulus, CircularAperture
from photutils.aperture import aperture_photometry as photutils_photometry
from photutils.background import Background2D, MedianBackground
from photutils.detection import DAOStarFinder

from obsarchive.config.model import Parallel
from obsarchive.execution.cluster import Cluster
from obsarchive.science.photometry.aperture import aperture_photometry
from obsarchive.science.photometry.source_detection import detect
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import Camera, ObservingConditions, StarField
from obsarchive.timeseries.reduction import Reduction

GOAL_S, PUBLISHED_S = 2.0, 38.0
RADIUS, ANNULUS = 5.14, (12.0, 20.0)


def best(function: Callable[[], object], times: int = 3) -> float:
    """Least time of several [s]."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def whole_dataset(frames: int) -> None:
    field = StarField(n_stars=15_000, camera=Camera(shape=(2048, 2048)), mag_range=(13.0, 21.0))
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder) / "target" / "sinistro" / "ip"
        demo_field.write_dataset(dataset, field, frames)
        with Cluster(Parallel(), Path(folder) / "tmp") as cluster:
            list(cluster.each(detect, [np.random.default_rng(1).normal(size=(64, 64))] * 2))  # the workers are there
            start = time.perf_counter()
            outcome = Reduction(dataset, cluster.each, cache=Path(folder)).reduce()
            seconds = time.perf_counter() - start
    if outcome.state != "done":
        raise SystemExit(outcome.message)
    stars = outcome.record["n_stars"]
    print(f"dataset of {frames} frames, 2048 x 2048, {stars} stars, two workers: {seconds:.1f} s,")
    print(f"  {seconds / frames:.2f} s a frame (goal {GOAL_S} s; the published package: {PUBLISHED_S:.0f} s)")


def one_frame() -> None:
    field = StarField(n_stars=5000, camera=Camera(shape=(4096, 4096), bad_columns=0), mag_range=(13.0, 20.0), seed=3)
    frame = field.frame(0, 60500.0, air=ObservingConditions())
    image, variance = frame.image, frame.variance

    def ours() -> object:
        sources = detect(image, threshold=10.0)
        return aperture_photometry(image, variance, (sources.y, sources.x), (RADIUS,), ANNULUS)

    def with_photutils() -> object:
        background = Background2D(image, 64, bkg_estimator=MedianBackground())
        found = DAOStarFinder(10 * background.background_rms_median, 4.0)(image - background.background)
        places = np.transpose([found["x_centroid"], found["y_centroid"]])
        sums = photutils_photometry(image, CircularAperture(places, RADIUS), error=np.sqrt(variance))
        annuli = CircularAnnulus(places, *ANNULUS).to_mask(method="center")
        levels = [np.median(mask.get_values(image)) for mask in annuli]
        return sums, levels

    def with_sep() -> object:
        background = sep.Background(image)
        found = sep.extract(image - background.back(), 10.0, err=background.rms(), segmentation_map=False)
        inside = (np.abs(found["x"] - 2048) < 2000) & (np.abs(found["y"] - 2048) < 2000)
        return sep.sum_circle(
            image, found["x"][inside], found["y"][inside], RADIUS, var=variance, bkgann=ANNULUS, subpix=0
        )

    ours()
    mine, theirs, seps = best(ours), best(with_photutils, 1), best(with_sep)
    print(
        f"one frame of 4096 x 4096, 5000 stars: {mine:.2f} s;"
        f" photutils {theirs:.2f} s: {theirs / mine:.1f} x (goal 4 x)"
    )
    print(f"  SEP alone, sky not clipped, no widths and centroids: {seps:.2f} s: {seps / mine:.2f} x")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    whole_dataset(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    one_frame()
