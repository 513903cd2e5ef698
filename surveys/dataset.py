"""Datasets on disk: raw photometry as a survey returned it, and the light curves reduced from it.

``DATA_ROOT`` overrides the data folder::

    from surveys import dataset
    dataset.DATA_ROOT = "/path/to/data/folder"
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError
from obsarchive.science.light_curves.light_curve import Baseline, quiescent_level
from surveys.formats.hdf5_light_curves import Columns, checksum
from surveys.formats.photometry_columns import known, map_columns
from surveys.source_data import DatasetMixin

if TYPE_CHECKING:
    import pandas as pd

    from surveys.observatory.origin import Origin

DATA_ROOT: str | Path | None = None
ENVIRONMENT = ("RETRIEVER_DATA", "VO_DATA")
DEFAULT_ROOT = Path("survey_data")
UNIFORM = 0.01
"""Cadence is uniform if steps between epochs differ by less than this fraction."""

Document = dict[str, Any]


def data_root() -> Path:
    """Return the folder of all survey data: ``DATA_ROOT``, the environment variable, or ``survey_data``."""
    named = DATA_ROOT or next((os.environ[name] for name in ENVIRONMENT if os.environ.get(name)), DEFAULT_ROOT)
    return Path(named).expanduser().absolute()


class RawPhotometry(DatasetMixin):
    """Raw photometry as a survey returned it; one for each source and observatory, shared by all projects."""

    origin: "Origin | None" = None
    """Where it was read from, if that is known."""

    @property
    def folder(self) -> Path:
        """Folder of the file: that of the observatory, which all projects share."""
        return data_root() / self.observatory

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
    has_units = True

    def __init__(  # noqa: PLR0913 - what identifies data
        self,
        data: "pd.DataFrame | Columns | None" = None,
        altdata: Mapping[str, Any] | None = None,
        *,
        source: Any = None,
        observatory: str = "",
        project: str = "",
        filename: str = "",
        filekey: str = "",
    ) -> None:
        super().__init__(data, altdata, source=source, observatory=observatory, filename=filename, filekey=filekey)
        self.project = project or str(self._altdata.get("project") or "")
        self.quiescent: Baseline | None = None

    @property
    def folder(self) -> Path:
        """Folder of the file: that of the project."""
        if not self.project:
            raise ArchiveError(f"light curve of {self.source_name}: it belongs to no project, so it has no folder")
        return data_root() / self.project

    def _own_key(self) -> str:
        kind = "simulated" if self.is_simulated else "processed" if self.was_processed else "reduction"
        number = self._altdata.get("simulation_number") if self.is_simulated else self.series_number
        total = self._altdata.get("simulation_total", 1) if self.is_simulated else self.series_total
        return f"{self.source_name}_{kind}_{int(number or 0):02d}_of_{int(total):02d}"

    @property
    def filter(self) -> str:
        """Name of the filter."""
        return str(self._altdata.get("filter") or "")

    @property
    def series_number(self) -> int:
        """Number of the light curve among those of its raw data, from 1."""
        return int(self._altdata.get("series_number", 1))

    @property
    def series_total(self) -> int:
        """Number of light curves made of its raw data."""
        return int(self._altdata.get("series_total", 1))

    @property
    def was_processed(self) -> bool:
        """Whether it has quality flags and scores."""
        return bool(self._altdata.get("was_processed"))

    @property
    def is_simulated(self) -> bool:
        """Whether it contains an injected event."""
        return self._altdata.get("simulation_number") is not None

    def __getitem__(self, chosen: Any) -> Any:
        """Return a column by its name, or a light curve of selected epochs by a mask, indices or a slice."""
        if isinstance(chosen, str):
            return super().__getitem__(chosen)
        epochs = np.atleast_1d(np.arange(len(self))[chosen])
        return self.with_columns({name: values[epochs] for name, values in self.columns.items()})

    def __iter__(self) -> NoReturn:
        raise TypeError("a light curve cannot be iterated over: use a column, as lc['mag'], or lc.to_table()")

    def fold(self, period: Any, epoch: Any = None) -> "Lightcurve":
        """Return the light curve sorted by phase, from 0 to 1, in a column ``phase``.

        Parameters
        ----------
        period : float or Quantity
            Period [d].
        epoch : float, Time or Quantity, optional
            Time of phase 0: MJD or Julian date [d]; None: the first epoch.

        Returns
        -------
        Lightcurve
        """
        from surveys.tables import folded

        return folded(self, period, epoch)

    def bin(self, days: Any) -> "Lightcurve":
        """Return the weighted means of the good epochs in bins of time.

        Parameters
        ----------
        days : float or Quantity
            Width of the bins [d].

        Returns
        -------
        Lightcurve
            Without empty bins; with a column ``n_epochs``.
        """
        from surveys.tables import in_bins

        return in_bins(self, days)

    def to_lightkurve(self) -> Any:
        """Return the light curve as one of the package lightkurve, which must be installed."""
        from surveys.tables import lightkurve_of

        return lightkurve_of(self)

    def _facts(self) -> dict[str, Any]:
        facts = {**super()._facts(), "filter": self.filter, "project": self.project, "series": self._series()}
        if self._data is None or not len(self) or "mjd" not in self.columns:
            return facts
        mjd, mag = self.columns["mjd"], self.columns.get("mag", np.empty(0))
        facts["mjd"] = f"{np.nanmin(mjd):.2f} to {np.nanmax(mjd):.2f}"
        facts["mag"] = f"{np.nanmedian(mag):.2f}" if np.isfinite(mag).any() else None
        return facts

    def _series(self) -> str:
        kind = " with an injected event" if self.is_simulated else " with scores" if self.was_processed else ""
        return f"{self.series_number} of {self.series_total}{kind}"

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
            "simulation_number": self._altdata.get("simulation_number"),
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
