"""Interactive light-curve plots with matplotlib."""

from collections.abc import Mapping
from typing import Any

from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import standard_photometry


def draw_photometry(columns: Columns, altdata: Mapping[str, Any], title: str, axes: Any = None) -> Any:
    """Draw magnitudes over time, with a colour for each filter.

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
    if axes is None:
        from matplotlib import pyplot  # late: pyplot chooses a backend, which may need a display

        axes = pyplot.figure(figsize=(9, 5)).add_subplot()
    axes.set(xlabel="MJD [d]", ylabel="magnitude", title=title)
    if not axes.yaxis_inverted():  # unless a light curve was drawn into these axes before
        axes.invert_yaxis()
    if not columns or not len(next(iter(columns.values()))):
        return axes
    shown = standard_photometry(columns, altdata)
    for name in sorted(set(shown["filter"].tolist())):
        own = shown["filter"] == name
        label = name or "no filter"
        axes.errorbar(shown["mjd"][own], shown["mag"][own], shown["mag_err"][own], fmt="o", ms=4, lw=0.8, label=label)
    axes.legend(frameon=False)
    return axes
