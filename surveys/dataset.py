"""Datasets on disk: raw photometry as a survey returned it, and the light curves reduced from it.

An object knows its file and key and loads its data at the first access. ``DATA_ROOT`` overrides the data folder::

    from surveys import dataset
    dataset.DATA_ROOT = "/path/to/data/folder"
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError
from obsarchive.science.astrometry.times import MJD_1970
from obsarchive.science.light_curves.light_curve import Baseline, quiescent_level
from surveys.formats.hdf5_light_curves import Columns, PhotometryFile, Record, checksum, ra_zone
from surveys.formats.photometry_columns import known, map_columns, mjds_of
from surveys.parameters import legalize
from surveys.plots import draw_photometry

DATA_ROOT: str | Path | None = None
ENVIRONMENT = ("RETRIEVER_DATA", "VO_DATA")
DEFAULT_ROOT = Path("survey_data")
HDF5 = (".h5", ".hdf5")
UNIFORM = 0.01
"""Cadence is uniform if steps between epochs differ by less than this fraction."""

Document = dict[str, Any]


def data_root() -> Path:
    """Return the folder of all survey data: ``DATA_ROOT``, the environment variable, or ``survey_data``."""
    named = DATA_ROOT or next((os.environ[name] for name in ENVIRONMENT if os.environ.get(name)), DEFAULT_ROOT)
    return Path(named).expanduser().absolute()


class DatasetMixin:
    """Data of a source in a file.

    Parameters
    ----------
    data : DataFrame or dict of ndarray, optional
        The data; loaded from the file if they are not given.
    altdata : mapping, optional
        Metadata.
    source : object, optional
        A source (or a row of a catalogue) with its name and coordinates.
    observatory : str, optional
        Name of the observatory.
    filename, filekey : str, optional
        File and key, if they do not follow from the source.
    """

    suffix: ClassVar[str] = ""

    def __init__(
        self,
        data: pd.DataFrame | Columns | None = None,
        altdata: Mapping[str, Any] | None = None,
        *,
        source: Any = None,
        observatory: str = "",
        filename: str = "",
        filekey: str = "",
    ) -> None:
        self._data: pd.DataFrame | Columns | None = data
        self.altdata: dict[str, Any] = dict(altdata or {})
        self.observatory = legalize(observatory) if observatory else str(self.altdata.get("observatory") or "")
        self._filename, self._filekey = filename, filekey
        if source is not None:
            facts = source if isinstance(source, Mapping) else vars(source)
            self.altdata |= {key: facts[key] for key in ("name", "ra", "dec") if facts.get(key) is not None}
        if self.observatory:
            self.altdata.setdefault("observatory", self.observatory)
        self.autoload = True
        self.remarks: list[str] = []
        """What a person should know of the data, from their reduction."""

    @property
    def source_name(self) -> str:
        """Name of the source in the catalogue; empty if it is unknown."""
        return str(self.altdata.get("name") or "")

    @property
    def folder(self) -> Path:
        """Folder of the file."""
        return data_root() / self.observatory

    @property
    def filename(self) -> str:
        """Name of the file: that of the RA zone of the source."""
        if self._filename:
            return self._filename
        if not self.observatory or self.altdata.get("ra") is None:
            raise ArchiveError(f"data of {self.source_name or 'no source'} need an observatory and a source to be kept")
        return f"{self.observatory}_photometry_RA{ra_zone(float(self.altdata['ra'])):03d}{self.suffix}.h5"

    @property
    def filekey(self) -> str:
        """Key of the data in the file."""
        return self._filekey or self._own_key()

    def _own_key(self) -> str:
        return self.source_name

    def get_fullname(self) -> Path:
        """Return the path of the file."""
        path = Path(self.filename)
        if path.is_absolute():
            return path
        inside = self.folder / path
        # a file that the user names without a folder may lie in the working directory
        return path.absolute() if self._filename and not inside.exists() and path.exists() else inside

    @property
    def data(self) -> pd.DataFrame:
        """The data as a table; changes to it are written by `save`."""
        self._need()
        if not isinstance(self._data, pd.DataFrame):
            self._data = pd.DataFrame(self._data)
        return self._data

    @data.setter
    def data(self, data: pd.DataFrame | Columns) -> None:
        self._data = data

    @property
    def columns(self) -> Columns:
        """The data as arrays, by column name."""
        self._need()
        if isinstance(self._data, pd.DataFrame):
            return {str(name): self._data[name].to_numpy() for name in self._data}
        return dict(self._data or {})

    def _need(self) -> None:
        if self._data is None:
            if not self.autoload:
                raise ArchiveError(f"{self.get_fullname()}: the data were not loaded: call load()")
            self.load()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @property
    def is_empty(self) -> bool:
        """Whether the survey has no data of this source."""
        return len(self) == 0

    @property
    def record(self) -> Record:
        """The data as they are stored."""
        return Record(self.columns, self.altdata)

    def load(self) -> None:
        """Read the data from the file again.

        Raises
        ------
        MissingDataError
            There is no such file or key.
        CorruptFileError
            The file is damaged.
        ArchiveError
            The file has several keys and none was given.
        """
        path = self.get_fullname()
        if path.suffix not in HDF5:
            from surveys.formats.light_curve_files import read_raw_light_curve  # late: for the libraries of formats

            self._data, told = read_raw_light_curve(path)
            self.altdata = {**told, **self.altdata}
            return
        file = PhotometryFile(path)
        if not self.filekey:
            keys = file.keys()
            if len(keys) != 1:
                raise ArchiveError(f"{path} holds {len(keys)} datasets: select one by filekey= ({', '.join(keys[:5])})")
            self._filekey = keys[0]
        record = file.read(self.filekey)
        self._data, self.altdata = record.columns, {**self.altdata, **record.altdata}
        self.observatory = self.observatory or str(self.altdata.get("observatory") or "")

    def save(self, overwrite: bool = True) -> None:
        """Write the data to the file.

        Parameters
        ----------
        overwrite : bool
            Whether existing data of this key are replaced.

        Raises
        ------
        ArchiveError
            `overwrite` is false and the key exists; or the file is of a format that is for export only.
        """
        path = self.get_fullname()
        if path.suffix not in HDF5:
            raise ArchiveError(f"{path}: data are kept in HDF5; write other formats by surveys.export")
        file = PhotometryFile(path)
        if not overwrite and self.filekey in set(file.keys()):
            raise ArchiveError(f"{path} holds {self.filekey!r} already: set overwrite=True to replace it")
        file.write({self.filekey: self.record})

    def delete_data_from_disk(self) -> None:
        """Remove the data from the file, and the file if it is empty then."""
        PhotometryFile(self.get_fullname()).remove([self.filekey])

    @property
    def mjds(self) -> NDArray[np.float64]:
        """Times of the epochs in the order of the data, modified Julian dates [d, UTC]; NaN where there is none."""
        return np.empty(0) if self.is_empty else mjds_of(self.columns, self.altdata)

    @property
    def times(self) -> list[datetime]:
        """Times of the epochs in the order of the data; NaT where there is none."""
        start = datetime(1970, 1, 1, tzinfo=UTC)
        return [start + timedelta(days=float(mjd) - MJD_1970) if np.isfinite(mjd) else pd.NaT for mjd in self.mjds]

    def plot(self, axes: Any = None) -> Any:
        """Draw the data into axes of matplotlib, or those of a new figure, and return the axes."""
        return draw_photometry(self.columns, self.altdata, f"{self.source_name} {self.observatory}", axes)


class RawPhotometry(DatasetMixin):
    """Raw photometry as a survey returned it; one for each source and observatory, shared by all projects."""

    @property
    def filters(self) -> list[str]:
        """Filters of the epochs."""
        column = map_columns(list(self.columns), self.altdata).names.get("filter")
        values = self.columns[column].tolist() if column else [self.altdata.get("filter") or ""]
        return sorted({str(value) for value in values})

    @property
    def identifier(self) -> str:
        """Identifier in the database."""
        return str(raw_identity(self.observatory, self.source_name)["_id"])

    def document(self, expires: datetime | None = None) -> Document:
        """Return the document for the database; `expires` is when empty data are requested again."""
        return {
            **raw_identity(self.observatory, self.source_name),
            "state": "empty" if self.is_empty else "good",
            "filename": self.filename,
            "filekey": self.filekey,
            "number": len(self),
            "filters": [] if self.is_empty else self.filters,
            "checksum": checksum(self.record),
            "place": self._place(),
            "fetched": datetime.now(UTC),
            "expires": expires if self.is_empty else None,
            "reason": "",
        }

    def _place(self) -> list[float | None] | None:
        """Return the position for which it was fetched: ra, dec [deg], pmra, pmdec [mas/yr]."""
        facts = self.altdata
        if facts.get("ra") is None or facts.get("dec") is None:
            return None
        return list(facts.get("place") or (facts["ra"], facts["dec"], None, None))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the object of a document; its data are loaded at the first access."""
        return cls(
            altdata={"name": document["source_name"]},
            observatory=document["observatory"],
            filename=document.get("filename", ""),
            filekey=document.get("filekey", ""),
        )


