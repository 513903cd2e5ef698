"""What the plots of a night show, as plain values."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask_login import current_user

from obsarchive.core.document_paths import SEEING_MEDIAN_ARCSEC, SEEING_NEAREST_ARCSEC, SEEING_NEAREST_ERROR_ARCSEC
from obsarchive.core.documents import Night
from obsarchive.core.rules import lookup
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.template_filters import measured
from obsarchive.web.models.columns import iso
from obsarchive.web.models.measurements import companions_of, strehl_measured, strehl_of
from obsarchive.web.models.pipeline_views import PipelineView
from obsarchive.web.models.view_models import Card

Facts = dict[str, Any]


def night_facts(night: Night, cards: Iterable[Card]) -> Facts:
    """Return the data of the plots of a night.

    Parameters
    ----------
    night : Night
        The night.
    cards : iterable of Card
        Those of its observations that the user may see.

    Returns
    -------
    dict
        Seeing [arcsec], Strehl ratios [%] and contrast curves.
    """
    cards = list(cards)
    curves = [
        {"id": card.id, "name": card.name, "filter": card.observation.filter, **curve}
        for card in cards
        for curve in _curves(card)[:1]
    ]
    return {**conditions(night, cards), "contrast_curves": curves, "contrast_median": _median(night)}


def conditions(night: Night, cards: Iterable[Card]) -> Facts:
    """Return seeing [arcsec] and Strehl ratios [%] of a night; arguments as above."""
    frames = [frame for frame in night.seeing_frames() if isinstance(frame.get("fwhm_arcsec"), int | float)]
    wanted = ("fwhm_arcsec", "fwhm_error_arcsec", "filter")
    seeing = [
        {"time": frame.get("date_utc"), **{key: frame.get(key) for key in wanted}, "text": _seeing_text(frame)}
        for frame in frames
    ]
    return {
        "night": night.id,
        "seeing": sorted(seeing, key=lambda item: str(item["time"])),
        "seeing_trend": _trend(night, frames),
        "seeing_median_arcsec": lookup(night.document, SEEING_MEDIAN_ARCSEC),
        "seeing_median_error_arcsec": night.seeing_median_error,
        "strehl": [item for card in cards for item in _strehl(card)],
    }


def _median(night: Night) -> list[Any]:
    """Median of all contrast curves of a night, for those who may see all of them."""
    found = night.pipeline("contrast_curve").step("contrast_curve").results.get("median")
    return list(found) if found and portal().store.browse.sees_all_of(current_user.document, night.id) else []


def _seeing_text(frame: Mapping[str, Any]) -> str:
    return f"{measured(frame['fwhm_arcsec'], frame.get('fwhm_error_arcsec'))}″"


def _strehl(card: Card) -> list[Facts]:
    seen, found = card.observation, strehl_of(card)
    if found is None:
        return []
    value, error = found
    seeing, seeing_error = seen.number(SEEING_NEAREST_ARCSEC), seen.number(SEEING_NEAREST_ERROR_ARCSEC)
    return [
        {
            "id": card.id,
            "name": card.name,
            "filter": seen.filter,
            "time": iso(seen.date_utc),
            "ratio_percent": value,
            "ratio_error_percent": error,
            "text": strehl_measured(card),
            "flag": card.flag or "OK",
            "seeing_arcsec": seeing,
            "seeing_error_arcsec": seeing_error,
            "seeing_text": f"{measured(seeing, seeing_error, 2)}″",
        }
    ]


def _trend(night: Night, frames: list[Any]) -> list[list[Any]]:
    """Time and smoothed seeing ["] of the frames in which it was measured."""
    values = night.pipeline("seeing").step("measure").results.get("trend_arcsec")
    if not isinstance(values, list) or len(values) != len(frames):
        return []
    return [[frame.get("date_utc"), value] for frame, value in zip(frames, values, strict=True)]


def _curves(card: Card) -> list[Facts]:
    return [curve for view in card.pipelines if (curve := contrast_curve(card, view)) is not None]


def contrast_curve(card: Card, view: PipelineView) -> Facts | None:
    """Return the contrast curve of a pipeline.

    Parameters
    ----------
    card : Card
        The observation.
    view : PipelineView
        The pipeline.

    Returns
    -------
    dict or None
        Lists ``separation_arcsec``, ``contrast_mag``, ``throughput``, and the ``companions``; None when there is no
        curve.
    """
    rows = view.result("pca", "curve")
    kept = [row[:3] for row in rows or () if isinstance(row, list) and len(row) >= 3 and None not in row[:2]]
    if not kept:
        return None
    names = ("separation_arcsec", "contrast_mag", "throughput")
    curve: Facts = dict(zip(names, map(list, zip(*kept, strict=True)), strict=True))
    return {"pipeline": view.name, **curve, "companions": [companion.facts for companion in companions_of(card, view)]}
