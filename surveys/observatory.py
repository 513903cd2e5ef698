"""Virtual observatories: where photometry comes from, and how it becomes light curves.

Whoever adds a survey subclasses `VirtualObservatory` and says how its data are fetched::

    class VirtualMine(VirtualObservatory):
        name = "MINE"

        def fetch_data_from_observatory(self, cat_row, **kwargs):
            return data_frame, {"exptime": 30.0, "filter": "r"}

and, if the way of the base class does not fit, how they are reduced (`reduce_photometry`).
"""

import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from obsarchive.config_types import Secret
from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.polite import PoliteClient
from obsarchive.progress import Bar
from obsarchive.science.lightcurve import seasons
from obsarchive.science.sphere import offsets_arcsec
from surveys.columns import standard_photometry
from surveys.database import open_surveys
from surveys.dataset import Document, Lightcurve, RawPhotometry, data_root, raw_identity
from surveys.fetching import sliding
from surveys.parameters import Configured, Parameters, legalize
from surveys.source import Source
from surveys.storage import Columns, Damaged, PhotometryFile, Record, ra_degree

log = logging.getLogger(__name__)

Fetched = tuple[pd.DataFrame | Columns | None, dict[str, Any]]
Row = Mapping[str, Any]
MOST_IN_A_ROW, MOST_FAILURES = 10, 100
"""Failures after which a download gives up: the service is gone, or something is wrong with all sources."""
RADIUS_AROUND_ARCSEC = 30.0


