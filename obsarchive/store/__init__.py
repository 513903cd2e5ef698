"""The database: the only package that uses MongoDB, beside :mod:`obsarchive.database`, which starts it.

Every change is one atomic update that compares before it sets: a step is claimed once, a superseded task changes
nothing, a request that a user makes while a step runs is kept. Single fields are set, never whole blocks.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError

from obsarchive.errors import ServiceUnavailable
from obsarchive.store.audit import Audit, one_line
from obsarchive.store.backup import Backup
from obsarchive.store.datasets import Datasets
from obsarchive.store.decisions import Decision, Decisions
from obsarchive.store.file_queries import FileQueries
from obsarchive.store.frames import Frames
from obsarchive.store.jobs import Jobs, Lease
from obsarchive.store.limits import Slots, Throttle
from obsarchive.store.monitoring import Monitoring
from obsarchive.store.nights import Nights
from obsarchive.store.notes import Note, Notes
from obsarchive.store.notifications import Outbox
from obsarchive.store.observations import BY_RESULTS, Observations
from obsarchive.store.people import Act, People
from obsarchive.store.portal_queries import Browse
from obsarchive.store.problems import Problems, StepProblem
from obsarchive.store.programmes import Programmes, PublicObservations
from obsarchive.store.query_jobs import QueryJobs
from obsarchive.store.requests import Requests
from obsarchive.store.search import Cone, Criteria, CursorError, Order, Page
from obsarchive.store.sessions import Sessions, Tokens
from obsarchive.store.step_records import Document, StepPath, StepStore, StepUpdate, carried_over
from obsarchive.store.survey_queries import Events, SourceCriteria, SourcePage, Sources
from obsarchive.store.survey_results import Results, Surveys, check_documents
from obsarchive.store.triage import SourceWithEvents, Triage, TriageCriteria, TriagePage
from obsarchive.store.users import Users
from obsarchive.store.watches import Watches

__all__ = [
    "BY_RESULTS",
    "Act",
    "Audit",
    "Backup",
    "Browse",
    "Cone",
    "Criteria",
    "CursorError",
    "Datasets",
    "Decision",
    "Decisions",
    "Document",
    "Events",
    "FileQueries",
    "Frames",
    "Jobs",
    "Lease",
    "Monitoring",
    "Nights",
    "Note",
    "Notes",
    "Observations",
    "Order",
    "Outbox",
    "Page",
    "People",
    "Problems",
    "Programmes",
    "PublicObservations",
    "QueryJobs",
    "Requests",
    "Results",
    "Sessions",
    "Slots",
    "SourceCriteria",
    "SourcePage",
    "SourceWithEvents",
    "Sources",
    "StepPath",
    "StepProblem",
    "StepStore",
    "StepUpdate",
    "Store",
    "Surveys",
    "Throttle",
    "Tokens",
    "Triage",
    "TriageCriteria",
    "TriagePage",
    "Users",
    "Watches",
    "carried_over",
    "check_documents",
    "one_line",
    "outage_as_error",
    "redacted",
]

_INTERRUPTED = frozenset({26, 43, 50, 91, 175, 215, 262, 276, 11600, 11601})
"""Codes of operations that the server ended: a collection was dropped, it took too long, or the server shuts down."""


class Store:
    """All collections of one archive.

    Parameters
    ----------
    uri : str
        Address of MongoDB, with credentials.
    database : str
        Name of the database.
    timeout_s : float
        Longest wait for the server [s].
    answer_s : float, optional
        Longest time that one operation may take, waits and repetitions included [s]; by default as long as the server
        works on it, or for ever where it does not answer.

    Raises
    ------
    ServiceUnavailable
        When the database cannot be reached or refuses the credentials.
    """

    def __init__(self, uri: str, database: str, timeout_s: float = 10.0, answer_s: float | None = None) -> None:
        limits: dict[str, Any] = {} if answer_s is None else {"timeoutMS": int(answer_s * 1000)}
        try:
            self.client: MongoClient[Document] = MongoClient(
                uri, tz_aware=True, serverSelectionTimeoutMS=int(timeout_s * 1000), appname="archiver", **limits
            )
            self.client.admin.command("ping")
            self.client[database].command("listCollections", nameOnly=True)
        except (PyMongoError, ValueError) as err:
            raise ServiceUnavailable(f"database {redacted(uri)} cannot be used: {_reason(err)}") from err
        self.database = self.client[database]
        self.observations = Observations(self.database["objects"])
        self.nights = Nights(self.database["aux"])
        self.users = Users(self.database["users"])
        self.jobs = Jobs(self.database["jobs"], self.database["telemetry"])
        self.lease = Lease(self.database["lease"])
        self.sessions = Sessions(self.database["sessions"])
        self.tokens = Tokens(self.database["tokens"])
        self.throttle = Throttle(self.database["throttle"])
        self.slots = Slots(self.database["slots"])
        self.frames = Frames(self.database["frames"])
        self.datasets = Datasets(self.database["datasets"])
        self.surveys = Surveys(self.database)
        self.sources = Sources(self.database)
        self.outbox = Outbox(self.database["alerts"])
        self.requests = Requests(self.database["requests"])
        self.notes = Notes(self.database["notes"])
        self.decisions = Decisions(self.database["decisions"])
        self.triage = Triage(self.database, self.decisions)
        self.audit = Audit(self.database["audit"])
        self.watches = Watches(self.database["watches"])
        self.people = People(self.database)
        self.browse = Browse(self.database["objects"], self.database["aux"])
        self.files = FileQueries(self.database["objects"], self.database["aux"], self.browse)
        self.query_jobs = QueryJobs(self.database["tap_jobs"])
        self.programmes = Programmes(self.database["programmes"], self.database["objects"])
        self.public = PublicObservations(self.database["objects"])
        self.problems = Problems(self.browse)
        self.monitoring = Monitoring(self.database["objects"], self.database["aux"])

    def ensure_indexes(self, steps: Iterable[StepPath], lacking: Iterable[StepPath] = ()) -> None:
        """Create all indexes that do not exist, and index the names of targets that an earlier version entered.

        Parameters
        ----------
        steps : iterable of (str, str)
            All pipelines of observations with their steps.
        lacking : iterable of (str, str), optional
            Steps that may lack references of the PSF library.
        """
        self.observations.ensure_indexes(steps, lacking)
        self.nights.ensure_indexes()
        self.jobs.ensure_indexes()
        self.outbox.ensure_indexes()
        self.frames.ensure_indexes()
        self.datasets.ensure_indexes()
        self.surveys.ensure_indexes()
        self.observations.fold_names()
        self.ensure_portal_indexes()

    def ensure_portal_indexes(self) -> None:
        """Create the indexes of the collections that the portal writes."""
        accounts = (self.sessions, self.tokens, self.throttle, self.requests, self.watches)
        for part in (*accounts, self.notes, self.decisions, self.audit, self.query_jobs):
            part.ensure_indexes()

    @property
    def server_version(self) -> str:
        """Version of the server."""
        return str(self.client.server_info()["version"])

    def close(self) -> None:
        """Close every connection."""
        self.client.close()


@contextmanager
def outage_as_error() -> Iterator[None]:
    """Turn a lost connection into `ServiceUnavailable`; the caller decides whether to wait."""
    try:
        yield
    except ConnectionFailure as err:
        raise ServiceUnavailable(f"the database went away: {_reason(err)}") from err
    except OperationFailure as err:
        if err.code not in _INTERRUPTED:
            raise
        raise ServiceUnavailable(f"the database broke off: {_reason(err)}") from err


def redacted(uri: str) -> str:
    """Return a MongoDB address without user and password."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _reason(err: Exception) -> str:
    if isinstance(err, OperationFailure):
        return str((err.details or {}).get("errmsg", err))
    return str(err).partition(", Timeout:")[0]
