"""Photometric series for SkyPortal: HDF5 in the table layout of pandas, one series in a file.

SkyPortal reads a series by ``pandas.HDFStore``, which needs the attributes that PyTables writes; this module writes
them with h5py. See https://skyportal.io/docs (photometric series).
"""

import io
import pickle
import re
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from obsarchive.science.light_curves.light_curve import AB_MICROJANSKY
from surveys.dataset import Lightcurve

KEY = "photometry"
RENAMED = {"flux_err": "fluxerr", "mag_err": "magerr", "exptime": "exp_time"}
TIME_STAMP = "middle"
_SLOAN = re.compile(r"(?:sdss)?[ _-]?([ugriz])(?:['p]|[ _-]?sdss)?", re.IGNORECASE)
_BESSELL = {"U": "bessellux", "B": "bessellb", "V": "bessellv", "R": "bessellr", "I": "besselli"}


def filter_of(observatory: str, name: str) -> str:
    """Return the name of a filter in SkyPortal (that is, sncosmo).

    Parameters
    ----------
    observatory : str
        Name of the survey.
    name : str
        Filter of a light curve; those of ZTF with or without their prefix.

    Returns
    -------
    str
    """
    plain = name.strip()
    match observatory.upper():
        case "ZTF":
            return f"ztf{plain.lower().removeprefix('ztf').strip('-_ ')[-1:]}"
        case "TESS":
            return "tess"
    if plain in _BESSELL:
        return _BESSELL[plain]
    sloan = _SLOAN.fullmatch(plain)
    return f"sdss{sloan[1].lower()}" if sloan else re.sub(r"\s+", "", plain.lower())


def plain_name(text: str) -> str:
    """Return a text with other characters than letters, digits, ``_``, ``-`` and ``+`` replaced by ``_``."""
    return re.sub(r"[^\w+-]", "_", text)


def series_name(curve: Lightcurve) -> str:
    """Return the name of a series: survey, filter and number of the light curve."""
    return plain_name(f"{curve.observatory}_{curve.filter}_{curve.series_number:02d}")


def metadata_of(curve: Lightcurve) -> dict[str, Any]:
    """Return the metadata of a series; SkyPortal refuses unknown keys."""
    columns = curve.columns
    place = {key: _middle(columns.get(key), curve.altdata.get(key)) for key in ("ra", "dec")}
    return {
        "series_name": series_name(curve),
        "series_obj_id": plain_name(curve.source_name),
        "exp_time": _middle(columns.get("exptime"), None),
        **place,
        "filter": filter_of(curve.observatory, curve.filter),
        "time_stamp_alignment": TIME_STAMP,
    }


def _middle(values: NDArray[Any] | None, known: Any) -> float:
    if known is not None:
        return float(known)
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def columns_of(curve: Lightcurve) -> dict[str, NDArray[Any]]:
    """Return the columns of a series: mjd, flux, fluxerr [µJy], mag, magerr, filter, magsys, zp and the others."""
    n = len(curve)
    made = {RENAMED.get(name, name): _plain(values) for name, values in curve.columns.items()}
    texts = {"filter": filter_of(curve.observatory, curve.filter), "magsys": "ab"}
    made |= {name: np.full(n, text.encode()) for name, text in texts.items()}
    return made | {"zp": np.full(n, AB_MICROJANSKY)}


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    match values.dtype.kind:
        case "b":
            return values.astype(np.int8)  # PyTables and h5py store booleans differently
        case "U":
            return np.char.encode(values, "utf-8", "replace")
    return values


def series(curve: Lightcurve) -> bytes:
    """Return a light curve as the content of an HDF5 file."""
    columns = columns_of(curve)
    names = list(columns)
    table = np.empty(len(curve), [("index", np.int64), *((name, columns[name].dtype) for name in names)])
    table["index"] = np.arange(len(table))
    for name in names:
        table[name] = columns[name]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        _note(file, CLASS="GROUP", VERSION="1.0", PYTABLES_FORMAT_VERSION="2.1")
        group = file.create_group(KEY)
        _note(group, CLASS="GROUP", VERSION="1.0", pandas_type="frame_table", pandas_version="0.15.2")
        _note(group, table_type="appendable_frame", encoding="UTF-8", errors="strict", levels=1)
        _note(group, data_columns=names, values_cols=names, non_index_axes=[(1, names)], index_cols=[(0, "index")])
        _note(
            group, info={1: {"names": [None], "type": "Index"}, "index": {}}, nan_rep="nan", metadata=metadata_of(curve)
        )
        made = group.create_dataset("table", data=table, maxshape=(None,), chunks=(max(1, len(table)),))
        _note(made, CLASS="TABLE", VERSION="2.7", NROWS=len(table), index_kind="integer", FIELD_0_NAME="index")
        for number, name in enumerate(names, 1):
            kind = columns[name].dtype
            stored = f"bytes{8 * kind.itemsize}" if kind.kind == "S" else kind.name
            _note(made, **{f"FIELD_{number}_NAME": name, f"{name}_dtype": stored, f"{name}_kind": [name]})
            _note(made, **{f"{name}_meta": None})
    return buffer.getvalue()


def _note(item: h5py.HLObject, **attributes: Any) -> None:
    """Write attributes as PyTables does: text as it is, integers with 64 bits, anything else pickled."""
    for name, value in attributes.items():
        match value:
            case str():
                text = value.encode()
                item.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", len(text)))
            case int():
                item.attrs[name] = np.int64(value)
            case _:
                item.attrs[name] = np.bytes_(pickle.dumps(value, 0))