class ParsObservatory(Parameters):
    """Parameters of an observatory."""

    default_cfg_key = "observatories"

    def __init__(self, **kwargs: Any) -> None:
        self._siblings = {str(name).upper() for name in kwargs.pop("_siblings", ())}
        self._name = str(kwargs.pop("_name", "")).upper()
        super().__init__(**kwargs)
        add = self.add_par
        self.obs_module = add("obs_module", None, (None, str), "module of the class of the observatory")
        self.obs_class = add("obs_class", None, (None, str), "class of the observatory")
        self.reducer = add("reducer", {}, dict, "arguments of the reduction, such as gap and radius")
        self.add_alias("reduce_kwargs", "reducer")
        self.num_threads_download = add(
            "num_threads_download", 4, int, "downloads side by side; 0: one after the other", critical=False
        )
        self.download_batch_size = add(
            "download_batch_size", 100, int, "sources that are written together and kept in memory", critical=False
        )
        self.download_pars = add("download_pars", {}, dict, "arguments of the download")
        self.add_alias("download_args", "download_pars")
        self.check_download_pars = add(
            "check_download_pars", False, bool, "fetch again what was fetched with other arguments", critical=False
        )
        self.base_url = add("base_url", "", str, "address of the service", critical=False)
        self.rate_limit = add("rate_limit", 5.0, float, "largest rate of questions; 0: no limit", False, unit="1/s")
        self.timeout = add("timeout", 60.0, float, "longest silence of the service", critical=False, unit="s")
        self.max_tries = add("max_tries", 6, int, "how often a question is asked", critical=False)
        self.empty_expires = add(
            "empty_expires", 90.0, float, "sources without data are asked for again after", critical=False, unit="d"
        )
        self.credentials = add(
            "credentials", {}, dict, "username and password: {env: NAME} or {file: path}", False, secret=True
        )

    def section(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return what a file says for all observatories, then for this one."""
        own: dict[str, Any] = {}
        for key, value in values.items():
            name = str(key).upper()
            if name == self._name:
                own |= value
            elif name not in self._siblings:
                own = {key: value, **own}
        for name, value in own.get("credentials", {}).items():
            if name != "username" and not isinstance(value, Mapping):
                raise ConfigError(f"observatories: credentials: {name}: write {{env: NAME}} or {{file: path}}, no secret")
        return own


class VirtualObservatory(Configured):
    """A survey.

    Parameters
    ----------
    name : str, optional
        Name of the survey; in upper case it names its folder.
    **kwargs
        Parameters; see ``describe()`` of its `pars`.
    """

    pars_class = ParsObservatory
    name: str = ""
    filter_names: ClassVar[Mapping[str, str]] = {}
    """Filters as light curves have them, by the names that the survey uses."""

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        self.name = legalize(name or self.name or type(self).__name__)
        super().__init__(**kwargs, _name=self.name)
        self.catalog: Any = None
        self.output_folder = ""
        self.sources: deque[Source] = deque(maxlen=self.pars.download_batch_size)
        self.raw_data: deque[RawPhotometry] = deque(maxlen=self.pars.download_batch_size)
        self.failures_list: list[dict[str, Any]] = []
        self._client: PoliteClient | None = None

    @property
    def datasets(self) -> deque[RawPhotometry]:
        """The raw data that were fetched last."""
        return self.raw_data

    def _complete(self) -> None:
        super()._complete()
        self._check_arguments(self.pars.reducer, self.reduce_photometry, "reducer")
        self._check_arguments(self.pars.download_pars, self.fetch_data_from_observatory, "download_pars")

    def _check_arguments(self, given: Mapping[str, Any], method: Callable[..., Any], where: str) -> None:
        """Refuse what a method does not know, before the first source is touched."""
        known = inspect.signature(method).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()) and where != "reducer":
            return
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise ConfigError(
                    f"{self.name}: {where}: unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
                )

    def __getstate__(self) -> dict[str, Any]:
        # workers reduce: they need neither the catalogue, nor a connection, nor secrets
        state = self.__dict__ | {"catalog": None, "_client": None, "sources": deque(), "raw_data": deque()}
        state["pars"] = self.pars.copy()
        state["pars"].credentials = {}
        return state

    @property
    def client(self) -> PoliteClient:
        """The connection to the service."""
        if self._client is None:
            pars = self.pars
            self._client = PoliteClient(self.name, pars.base_url, pars.rate_limit, pars.timeout, pars.max_tries)
        return self._client

    def secret(self, name: str) -> str:
        """Return a part of the credentials; empty if it is not given.

        Raises
        ------
        ConfigError
            The variable or file that should hold it does not.
        """
        given = self.pars.credentials.get(name)
        if given is None or isinstance(given, str):
            return given or ""
        try:
            found = TypeAdapter(Secret).validate_python(given)
        except ValidationError as err:
            raise ConfigError(f"{self.name}: credentials: {name}: {err.errors()[0]['ctx']['error']}") from err
        return found.get_secret_value() if found else ""

    # fetching

    def fetch_data_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:
        """Return the data of a source as the survey gives them, and what is known beside them.

        Parameters
        ----------
        cat_row : mapping
            ``name``, ``ra``, ``dec`` [deg], ``mag`` and what else the catalogue says.
        **kwargs
            ``download_pars``.

        Returns
        -------
        (DataFrame or dict of ndarray or None, dict)
            Data (None: there are none), and e.g. ``exptime`` [s], ``filter``, ``time_scale``, ``zero_point``.
        """
        if type(self).download_from_observatory is not VirtualObservatory.download_from_observatory:
            return self.download_from_observatory(cat_row, **kwargs)
        raise NotImplementedError(f"{type(self).__name__} does not say how data are fetched: define this method")

    def download_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:
        """Do what `fetch_data_from_observatory` does, under its other name."""
        return self.fetch_data_from_observatory(cat_row, **kwargs)

    def download(self, cat_row: Row, **download_args: Any) -> RawPhotometry:
        """Fetch the raw data of a source; nothing is kept."""
        arguments = {**self.pars.download_pars, **download_args}
        data, altdata = self.fetch_data_from_observatory(cat_row, **arguments)
        facts = {"ra": float(cat_row["ra"]), "dec": float(cat_row["dec"]), "mag": cat_row.get("mag"), **altdata}
        facts |= {"name": str(cat_row["name"]), "observatory": self.name, "download_pars": arguments}
        return RawPhotometry({} if data is None else data, facts, observatory=self.name)

    def fetch_source(self, source: Source | Row, save: bool = True, **download_args: Any) -> RawPhotometry:
        """Return the raw data of a source: those that are kept, else what the survey gives.

        Parameters
        ----------
        source : Source or mapping
            A source, or a row of a catalogue.
        save : bool
            Whether what is fetched is kept.
        """
        row = source.cat_row if isinstance(source, Source) else source
        done = self.missing([row])
        if not done:
            kept = open_surveys().find("raw_photometry", raw_identity(self.name, str(row["name"])))
            raw = RawPhotometry.from_document(next(kept))
            raw.load()
            return raw
        raw = self.download(row, **download_args)
        if save:
            self._keep([(row, raw)])
        return raw

    def fetch_all_sources(  # noqa: PLR0913 - as users call it
        self,
        start: int = 0,
        stop: int | None = None,
        save: bool = True,
        reduce: bool = False,
        download_args: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
    ) -> int:
        """Fetch the raw data of the sources of the catalogue that are not there yet.

        Parameters
        ----------
        start, stop : int, optional
            Range of the catalogue.
        save : bool
            Whether data are kept; without, every source of the range is fetched.
        reduce : bool
            Whether light curves are made and kept at once.
        download_args : mapping, optional
            Arguments of the download.
        retry_failed : bool
            Whether sources that failed before are tried again.

        Returns
        -------
        int
            Sources that were fetched.
        """
        if self.catalog is None:
            raise ConfigError(f"{self.name} has no catalogue: set its attribute catalog, or use the observatory of a project")
        rows = [self.catalog.get_row(i) for i in range(start, min(stop or len(self.catalog), len(self.catalog)))]
        due = self.missing(rows, retry_failed) if save else rows
        made = 0
        for row, raw in self.fetch(due, save, **(download_args or {})):
            if isinstance(raw, Exception):
                continue
            made += 1
            self.sources.append(Source.from_row(row, self.output_folder))
            self.raw_data.append(raw)
            if reduce:
                for curve in self.reduce(raw):
                    curve.save()
        return made

    download_all_sources = fetch_all_sources

    def missing(self, rows: Sequence[Row], retry_failed: bool = False) -> list[Row]:
        """Return the sources that are to be fetched: unknown ones, empty ones that expired, failed ones if wished.

        A source that the database knows but whose file is gone is to be fetched, too.
        """
        surveys, now = open_surveys(), datetime.now(UTC)
        fields = ["source_name", "state", "expires", "filename", "filekey", "download_pars"]
        known = {
            found["source_name"]: found
            for found in surveys.named("raw_photometry", [str(row["name"]) for row in rows], {"observatory": self.name}, fields)
        }
        keys: dict[str, set[str]] = {}

        def is_due(found: Document | None) -> bool:
            if found is None or found["state"] == "failed":
                return found is None or retry_failed
            if found["state"] == "empty" and found.get("expires") and found["expires"] < now:
                return True
            if self.pars.check_download_pars and found.get("download_pars") != self.pars.download_pars:
                return True
            file = PhotometryFile(data_root() / self.name / found["filename"])
            if found["filename"] not in keys:
                keys[found["filename"]] = set(file.keys())
            return found["filekey"] not in keys[found["filename"]]

        return [row for row in rows if is_due(known.get(str(row["name"])))]

    def fetch(self, rows: Iterable[Row], save: bool = True, **arguments: Any) -> Iterator[tuple[Row, RawPhotometry | Exception]]:
        """Fetch sources side by side and yield them in their order, after they are kept.

        A failure of one stops no other: it is noted with its reason. Ten in a row, or a hundred in all, end the
        download: then it is not the sources.

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
            if save:
                self._keep(batch)
            for row, raw in batch:
                done += 1
                failed = isinstance(raw, Exception)
                in_a_row, failures = (in_a_row + 1, failures + 1) if failed else (0, failures)
                if failed:
                    self._fail(row, cast(Exception, raw))
                yield row, raw
                if in_a_row >= MOST_IN_A_ROW or failures >= MOST_FAILURES:
                    raise ArchiveError(
                        f"{self.name}: {in_a_row} failures in a row, {failures} in all: the download gives up; the last: {raw}"
                    )
            bar.show(done / max(1, len(rows)), f"{done} of {len(rows)} sources, {failures} failed")

    def _fail(self, row: Row, err: Exception) -> None:
        expected = isinstance(err, ArchiveError)
        log.warning("%s: %s: %s", self.name, row["name"], err, exc_info=None if expected else err)
        self.failures_list.append({"name": str(row["name"]), "reason": reason_of(err), "cat_row": dict(row)})

    def _keep(self, batch: Sequence[tuple[Row, RawPhotometry | Exception]]) -> None:
        """Write a batch: the files first, then the database, so that what it knows is there."""
        expires = datetime.now(UTC) + timedelta(days=self.pars.empty_expires)
        files: dict[str, dict[str, Record]] = {}
        documents: list[Document] = []
        for row, raw in batch:
            if isinstance(raw, Exception):
                known = raw_identity(self.name, str(row["name"]))
                facts = {"state": "failed", "reason": reason_of(raw), "fetched": datetime.now(UTC), "checksum": None}
                documents.append({**known, **facts})
                continue
            files.setdefault(raw.filename, {})[raw.filekey] = raw.record
            documents.append({**raw.document(expires), "download_pars": raw.altdata.get("download_pars", {})})
        for name, records in files.items():
            PhotometryFile(data_root() / self.name / name).write(records)
        open_surveys().save_raw(documents)

    def retry_failed(self) -> int:
        """Fetch again what failed before; returns how many came."""
        rows = [self._row(found["source_name"]) for found in open_surveys().failed(self.name)]
        due = [row for row in rows if row is not None]
        return sum(not isinstance(raw, Exception) for _, raw in self.fetch(due))

    def _row(self, name: str) -> Row | None:
        if self.catalog is not None and name in self.catalog:
            return cast(Row, self.catalog.get_row(name))
        found = next(open_surveys().find("sources", {"_id": name}), None)
        return Source.from_document(found).cat_row if found else None

    def forget(self, names: Sequence[str]) -> None:
        """Remove the raw photometry of sources from disk and database."""
        surveys = open_surveys()
        files: dict[str, list[str]] = {}
        found = surveys.named("raw_photometry", names, {"observatory": self.name}, ["filename", "filekey"])
        for raw in found:
            if raw.get("filename"):
                files.setdefault(raw["filename"], []).append(raw["filekey"])
        for filename, keys in files.items():
            PhotometryFile(data_root() / self.name / filename).remove(keys)
        surveys.delete("raw_photometry", [raw["_id"] for raw in found])

    def populate_sources(self, files: str = "*.h5") -> int:
        """Fill the database from the raw data on disk; returns how many sources were found.

        Sources are taken from the catalogue where it knows their names, else as the files know them. What cannot be
        read is logged and left alone.
        """
        surveys, n_found = open_surveys(), 0
        for path in sorted((data_root() / self.name).glob(files)):
            file = PhotometryFile(path)
            try:
                found = list(file.read_many(file.keys()))
            except Damaged as err:
                log.warning("%s", err)
                continue
            good: list[RawPhotometry] = []
            for key, record in found:
                if isinstance(record, ArchiveError):
                    log.warning("%s", record)
                else:
                    facts = {"name": key, **record.altdata}
                    good.append(RawPhotometry(record.columns, facts, observatory=self.name, filename=path.name, filekey=key))
            expires = datetime.now(UTC) + timedelta(days=self.pars.empty_expires)
            surveys.save_raw([raw.document(expires) for raw in good])
            surveys.register((self._source_of(raw).document() for raw in good), self.output_folder or self.name)
            n_found += len(good)
        return n_found

    def _source_of(self, raw: RawPhotometry) -> Source:
        if self.catalog is not None and raw.source_name in self.catalog:
            return Source.from_row(self.catalog.get_row(raw.source_name))
        return Source(raw.source_name, raw.altdata["ra"], raw.altdata["dec"], raw.altdata.get("mag"))

    # reducing

    def reduce(
        self, dataset: Source | RawPhotometry, data_type: str = "photometry", to: str | None = None, **kwargs: Any
    ) -> list[Lightcurve]:
        """Make light curves of raw data, one for each filter and season; they are not kept.

        Parameters
        ----------
        dataset : RawPhotometry or Source
            Raw data, or the source whose raw data are meant.
        data_type : str
            ``photometry``; another type needs a method ``reduce_<type>``.
        to : str, optional
            ``lcs``: the same as photometry, as older scripts have it.
        **kwargs
            Arguments of the reduction; they win over those of ``pars.reducer``.

        Raises
        ------
        ConfigError
            An unknown argument, or a type that nobody can reduce.
        Unprocessable
            Data without times or without brightness.
        """
        raw = dataset.raw_photometry[self.name] if isinstance(dataset, Source) else dataset
        kind = "photometry" if to in ("lcs", "lightcurves") else to or data_type
        method = getattr(self, f"reduce_{kind}", None)
        if method is None:
            raise ConfigError(f"{self.name} cannot reduce {kind!r}: there is no method reduce_{kind}")
        arguments = {**self.pars.reducer, **kwargs}
        self._check_arguments(arguments, method, "reducer")
        curves = [] if raw.is_empty else method(raw, **arguments)
        for number, curve in enumerate(curves, 1):
            curve.altdata |= {"series_number": number, "series_total": len(curves)}
        return cast(list[Lightcurve], curves)

    def reduce_photometry(  # noqa: PLR0913 - its arguments are those that users set
        self,
        dataset: RawPhotometry,
        gap: float = 40.0,
        radius: float = 0.0,
        mag_range: float = 0.0,
        drop_flagged: bool = False,
        drop_bad: bool = False,
    ) -> list[Lightcurve]:
        """Split raw photometry by filter and season.

        Parameters
        ----------
        dataset : RawPhotometry
            Raw data.
        gap : float
            A season ends where nothing was observed for so long [d]; 0: all is one season.
        radius : float
            Epochs farther than this from the place of the source go [arcsec]; 0: all stay.
        mag_range : float
            A light curve whose median differs by more than this from the catalogue's magnitude goes [mag]; 0: all stay.
        drop_flagged, drop_bad : bool
            Epochs that the survey flagged go (they are marked, not dropped, otherwise).
        """
        columns = self.standard_columns(dataset)
        keep = np.isfinite(columns["flux"]) | np.isfinite(columns["mag"])
        if radius > 0 and dataset.altdata.get("ra") is not None and np.isfinite(columns["ra"]).any():
            place = float(dataset.altdata["ra"]), float(dataset.altdata["dec"])
            east, north = offsets_arcsec(columns["ra"], columns["dec"], place)
            keep &= ~(np.hypot(east, north) > radius)
        if drop_flagged or drop_bad:
            keep &= ~columns["flag"]
        return self.split(dataset, columns, keep, gap, mag_range)

    def standard_columns(self, dataset: RawPhotometry) -> Columns:
        """Return raw photometry in the columns of light curves."""
        return standard_photometry(dataset.columns, dataset.altdata)

    def split(
        self, dataset: RawPhotometry, columns: Columns, keep: np.ndarray, gap: float, mag_range: float = 0.0
    ) -> list[Lightcurve]:
        """Return a light curve for each filter and season of the epochs that are kept."""
        curves = []
        names = columns["filter"]
        for name in np.unique(names[keep]).tolist():
            chosen = np.flatnonzero(keep & (names == name))
            mjd = columns["mjd"][chosen]
            for season in seasons(mjd, gap) if gap > 0 else [slice(None)]:
                own = {key: _compact(key, values[chosen[season]]) for key, values in columns.items() if key != "filter"}
                if mag_range > 0 and not _is_about(own["mag"], dataset.altdata.get("mag"), mag_range):
                    continue
                curves.append(self.lightcurve(dataset, own, self.filter_names.get(name, name)))
        return curves

    def lightcurve(self, dataset: RawPhotometry, columns: Columns, filter_name: str) -> Lightcurve:
        """Return a light curve of raw data, with what it inherits."""
        inherited = {key: dataset.altdata[key] for key in ("name", "ra", "dec", "mag") if key in dataset.altdata}
        facts = {**inherited, "observatory": self.name, "filter": filter_name, "project": self.output_folder}
        return Lightcurve(columns, facts, observatory=self.name, project=self.output_folder)


def _compact(name: str, values: np.ndarray) -> np.ndarray:
    """Return a column with the digits that it needs: times and places in double precision, brightness in single."""
    return values.astype(np.float32) if values.dtype == np.float64 and name not in ("mjd", "ra", "dec") else values


def _is_about(mag: np.ndarray, expected: Any, mag_range: float) -> bool:
    known = mag[np.isfinite(mag)]
    return expected is None or not known.size or abs(float(np.median(known)) - float(expected)) <= mag_range


def reason_of(err: Exception) -> str:
    """Return what went wrong, in words."""
    return str(err) if isinstance(err, ArchiveError) else f"{type(err).__name__}: {err}"


def bin_of(row: Row) -> int:
    """Return the degree of right ascension of a source."""
    return ra_degree(float(row["ra"]))
