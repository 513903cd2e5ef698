"""Observations as rows: the columns of tables, exports and the interface for programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from obsarchive.core.document_paths import (
    AZ_DEG,
    DEC_DEG,
    EL_DEG,
    RA_DEG,
    SEEING_MEDIAN_ARCSEC,
    SEEING_MEDIAN_ERROR_ARCSEC,
    SEEING_NEAREST_ARCSEC,
    SEEING_NEAREST_ERROR_ARCSEC,
)
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.web.framework import template_filters
from obsarchive.web.models.view_models import Card

Value = str | float | datetime | None
MORE_DIGITS = 2
"""Decimals that exports have beyond those of pages."""
LOOKED_AT = ("name", "id", "state", "date", "night", "filter")
LOOKED_AT_LAST = ("program", "ra", "dec")


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    key : str
        Name in exports and addresses.
    title : str
        Head of the column.
    value : callable
        Gives the value of an observation; None if it has none.
    unit : str
        Unit of the value, in the notation of the VO standard.
    digits : int or None
        Decimals shown; None for texts.
    sort : str
        Parameter by which the table is sorted; empty if it cannot be.
    shown : bool
        Whether the table shows it by default.
    ucd : str
        Unified content descriptor (UCD) of the VO.
    error : callable, optional
        Gives the error of the value, with which pages show it; exports have a column of its own for it.
    """

    key: str
    title: str
    value: Callable[[Card], Value]
    unit: str = ""
    digits: int | None = None
    sort: str = ""
    shown: bool = True
    ucd: str = ""
    error: Callable[[Card], Value] | None = None

    @property
    def rank(self) -> int:
        """Place among the columns of a page, of which the last ones may lie beyond its edge."""
        if self.key.startswith("strehl_"):
            return len(LOOKED_AT)
        known = LOOKED_AT.index(self.key) if self.key in LOOKED_AT else None
        return len(LOOKED_AT) + 1 + (self.key in LOOKED_AT_LAST) if known is None else known

    def text(self, card: Card) -> str:
        """Write the value for a page, with its error."""
        value = self.value(card)
        if isinstance(value, datetime):
            return template_filters.utc(value)
        if self.digits is not None:
            return template_filters.measured(value, self.error(card) if self.error else None, self.digits)
        return str(value) if value else template_filters.NOTHING

    def plain(self, card: Card) -> str | float | None:
        """Return the value as JSON holds it; of numbers the digits that mean something."""
        value = self.value(card)
        if isinstance(value, float) and self.digits is not None:
            return round(value, self.digits + MORE_DIGITS)
        return iso(value) if isinstance(value, datetime) else value

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.digits is not None

    @property
    def unit_shown(self) -> str:
        """Write the unit for a page."""
        return {"arcsec": "″", "deg": "°"}.get(self.unit, self.unit)


