"""Data of one source in a file: an object knows its file and key, and loads its data at the first access."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError, did_you_mean
from obsarchive.science.astrometry.times import MJD_1970
from surveys.display import card, line
from surveys.formats.hdf5_light_curves import Columns, MissingDataError, PhotometryFile, Record, ra_zone
from surveys.formats.photometry_columns import mjds_of
from surveys.parameters import legalize
from surveys.plots import draw_photometry

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table

HDF5 = (".h5", ".hdf5")


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
    has_units: ClassVar[bool] = False
    """Whether the columns have the units of light curves; those of raw photometry are the survey's."""

    def __init__(
        self,
        data: "pd.DataFrame | Columns | None" = None,
        altdata: Mapping[str, Any] | None = None,
        *,
        source: Any = None,
        observatory: str = "",
        filename: str = "",
        filekey: str = "",
    ) -> None:
        self._data: pd.DataFrame | Columns | None = data
        self._altdata: dict[str, Any] = dict(altdata or {})
        self.observatory = legalize(observatory) if observatory else str(self._altdata.get("observatory") or "")
        self._filename, self._filekey = filename, filekey
        if source is not None:
            facts = source if isinstance(source, Mapping) else vars(source)
            self._altdata |= {key: facts[key] for key in ("name", "ra", "dec") if facts.get(key) is not None}
        if self.observatory:
            self._altdata.setdefault("observatory", self.observatory)
        self.autoload = True
        self.remarks: list[str] = []
        """What a person should know of the data, from their reduction."""

    @property
    def altdata(self) -> dict[str, Any]:
        """Metadata; those in the file are read with the data, if the file exists."""
        if self._data is None and self.autoload and self._has_file():
            with suppress(MissingDataError):  # the key may be gone
                self.load()
        return self._altdata

    @altdata.setter
    def altdata(self, altdata: Mapping[str, Any]) -> None:
        self._altdata = dict(altdata)

    def place(self, ra: float, dec: float) -> None:
        """Set the coordinates of the source [deg]."""
        self._altdata |= {"ra": ra, "dec": dec}

    def _has_file(self) -> bool:
        try:
            return self.get_fullname().is_file()
        except ArchiveError:  # data in memory that belong to no file
            return False

    @property
    def source_name(self) -> str:
        """Name of the source in the catalogue, or the key in a file of the user; empty if it is unknown."""
        return str(self._altdata.get("name") or "")

    @property
    def source_id(self) -> str:
        """Name of the source: the same as `source_name`."""
        return self.source_name

    @property
    def folder(self) -> Path:
        """Folder of the file."""
        raise NotImplementedError

    @property
    def filename(self) -> str:
        """Name of the file: that of the RA zone of the source."""
        if self._filename:
            return self._filename
        if not self.observatory or self._altdata.get("ra") is None:
            raise ArchiveError(
                f"data of {self.source_name or 'no source'} need an observatory and a source to be kept: give "
                "observatory= and source= (with name, ra and dec), or a file of their own by filename="
            )
        return f"{self.observatory}_photometry_RA{ra_zone(float(self._altdata['ra'])):03d}{self.suffix}.h5"

    @property
    def filekey(self) -> str:
        """Key of the data in the file."""
        return self._filekey or self._own_key()

    def _own_key(self) -> str:
        return self.source_name

    @property
    def identifier(self) -> str:
        """Identifier in the database."""
        raise NotImplementedError

    @property
    def id(self) -> str:
        """Identifier in the database: the same as `identifier`."""
        return self.identifier

    def get_fullname(self) -> Path:
        """Return the path of the file."""
        path = Path(self.filename)
        if path.is_absolute():
            return path
        inside = self.folder / path
        # a file that the user names without a folder may lie in the working directory
        return path.absolute() if self._filename and not inside.exists() and path.exists() else inside

    @property
    def data(self) -> "pd.DataFrame":
        """The data as a table; changes to it are written by `save`."""
        import pandas as pd  # late: the portal needs none, and it is large

        self._need()
        if not isinstance(self._data, pd.DataFrame):
            self._data = pd.DataFrame(self._data)
        return self._data

    @data.setter
    def data(self, data: "pd.DataFrame | Columns") -> None:
        self._data = data

    @property
    def columns(self) -> Columns:
        """The data as arrays, by column name."""
        self._need()
        if self._data is None or isinstance(self._data, Mapping):
            return dict(self._data or {})
        return {str(name): self._data[name].to_numpy() for name in self._data}

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
            self._altdata = {**told, **self._altdata}
            self._altdata.setdefault("name", path.stem)
            return
        file = PhotometryFile(path)
        if not self.filekey:
            keys = file.keys()
            if len(keys) != 1:
                raise ArchiveError(f"{path} holds {len(keys)} datasets: select one by filekey= ({', '.join(keys[:5])})")
            self._filekey = keys[0]
        record = file.read(self.filekey)
        # the key of raw photometry is the name of its source
        name = {} if self.suffix else {"name": self._filekey or self.source_name}
        self._data, self._altdata = record.columns, {**name, **self._altdata, **record.altdata}
        self.observatory = self.observatory or str(self._altdata.get("observatory") or "")

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
        import pandas as pd  # late, as above

        start = datetime(1970, 1, 1, tzinfo=UTC)
        return [start + timedelta(days=float(mjd) - MJD_1970) if np.isfinite(mjd) else pd.NaT for mjd in self.mjds]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column.

        Raises
        ------
        KeyError
            There is no such column; the message has the nearest name.
        """
        columns = self.columns
        if name not in columns:
            hint = did_you_mean(str(name), columns) or f"; there is {', '.join(columns)}"
            raise KeyError(f"no column {name!r}{hint}")
        return columns[name]

    def to_table(self) -> "Table":
        """Return the data as a table of astropy, with times as `Time`, and with units if they are known."""
        from surveys.tables import table_of  # late: objects are used without tables of astropy

        return table_of(self, self.has_units)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a copy of the data as a table of pandas."""
        return self.data.copy()

    def _facts(self) -> dict[str, Any]:
        known = None if self._data is None else len(self)
        return {"source": self.source_name, "observatory": self.observatory, "epochs": known, "file": self._filename}

    __repr__ = line
    _repr_html_ = card

    def plot(self, axes: Any = None) -> Any:
        """Draw the data into axes of matplotlib, or those of a new figure, and return the axes."""
        return draw_photometry(self.columns, self.altdata, f"{self.source_name} {self.observatory}", axes)
