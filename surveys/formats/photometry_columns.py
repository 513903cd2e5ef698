"""Column mapping of raw photometry: recognised by name, converted to MJD, flux density [µJy] and AB magnitude."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from obsarchive.science.astrometry.times import MJD_1970, light_curve_times
from obsarchive.science.light_curves.light_curve import AB_MICROJANSKY, fluxes_of_magnitudes, magnitudes_of_fluxes
from surveys.formats.hdf5_light_curves import Columns

JD_OF_MJD = 2_400_000.5
KNOWN: dict[str, tuple[str, ...]] = {
    "time": ("mjd", "jd", "bjd", "hjd", "bmjd", "time", "timestamp", "unixtime", "datetime", "date", "obsmjd", "obsjd"),
    "exptime": ("exptime", "exposuretime", "exposure", "texp"),
    "ra": ("ra", "raj", "rightascension", "radeg"),
    "dec": ("dec", "dej", "declination", "decdeg", "de"),
    "mag": ("mag", "magnitude", "magpsf", "magap", "magaper", "magauto"),
    "mag_err": ("magerr", "magerror", "emag", "sigmag", "sigmapsf", "magsigma", "dmag", "magnitudeerror"),
    "flux": ("flux", "pdcsapflux", "sapflux", "fluxaper", "forcediffimflux", "cts"),
    "flux_err": ("fluxerr", "fluxerror", "pdcsapfluxerr", "sapfluxerr", "eflux", "forcediffimfluxunc", "fluxunc"),
    "filter": ("filter", "filtercode", "band", "passband", "filt", "bandpass", "fid"),
    "flag": ("flag", "catflag", "quality", "qualityflag", "infobit", "bad"),
}
"""Simplified column names by meaning; the first that exists is used."""
JULIAN = ("mjd", "jd", "hjd", "bjd", "bmjd")
NO_MAGNITUDE = 50.0
"""Surveys write 99, 100 or -999 where they measured nothing."""
OF_ALL = ("exptime", "ra", "dec")
"""Values that may be given once for all epochs."""
BEYOND = 1e5
"""Upper limit of the MJD of an observation [d]; it is reached in 2132."""
OFFSET = re.compile(r"-\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class ColumnMap:
    """Meaning of the columns of a table.

    Parameters
    ----------
    names : mapping of str to str
        Column by meaning: ``time``, ``mag``, …
    time_scale : str
        ``mjd``, ``jd``, ``hjd``, ``bjd``, ``bmjd``, ``unix`` or ``date``; empty: inferred from the values.
    time_offset : float
        Added to the values [d].
    """

    names: Mapping[str, str]
    time_scale: str
    time_offset: float


def simplify(name: object) -> str:
    """Return the name of a column without case, digits, blanks and the like: ``"Mag_err, mag"`` is ``magerr``."""
    plain = re.sub(r"[\s_\-0-9.()\[\]]", "", str(name).partition(",")[0].lower())
    return plain.removesuffix("s")


def map_columns(names: list[Any], altdata: Mapping[str, Any]) -> ColumnMap:
    """Return the meaning of columns, recognised by their names.

    Parameters
    ----------
    names : list
        Names of columns; other objects count as their text.
    altdata : mapping
        Metadata; ``time_scale`` and ``time_offset`` override the names.

    Returns
    -------
    ColumnMap
        Columns that were recognised.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(simplify(name), str(name))
    found = {
        what: plain[next(word for word in words if word in plain)]
        for what, words in KNOWN.items()
        if any(word in plain for word in words)
    }
    time_name = found.get("time", "")
    offset = OFFSET.search(time_name)
    scale = str(altdata.get("time_scale") or _scale_of(simplify(time_name)))
    given = altdata.get("time_offset")
    return ColumnMap(found, scale, float(given if given is not None else offset.group(1) if offset else 0.0))


def _scale_of(simplified: str) -> str:
    if simplified in ("timestamp", "unixtime"):
        return "unix"
    if simplified in ("datetime", "date"):
        return "date"
    found = re.fullmatch(r"(?:obs)?([bh]?m?jd)", simplified)
    return found.group(1) if found else ""


def known(value: Any) -> float | None:
    """Return a value as a float; None if it is no finite number."""
    try:
        number = float(value)
    except (ValueError, TypeError):
        return None
    return number if np.isfinite(number) else None


