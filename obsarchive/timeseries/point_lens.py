"""Light curves for point-lens fits: those of reduced datasets, and plain text files."""

import re
from pathlib import Path

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float64Array
from obsarchive.science.astrometry.times import JD_OF_MJD
from obsarchive.science.light_curves.point_lens_model import Photometry
from obsarchive.science.photometry.zero_point import INSTRUMENTAL
from obsarchive.timeseries.ensemble import UNUSABLE
from obsarchive.timeseries.light_curve_reader import Stored, StoredCurve

TARGET = 0
JD_OF_SHORT = 2_450_000.0
HEAD_BYTES = 16_384
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?|nan", re.IGNORECASE)
COMMENTS = ("#", "\\", "|")
"""First characters of lines that are no epochs; those of IPAC tables among them."""


def read_dataset(folder: Path, star: int = TARGET) -> Photometry:
    """Return the light curve of a star of a reduced dataset.

    Parameters
    ----------
    folder : Path
        The dataset, ``target/instrument/filter``.
    star : int
        Number of the star; 0 is the target.

    Returns
    -------
    Photometry
        Usable epochs, BJD(TDB), named by instrument and filter.

    Raises
    ------
    ArchiveError
        The dataset was not reduced.
    Unprocessable
        There is no such star.
    """
    with Stored(folder) as stored:
        found = stored.star(star)
    if found is None:
        raise Unprocessable(f"{folder}: there is no star {star}; 0 is the target")
    return photometry_of(found, " ".join(folder.resolve().parts[-2:]))


def photometry_of(found: StoredCurve, name: str) -> Photometry:
    """Return the usable epochs of the light curve of a star, BJD(TDB), under a name."""
    columns = found.columns
    usable = columns["flags"].astype(int) & int(UNUSABLE) == 0
    time, flux, error, mag = (
        columns[name][usable].astype(np.float64) for name in ("time_bjd_tdb", "flux", "flux_err", "mag")
    )
    return Photometry(name, time, flux, error, _zero_point(flux, mag))


def _zero_point(flux: Float64Array, mag: Float64Array) -> float:
    """Return the magnitude of flux 1 of a dataset, which its magnitudes contain."""
    known = (flux > 0) & np.isfinite(mag)
    return float(np.median(mag[known] + 2.5 * np.log10(flux[known]))) if known.any() else INSTRUMENTAL


def read_file(path: Path, *, is_flux: bool = False) -> Photometry:
    r"""Return the light curve of a text file of three columns: time, magnitude (or flux), error.

    Parameters
    ----------
    path : Path
        The file; further columns, and lines that start with ``#``, ``\`` or ``|``, are skipped.
    is_flux : bool
        Whether the second column is a flux.

    Returns
    -------
    Photometry
        With Julian days, named as the file.

    Raises
    ------
    Unprocessable
        It has other contents.
    """
    rows = _rows(path)
    time = julian_days(rows[:, 0], path)
    if is_flux:
        return Photometry(path.stem, time, rows[:, 1], rows[:, 2], INSTRUMENTAL)
    middle = float(np.median(rows[:, 1]))
    if not -5 < middle < 40:
        raise Unprocessable(f"{path}: expected magnitudes in the second column, found {middle:g}; fluxes need --flux")
    return Photometry.of_magnitudes(path.stem, time, rows[:, 1], rows[:, 2], INSTRUMENTAL)


def is_plain(path: Path) -> bool:
    """Return whether a file is text without a line of names: its first line that is no comment has numbers alone."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as err:
        raise Unprocessable(f"{path}: cannot be read: {err.strerror}") from err
    for line in head.decode("utf-8", "replace").splitlines():
        words = line.replace(",", " ").split()
        if words and not words[0].startswith(COMMENTS):
            return all(NUMBER.fullmatch(word) for word in words[:3])
    return False


def _rows(path: Path) -> Float64Array:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError as err:
        raise Unprocessable(f"{path}: cannot be read: {err.strerror}") from err
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith(COMMENTS):
            continue
        try:
            rows.append([float(word) for word in words[:3]])
        except ValueError as err:
            raise Unprocessable(f"{path}, line {number}: expected time, magnitude, error; found {line[:60]!r}") from err
        if len(rows[-1]) < 3:
            raise Unprocessable(f"{path}, line {number}: expected time, magnitude, error; found {line[:60]!r}")
    if not rows:
        raise Unprocessable(f"{path}: there is no epoch")
    return np.array(rows)


def julian_days(time: Float64Array, path: Path) -> Float64Array:
    """Return times as Julian days: they may be those, modified ones, or Julian days less 2450000.

    Parameters
    ----------
    time : ndarray (n,)
        Times [d].
    path : Path
        For the message.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    Unprocessable
        They are neither.
    """
    middle = float(np.median(time))
    # the three kinds do not overlap between 1995 and 2050
    for low, high, offset in ((2.4e6, 2.5e6, 0.0), (4.9e4, 7e4, JD_OF_MJD), (0.0, 2e4, JD_OF_SHORT)):
        if low <= middle < high:
            return time + offset
    raise Unprocessable(f"{path}: expected Julian days (also modified, or less 2450000), found times about {middle:g}")