def iso(when: datetime) -> str:
    """Write a time in ISO 8601, UTC, to the millisecond."""
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{when.microsecond // 1000:03d}Z"


def _number(path: str) -> Callable[[Card], Value]:
    return lambda card: card.observation.number(path)


def _error_column(key: str, title: str, path: str) -> Column:
    return Column(key, title, _number(path), "arcsec", 3, shown=False, ucd="stat.error")


GENERAL = (
    Column("id", "Observation", lambda card: card.id, sort="id", shown=False, ucd="meta.id;meta.main"),
    Column("program", "Programme", lambda card: card.program, sort="program", ucd="meta.id;obs.proposal"),
    Column("name", "Target", lambda card: card.name, sort="name", ucd="meta.id;src"),
    Column("state", "State", lambda card: str(card.state)),
    Column("date", "Start, UTC", lambda card: card.observation.date_utc, sort="date", ucd="time.start;obs"),
    Column("night", "Night", lambda card: card.observation.night, shown=False, ucd="time.epoch"),
    Column("ra", "RA", _number(RA_DEG), "deg", 5, "ra", ucd="pos.eq.ra;meta.main"),
    Column("dec", "Dec", _number(DEC_DEG), "deg", 5, "dec", ucd="pos.eq.dec;meta.main"),
    Column("azimuth", "Azimuth", _number(AZ_DEG), "deg", 1, "azimuth", False, "pos.az.azi"),
    Column("elevation", "Elevation", _number(EL_DEG), "deg", 1, "elevation", False, "pos.az.alt"),
    Column("magnitude", "Magnitude", _number("magnitude"), "mag", 2, "magnitude", ucd="phot.mag"),
    Column("exposure", "Exposure", _number("exposure_s"), "s", 1, "exposure", ucd="time.duration;obs.exposure"),
    Column("filter", "Filter", lambda card: card.observation.filter, sort="filter", ucd="meta.id;instr.filter"),
    Column("telescope", "Telescope", lambda card: _text(card, "telescope"), shown=False, ucd="meta.id;instr.tel"),
    Column("quality", "Quality", lambda card: card.quality, shown=False, ucd="meta.code.qual"),
    Column("note", "Note", lambda card: card.remark, shown=False, ucd="meta.note"),
    Column("camera", "Camera", lambda card: card.observation.camera, shown=False, ucd="meta.id;instr"),
    Column(
        "seeing_median",
        "Seeing, median",
        _number(SEEING_MEDIAN_ARCSEC),
        "arcsec",
        2,
        "seeing_median",
        False,
        error=_number(SEEING_MEDIAN_ERROR_ARCSEC),
    ),
    _error_column("seeing_median_error", "Error of the median seeing", SEEING_MEDIAN_ERROR_ARCSEC),
    Column(
        "seeing_nearest",
        "Seeing, nearest in time",
        _number(SEEING_NEAREST_ARCSEC),
        "arcsec",
        2,
        "seeing_nearest",
        error=_number(SEEING_NEAREST_ERROR_ARCSEC),
    ),
    _error_column("seeing_nearest_error", "Error of the nearest seeing", SEEING_NEAREST_ERROR_ARCSEC),
)


def _text(card: Card, key: str) -> str:
    return str(card.observation.document.get(key) or "")


def columns(chain: Sequence[ChainEntry]) -> list[Column]:
    """Columns of an archive: the general ones, then those of its pipelines."""
    found = list(GENERAL)
    for link in chain:
        if link.pipeline.scope == "observation":
            found += _of_pipeline(link.pipeline.name, list(link.pipeline.steps))
    return found


def _of_pipeline(name: str, steps: Sequence[str]) -> list[Column]:
    words = name.replace("_", " ").capitalize()
    found = [Column(name, words, lambda card: _state(card, name), shown=False)]
    if "strehl" in steps:
        found.append(
            Column(
                f"strehl_{name}",
                f"{words}: Strehl ratio",
                lambda card: _result(card, name, "strehl", "ratio_percent"),
                "%",
                1,
                f"strehl_{name}",
                error=lambda card: _result(card, name, "strehl", "ratio_error_percent"),
            )
        )
        found.append(
            Column(
                f"strehl_error_{name}",
                f"{words}: error of the Strehl ratio",
                lambda card: _result(card, name, "strehl", "ratio_error_percent"),
                "%",
                2,
                shown=False,
                ucd="stat.error",
            )
        )
        found.append(
            Column(f"flag_{name}", f"{words}: flag", lambda card: _result(card, name, "strehl", "flag"), shown=False)
        )
    if "pca" in steps:
        found.append(Column(f"pca_{name}", f"{words}: PCA", lambda card: _state(card, name, "pca"), shown=False))
    return found


def _state(card: Card, pipeline: str, step: str = "") -> str | None:
    view = next((view for view in card.pipelines if view.name == pipeline), None)
    found = view.step(step) if view and step else view
    return str(found.state) if found else None


def _result(card: Card, pipeline: str, step: str, key: str) -> Value:
    found = card.observation.pipeline(pipeline).step(step).results.get(key)
    return found if isinstance(found, str | int | float) else None
