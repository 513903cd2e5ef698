"""The collection ``decisions``: whether people keep or reject a source with events of a survey project, and why.

A decision changes no result of the project, and outlives its results: a project that runs again finds it as it was.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from obsarchive.core.values import as_count, as_mappings, as_time
from obsarchive.store.step_records import Document
from obsarchive.store.versions import literal, new_version

VERDICTS = ("keep", "reject")
UNDECIDED = "undecided"
STATES = (UNDECIDED, *VERDICTS)
SAME_EVENT_D = 1.0
"""Least distance of the peaks of different events [d]."""

Pair = tuple[str, str]
"""Folder of a project, and name of a source."""


@dataclass(frozen=True)
class Decision:
    """What a person decided about a source with events.

    Parameters
    ----------
    verdict : str
        One of `STATES`.
    text : str
        Why.
    author : str
        Who wrote this version.
    peaks : tuple of float
        Peaks of the events that were known then, MJD [d].
    written : datetime or None
        When [UTC].
    version : int
        Number of this version, from 1; 0: nobody decided yet.
    earlier : tuple of Decision
        Earlier versions, the oldest first.
    """

    verdict: str = UNDECIDED
    text: str = ""
    author: str = ""
    peaks: tuple[float, ...] = ()
    written: datetime | None = None
    version: int = 0
    earlier: tuple["Decision", ...] = field(default=())

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Decision":
        """Return a decision read from a document."""
        verdict = document.get("verdict")
        peaks = document.get("peaks")
        return cls(
            verdict if verdict in VERDICTS else UNDECIDED,
            str(document.get("text") or ""),
            str(document.get("author") or ""),
            tuple(float(peak) for peak in peaks if isinstance(peak, int | float)) if isinstance(peaks, list) else (),
            as_time(document.get("written")),
            as_count(document.get("version")),
            tuple(map(cls.of, as_mappings(document.get("earlier")))),
        )

    def knew(self, event: Mapping[str, Any]) -> bool:
        """Whether an event was known when this was decided: one whose peak lies within its duration of a known peak."""
        peak, start, stop = (event.get(f"mjd_{end}") for end in ("peak", "start", "stop"))
        if not (isinstance(peak, int | float) and isinstance(start, int | float) and isinstance(stop, int | float)):
            return True
        reach = max(SAME_EVENT_D, stop - start)
        return any(abs(known - peak) <= reach for known in self.peaks)


NO_DECISION = Decision()
"""What is known where nobody decided."""


class Decisions:
    """Decisions of people about sources with events, by project and source.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def find(self, run: str, source: str) -> Decision:
        """Return the decision about a source of a project, with its earlier versions; an empty one if there is none."""
        return Decision.of(self.collection.find_one({"_id": _key(run, source)}) or {})

    def of(self, pairs: Iterable[Pair]) -> dict[Pair, Decision]:
        """Return the decisions about sources of projects, of those that have one, without earlier versions."""
        found = self.collection.find({"_id": {"$in": [_key(*pair) for pair in pairs]}}, {"earlier": 0})
        return {(document["run"], document["source_name"]): Decision.of(document) for document in found}

    def decided(self, runs: Sequence[str] | None, verdict: str, most: int) -> list[Pair]:
        """Return sources of projects about which people decided.

        Parameters
        ----------
        runs : sequence of str or None
            The projects; None: all.
        verdict : str
            One of `VERDICTS`.
        most : int
            Largest number of results; the newest are returned.

        Returns
        -------
        list of (str, str)
        """
        query = {"verdict": verdict, **_of_runs(runs)}
        found = self.collection.find(query, {"run": 1, "source_name": 1}).sort("written", -1).limit(most)
        return [(document["run"], document["source_name"]) for document in found]

    def counts(self, runs: Sequence[str] | None) -> dict[str, int]:
        """Return the numbers of sources that people keep and reject in projects (None: in all)."""
        return {
            verdict: self.collection.count_documents({"verdict": verdict, **_of_runs(runs)}) for verdict in VERDICTS
        }

    def write(self, run: str, source: str, decision: Decision) -> Decision | None:
        """Write a decision in place of the version that its author has seen.

        Parameters
        ----------
        run, source : str
            Folder of the project, and name of the source.
        decision : Decision
            The new verdict, text, author and peaks; `version` is the one that it replaces, 0 for the first.

        Returns
        -------
        Decision or None
            What is kept now; None if another user decided meanwhile.
        """
        said = {
            "verdict": literal(decision.verdict),
            "text": literal(decision.text),
            "author": literal(decision.author),
            "peaks": literal(list(decision.peaks)),
        }
        change = new_version(said, {"run": literal(run), "source_name": literal(source)})
        query = {"_id": _key(run, source), "version": decision.version}
        try:
            found = self.collection.find_one_and_update(
                query, change, upsert=decision.version == 0, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            return None
        return Decision.of(found) if found else None

    def ensure_indexes(self) -> None:
        """Create the index by which decisions are counted and listed."""
        self.collection.create_index([("verdict", 1), ("run", 1), ("written", -1)])


def _key(run: str, source: str) -> str:
    return f"{run}/{source}"  # no name of a folder has a slash


def _of_runs(runs: Sequence[str] | None) -> Document:
    return {} if runs is None else {"run": {"$in": list(runs)}}
