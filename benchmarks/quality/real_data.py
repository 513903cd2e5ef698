"""Real data through the archive's functions and through a second program, side by side."""

from collections.abc import Callable, Iterator
from functools import partial

from benchmarks.quality.compared import MOST_OUTLIERS, MOST_RMS, MOST_SIGMA, OUTLIER, Compared, table
from benchmarks.quality.real import catalogues, companions, fields, frames, light_curves
from benchmarks.quality.real.data import FOLDER

TITLE = "Real data against a second program"
TEXT = f"""
The test data of `../shared/data`, measured by the archive and by another program in the same run, or against published
values. A single value agrees within {MOST_SIGMA:g} of the errors of both together; of many values, medians are shown,
and the root mean square of their differences, in units of the errors of both, is at most {MOST_RMS:g}, with
{100 * MOST_OUTLIERS:g} % or fewer beyond {OUTLIER:g}. Both programs see the same noise unless the other is another
exposure or a publication, so that differences should be smaller than the errors; what remains are sky, PSF, window
and selection. "none; within" stands where the archive claims no error: the difference is compared with that tolerance.
"""
COMPARISONS: dict[str, tuple[Callable[[], Iterator[Compared]], ...]] = {
    "Star fields": (
        fields.ntt_rows,
        fields.lowell_rows,
        fields.psf_rows,
        fields.repeated_rows,
        fields.repeated_position_rows,
        fields.wcs_rows,
        catalogues.zero_point_rows,
    ),
    "Adaptive optics": (frames.shift_rows, frames.strehl_rows, frames.cosmos_rows, frames.robo_ao_rows),
    "Companions": (companions.beta_pic_rows, companions.subtraction_rows, companions.added_rows),
    "Light curves": (
        *(partial(light_curves.event_rows, event) for event in light_curves.EVENTS),
        light_curves.period_rows,
        light_curves.supernova_rows,
    ),
}
"""Functions of each part of the section."""


def report(trials: int, processes: int) -> str:  # noqa: ARG001 - real data are there once
    """Return the tables of all comparisons."""
    if not FOLDER.is_dir():
        return f"Not made: there is no test data in `{FOLDER}`."
    parts = [TEXT.strip()]
    for name, functions in COMPARISONS.items():
        parts.append(f"### {name}\n\n{table(row for function in functions for row in function())}")
    return "\n\n".join(parts)
