"""Lists of targets: names and positions, one a line, or a CSV table with a header."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass

from obsarchive.store.search import Cone
from obsarchive.web.models.positions import position

MAX_TARGETS = 200
MAX_TEXT = 200
_NAMES = ("name", "target", "object", "source", "star", "id", "main_id")
_RAS = ("ra", "raj2000", "_raj2000", "ra_deg", "ra_icrs", "ra[deg]", "ra(deg)", "ra [deg]")
_DECS = ("dec", "de", "dej2000", "_dej2000", "dec_deg", "de_icrs", "dec[deg]", "dec(deg)", "dec [deg]")


@dataclass(frozen=True)
class TargetLine:
    """A line of a list.

    Parameters
    ----------
    text : str
        The line.
    targets : tuple of str or Cone
        The name, the region around the position, or both.
    """

    text: str
    targets: tuple[str | Cone, ...]


def read_lines(text: str, radius_deg: float) -> list[TargetLine]:
    """Read a list of targets.

    Parameters
    ----------
    text : str
        Names or positions, one a line, or between semicolons; or a table with commas whose first line names columns of
        names or positions. Lines that begin with ``#`` are comments.
    radius_deg : float
        Radius around positions [deg].

    Returns
    -------
    list of TargetLine
    """
    whole = text.replace("\0", "").lstrip("\ufeff")
    lines = [line.strip()[:MAX_TEXT] for line in whole.replace(";", "\n").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    head = [cell.strip().lower() for cell in lines[0].split(",")] if lines else []
    columns = {kind: _first(head, known) for kind, known in (("name", _NAMES), ("ra", _RAS), ("dec", _DECS))}
    if columns["name"] is not None or None not in (columns["ra"], columns["dec"]):
        rows = zip(lines[1:], csv.reader(lines[1:]), strict=False)
        return [TargetLine(line, _of_row(row, columns, radius_deg)) for line, row in rows]
    return [TargetLine(line, _of_line(line, radius_deg)) for line in lines]


def _first(head: list[str], known: tuple[str, ...]) -> int | None:
    return next((place for place, title in enumerate(head) if title.strip("\"' ") in known), None)


def _of_row(row: list[str], columns: Mapping[str, int | None], radius_deg: float) -> tuple[str | Cone, ...]:
    """Return what a line of a table names."""
    cells = {
        kind: row[place].strip() if place is not None and place < len(row) else "" for kind, place in columns.items()
    }
    return _targets(cells["name"], position(cells["ra"], cells["dec"]), radius_deg)


def _of_line(line: str, radius_deg: float) -> tuple[str | Cone, ...]:
    """Return what a line names: a position if it can be one, a name with its position, else a name.

    A designation such as ``J121536+570000`` may be both.
    """
    centre = position(line, "")
    if centre is not None and not line[:1].isalpha():
        return _targets("", centre, radius_deg)
    cells = [cell.strip() for cell in line.split(",")]
    if centre is None and len(cells) == 3 and (centre := position(cells[1], cells[2])):
        return _targets(cells[0], centre, radius_deg)
    return _targets(line, centre, radius_deg)


def _targets(name: str, centre: tuple[float, float] | None, radius_deg: float) -> tuple[str | Cone, ...]:
    return (*((name,) if name else ()), *((Cone(*centre, radius_deg),) if centre else ()))
