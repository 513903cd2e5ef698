"""Plot of a histogram of scores."""

from typing import Any, NamedTuple

import numpy as np
import xarray
from matplotlib import colormaps
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from obsarchive.figures.plot_style import FAINT_INK, INK, WARNING_INK, empty_plots, encoded
from obsarchive.figures.previews import Labels
from surveys.histograms.axes import Axis

BEYOND, GAP = 0.05, 0.01
"""Drawn width of underflow and overflow bins and their distance from the axis, as fractions of its length."""
MOST_TICKS = 14
COLOURS = LinearSegmentedColormap.from_list("epochs", colormaps["YlGnBu"](np.linspace(0.2, 1, 256)))
"""Darker for more epochs; it starts off white, so that one epoch differs from none."""


class Scale(NamedTuple):
    """Drawing of an axis: number of bins that are shown, edges, ticks with their labels, and gaps."""

    n_shown: int

    edges: NDArray[Any]
    ticks: NDArray[Any]
    texts: list[str]
    gaps: tuple[float, ...]


def scores_plot(counts: xarray.DataArray, score: Axis, against: Axis, labels: Labels) -> bytes:
    """Return counts as a colour map, the score upwards, with underflow and overflow bins.

    Parameters
    ----------
    counts : DataArray (score, against)
        Numbers of epochs, in all bins.
    score, against : Axis
        The axes.
    labels : Labels
        Title and annotation.

    Returns
    -------
    bytes
        PNG, 1350 x 900.
    """
    figure, (axes,) = empty_plots((9, 6), labels)
    axes.grid(visible=False)
    x, y = _scale(against, counts), _scale(score, counts)
    shown = counts.values[: y.n_shown, : x.n_shown]
    drawn = _with_gaps(_with_gaps(shown, y).T, x).T
    norm = LogNorm(1, max(10, int(shown.max(initial=0))))
    mesh = axes.pcolormesh(x.edges, y.edges, np.ma.masked_equal(drawn, 0), norm=norm, cmap=COLOURS)
    bar = figure.colorbar(mesh, ax=axes, label="epochs", pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", color=INK, labelcolor=INK)
    for gap in x.gaps:
        axes.axvline(gap, color=FAINT_INK, lw=0.9)
    for gap in y.gaps:
        axes.axhline(gap, color=FAINT_INK, lw=0.9)
    axes.set_xticks(x.ticks, x.texts, parse_math=False)
    axes.set_yticks(y.ticks, y.texts)
    axes.set(xlabel=against.label, ylabel=score.label)
    total, seen = int(counts.sum()), int(shown.sum())
    note = f"{total:_} epochs" + (f", {total - seen:_} of them without a number" if seen < total else "")
    axes.set_title(note.replace("_", "\u202f"), loc="right", color=INK, fontsize="medium")
    if not seen:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", color=WARNING_INK)
    return encoded(figure)


def _with_gaps(rows: NDArray[Any], scale: Scale) -> NDArray[Any]:
    return np.insert(rows, (1, len(rows) - 1), 0, axis=0) if scale.gaps else rows


def _scale(axis: Axis, counts: xarray.DataArray) -> Scale:
    if axis.kind == "fixed":
        return _fixed_scale(axis)
    values = counts[axis.name].values.tolist()
    texts = [value or "none" if isinstance(value, str) else f"{value:g}" for value in values]
    few = np.arange(0, len(values), max(1, -(-len(values) // MOST_TICKS)))
    return Scale(len(values), np.arange(len(values) + 1) - 0.5, few, [texts[i] for i in few], ())


def _fixed_scale(axis: Axis) -> Scale:
    """Return the scale of a fixed axis; its last bin, of NaN, is not drawn."""
    low, high, span = axis.low, axis.high, axis.high - axis.low
    beyond, gap = BEYOND * span, GAP * span
    edges = np.array([low - beyond, low - gap, *axis.edges[1:-1], high + gap, high + beyond])
    round_numbers = MaxNLocator(MOST_TICKS, steps=[1, 2, 5, 10]).tick_values(low, high)
    inner = [tick for tick in round_numbers if low + beyond < tick < high - beyond]
    ticks = np.array([low - (beyond + gap) / 2, *inner, high + (beyond + gap) / 2])
    texts = [f"< {low:g}", *(f"{tick:g}" for tick in inner), f"\u2265 {high:g}"]
    gaps = (low - gap / 2, high + gap / 2)
    return Scale(axis.n_bins - 1, edges, ticks, [text.replace("-", "\u2212") for text in texts], gaps)
