"""Interactive light-curve plots with matplotlib."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import standard_photometry

if TYPE_CHECKING:
    from surveys.dataset import Lightcurve
    from surveys.detection import Detection

OTHER_COLOURS = ("#2f6fb7", "#c77d1e", "#7d5ba6", "#2a9d8f", "#b0578d", "#6c7a2f")
"""Colours of bands that have none of their own."""
MARKERS = "osD^v"
"""Shapes of observatories."""


def band_colours(names: Iterable[str]) -> dict[str, str]:
    """Return the colour of each filter: that of all plots of the archive, or else one that no other filter has."""
    from obsarchive.figures.plot_style import FILTER_COLOURS, filter_colour  # late: it imports matplotlib

    unknown, others = FILTER_COLOURS["c"], cycle(OTHER_COLOURS)
    return {
        name: own if (own := filter_colour(name)) != unknown or name.lower() == "c" else next(others)
        for name in sorted(set(names))
    }


def draw_photometry(columns: Columns, altdata: Mapping[str, Any], title: str, axes: Any = None) -> Any:
    """Draw magnitudes over time, or over phase if there is one, with a colour for each filter.

    Parameters
    ----------
    columns : dict of str to ndarray (n,)
        Raw photometry or a light curve; may be empty.
    altdata : mapping
        Metadata, as for `standard_photometry`.
    title : str
        Title of the axes.
    axes : Axes, optional
        Axes of matplotlib; None: those of a new figure.

    Returns
    -------
    Axes
    """
    is_folded = "phase" in columns
    axes = _prepared(axes, title, "phase" if is_folded else "MJD [d]")
    if not columns or not len(next(iter(columns.values()))):
        return axes
    shown = standard_photometry(columns, altdata, also=["phase"] if is_folded else ())
    for name, colour in band_colours(shown["filter"].tolist()).items():
        own = shown["filter"] == name
        x = shown["phase" if is_folded else "mjd"][own]
        _draw(axes, (x, shown["mag"][own], shown["mag_err"][own]), name or "no filter", color=colour)
    axes.legend(frameon=False)
    return axes


def draw_source(curves: Sequence["Lightcurve"], detections: Sequence["Detection"], title: str, axes: Any = None) -> Any:
    """Draw the light curves of a source, each filter in its colour, bad epochs hollow, and shade its events.

    Parameters
    ----------
    curves : sequence of Lightcurve
        Light curves, of any observatories and filters.
    detections : sequence of Detection
        Events to mark.
    title : str
        Title of the axes.
    axes : Axes, optional
        Axes of matplotlib; None: those of a new figure.

    Returns
    -------
    Axes
    """
    axes = _prepared(axes, title, "MJD [d]")
    colours = band_colours(curve.filter for curve in curves)
    observatories = sorted({curve.observatory for curve in curves})
    markers = dict(zip(observatories, cycle(MARKERS), strict=False))
    labelled: set[str] = set()
    for curve in curves:
        label = f"{curve.observatory} {curve.filter}".strip()
        style = {"color": colours[curve.filter], "marker": markers[curve.observatory]}
        columns, good = curve.columns, curve.good
        points = (columns["mjd"], columns["mag"], columns["mag_err"])
        _draw(axes, tuple(part[good] for part in points), "" if label in labelled else label, **style)
        if not good.all():
            _draw(axes, tuple(part[~good] for part in points), "", mfc="white", alpha=0.5, **style)
        labelled.add(label)
    for found in detections:
        axes.axvspan(found.mjd_start, found.mjd_stop, color="#bcc3ca", alpha=0.35, lw=0, zorder=0)
    if labelled:
        axes.legend(frameon=False)
    return axes


def _prepared(axes: Any, title: str, abscissa: str) -> Any:
    if axes is None:
        from matplotlib import pyplot  # late: pyplot chooses a backend, which may need a display

        axes = pyplot.figure(figsize=(9, 5)).add_subplot()
    axes.set(xlabel=abscissa, ylabel="magnitude", title=title)
    if not axes.yaxis_inverted():  # unless a light curve was drawn into these axes before
        axes.invert_yaxis()
    return axes


def _draw(axes: Any, points: Sequence[np.ndarray], label: str, **style: Any) -> None:
    x, mag, error = points
    style = {"marker": "o", "ms": 4, "lw": 0.8, "ls": "none", **style}
    axes.errorbar(x, mag, error, label=label or None, **style)
