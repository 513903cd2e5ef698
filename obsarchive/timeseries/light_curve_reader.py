"""Reading what a reduction left: light curves star by star, without loading the whole table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from obsarchive.core.json_text import parse_json
from obsarchive.errors import ArchiveError
from obsarchive.timeseries.names import RECORD, TABLE, TABLE_PATH

COLUMNS = ("time_bjd_tdb", "flux", "flux_err", "mag", "mag_err", "fwhm", "flags")
STAR_ARCSEC = 1.5
"""A place so close to a star means the star."""


@dataclass(frozen=True)
class StoredCurve:
    """A star's light curve.

    Parameters
    ----------
    star_id : int
        Number of the star; 0 is the target.
    ra_deg, dec_deg : float
        Its position [deg].
    columns : dict of ndarray
        Those of `COLUMNS`, and ``frame``.
    """

    star_id: int
    ra_deg: float
    dec_deg: float
    columns: dict[str, NDArray[Any]]

    def rows(self) -> list[dict[str, Any]]:
        """Return the points one by one, plain; None where there is no value."""
        names = list(self.columns)
        return [
            {name: _plain(value) for name, value in zip(names, row, strict=True)}
            for row in zip(*self.columns.values(), strict=True)
        ]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


class Stored:
    """The table of all stars of a dataset; to be used in a ``with`` block.

    Parameters
    ----------
    folder : Path
        The dataset.

    Raises
    ------
    ArchiveError
        It was not reduced yet, or its table is damaged.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._n_frames = int(parse_json((folder / RECORD).read_bytes())["n_measured"])
            self._file = h5py.File(folder / TABLE, "r")
        except (OSError, ValueError, TypeError, LookupError) as err:
            raise ArchiveError(f"{folder}: not reduced yet, or damaged: {err}") from err
        self._table = self._file[TABLE_PATH]

    def __enter__(self) -> "Stored":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def star(self, star_id: int) -> StoredCurve | None:
        """Return the light curve of a star; None if there is no such star."""
        numbers = self._table["star_id"][:: self._n_frames]
        found = np.flatnonzero(numbers == star_id)
        return self._curve(int(found[0])) if len(found) else None

    def near(self, ra_deg: float, dec_deg: float) -> StoredCurve | None:
        """Return the light curve of the star at a position.

        Parameters
        ----------
        ra_deg, dec_deg : float
            The position [deg].

        Returns
        -------
        StoredCurve or None
            None when no star is within `STAR_ARCSEC`.
        """
        ra, dec = (np.radians(self._table[name][:: self._n_frames]) for name in ("ra", "dec"))
        ra0, dec0 = np.radians(ra_deg), np.radians(dec_deg)
        haversine = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
        distance = 2 * np.degrees(np.arcsin(np.sqrt(haversine))) * 3600
        row = int(np.argmin(distance))
        return self._curve(row) if distance[row] <= STAR_ARCSEC else None

    def _curve(self, row: int) -> StoredCurve:
        cut = slice(row * self._n_frames, (row + 1) * self._n_frames)
        rows = self._table[cut]
        columns = {name: rows[name] for name in (*COLUMNS, "frame")}
        return StoredCurve(int(rows["star_id"][0]), float(rows["ra"][0]), float(rows["dec"][0]), columns)
