"""Light curves of datasets with the model over their points, as pages show them."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obsarchive.errors import ArchiveError
from obsarchive.science.light_curves import point_lens
from obsarchive.science.photometry.aperture import Flag
from obsarchive.store import Document
from obsarchive.timeseries.light_curve_reader import StoredCurve
from obsarchive.timeseries.names import TABLE
from obsarchive.timeseries.point_lens import photometry_of
from obsarchive.web.framework.context import portal
from obsarchive.web.models import light_curve_data
from obsarchive.web.models.lens_view import LensView
from obsarchive.web.models.light_curve_data import BJD, Curve, Facts
from obsarchive.web.models.light_curve_models import Amplitude, folded

FITS, MOST_FITS = "point lenses of datasets", 500

Found = Sequence[tuple[Document, StoredCurve | None]]
"""Datasets with the light curve of a star in each."""


@dataclass(frozen=True)
class Modelled:
    """Light curves with their model.

    Parameters
    ----------
    facts : dict
        What ``plots.js`` draws.
    lens : LensView or None
        The point lens, where the data hold an event.
    amplitudes : list of Amplitude
        What the harmonics of the period say, where the curves are folded.
    """

    facts: Facts
    lens: LensView | None = None
    amplitudes: list[Amplitude] = field(default_factory=list)


def modelled(
    curves: Found, period_d: float | None = None, of: Found | None = None, *, has_model: bool = True
) -> Modelled:
    """Return the light curves of a star in datasets, with a point lens, or folded with harmonics of a period.

    Parameters
    ----------
    curves : sequence of (dict, StoredCurve or None)
        What is drawn.
    period_d : float, optional
        Period with which they are folded [d].
    of : sequence of (dict, StoredCurve or None), optional
        What the point lens is fitted to; by default what is drawn.
    has_model : bool, optional
        Whether there is a model.

    Returns
    -------
    Modelled
    """
    drawn = [curve_of(found, curve) for found, curve in curves if curve is not None]
    if not has_model:
        return Modelled(light_curve_data.light_curves(drawn, BJD, period_d, epoch=BJD.offset_d))
    if period_d is not None:
        fits = folded(drawn, period_d, BJD.offset_d)
        facts = light_curve_data.light_curves(fits.curves, BJD, period_d, BJD.offset_d, models=fits.models)
        return Modelled(facts, None, fits.rows)
    lens = _lens_of(curves if of is None else of)
    if lens is None:
        return Modelled(light_curve_data.light_curves(drawn, BJD))
    lines = [{**line, "time": [time - BJD.offset_d for time in line["time"]]} for line in lens.curves(drawn)]
    return Modelled(light_curve_data.light_curves(lens.over(drawn), BJD, models=lines), lens)


def curve_of(found: Document, curve: StoredCurve) -> Curve:
    """Return the light curve of a star in a dataset, for a plot."""
    columns = curve.columns
    # that the light of a star was fitted rather than summed is nothing wrong
    is_flagged = (columns["flags"].astype(int) & ~int(Flag.PSF_FIT)) != 0
    return Curve(*_place(found), columns["time_bjd_tdb"], columns["mag"], columns["mag_err"], is_flagged)


def _place(found: Document) -> tuple[str, str]:
    return str(found.get("instrument") or ""), str(found.get("filter") or "")


def _lens_of(curves: Found) -> LensView | None:
    """Return the point lens of light curves, fitted once for each state of their tables; None without an event."""
    known = [(found, curve) for found, curve in curves if curve is not None]
    key = tuple((found["_id"], curve.star_id, _changed(Path(found["folder"]) / TABLE)) for found, curve in known)
    kept: OrderedDict[Any, LensView | None] = portal().extensions.setdefault(FITS, OrderedDict())
    if key not in kept:
        kept[key] = _fit(known)
        while len(kept) > MOST_FITS:
            kept.popitem(last=False)
    return kept[key]


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _fit(known: Sequence[tuple[Document, StoredCurve]]) -> LensView | None:
    data = [photometry_of(curve, " ".join(_place(found)).strip()) for found, curve in known]
    try:
        return LensView.of(point_lens.fit(data).document(), 0.0)
    except ArchiveError:  # there is no event, or too few epochs
        return None
