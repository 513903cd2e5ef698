"""Database of surveys: that of the archive, or one beside the survey data.

With a ``config.json`` in the working directory (or named by ``ARCHIVER_CONFIG``) sources are stored in the database of
the archive and shown in its portal; otherwise in a database in the data folder. It is opened at the first use.
"""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from obsarchive.errors import ConfigError, did_you_mean
from surveys import dataset
from surveys.dataset import data_root

if TYPE_CHECKING:
    from astropy.table import Table

    from obsarchive.config.model import Config
    from obsarchive.store import Store, Surveys

CONFIG = Path("config.json")
CONFIG_VARIABLE = "ARCHIVER_CONFIG"
UNSEEN = ".surveys"

OTHER_NAMES = {"project": "run", "name": "source_name", "source_id": "source_name", "id": "_id", "snr": "score"}
OTHER_NAMES_OF_SOURCES = {"name": "_id", "id": "_id", "project": "projects", "ra": "ra_deg", "dec": "dec_deg"}
"""Fields of documents that are attributes of other names."""
FIELDS = {
    "sources": "ra_deg dec_deg mag mag_err aliases mag_filter cat_row cat_index cat_name projects",
    "raw_photometry": "observatory source_name state filename filekey number filters checksum fetched expires reason "
    "download_pars",
    "lightcurves": "run source_name observatory filter series_number series_total was_processed simulation_number "
    "filename filekey number mjd_start mjd_stop cadence_d is_uniform mag flux_mean flux_rms cfg_hash",
    "detections": "strength",
    "properties": "stale made",
}
"""Fields of documents, beside ``_id`` and those of the dataclasses."""


class UnknownFieldError(ConfigError, TypeError):
    """Objects have no field of this name."""


Kept = TypeVar("Kept")

_opened = ExitStack()
_lock = threading.Lock()
_store: "Store | None" = None
atexit.register(_opened.close)


def find_config() -> "Config | None":
    """Return the configuration of the archive that these surveys belong to, or None.

    Raises
    ------
    ConfigError
        A configuration is named that cannot be used.
    """
    from obsarchive.config.loading import load as load_config  # late, as below: objects can be used without a database

    named = os.environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else CONFIG
    return load_config(path) if named or path.exists() else None


def root_of(config: "Config | None") -> Path:
    """Return the folder of the survey data of an archive."""
    named = any(os.environ.get(name) for name in dataset.ENVIRONMENT)
    if config is None or dataset.DATA_ROOT is not None:
        return data_root()
    if config.surveys.data is not None:
        return config.surveys.data
    return data_root() if named else config.paths.archive / UNSEEN


def use(store: "Store | None") -> None:
    """Use a database that is open already; None: forget it."""
    global _store
    with _lock:
        _store = store


def open_surveys(config: "Config | None" = None) -> "Surveys":
    """Return the collections of surveys; opens the database at the first call.

    Raises
    ------
    ServiceUnavailable
        The database can neither be started nor reached.
    """
    global _store
    with _lock:
        if _store is None:
            from obsarchive.database.connect import open_store

            config = config or find_config()
            dataset.DATA_ROOT = root_of(config)
            _store = _opened.enter_context(open_store(config or _alone(data_root())))
            _store.surveys.ensure_indexes()
        return _store.surveys


def _alone(root: Path) -> "Config":
    from obsarchive.config.model import Config

    config = Config.standalone(root, root / "logs")
    return config.model_copy(update={"database": config.database.model_copy(update={"folder": root / ".db"})})