def standard_photometry(raw: Columns, altdata: Mapping[str, Any], also: Sequence[str] = ()) -> Columns:
    """Return raw photometry in the columns of light curves, sorted by time.

    Parameters
    ----------
    raw : dict of str to ndarray (n,)
        Columns as the survey returned them.
    altdata : mapping
        Metadata, used where there is no column: ``ra``, ``dec`` [deg], ``exptime`` [s], ``filter``, ``time_scale``,
        ``time_offset`` [d], ``zero_point`` of the fluxes [mag] (without it they are in µJy).
    also : sequence of str
        Other columns to keep, under their names.

    Returns
    -------
    dict of str to ndarray (m,)
        mjd [d, UTC], exptime [s], ra, dec [deg], flux, flux_err [µJy], mag, mag_err [mag], flag (bool), filter;
        m <= n: epochs without a time are dropped.

    Raises
    ------
    Unprocessable
        No time, or neither magnitudes nor fluxes.
    """
    if not raw:
        raise Unprocessable("raw photometry without columns")
    named = map_columns(list(raw), altdata)
    n = len(next(iter(raw.values())))
    if "time" not in named.names or not {"mag", "flux"}.intersection(named.names):
        raise Unprocessable(f"raw photometry needs a time and a magnitude or flux; it has {', '.join(map(str, raw))}")

    def numbers(what: str) -> NDArray[np.float64]:
        if what in named.names:
            return _numbers(raw[named.names[what]])
        value = altdata.get(what) if what in OF_ALL else None
        return np.full(n, np.nan if value is None else float(value))

    made: Columns = {"mjd": _mjd(raw[named.names["time"]], named, altdata)}
    made |= {what: numbers(what) for what in OF_ALL}
    made |= _brightness(numbers, named, altdata)
    made["flag"] = _flags(raw[named.names["flag"]]) if "flag" in named.names else np.zeros(n, bool)
    if "filter" in named.names:
        made["filter"] = _words(raw[named.names["filter"]])
    else:
        made["filter"] = np.full(n, str(altdata.get("filter") or ""))
    made |= {name: raw[name] for name in also}
    kept = np.isfinite(made["mjd"])
    order = np.flatnonzero(kept)[np.argsort(made["mjd"][kept], kind="stable")]
    return {name: values[order] for name, values in made.items()}


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind in "OSU":
        numbers: NDArray[np.float64] = pd.to_numeric(pd.Series(_words(values)), errors="coerce").to_numpy(np.float64)
        return numbers
    return values.astype(np.float64)


def _words(values: NDArray[Any]) -> NDArray[np.str_]:
    if values.dtype.kind == "O":
        values = np.where(pd.isna(values), "", values)
    return np.asarray(values).astype("U")


