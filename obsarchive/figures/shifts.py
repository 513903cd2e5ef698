"""Plot of the image motion during an observation."""

from collections.abc import Sequence

import numpy as np

from obsarchive.figures.plot_style import FAINT_INK, INK, WARNING_INK, empty_plots, encoded, filter_colour
from obsarchive.figures.previews import NO_LABELS, Labels
from obsarchive.science.arrays import FloatArray


def frame_shifts(
    shifts: FloatArray,
    errors: FloatArray,
    reasons: Sequence[str],
    plate_scale_arcsec: float,
    labels: Labels = NO_LABELS,
) -> bytes:
    """Plot the image motion: against the frame number, and as a path.

    Parameters
    ----------
    shifts : ndarray (n, 2)
        (dy, dx) that brings each frame onto the others [pixel]; the image moved the opposite way.
    errors : ndarray (n,)
        One-sigma errors along an axis [pixel]; NaN where they are not known.
    reasons : sequence of n str
        Why a frame was rejected; empty for good frames.
    plate_scale_arcsec : float
        Plate scale [arcsec/pixel].
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1800 x 750.
    """
    motion = -np.asarray(shifts, float) * plate_scale_arcsec
    kept = np.array([not reason for reason in reasons], bool)
    middle = np.median(motion[kept] if kept.any() else motion, axis=0) if len(motion) else np.zeros(2)
    motion = motion - middle
    error = np.nan_to_num(np.asarray(errors, float)) * plate_scale_arcsec
    figure, (in_time, path) = empty_plots((12, 5), labels, (2.0, 1))
    number = np.arange(len(motion))
    for axis, colour, name in ((1, filter_colour(labels.filter), "along x"), (0, INK, "along y")):
        in_time.errorbar(number[kept], motion[kept, axis], error[kept], fmt=".", ms=4, lw=0.7, color=colour, label=name)
    rejected = np.flatnonzero(~kept)
    if rejected.size:
        edge = 1.1 * (np.abs(motion[kept]).max() if kept.any() else 1.0)
        label = f"left out ({rejected.size})"
        in_time.plot(rejected, np.full(rejected.size, -edge), "x", color=WARNING_INK, ms=6, label=label)
    in_time.set(xlabel="Frame number", ylabel="Image motion [arcsec]")
    path.plot(motion[kept, 1], motion[kept, 0], "-", color=FAINT_INK, lw=0.8)
    colours = path.scatter(motion[kept, 1], motion[kept, 0], c=number[kept], s=14, cmap="viridis", zorder=3)
    path.set(xlabel="x [arcsec]", ylabel="y [arcsec]")
    path.set_aspect("equal", adjustable="datalim")
    figure.colorbar(colours, ax=path, label="Frame number", shrink=0.85)
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    return encoded(figure)
