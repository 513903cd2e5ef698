"""Export of light curves: CSV, JSON, parquet, FITS, ECSV, VOTable, and the HDF5 of SkyPortal.

::

    from surveys import export
    Path("star.fits").write_bytes(export.write(source.reduced_lightcurves, "fits"))
"""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from astropy.io import votable
from astropy.table import Table
from numpy.typing import NDArray

from obsarchive.errors import ConfigError, Unprocessable
from surveys import skyportal
from surveys.dataset import Lightcurve
from surveys.formats.hdf5_light_curves import Columns
from surveys.skyportal import plain_name
from surveys.tables import UNITS

FORMS: Mapping[str, tuple[str, str]] = {
    "csv": (".csv", "text/csv; charset=utf-8"),
    "json": (".json", "application/json"),
    "parquet": (".parquet", "application/vnd.apache.parquet"),
    "fits": (".fits", "application/fits"),
    "ecsv": (".ecsv", "text/plain; charset=utf-8"),
    "votable": (".vot", "application/x-votable+xml"),
    "skyportal": (".h5", "application/x-hdf5"),
}
"""Suffix and media type of each format."""
SEVERAL = ".zip", "application/zip"


def kind_of(form: str, n_curves: int) -> tuple[str, str]:
    """Return suffix and media type of the output of `write`.

    Parameters
    ----------
    form : str
        A key of `FORMS`.
    n_curves : int
        Number of light curves; SkyPortal reads one series from a file, so several are packed.

    Returns
    -------
    (str, str)
        Suffix with its dot, and media type.
    """
    return SEVERAL if form == "skyportal" and n_curves > 1 else FORMS[form]


def write(curves: Sequence[Lightcurve], form: str) -> bytes:
    """Return light curves as the content of a file.

    Parameters
    ----------
    curves : sequence of Lightcurve
        Their data are loaded if necessary.
    form : str
        ``csv``, ``json``, ``parquet``, ``fits``, ``ecsv``, ``votable``: one table of all epochs (JSON: a list of light
        curves); ``skyportal``: HDF5 of a photometric series, or a ZIP of several.

    Returns
    -------
    bytes
        Content of the file.

    Raises
    ------
    ConfigError
        Unknown format.
    Unprocessable
        There is no light curve.
    ArchiveError
        Data are missing or damaged.
    """
    if form not in FORMS:
        raise ConfigError(f"light curves can be written as {', '.join(FORMS)}, not as {form!r}")
    if not curves:
        raise Unprocessable("there is no light curve to write")
    match form:
        case "json":
            return json.dumps({"lightcurves": [plain(curve) for curve in curves]}, allow_nan=False).encode()
        case "skyportal":
            return _skyportal(curves)
        case "fits" | "ecsv":
            return _of_astropy(curves, form)
    from obsarchive.io.catalog_tables import write_table  # late: it imports the libraries of all formats

    with TemporaryDirectory(prefix="lightcurves-") as folder:
        path = Path(folder) / f"lightcurves{FORMS[form][0]}"
        write_table(path, table(curves))
        content = path.read_bytes()
    return _with_units(content) if form == "votable" else content


def table(curves: Sequence[Lightcurve]) -> Columns:
    """Return all epochs of some light curves in one table; a column that a light curve lacks is masked there."""
    known = [(curve, curve.columns) for curve in curves]
    names = list(dict.fromkeys(name for _, columns in known for name in columns))
    facts: Columns = {
        "source": _repeated([(curve.source_name, len(curve)) for curve, _ in known]),
        "observatory": _repeated([(curve.observatory, len(curve)) for curve, _ in known]),
        "filter": _repeated([(curve.filter, len(curve)) for curve, _ in known]),
        "series_number": _repeated([(curve.series_number, len(curve)) for curve, _ in known]),
    }
    return facts | {name: _joined([columns.get(name) for _, columns in known], known) for name in names}


def _of_astropy(curves: Sequence[Lightcurve], form: str) -> bytes:
    """Return one table of all epochs with units as FITS or ECSV."""
    whole = Table(table(curves), meta={"TIMESYS": "UTC"})
    for name in whole.colnames:
        if name in UNITS:
            whole[name].unit = UNITS[name]
    if form == "fits":
        for name in whole.colnames:
            if whole[name].dtype.kind == "U":  # as in catalogues: astropy itself writes ASCII only
                whole[name] = np.char.encode(np.ma.getdata(whole[name]), "utf-8")
        buffer = io.BytesIO()
        whole.convert_unicode_to_bytestring()  # as UTF-8: names may be Greek
        whole.write(buffer, format="fits")
        return buffer.getvalue()
    text = io.StringIO()
    whole.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def _repeated(values: Sequence[tuple[Any, int]]) -> NDArray[Any]:
    return np.repeat(np.array([value for value, _ in values]), [n for _, n in values])


def _joined(parts: Sequence[NDArray[Any] | None], known: Sequence[tuple[Lightcurve, Columns]]) -> NDArray[Any]:
    ma: Any = np.ma  # Any, as some of its functions are untyped
    kind = next(part.dtype for part in parts if part is not None)
    lengths = [len(curve) for curve, _ in known]
    whole = [
        ma.masked_all(n, kind) if part is None else ma.asarray(part) for part, n in zip(parts, lengths, strict=True)
    ]
    joined: NDArray[Any] = (ma if any(part is None for part in parts) else np).concatenate(whole)
    return joined


def plain(curve: Lightcurve) -> dict[str, Any]:
    """Return a light curve in types of JSON; None where a value is not finite."""
    return {
        "source": curve.source_name,
        "observatory": curve.observatory,
        "filter": curve.filter,
        "series_number": curve.series_number,
        "n": len(curve),
        "columns": {name: plain_values(values) for name, values in curve.columns.items()},
    }


def plain_values(values: NDArray[Any]) -> list[Any]:
    """Return an array as a list; single precision with its own number of digits, None where a value is not finite."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    short = values if values.dtype.itemsize > 4 else [float(str(value)) for value in values]
    return [float(value) if np.isfinite(value) else None for value in short]


def _skyportal(curves: Sequence[Lightcurve]) -> bytes:
    if len(curves) == 1:
        return skyportal.series(curves[0])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for curve in curves:
            name = plain_name(f"{curve.observatory}_{curve.filekey}")
            archive.writestr(f"{name}.h5", skyportal.series(curve))
    return buffer.getvalue()


def _with_units(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # about column names that are no identifiers of VOTable
        tree = votable.parse(io.BytesIO(content))
        for field in tree.get_first_table().fields:
            field.unit = UNITS.get(field.name)
        tree.to_xml(buffer, tabledata_format="binary2")
    return buffer.getvalue()