class Session:
    """Objects from the database, and changes that are written together by `commit`.

    ::

        with Session() as session:
            source = session.first(Source, name="J123.1-32.13")
            for curve in obs.reduce(source.raw_photometry[0]):
                curve.save()
                session.add(curve)
            session.commit()
    """

    def __init__(self, surveys: "Surveys | None" = None) -> None:
        self._surveys = surveys
        self._added: list[Any] = []
        self._deleted: list[Any] = []

    @property
    def surveys(self) -> "Surveys":
        """The collections."""
        return self._surveys or open_surveys()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def scalars(self, kind: type[Kept], **wanted: Any) -> Iterator[Kept]:
        """Return objects of a class with given fields.

        Parameters
        ----------
        kind : type
            Source, RawPhotometry, Lightcurve, Detection or Properties.
        **wanted : str, int, float, bool or None
            Values of fields, by name.

        Returns
        -------
        iterator of object
            Instances of `kind`.

        Raises
        ------
        ConfigError
            Another class, or a value that is no text or number.
        UnknownFieldError
            Objects of the class have no such field (also a TypeError).
        """
        collection = _kind_of(kind)
        return self._found(kind, collection, _query(collection, wanted, kind), wanted)

    def _found(
        self, kind: type[Kept], collection: str, query: dict[str, Any], wanted: dict[str, Any]
    ) -> Iterator[Kept]:
        for document in self.surveys.find(collection, query):
            if collection == "sources" and "project" in wanted:  # the source must refer to the results of this project
                document["projects"] = [wanted["project"]]
            yield kind.from_document(document)  # type: ignore[attr-defined]

    find = scalars

    def all(self, kind: type[Kept], **wanted: Any) -> list[Kept]:
        """Return the objects of a class with given fields.

        Parameters
        ----------
        kind, **wanted
            As of `scalars`.

        Returns
        -------
        list
            Instances of `kind`.
        """
        return list(self.scalars(kind, **wanted))

    def first(self, kind: type[Kept], **wanted: Any) -> Kept | None:
        """Return the first object of a class with given fields.

        Parameters
        ----------
        kind, **wanted
            As of `scalars`.

        Returns
        -------
        object or None
            Instance of `kind`; None if there is none.
        """
        return next(self.scalars(kind, **wanted), None)

    def table(self, kind: type, where: str = "", sort: str = "", limit: int = 0, **wanted: Any) -> "Table":
        """Return the objects of a class as a table of astropy, selected and sorted by the database.

        Of detections only the real ones are returned unless ``simulated`` is given or `where` mentions it.

        Parameters
        ----------
        kind : type
            Source, RawPhotometry, Lightcurve, Detection or Properties.
        where : str
            Expression over the columns, such as ``score > 10 and source.mag < 16 and filter in ['g', 'r']``.
        sort : str
            Columns, separated by commas; ``-score``: in descending order.
        limit : int
            Largest number of rows; 0: all.
        **wanted : str, int, float, bool or None
            Values of fields, by name, as of `scalars`.

        Returns
        -------
        Table
            With units; ``to_pandas()`` makes a table of pandas of it.

        Raises
        ------
        ConfigError
            An expression that cannot be read, an unknown column or another class.
        """
        from surveys.queries import query_table  # late: it imports tables of astropy

        collection = _kind_of(kind)
        own = _query(collection, wanted, kind)
        if collection == "detections" and "simulated" not in wanted and "simulated" not in where:
            own["simulated"] = False
        return query_table(self.surveys, collection, own, where, sort, limit)

    def cone_search(self, ra: float, dec: float, sep_deg: float) -> list[Any]:
        """Return the sources within a cone.

        Parameters
        ----------
        ra, dec : float
            Centre [deg].
        sep_deg : float
            Radius [deg].

        Returns
        -------
        list of Source
        """
        from surveys.source import Source, cone_query

        return [Source.from_document(found) for found in self.surveys.find("sources", cone_query(ra, dec, sep_deg))]

    def add(self, item: Any) -> None:
        """Write an object at the next `commit`."""
        self._added.append(item)

    def add_all(self, items: list[Any]) -> None:
        """Write several objects at the next `commit`."""
        self._added += items

    def delete(self, item: Any) -> None:
        """Remove an object at the next `commit`; its data on disk are removed by `delete_data_from_disk`."""
        self._deleted.append(item)

    def commit(self) -> None:
        """Write and remove what was added and deleted; nothing if one object cannot be stored."""
        added = [(_kind_of(type(item)), item, item.document()) for item in self._added]
        deleted = [(_kind_of(type(item)), item.identifier) for item in self._deleted]
        for kind, item, document in added:
            match kind:
                case "sources":
                    self.surveys.register([document], item.project)
                case "raw_photometry":
                    self.surveys.save_raw([document])
                case _:
                    self.surveys.save(kind, [document])
        for kind, identifier in deleted:
            self.surveys.delete(kind, [identifier])
        self.rollback()

    def rollback(self) -> None:
        """Discard what was added and deleted since the last `commit`."""
        self._added, self._deleted = [], []

    def close(self) -> None:
        """Discard what was not committed; the connection belongs to the process and stays open."""
        self.rollback()


def _kind_of(made: type) -> str:
    """Return the name of the collection of a class."""
    from surveys.dataset import Lightcurve, RawPhotometry
    from surveys.detection import Detection
    from surveys.properties import Properties
    from surveys.source import Source

    classes = {
        "sources": Source,
        "raw_photometry": RawPhotometry,
        "lightcurves": Lightcurve,
        "detections": Detection,
        "properties": Properties,
    }
    for kind, known in classes.items():
        if issubclass(made, known):
            return kind
    names = ", ".join(known.__name__ for known in classes.values())
    raise ConfigError(f"the database of surveys keeps objects of the classes {names}, found {made.__name__}")


def _query(collection: str, wanted: dict[str, Any], kind: type) -> dict[str, Any]:
    """Return a query for fields that equal values; text and numbers only, no operators."""
    names = OTHER_NAMES_OF_SOURCES if collection == "sources" else OTHER_NAMES
    known = {"_id", *names, *FIELDS[collection].split(), *getattr(kind, "__dataclass_fields__", ())}
    for key, value in wanted.items():
        if not isinstance(value, str | int | float | bool | None):
            raise ConfigError(f"{key}: a text or number to look for, found {value!r}")
        if "$" in key:
            raise ConfigError(f"{key}: the name of a field to look for, found an operator")
        if key.partition(".")[0] not in known:
            hint = did_you_mean(key, known) or f"; known are {', '.join(sorted(known))}"
            raise UnknownFieldError(f"objects of the class {kind.__name__} have no field {key!r}{hint}")
    return {names.get(key, key): value for key, value in wanted.items()}