def _flags(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which epochs are flagged: any number but 0, or text that is not empty, ``0``, ``good`` or the like."""
    if values.dtype.kind in "OSU":
        return ~np.isin(np.char.lower(_words(values)), ("", "0", "0.0", "false", "ok", "good", "none", "nan"))
    is_set: NDArray[np.bool_] = np.nan_to_num(values.astype(np.float64)) != 0
    return is_set


def _brightness(numbers: Any, named: ColumnMap, altdata: Mapping[str, Any]) -> Columns:
    """Return fluxes and magnitudes, computed from each other where only one is given."""
    mag, mag_err = numbers("mag"), numbers("mag_err")
    unknown = ~(np.abs(mag) <= NO_MAGNITUDE)
    mag = np.where(unknown, np.nan, mag)
    mag_err = np.where(unknown | ~(np.abs(mag_err) <= NO_MAGNITUDE), np.nan, mag_err)
    if "flux" not in named.names:
        flux, flux_err = fluxes_of_magnitudes(mag, mag_err)
        return {"flux": flux, "flux_err": flux_err, "mag": mag, "mag_err": mag_err}
    zero_point = altdata.get("zero_point")
    factor = 10 ** (0.4 * (AB_MICROJANSKY - float(AB_MICROJANSKY if zero_point is None else zero_point)))
    flux, flux_err = numbers("flux") * factor, numbers("flux_err") * factor
    made = dict(zip(("mag", "mag_err"), magnitudes_of_fluxes(flux, flux_err), strict=True))
    if "mag" in named.names:  # the survey's own: a flux may be too faint, or negative, for a magnitude
        made = {
            "mag": mag,
            "mag_err": mag_err if "mag_err" in named.names else np.where(unknown, np.nan, made["mag_err"]),
        }
    return {"flux": flux, "flux_err": flux_err, **made}


def mjds_of(raw: Columns, altdata: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the times of raw photometry as modified Julian dates.

    Parameters
    ----------
    raw : dict of str to ndarray (n,)
        Columns as the survey returned them.
    altdata : mapping
        Metadata, as for `standard_photometry`.

    Returns
    -------
    ndarray (n,)
        MJD [d, UTC] in the order of the rows; NaN where there is no time.

    Raises
    ------
    Unprocessable
        It has no times.
    """
    named = map_columns(list(raw), altdata)
    if "time" not in named.names:
        raise Unprocessable(f"raw photometry needs a time; it has {', '.join(map(str, raw))}")
    return _mjd(raw[named.names["time"]], named, altdata)


def _mjd(values: NDArray[Any], named: ColumnMap, altdata: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return modified Julian dates [d, UTC]."""
    numbers = None if named.time_scale == "date" else _times_as_numbers(values)
    if numbers is None:
        when = pd.to_datetime(pd.Series(values), utc=True, format="mixed", errors="coerce")
        elapsed = (when - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        seconds: NDArray[np.float64] = elapsed.to_numpy(np.float64)
        return MJD_1970 + seconds / 86400
    if not np.isfinite(numbers).any():
        return np.full(len(numbers), np.nan)
    time = numbers + (named.time_offset if named.time_scale != "unix" else 0.0)
    scale = named.time_scale or _guessed(time)
    if scale in JULIAN and not _is_julian(scale, time):
        raise Unprocessable(
            f"times of {named.names['time']!r} (median {np.nanmedian(time):g}) are no {scale.upper()}: "
            "days may have been left off; say time_offset"
        )
    match scale:
        case "unix":
            return MJD_1970 + time / 86400
        case "mjd":
            return time
        case "jd":
            return time - JD_OF_MJD
        case "hjd" | "bjd" | "bmjd":
            return _geocentric(time - (0.0 if scale == "bmjd" else JD_OF_MJD), scale, altdata)
    raise Unprocessable(
        f"times of {named.names['time']!r} are neither JD nor MJD (median {np.nanmedian(time):g}): "
        "say time_scale and time_offset"
    )


def _times_as_numbers(values: NDArray[Any]) -> NDArray[np.float64] | None:
    """Return times that are numbers, also those written as text; None for calendar dates."""
    if values.dtype.kind not in "OSUM":
        return values.astype(np.float64)
    inferred = pd.Series(values if values.dtype.kind != "S" else values.astype("U")).infer_objects()
    if pd.api.types.is_datetime64_any_dtype(inferred):
        return None
    numbers = pd.to_numeric(inferred, errors="coerce").to_numpy(np.float64)
    return numbers if np.isfinite(numbers).any() or inferred.isna().all() else None


def _is_julian(scale: str, time: NDArray[np.float64]) -> bool:
    """Return whether any date lies within 1858 to 2131: surveys subtract constants without saying so."""
    mjd = time - (0.0 if "m" in scale else JD_OF_MJD)
    return bool(((mjd >= 0) & (mjd < 1e5)).any())


def _guessed(time: NDArray[np.float64]) -> str:
    middle = float(np.median(time[np.isfinite(time)]))
    ranges = {"jd": (2.3e6, 2.6e6), "mjd": (3e4, 1e5), "unix": (3e8, 5e9)}
    return next((name for name, (low, high) in ranges.items() if low < middle < high), "")


def _geocentric(mjd: NDArray[np.float64], scale: str, altdata: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return times without the light travel time to the Sun or barycentre; unchanged if the position is unknown."""
    ra, dec = altdata.get("ra"), altdata.get("dec")
    if ra is None or dec is None:
        return mjd
    known = np.abs(mjd) < BEYOND  # surveys write 0 where there is no time
    observed = mjd[known]
    with warnings.catch_warnings(action="ignore"):  # about years before the first and after the last known leap second
        for _ in range(2):  # two iterations: the correction varies by only 1e-4 of itself within its own length
            there = light_curve_times(observed, float(ra), float(dec))
            arrived = (there.hjd_utc if scale == "hjd" else there.bjd_tdb) - JD_OF_MJD
            observed = observed + (mjd[known] - arrived)
    made = np.full_like(mjd, np.nan)
    made[known] = observed
    return made
