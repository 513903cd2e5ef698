"""Sources with events of survey projects, the strongest first, with what people decided about them.

Events are read project by project from an index and merged, a batch at a time, so that a page costs what it shows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice

from pymongo.database import Database

from obsarchive.core.rules import lookup
from obsarchive.store.decisions import NO_DECISION, UNDECIDED, VERDICTS, Decision, Decisions, Pair
from obsarchive.store.search import MAX_PAGE, TIME_LIMIT_MS, CursorError
from obsarchive.store.step_records import Document
from obsarchive.store.survey_queries import Runs, source_names

BATCH = 200
"""Events whose sources are looked up at once."""
MOST_READ = 20_000
"""Events that are read for a page; a page that is not full by then says where it goes on."""
MOST_DECIDED = 10_000
SEPARATOR = "\n"
"""Between the parts of the mark of a page; no name of a source holds it."""

Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class TriageCriteria:
    """Search criteria; empty ones do not restrict.

    Parameters
    ----------
    state : str
        What people decided: ``undecided``, ``keep`` or ``reject``.
    name : str
        Beginning of the name of the source, or an alias.
    score : (float or None, float or None)
        Least and largest S/N of the strongest event, without its sign.
    period_d : (float or None, float or None)
        Shortest and longest period of the source [d].
    """

    state: str = ""
    name: str = ""
    score: Range = (None, None)
    period_d: Range = (None, None)


@dataclass(frozen=True)
class SourceWithEvents:
    """A source of a project with events.

    Parameters
    ----------
    event : dict
        Its strongest event.
    n_events : int
        Number of its events.
    decision : Decision
        What people decided about it.
    period : dict
        Its period as the analysis found it; empty without one.
    """

    event: Document
    n_events: int
    decision: Decision
    period: Document

    @property
    def pair(self) -> Pair:
        """Folder of its project, and its name."""
        return _pair(self.event)


@dataclass(frozen=True)
class TriagePage:
    """One page of sources with events; `following` is the mark of the next one, empty on the last."""

    rows: tuple[SourceWithEvents, ...]
    following: str = ""


class Triage:
    """Sources with events, for people who go through them.

    Parameters
    ----------
    database : Database
        The database.
    decisions : Decisions
        What people decided.
    """

    def __init__(self, database: Database[Document], decisions: Decisions) -> None:
        self.database, self.decisions = database, decisions
        self.detections = database["detections"]

    def page(self, runs: Runs, wanted: TriageCriteria, limit: int, cursor: str = "") -> TriagePage:
        """Return a page of sources with events, those with the strongest event first.

        Parameters
        ----------
        runs : sequence of str or None
            Projects that the user may see; None: all.
        wanted : TriageCriteria
            Search criteria.
        limit : int
            Number of sources on a page.
        cursor : str
            Mark of the page; empty: the first.

        Returns
        -------
        TriagePage

        Raises
        ------
        CursorError
            `cursor` is not the mark of a page.
        """
        limit = max(1, min(limit, MAX_PAGE))
        events = _Counted(self._events(runs, wanted, _read_mark(cursor) if cursor else None))
        found = list(islice(self._rows(events, wanted), limit + 1))
        rows = tuple(found[:limit])
        if len(found) > limit:
            return TriagePage(rows, _mark(rows[-1].event))
        return TriagePage(rows, _mark(events.last) if events.was_stopped else "")

    def count(self, runs: Runs) -> int:
        """Count the sources with events of projects (None: of all)."""
        pair: Document = {"run": "$run", "source_name": "$source_name"}
        stages: list[Document] = [
            {"$match": {"run": {"$in": self._runs(runs)}, "simulated": False}},
            {"$group": {"_id": pair}},
            {"$count": "sources"},
        ]
        found = next(iter(self.detections.aggregate(stages, maxTimeMS=TIME_LIMIT_MS)), {"sources": 0})
        return int(found["sources"])

    def _runs(self, runs: Runs) -> Sequence[str]:
        return self.detections.distinct("run") if runs is None else list(runs)

    def _events(self, runs: Runs, wanted: TriageCriteria, after: tuple[float, str, str] | None) -> Iterator[Document]:
        """Yield events in their order; of those that people decided about, if only such are wanted."""
        conditions: Document = {"simulated": False, **_between("strength", wanted.score)}
        if wanted.name:
            conditions |= source_names(self.database["sources"], wanted.name)
        if wanted.state in VERDICTS:
            decided = self.decisions.decided(runs, wanted.state, MOST_DECIDED)
            names: dict[str, list[str]] = {}
            for run, name in decided:
                names.setdefault(run, []).append(name)
            queries = [{"$and": [{"run": run, "source_name": {"$in": own}}, conditions]} for run, own in names.items()]
        else:
            queries = [{"$and": [{"run": run}, conditions]} for run in self._runs(runs)]
        order = [("strength", -1), ("source_name", 1)]
        if after:
            queries = [{"$and": [query, {"strength": {"$lte": after[0]}}]} for query in queries]
        streams = [self.detections.find(query).sort(order).max_time_ms(TIME_LIMIT_MS) for query in queries]
        for event in merge(*streams, key=_place):
            if after is None or _place(event) > (-after[0], *after[1:]):
                yield event

    def _rows(self, events: Iterable[Document], wanted: TriageCriteria) -> Iterator[SourceWithEvents]:
        remaining, seen = iter(events), set[Pair]()
        while batch := list(islice(remaining, BATCH)):
            first = {_pair(event): event for event in reversed(batch) if _pair(event) not in seen}
            seen.update(first)
            of_sources, decisions = self._of_sources(list(first)), self.decisions.of(first)
            periods = self._periods(list(first))
            for event in batch:
                pair = _pair(event)
                n, strongest = of_sources.get(pair, (0, None))
                if first.get(pair) is not event or event.get("strength") != strongest:
                    continue  # a weaker one of a source
                row = SourceWithEvents(event, n, decisions.get(pair, NO_DECISION), periods.get(pair, {}))
                if _fits(row, wanted):
                    yield row

    def _of_sources(self, pairs: Sequence[Pair]) -> dict[Pair, tuple[int, float]]:
        """Return the number of events of sources, and the largest S/N."""
        stages: list[Document] = [
            {"$match": {**_any_of(pairs), "simulated": False}},
            {
                "$group": {
                    "_id": {"run": "$run", "source_name": "$source_name"},
                    "n": {"$sum": 1},
                    "strongest": {"$max": "$strength"},
                }
            },
        ]
        found = self.detections.aggregate(stages, maxTimeMS=TIME_LIMIT_MS)
        return {_pair(one["_id"]): (one["n"], one["strongest"]) for one in found}

    def _periods(self, pairs: Sequence[Pair]) -> dict[Pair, Document]:
        fields = {"run": 1, "source_name": 1, "extra.period": 1}
        found = self.database["properties"].find(_any_of(pairs), fields).max_time_ms(TIME_LIMIT_MS)
        periods = ((_pair(one), lookup(one, "extra.period")) for one in found)
        return {pair: period for pair, period in periods if isinstance(period, dict)}


class _Counted:
    """Events that are read up to a largest number, with the last of them."""

    def __init__(self, events: Iterator[Document]) -> None:
        self.events, self.read = events, 0
        self.last: Document = {}
        self.was_stopped = False

    def __iter__(self) -> Iterator[Document]:
        for event in self.events:
            if self.read >= MOST_READ:
                self.was_stopped = True
                return
            self.read += 1
            self.last = event
            yield event


def _pair(document: Document) -> Pair:
    return document["run"], document["source_name"]


def _place(event: Document) -> tuple[float, str, str]:
    return -float(event.get("strength") or 0.0), str(event["source_name"]), str(event["run"])


def _mark(event: Document) -> str:
    return SEPARATOR.join((repr(float(event.get("strength") or 0.0)), str(event["source_name"]), str(event["run"])))


def _read_mark(cursor: str) -> tuple[float, str, str]:
    strength, _, rest = cursor.partition(SEPARATOR)
    name, _, run = rest.rpartition(SEPARATOR)
    try:
        found = float(strength), name, run
    except ValueError as err:
        raise CursorError(f"{cursor[:40]!r} is no mark of a page") from err
    if not name or found[0] != found[0]:
        raise CursorError(f"{cursor[:40]!r} is no mark of a page")
    return found


def _any_of(pairs: Iterable[Pair]) -> Document:
    names: dict[str, list[str]] = {}
    for run, name in pairs:
        names.setdefault(run, []).append(name)
    return {"$or": [{"run": run, "source_name": {"$in": own}} for run, own in names.items()] or [{"_id": None}]}


def _between(field: str, limits: Range) -> Document:
    low, high = limits
    bounds = {key: value for key, value in (("$gte", low), ("$lte", high)) if value is not None}
    return {field: bounds} if bounds else {}


def _fits(row: SourceWithEvents, wanted: TriageCriteria) -> bool:
    if wanted.state == UNDECIDED and row.decision.verdict != UNDECIDED:
        return False
    low, high = wanted.period_d
    if low is None and high is None:
        return True
    period = row.period.get("period_d")
    return isinstance(period, int | float) and (low is None or period >= low) and (high is None or period <= high)
