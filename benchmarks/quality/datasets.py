"""Light curves of simulated fields against their truth, seed by seed, with both engines of photometry."""

import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.quality.pulls import markdown
from obsarchive.execution.work import run_locally
from obsarchive.science.astrometry.plate_solution import project
from obsarchive.science.photometry.error_model import reduced_chi2
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import StarField
from obsarchive.timeseries.frame_photometry import read_sidecar
from obsarchive.timeseries.light_curve_at import reopened
from obsarchive.timeseries.names import SIDECARS
from obsarchive.timeseries.reduction import Reduction

TITLE = "Light curves of simulated fields"
HEADER = (
    "engine, seed",
    "stars",
    "scatter of bright stars [mmag]",
    "photon limit [mmag]",
    "reduced chi-square",
    "event, rms [%]",
    "coordinates, worst frame [px]",
    "zero point [mmag]",
)
TEXT = """
20 frames of 512 × 512 pixels of 0.389″, seeing 1.2″ to 1.9″, clouds, colour-dependent extinction, cosmic rays, two
bad columns, coordinates wrong by 8 pixels, 3 % of the stars variable. Goals: 1.15 × the photon limit + 3 mmag; 0.8
to 1.3; 2 % of the flux outside the event; 0.1 pixel. Bright stars are those of magnitude 15.5 and less without a
brighter neighbour; chi-squares are those of constant stars, the median, in units of what that of a constant star is;
the event's deviation is measured beside the constant light of neighbours that nothing could resolve.
"""
FRAMES = 20
FIELDS = {1: 600, 2: 400, 3: 1000, 4: 150, 5: 600, 6: 250}
"""Number of stars by seed, on 512 x 512 pixels of 0.389 arcsec."""


def measured(seed: int, engine: str) -> list[float]:
    field = StarField(seed=seed, n_stars=FIELDS[seed])
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "SIM" / "sinistro" / "ip"
        frames = demo_field.write_dataset(folder, field, FRAMES)
        demo_field.write_configuration(folder, field, f"  engine: {engine}\n")
        outcome = Reduction(folder, run_locally, cache=Path(root)).reduce()
        if outcome.state != "done":
            raise SystemExit(outcome.message)
        series, _ = reopened(folder)
        plates = [read_sidecar(folder / SIDECARS / f"{info.stem}.wcs") for info in series.infos]
    truth_xy = np.stack(project(*field.sky, field.centre), axis=1)
    found_xy = np.stack(project(series.stars.ra, series.stars.dec, field.centre), axis=1)
    distance, star = cKDTree(truth_xy).query(found_xy)
    rows = np.flatnonzero((distance < 0.2) & series.is_undisturbed & ~field.is_variable[star])
    star = star[rows]
    truth = np.stack([field.magnitudes(frame.mjd_middle)[star] for frame in frames], axis=1)
    good = series.is_good[rows] & (series.flux[rows] > 0)
    residual = np.where(good, series.mag[rows] - truth, np.nan)
    enough = good.sum(axis=1) > 0.8 * FRAMES
    scatter = np.nanstd(residual[enough], axis=1, ddof=1)
    sky = np.array([np.median(frame.image) for frame in frames])
    area = np.pi * (2.0 / field.camera.pixel_arcsec) ** 2
    light = np.stack([frame.electrons[star[enough]] for frame in frames], axis=1)
    noise = np.sqrt(light + area * (sky + field.camera.read_noise_e**2))
    limit = np.sqrt(np.mean((1.0857 * noise / light) ** 2, axis=1))
    bright = field.mag[star[enough]] < 15.5
    error = series.mag_error[rows][enough]
    chi2 = reduced_chi2(np.nan_to_num(residual[enough]), error, good[enough], of_median=True)
    faint_enough = np.nanmedian(error, axis=1) < 0.15
    row = series.stars.target
    event = np.array([10 ** (-0.4 * field.magnitudes(frame.mjd_middle)[0]) for frame in frames])
    seen = series.is_good[row]
    # neighbours that nothing could resolve add a constant light
    gain, blend = np.polyfit(event[seen], series.flux[row][seen], 1)
    deviation = ((series.flux[row] - blend) / gain - event) / 10 ** (-0.4 * field.event.mag)
    offsets = []
    for plate, frame in zip(plates, frames, strict=True):
        y, x = plate.pixels(*field.sky)
        offsets.append(np.sqrt(np.mean((y - frame.y) ** 2 + (x - frame.x) ** 2)))
    zero_point = np.nanmedian(residual[field.mag[star] < 17])
    return [
        float(np.median(scatter[bright]) * 1000),
        float(np.median(limit[bright]) * 1000),
        float(np.median(chi2[faint_enough])),
        float(np.std(deviation[seen]) * 100),
        float(max(offsets)),
        float(zero_point * 1000),
    ]


def row(engine: str, seed: int) -> list[str]:
    formats = ("{:.1f}", "{:.1f}", "{:.2f}", "{:.2f}", "{:.3f}", "{:.1f}")
    values = [form.format(value) for form, value in zip(formats, measured(seed, engine), strict=True)]
    return [f"{engine}, {seed}", str(FIELDS[seed]), *values]


def report(trials: int, processes: int) -> str:  # noqa: ARG001 - a dataset is reduced in this process
    """The table of all fields with both engines."""
    fields = list(FIELDS)[: max(1, trials // 50)]
    return TEXT + "\n" + markdown(HEADER, (row(engine, seed) for engine in ("fast", "photutils") for seed in fields))
