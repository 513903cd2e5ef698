"""Pictures of photometry, for those who look at a few sources by hand."""

from collections.abc import Mapping
from typing import Any

from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import standard_photometry


def draw_photometry(columns: Columns, altdata: Mapping[str, Any], title: str, axes: Any = None) -> Any:
    """Draw magnitudes over time, a colour for each filter.

    Parameters
    ----------
    columns : dict of str to ndarray (n,)
        Raw photometry or a light curve; it may be empty.
    altdata : mapping
        What is known beside them.
    title : str
        What stands above.
    axes : Axes, optional
        Axes of matplotlib; new ones without them.

    Returns
    -------
    Axes
    """
    if axes is None:
        from matplotlib import pyplot  # late: only those who plot by hand need a screen

        axes = pyplot.figure(figsize=(9, 5)).add_subplot()
    axes.set(xlabel="MJD [d]", ylabel="magnitude", title=title)
    if not axes.yaxis_inverted():  # another light curve is in these axes already
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
