"""Virtual observatories: retrieval of survey photometry and its reduction to light curves.

A survey is added by a subclass of `VirtualObservatory` that retrieves the data of a source::

    class VirtualMine(VirtualObservatory):
        name = "MINE"

        def fetch_data_from_observatory(self, cat_row, **kwargs):
            return data_frame, {"exptime": 30.0, "filter": "r"}

and that overrides `reduce_photometry` if the default reduction does not suit.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from obsarchive.core.progress import Bar
from obsarchive.errors import ArchiveError, ConfigError
from surveys.database import open_surveys
from surveys.dataset import Document, RawPhotometry, raw_identity
from surveys.formats.hdf5_light_curves import Columns, ra_zone
from surveys.observatory.downloads import reason_of, sliding
from surveys.observatory.origin import Origin
from surveys.observatory.parameters import ParsObservatory
from surveys.observatory.raw_storage import Downloaded, RawStorage, Row
from surveys.observatory.reduction import PhotometryReducer
from surveys.parameters import legalize
from surveys.places import moved, place_of, tolerance_arcsec
from surveys.provenance import hash_of
from surveys.source import Source

if TYPE_CHECKING:
    from astropy.table import Table

    from obsarchive.remote.http import HttpClient

log = logging.getLogger(__name__)

Fetched = tuple["pd.DataFrame | Table | Columns | None", dict[str, Any]]
MOST_LISTED = 10
MOST_IN_A_ROW, MOST_FAILURES = 10, 100
"""Numbers of failures in a row, and in all if most sources fail, that end a download: the service is down, or the
configuration is wrong for all sources."""


class VirtualObservatory(PhotometryReducer):
    """Virtual observatory: access to the photometry of one survey.

    Parameters
    ----------
    name : str, optional
        Name of the survey; in upper case it names its folder.
    **kwargs
        Parameters; see ``describe()`` of its `pars`.
    """

    pars_class = ParsObservatory
    name: str = ""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        self.name = legalize(name or self.name or type(self).__name__)
        super().__init__(**kwargs, _name=self.name)
        self.catalog: Any = None
        self.output_folder = ""
        self.sources: deque[Source] = deque(maxlen=self.pars.download_batch_size)
        self.raw_data: deque[RawPhotometry] = deque(maxlen=self.pars.download_batch_size)
        self.failures_list: list[dict[str, Any]] = []
        self._client: HttpClient | None = None

    def _facts(self) -> dict[str, Any]:
        return {"name": self.name, "service": getattr(self.pars, "base_url", ""), **self.pars.changed()}

    @property
    def datasets(self) -> deque[RawPhotometry]:
        """The raw data that were fetched last; the same as `raw_data`."""
        return self.raw_data

    def _complete(self) -> None:
        super()._complete()
        self._check_arguments(self.pars.reducer, self.reduce_photometry, "reducer")
        self._check_arguments(self.pars.download_pars, self.fetch_data_from_observatory, "download_pars")

    def __getstate__(self) -> dict[str, Any]:
        # for workers, which only reduce: without catalogue and connection, and secrets must not leave this process
        state = self.__dict__ | {"catalog": None, "_client": None, "sources": deque(), "raw_data": deque()}
        state["pars"] = self.pars.copy()
        state["pars"].credentials = {}
        return state

    @property
    def client(self) -> "HttpClient":
        """HTTP client of the service."""
        if self._client is None:
            from obsarchive.remote.http import HttpClient  # late: not needed to reduce

            pars = self.pars
            self._client = HttpClient(self.name, pars.base_url, pars.rate_limit, pars.timeout, pars.max_tries)
        return self._client

    def secret(self, name: str) -> str:
        """Return one of the credentials; empty if it is not configured.

        Raises
        ------
        ConfigError
            The environment variable or file that should hold it is missing.
        """
        given = self.pars.credentials.get(name)
        if given is None or isinstance(given, str):
            return given or ""
        from pydantic import TypeAdapter, ValidationError

        from obsarchive.config.field_types import Secret

        try:
            found = TypeAdapter(Secret).validate_python(given)
        except ValidationError as err:
            raise ConfigError(f"{self.name}: credentials: {name}: {err.errors()[0]['ctx']['error']}") from err
        return found.get_secret_value() if found else ""

    @property
    def _storage(self) -> RawStorage:
        return RawStorage(self)

    # fetching

    def fetch_data_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:
        """Return the data of a source as the survey returns them, with metadata.

        Parameters
        ----------
        cat_row : mapping
            ``name``, ``ra``, ``dec`` [deg], ``mag`` and other columns of the catalogue.
        **kwargs
            ``download_pars``.

        Returns
        -------
        data : DataFrame, astropy Table, dict of ndarray (n,) or None
            Columns as the survey names them, with the units of a Table; None: there are no data.
        altdata : dict
            Metadata such as ``exptime`` [s], ``filter``, ``time_scale``, ``zero_point`` [mag], ``units`` by column.
        """
        if type(self).download_from_observatory is not VirtualObservatory.download_from_observatory:
            return self.download_from_observatory(cat_row, **kwargs)
        raise NotImplementedError(f"{type(self).__name__} cannot fetch data: define this method")

    def download_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:
        """Return the data of a source: another name of `fetch_data_from_observatory`.

        Parameters
        ----------
        cat_row, **kwargs
            As of `fetch_data_from_observatory`.

        Returns
        -------
        data, altdata
            As of `fetch_data_from_observatory`.
        """
        return self.fetch_data_from_observatory(cat_row, **kwargs)

    def origin(self, name: str) -> Origin | None:  # noqa: ARG002 - for subclasses
        """Return where the data of a source are read from now; photometry of another origin is fetched again.

        Parameters
        ----------
        name : str
            Name of the source.

        Returns
        -------
        Origin or None
            By default the parameters that a class of one's own has declared; None for the surveys of this package,
            which are asked again on request only.
        """
        if _is_ours(type(self).pars_class):
            return None
        common, own = _common_parameters(type(self).pars_class), self.pars.to_dict(critical=True)
        return Origin(hash_of({key: value for key, value in own.items() if key not in common}), "")

    def download(self, cat_row: Row, **download_args: Any) -> RawPhotometry:
        """Return the raw photometry of a source from the survey, without storing it.

        Parameters
        ----------
        cat_row : mapping
            Row of the catalogue.
        **download_args
            Arguments of the download; they override ``download_pars``.

        Returns
        -------
        RawPhotometry
        """
        arguments = {**self.pars.download_pars, **download_args}
        origin = self.origin(str(cat_row["name"]))  # before it is read: it may change meanwhile
        data, altdata = self.fetch_data_from_observatory(cat_row, **arguments)
        if hasattr(data, "colnames"):  # a Table
            from surveys.formats.astropy_tables import columns_of_table  # late: not needed to reduce

            data, units = columns_of_table(data)
            altdata = {**altdata, "units": {**units, **altdata.get("units", {})}}
        facts = {"ra": float(cat_row["ra"]), "dec": float(cat_row["dec"]), "mag": cat_row.get("mag"), **altdata}
        if {"ra", "dec"} & altdata.keys():
            facts["place"] = place_of(cat_row)  # the survey has another position for it
        facts |= {"name": str(cat_row["name"]), "observatory": self.name, "download_pars": arguments}
        raw = RawPhotometry({} if data is None else data, facts, observatory=self.name)
        raw.origin = origin
        return raw

    def fetch_source(self, source: Source | Row, save: bool = True, **download_args: Any) -> RawPhotometry:
        """Return the raw photometry of a source: the stored one, else that of the survey.

        Parameters
        ----------
        source : Source or mapping
            A source, or a row of a catalogue.
        save : bool
            Whether downloaded data are stored.
        **download_args
            Arguments of the download.

        Returns
        -------
        RawPhotometry
        """
        row = source.cat_row if isinstance(source, Source) else source
        done = self.missing([row])
        if not done:
            kept = open_surveys().find("raw_photometry", raw_identity(self.name, str(row["name"])))
            raw = RawPhotometry.from_document(next(kept))
            raw.load()
            return raw
        raw = self.download(row, **download_args)
        stored = self._storage.keep([(row, raw)])[0][1] if save else raw
        if isinstance(stored, Exception):
            raise stored
        return stored

    def fetch_all_sources(
        self,
        start: int = 0,
        stop: int | None = None,
        save: bool = True,
        reduce: bool = False,
        download_args: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
    ) -> int:
        """Fetch the raw photometry that is missing of sources of the catalogue.

        Parameters
        ----------
        start, stop : int, optional
            Range of the catalogue.
        save : bool
            Whether data are stored; if not, all sources of the range are fetched.
        reduce : bool
            Whether light curves are reduced and stored at once.
        download_args : mapping, optional
            Arguments of the download.
        retry_failed : bool
            Whether sources that failed before are tried again.

        Returns
        -------
        int
            Number of sources that were fetched.

        Raises
        ------
        ConfigError
            The observatory has no catalogue.
        ArchiveError
            Too many failures.
        """
        if self.catalog is None:
            raise ConfigError(
                f"{self.name} has no catalogue: set its attribute catalog, or use the observatory of a project"
            )
        rows = [self.catalog.get_row(i) for i in range(start, min(stop or len(self.catalog), len(self.catalog)))]
        due = self.missing(rows, retry_failed) if save else rows
        fetched: dict[str, RawPhotometry] = {}
        n_fetched = 0
        try:
            for row, raw in self.fetch(due, save, **(download_args or {})):
                if isinstance(raw, Exception):
                    continue
                n_fetched += 1
                fetched[str(row["name"])] = raw
                if len(fetched) > self.pars.download_batch_size:
                    del fetched[next(iter(fetched))]
                if reduce:
                    for curve in self.reduce(raw):
                        curve.save()
        finally:
            self._remember(rows, fetched)
        return n_fetched

    def _remember(self, rows: Sequence[Row], fetched: Mapping[str, RawPhotometry]) -> None:
        """Keep the last sources with data, whether they were fetched now or before."""
        most = self.pars.download_batch_size
        stored = {
            found["source_name"]: RawPhotometry.from_document(found)
            for found in self._storage.known([str(row["name"]) for row in rows[-most:]]).values()
            if found.get("filename")
        }
        known = {**stored, **fetched}
        named = [(row, known[str(row["name"])]) for row in rows if str(row["name"]) in known][-most:]
        again = {str(row["name"]) for row, _ in named}
        older = [
            (one, raw) for one, raw in zip(self.sources, self.raw_data, strict=True) if raw.source_name not in again
        ]
        kept = older + [(Source.from_row(row, self.output_folder), raw) for row, raw in named]
        self.sources = deque((one for one, _ in kept), most)
        self.raw_data = deque((raw for _, raw in kept), most)

    download_all_sources = fetch_all_sources

    def expired(self, again: float | None = None, names: Sequence[str] | None = None) -> set[str]:
        """Return the sources that are fetched again: expired empty ones, and those older than ``refresh_after``.

        Parameters
        ----------
        again : float, optional
            If given, all empty sources, and those that are older than this [d].
        names : sequence of str, optional
            Only these sources.

        Returns
        -------
        set of str
        """
        now = datetime.now(UTC)
        ages = [days for days in (self.pars.refresh_after, again) if days is not None and math.isfinite(days)]
        good_before = now - timedelta(days=min(ages)) if ages else None
        empty_before = now if again is None else datetime.max.replace(tzinfo=UTC)
        return open_surveys().expired(self.name, empty_before, good_before, names)

    def missing(self, rows: Sequence[Row], retry_failed: bool = False, again: float | None = None) -> list[Row]:
        """Return the sources that must be fetched: unknown ones, those that expired, and those that have moved.

        A source that is in the database but whose file is missing must be fetched as well.

        Parameters
        ----------
        rows : sequence of mapping
            Rows of the catalogue.
        retry_failed : bool
            Whether failed sources are fetched again.
        again : float, optional
            As of `expired`.

        Returns
        -------
        list of mapping
            Some of `rows`, in their order.
        """
        names = [str(row["name"]) for row in rows]
        known, expired = self._storage.known(names), self.expired(again, names)
        on_disk = self._storage.on_disk(list(known.values()))
        anew = self._elsewhere(rows, known) | self._of_another_origin(known)

        def is_due(found: Document | None) -> bool:
            if found is None or found["source_name"] in anew:
                return True
            if found["state"] == "failed":
                return retry_failed
            if found["source_name"] in expired:
                return True
            if self.pars.check_download_pars and found.get("download_pars") != self.pars.download_pars:
                return True
            return found["source_name"] not in on_disk

        return [row for row in rows if is_due(known.get(str(row["name"])))]

    def moved(self, row: Row, fetched: Document) -> str:
        """Return how a source has moved since its raw photometry was fetched; empty if it has not.

        Parameters
        ----------
        row : mapping
            Row of the catalogue.
        fetched : dict
            Document of its raw photometry.

        Returns
        -------
        str
            Old and new position.
        """
        return moved(row, fetched, tolerance_arcsec(self.pars.cone_radius if "cone_radius" in self.pars else None))

    def altered(self, names: Sequence[str]) -> set[str]:
        """Return the sources whose data lie elsewhere now, or are others, than when they were fetched.

        Parameters
        ----------
        names : sequence of str
            Only these sources.

        Returns
        -------
        set of str
            None where only the survey knows.
        """
        if not names or self.origin(names[0]) is None:
            return set()
        return self._of_another_origin(self._storage.known(list(names)))

    def _of_another_origin(self, known: Mapping[str, Document]) -> set[str]:
        origins = {name: self.origin(name) for name in known}
        return {name for name, origin in origins.items() if origin and origin.differs(known[name].get("origin"))}

    def read_otherwise(self, fetched: Document) -> bool:
        """Return whether raw photometry was read from another place, or with other parameters, than it would be now.

        Parameters
        ----------
        fetched : dict
            Document of the raw photometry.

        Returns
        -------
        bool
            False if that is not known.
        """
        origin = self.origin(str(fetched["source_name"]))
        return origin is not None and origin.is_read_otherwise(fetched.get("origin"))

    def _elsewhere(self, rows: Sequence[Row], known: Mapping[str, Document]) -> set[str]:
        """Return the sources whose photometry is that of another position, with a warning."""
        found = {name: self.moved(row, known[name]) for row in rows if (name := str(row["name"])) in known}
        elsewhere = {name: how for name, how in found.items() if how}
        for name, how in list(elsewhere.items())[:MOST_LISTED]:
            log.warning("%s: %s was fetched for the position %s: it is fetched again", name, self.name, how)
        if len(elsewhere) > MOST_LISTED:
            log.warning("%s: %d more sources have moved likewise", self.name, len(elsewhere) - MOST_LISTED)
        return set(elsewhere)

    def fetch(self, rows: Iterable[Row], save: bool = True, **arguments: Any) -> Iterator[tuple[Row, Downloaded]]:
        """Fetch sources concurrently; results come in the order of the sources, after they were stored.

        A failure is recorded with its reason and does not stop other sources. Ten in a row, or a hundred that are most
        of the sources so far, end the download, as the service is then at fault rather than the sources.

        Parameters
        ----------
        rows : iterable of mapping
            Rows of the catalogue.
        save : bool
            Whether data are stored.
        **arguments
            Arguments of the download.

        Yields
        ------
        row : mapping
            Row of the catalogue.
        raw : RawPhotometry or Exception
            The data, or the reason of the failure.

        Raises
        ------
        ArchiveError
            Too many failures.
        """
        rows = list(rows)
        bar, in_a_row, failures = Bar(f"fetch {self.name}"), 0, 0
        results = sliding(lambda row: self.download(row, **arguments), rows, self.pars.num_threads_download)
        done = 0
        while batch := list(islice(results, self.pars.download_batch_size)):
            for row, raw in self._storage.keep(batch) if save else batch:
                done += 1
                failed = isinstance(raw, Exception)
                in_a_row, failures = (in_a_row + 1, failures + 1) if failed else (0, failures)
                if failed:
                    self._fail(row, cast(Exception, raw))
                yield row, raw
                if in_a_row >= MOST_IN_A_ROW or (failures >= MOST_FAILURES and 2 * failures > done):
                    raise ArchiveError(
                        f"{self.name}: {in_a_row} failures in a row, {failures} in all: the download gives up; "
                        f"the last: {raw}"
                    )
            bar.show(done / max(1, len(rows)), f"{done} of {len(rows)} sources, {failures} failed")

    def _fail(self, row: Row, err: Exception) -> None:
        expected = isinstance(err, ArchiveError)
        log.warning("%s: %s: %s", self.name, row["name"], err, exc_info=None if expected else err)
        self.failures_list.append({"name": str(row["name"]), "reason": reason_of(err), "cat_row": dict(row)})

    def forget(self, names: Sequence[str]) -> None:
        """Remove the raw photometry of sources from disk and database."""
        self._storage.forget(names)

    def populate_sources(self, files: str = "*.h5") -> int:
        """Rebuild the database from the raw photometry on disk and return the number of sources.

        Only sources of the catalogue are taken: the files may hold those of other projects. Without a catalogue all
        are, with the names and coordinates of the files. What cannot be read is logged and skipped.
        """
        return self._storage.rebuild(files)

    def retry_failed(self) -> int:
        """Fetch failed sources again and return how many succeeded."""
        rows = [self._row(found["source_name"]) for found in open_surveys().failed(self.name)]
        due = [row for row in rows if row is not None]
        return sum(not isinstance(raw, Exception) for _, raw in self.fetch(due))

    def _row(self, name: str) -> Row | None:
        if self.catalog is not None and name in self.catalog:
            return cast(Row, self.catalog.get_row(name))
        found = next(open_surveys().find("sources", {"_id": name}), None)
        return Source.from_document(found).cat_row if found else None


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "surveys"


@cache
def _common_parameters(pars_class: type[ParsObservatory]) -> frozenset[str]:
    """Return the names of the parameters that a class has from one of this package."""
    ours = next(cls for cls in pars_class.__mro__ if _is_ours(cls))
    return frozenset(ours().to_dict())


def zone_of(row: Row) -> int:
    """Return the RA zone of a source: its right ascension in whole degrees."""
    return ra_zone(float(row["ra"]))