def raw_identity(observatory: str, name: str) -> Document:
    """Return the fields that identify raw photometry in the database.

    Parameters
    ----------
    observatory : str
        Name of the observatory.
    name : str
        Name of the source.

    Returns
    -------
    dict
        ``_id``, ``observatory`` and ``source_name``.
    """
    return {"_id": f"{observatory}/{name}", "observatory": observatory, "source_name": name}


class Lightcurve(DatasetMixin):
    """Light curve: photometry of one source in one filter, usually of one season.

    Columns: mjd [d], exptime [s], ra, dec [deg], flux, flux_err [µJy], mag, mag_err, flag; after analysis also qflag,
    offset [arcsec], snr and dmag [mag]. Brighter is positive in snr and dmag.

    Parameters
    ----------
    data, altdata, source, observatory, filename, filekey
        As of `DatasetMixin`.
    project : str
        Folder of the project's results.
    """

    suffix = "_reduced"

    def __init__(  # noqa: PLR0913 - what identifies data
        self,
        data: pd.DataFrame | Columns | None = None,
        altdata: Mapping[str, Any] | None = None,
        *,
        source: Any = None,
        observatory: str = "",
        project: str = "",
        filename: str = "",
        filekey: str = "",
    ) -> None:
        super().__init__(data, altdata, source=source, observatory=observatory, filename=filename, filekey=filekey)
        self.project = project or str(self.altdata.get("project") or "")
        self.quiescent: Baseline | None = None

    @property
    def folder(self) -> Path:
        """Folder of the file: that of the project."""
        if not self.project:
            raise ArchiveError(f"light curve of {self.source_name}: it belongs to no project, so it has no folder")
        return data_root() / self.project

    def _own_key(self) -> str:
        kind = "simulated" if self.is_simulated else "processed" if self.was_processed else "reduction"
        number = self.altdata.get("simulation_number") if self.is_simulated else self.series_number
        total = self.altdata.get("simulation_total", 1) if self.is_simulated else self.series_total
        return f"{self.source_name}_{kind}_{int(number or 0):02d}_of_{int(total):02d}"

    @property
    def filter(self) -> str:
        """Name of the filter."""
        return str(self.altdata.get("filter") or "")

    @property
    def series_number(self) -> int:
        """Number of the light curve among those of its raw data, from 1."""
        return int(self.altdata.get("series_number", 1))

    @property
    def series_total(self) -> int:
        """Number of light curves made of its raw data."""
        return int(self.altdata.get("series_total", 1))

    @property
    def was_processed(self) -> bool:
        """Whether it has quality flags and scores."""
        return bool(self.altdata.get("was_processed"))

    @property
    def is_simulated(self) -> bool:
        """Whether it contains an injected event."""
        return self.altdata.get("simulation_number") is not None

    @property
    def good(self) -> NDArray[np.bool_]:
        """Mask (n,) of the epochs with a finite flux and no flag."""
        columns = self.columns
        bad = columns.get("qflag", columns.get("flag"))
        finite = np.isfinite(columns["flux"])
        return finite if bad is None else finite & ~bad.astype(bool)

    @property
    def level(self) -> Baseline:
        """Quiescent level of the flux."""
        return quiescent_level(self.columns["flux"], self.good)

    def with_columns(self, columns: Columns, **altdata: Any) -> Self:
        """Return a copy with other columns and metadata.

        Parameters
        ----------
        columns : dict of str to ndarray (n,)
            All columns of the copy.
        **altdata
            Metadata to add or replace.

        Returns
        -------
        Lightcurve
        """
        return type(self)(columns, {**self.altdata, **altdata}, observatory=self.observatory, project=self.project)

    @property
    def identifier(self) -> str:
        """Identifier in the database."""
        return f"{self.project}/{self.observatory}/{self.filekey}"

    def document(self, cfg_hash: str = "") -> Document:
        """Return the document for the database; `cfg_hash` is the hash of the configuration."""
        columns, level = self.columns, self.level
        mjd = columns["mjd"]
        low, middle, high = np.percentile(np.diff(mjd), (5, 50, 95)) if len(mjd) > 1 else (np.nan,) * 3
        mag = columns["mag"][np.isfinite(columns["mag"])]
        return {
            "_id": self.identifier,
            "run": self.project,
            "source_name": self.source_name,
            "observatory": self.observatory,
            "filter": self.filter,
            "series_number": self.series_number,
            "series_total": self.series_total,
            "was_processed": self.was_processed,
            "simulation_number": self.altdata.get("simulation_number"),
            "filename": self.filename,
            "filekey": self.filekey,
            "number": len(mjd),
            "mjd_start": known(mjd[0]) if len(mjd) else None,
            "mjd_stop": known(mjd[-1]) if len(mjd) else None,
            "cadence_d": known(middle),
            "is_uniform": bool(high - low < UNIFORM * middle),
            "mag": known(np.median(mag)) if mag.size else None,
            "flux_mean": known(level.mean),
            "flux_rms": known(level.rms),
            "cfg_hash": cfg_hash,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the object of a document; its data are loaded at the first access."""
        facts = ("filter", "series_number", "series_total", "was_processed", "simulation_number")
        altdata = {"name": document["source_name"], **{key: document[key] for key in facts if key in document}}
        return cls(
            altdata=altdata,
            observatory=document["observatory"],
            project=document["run"],
            filename=document["filename"],
            filekey=document["filekey"],
        )
