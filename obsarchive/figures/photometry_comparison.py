"""Plot of how two ways of photometry differ."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from obsarchive.figures.plot_style import FAINT_INK, INK, WARNING_INK, empty_plots, encoded
from obsarchive.figures.previews import Labels
from obsarchive.science.photometry.comparison import Bin, Comparison

POINT_COLOUR, BAND_COLOUR = "#2f6fb7", "#8fa3b8"
ROOM, SHOWN_QUANTILE = 1.25, 0.9
"""Half the height of a plot in units of the largest bar, or of this quantile of the differences."""
LEAST_SPAN_MMAG = 2.0
MOST_POINTS = 20_000
_BOX = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1.5}
"""Behind text on points."""


def engine_differences(
    stars: Mapping[str, Comparison], bins: Mapping[str, Sequence[Bin]], difference: str, labels: Labels
) -> bytes:
    """Plot differences against magnitudes, one plot for each kind of photometry.

    Parameters
    ----------
    stars : mapping of str to Comparison
        Stars by kind of photometry.
    bins : mapping of str to sequence of Bin
        The same by ranges of magnitude.
    difference : str
        Name of the difference, for the axis.
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1950 x 840.
    """
    figure, panels = empty_plots((13, 5.6), labels, (1,) * len(stars))
    for panel, (kind, found) in zip(panels, stars.items(), strict=True):
        _differences(panel, found, bins[kind])
        panel.set_xlabel("magnitude")
        # within the plot: the heading of the first one may be long
        panel.text(0.02, 0.96, f"{kind} photometry", transform=panel.transAxes, va="top", color=INK, size=12, bbox=_BOX)
    shown = [found for every in bins.values() for found in every if np.isfinite(found.scatter)]
    if shown:
        low, high = min(found.low for found in shown), max(found.high for found in shown)
        for panel in panels:
            panel.set_xlim(low, high)
    panels[0].set_ylabel(f"{difference} [mmag]")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, markerscale=1.6)
    return encoded(figure)


def _differences(panel: Axes, stars: Comparison, bins: Sequence[Bin]) -> None:
    if not len(stars.mag):
        panel.text(0.5, 0.5, "no star in common", transform=panel.transAxes, ha="center", color=WARNING_INK)
        return
    known = [found for found in bins if np.isfinite(found.scatter)]
    middle = np.array([(found.low + found.high) / 2 for found in known])
    median, scatter, expected = (
        1000 * np.array([getattr(found, name) for found in known]) for name in ("difference", "scatter", "expected")
    )
    panel.axhline(0, color=FAINT_INK, lw=1)
    if known:
        edges, band = [known[0].low, *middle, known[-1].high], np.array([expected[0], *expected, expected[-1]])
        label = "scatter expected from both errors"
        panel.fill_between(edges, -band, band, color=BAND_COLOUR, alpha=0.28, lw=0, label=label)
    shown = slice(None, None, max(1, len(stars.mag) // MOST_POINTS))
    difference = 1000 * stars.difference
    panel.plot(stars.mag[shown], difference[shown], ".", ms=4, color=POINT_COLOUR, alpha=0.45, mew=0, label="stars")
    panel.errorbar(middle, median, scatter, fmt="o", ms=5, lw=1.4, capsize=3, color=INK, label="median and scatter")
    outer = float(np.quantile(np.abs(difference), SHOWN_QUANTILE))
    span = ROOM * max(outer, *np.abs(median) + scatter, LEAST_SPAN_MMAG)
    panel.set_ylim(-span, span)
    for found in known:
        panel.text(
            (found.low + found.high) / 2,
            0.02,
            f"n = {found.n}",
            transform=panel.get_xaxis_transform(),
            ha="center",
            color=INK,
            size=8,
            bbox=_BOX,
        )
