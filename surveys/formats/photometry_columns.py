"""Column mapping of raw photometry: recognised by name, converted to MJD, flux density [µJy] and AB magnitude.

Named formats (`photometry_formats`) go before the names that tables usually have. Units are those that a column
declares, in its name or beside the data; times, quality and brightness are converted in `epochs`, `quality_words` and
`brightness`.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable, did_you_mean
from surveys.formats import quality_words
from surveys.formats.brightness import Measured, brightness_of, in_unit, parsed_unit, split_unit, unit_named
from surveys.formats.cell_values import numbers_of, simplify, words_of
from surveys.formats.epochs import DATE_NAMES, TimeScale, is_time_name, mjd_of_times, scale_of, with_times_of_day
from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_formats import PhotometryFormat, format_of, prepared

__all__ = ["KNOWN", "ColumnMap", "known", "map_columns", "mjds_of", "simplify", "standard_photometry"]

log = logging.getLogger(__name__)

KNOWN: dict[str, tuple[str, ...]] = {
    "time": ("mjd", "jd", "bjd", "hjd", "bmjd", "time", "obstime", "timestamp", "unixtime", *DATE_NAMES, "t"),
    "exptime": ("exptime", "exposuretime", "exposure", "texp"),
    "ra": ("ra", "raj", "rightascension", "radeg"),
    "dec": ("dec", "dej", "declination", "decdeg", "de"),
    "mag": ("mag", "magnitude", "magpsf", "magap", "magaper", "magauto", "relativemagnitude"),
    "mag_err": (
        *("magerr", "magerror", "emag", "sigmag", "sigmapsf", "magsigma", "dmag", "magnitudeerror", "merr", "dm"),
        *("maguncertainty", "magnitudeuncertainty", "magunc", "sigmamag", "errmag", "magnitudeerr", "magrms", "rmsmag"),
    ),
    "flux": (
        "flux",
        "pdcsapflux",
        "sapflux",
        "fluxaper",
        "forcediffimflux",
        "cts",
        "psfflux",
        "ujy",
        "mjy",
        "fluxdensity",
    ),
    "flux_err": (
        *(
            "fluxerr",
            "fluxerror",
            "pdcsapfluxerr",
            "sapfluxerr",
            "eflux",
            "forcediffimfluxunc",
            "fluxunc",
            "psffluxerr",
        ),
        *(
            "fluxuncertainty",
            "dflux",
            "sigmaflux",
            "sigflux",
            "errflux",
            "dujy",
            "eujy",
            "ujyerr",
            "dmjy",
            "emjy",
            "mjyerr",
        ),
    ),
    "filter": (
        "filter",
        "filtercode",
        "band",
        "passband",
        "filt",
        "bandpas",
        "bandpass",
        "fid",
        "photfilter",
        "philter",
    ),
    "flag": (
        *(
            "flag",
            "catflag",
            "quality",
            "qualityflag",
            "qualflag",
            "infobit",
            "bad",
            "isbad",
            "badflag",
            "rejected",
            "reject",
        ),
        *("qflag", "mask", "masked", "bitmask", "dq", "dqflag", "exclude", "excluded"),
        *("isrejected", "qual", "sapquality", "photflag", "grade", "outlier", "isoutlier", *quality_words.GOOD_COLUMNS),
    ),
    "zero_point": ("zp", "zeropoint", "zpab"),
}
"""Simplified column names by meaning; the first that exists is used."""
ANY_ERROR = ("uncertainty", "err", "error", "uncert", "unc", "sigma", "e", "uncertaintie", "std")
"""Errors of the only brightness that a table has."""
BANDS = (
    "U",
    "B",
    "V",
    "R",
    "I",
    "J",
    "H",
    "K",
    "Ks",
    "Rc",
    "Ic",
    "u",
    "g",
    "r",
    "i",
    "z",
    "y",
    "G",
    "BP",
    "RP",
    "W1",
    "W2",
)
"""Filters after which columns of magnitudes are named."""
BARE_BANDS = frozenset(BANDS) - {"z", "y"}
"""Those of columns without the word mag; z and y are coordinates."""
TOLD = ("columns", "units", "format", "time_scale", "time_offset", "time_system")
"""Metadata that tell what columns mean."""
OF_ALL = ("exptime", "ra", "dec")
"""Values that may be given once for all epochs."""


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
    time_system : str
        Scale of the times: ``utc``, ``tdb``, …; empty: the usual one.
    units : mapping of str to str
        Declared units by meaning.
    format : PhotometryFormat or None
        The named format of the table.
    """

    names: Mapping[str, str]
    time_scale: str
    time_offset: float
    time_system: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    format: PhotometryFormat | None = None

    @property
    def time(self) -> TimeScale:
        """Meaning of the times."""
        return TimeScale(self.time_scale, self.time_offset, self.time_system)


def map_columns(names: list[Any], altdata: Mapping[str, Any]) -> ColumnMap:
    """Return the meaning of columns: that of a named format, or recognised by their names.

    Parameters
    ----------
    names : list
        Names of columns; other objects count as their text.
    altdata : mapping
        Metadata; ``columns`` (name by meaning), ``units`` (by name or meaning), ``format``, ``time_scale``,
        ``time_offset`` and ``time_system`` override the names.

    Returns
    -------
    ColumnMap
        Columns that were recognised.
    """
    written = tuple(map(str, names))
    told = {what: altdata[what] for what in TOLD if altdata.get(what) is not None}
    # a survey's sources have the same columns, and most tell nothing beside them
    return _mapped(written, told) if told else _mapped_by_name(written)


@lru_cache(maxsize=256)
def _mapped_by_name(names: tuple[str, ...]) -> ColumnMap:
    return _mapped(names, {})


def _mapped(names: tuple[str, ...], altdata: Mapping[str, Any]) -> ColumnMap:
    plain, in_names = _plain_names(names)
    made = format_of(plain, str(altdata.get("format") or ""))
    found = _found(plain, made)
    found |= {str(what): str(name) for what, name in (altdata.get("columns") or {}).items()}
    facts: Mapping[str, Any] = {**(made.facts if made else {}), **{k: v for k, v in altdata.items() if v is not None}}
    time_name = found.get("time", "")
    declared = {**in_names, **(altdata.get("units") or {})}
    usual = {**declared, **(made.facts.get("units", {}) if made else {})}
    units = {what: declared.get(name) or usual.get(what) for what, name in found.items()}
    told = scale_of(time_name, simplify(split_unit(time_name)[0]), units.get("time") or "")
    given = facts.get("time_offset")
    return ColumnMap(
        found,
        str(facts.get("time_scale") or told.kind).lower(),
        float(told.offset if given is None else given),
        str(facts.get("time_system") or told.system).lower(),
        {what: unit for what, unit in units.items() if unit and unit.strip() not in ("-", "--", "---", "none", "None")},
        made,
    )


@lru_cache(maxsize=256)
def _plain_names(names: tuple[str, ...]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the columns by their simplified names, and the units that names contain; a survey's sources share them."""
    plain: dict[str, str] = {}
    units: dict[str, str] = {}
    for name in names:
        bare, unit = split_unit(name)
        plain.setdefault(simplify(bare), name)
        if unit := unit or unit_named(name):
            units[name] = unit
    return plain, units


def _found(plain: Mapping[str, str], made: PhotometryFormat | None) -> dict[str, str]:
    """Return the columns by their meaning."""
    found = {
        what: plain[next(word for word in words if word in plain)]
        for what, words in KNOWN.items()
        if any(word in plain for word in words)
    }
    if "time" not in found:
        dates = [name for simple, name in plain.items() if is_time_name(simple)]
        found |= {"time": dates[0]} if dates else {}
    if made is not None:
        unused = [what for what in ("mag", "flux") if what not in made.columns]
        found = {what: name for what, name in found.items() if what.removesuffix("_err") not in unused}
        found |= {what: plain.get(simple, simple) for what, simple in made.columns.items()}
    if own := _own_error(plain, found.get("mag", "")):
        found.setdefault("mag_err", own)
    has = [what for what in ("mag", "flux") if what in found]
    error = next((plain[word] for word in ANY_ERROR if word in plain), None)
    if len(has) == 1 and error is not None:
        found.setdefault(f"{has[0]}_err", error)
    return found


def _own_error(plain: Mapping[str, str], mag: str) -> str:
    """Return the column of errors called after one of magnitudes, as ``magerr_auto``; empty if there is none."""
    kind = simplify(mag).removeprefix("mag")
    words = (f"magerr{kind}", f"mag{kind}err", f"emag{kind}", f"errmag{kind}", f"dmag{kind}", f"sigmamag{kind}")
    return next((plain[word] for word in words if kind and word in plain), "")


def known(value: Any) -> float | None:
    """Return a value as a float; None if it is no finite number."""
    try:
        number = float(value)
    except (ValueError, TypeError):
        return None
    return number if np.isfinite(number) else None


def standard_photometry(
    raw: Columns, altdata: Mapping[str, Any], also: Sequence[str] = (), remarks: list[str] | None = None
) -> Columns:
    """Return raw photometry in the columns of light curves, sorted by time.

    Parameters
    ----------
    raw : dict of str to ndarray (n,)
        Columns as the survey returned them.
    altdata : mapping
        Metadata, used where there is no column: ``ra``, ``dec`` [deg], ``exptime`` [s], ``filter``; and what the
        columns mean, where their names do not tell: ``format``, ``columns``, ``units``, ``time_scale``,
        ``time_offset`` [d], ``time_system``, ``zero_point`` of the fluxes [mag], ``good_flags``. Fluxes without a unit
        are in µJy, unless the magnitudes beside them tell otherwise.
    also : sequence of str
        Other columns to keep, under their names.
    remarks : list of str, optional
        What a person should know is appended; None: it is logged.

    Returns
    -------
    dict of str to ndarray (m,)
        mjd [d, UTC], exptime [s], ra, dec [deg], flux, flux_err [µJy], mag, mag_err [mag], flag (bool), filter;
        m <= n: epochs without a time are dropped. Magnitudes in columns named after filters make an epoch for each.

    Raises
    ------
    Unprocessable
        No time, or neither magnitudes nor fluxes; or some of these cannot be understood.
    """
    if not raw:
        raise Unprocessable("raw photometry without columns")
    noted: list[str] = []
    made = _standard({str(name): values for name, values in raw.items()}, altdata, also, noted)
    if remarks is None:
        for remark in noted:
            log.warning("%s: %s", altdata.get("name") or "photometry", remark)
    else:
        remarks += noted
    return made


def _standard(raw: Columns, altdata: Mapping[str, Any], also: Sequence[str], remarks: list[str]) -> Columns:
    named = map_columns(list(raw), altdata)
    if not {"mag", "flux"}.intersection(named.names):
        raw = _by_band(raw, altdata)
        named = map_columns(list(raw), altdata)
    n = len(next(iter(raw.values())))
    _check(raw, named)
    columns = _selected(raw, named, remarks)
    times = _times(raw, columns, named)
    made: Columns = {"mjd": _mjd(times, named, altdata, remarks)}
    for what in OF_ALL:
        if what in columns:
            unit = named.units.get(what, "")
            made[what] = in_unit(columns[what], unit, "s" if what == "exptime" else "deg", named.names[what])
            continue
        value = altdata.get(what)
        made[what] = np.full(n, np.nan if value is None else float(value))
    bright = brightness_of(_measured(columns, named, altdata), n, remarks)
    limit = bright.pop("limit")
    made |= bright
    made["flag"] = _flags(columns, named, altdata, remarks) | limit
    if limit.any():
        remarks.append(f"{int(limit.sum())} of {n} epochs are limits, no detections: they are flagged")
    usual = named.format.facts.get("filter") if named.format else ""
    once_named = np.full(n, str(altdata.get("filter") or usual or ""))
    made["filter"] = words_of(columns["filter"]) if "filter" in columns else once_named
    made |= {name: raw[name] for name in also}
    kept = np.isfinite(made["mjd"])
    if n and not (np.isfinite(made["flux"]) | np.isfinite(made["mag"]) | limit).any():
        remarks.append(f"none of {n} epochs has a brightness")
    order = np.flatnonzero(kept)[np.argsort(made["mjd"][kept], kind="stable")]
    return {name: values[order] for name, values in made.items()}


def _selected(raw: Columns, named: ColumnMap, remarks: list[str]) -> Columns:
    """Return the columns by their meaning."""
    if named.format is None:
        return {what: raw[name] for what, name in named.names.items()}
    by_name = prepared(named.format, raw, _plain_names(tuple(raw))[0], remarks)
    found = {what: by_name.get(named.format.columns.get(what, ""), raw.get(name)) for what, name in named.names.items()}
    return {what: values for what, values in found.items() if values is not None}


def _check(raw: Columns, named: ColumnMap) -> None:
    """Raise Unprocessable if times or brightness are missing, and say how to name them."""
    absent = [name for name in named.names.values() if name not in raw and named.format is None]
    if absent:
        hint = did_you_mean(absent[0], raw)
        raise Unprocessable(f"no column {absent[0]!r}{hint}; raw photometry has {', '.join(raw)}")
    lacking = [] if "time" in named.names else ["time"]
    if not {"mag", "flux"}.intersection(named.names):
        lacking.append("brightness")
    if not lacking:
        return
    expected = [word for what in ("time", "mag", "flux") for word in KNOWN[what] if what not in named.names]
    hints = [f"{name!r}{did_you_mean(simplify(name), expected, 0.75)}" for name in raw]
    near = next((hint for hint in hints if "did you mean" in hint), "")
    raise Unprocessable(
        f"raw photometry needs a time and a magnitude or flux; it has {', '.join(raw)}; {' and '.join(lacking)} not "
        f"found{'; ' + near if near else ''}; name a format, or the columns by their meaning: "
        "columns: {time: …, mag: …}"
    )


def _by_band(raw: Columns, altdata: Mapping[str, Any]) -> Columns:
    """Return a table with columns of magnitudes named after filters (V, Vmag, mag_V) as one with a filter column."""
    found = {band: columns for band in BANDS if (columns := _columns_of_band(raw, band))}
    if not found:
        return raw
    ours = {name for columns in found.values() for name in columns if name}
    parts: dict[str, list[NDArray[Any]]] = {}
    for band, (mag, error) in found.items():
        n = len(raw[mag])
        part = {name: values for name, values in raw.items() if name not in ours}
        own_filter = str(altdata.get("filter") or band) if len(found) == 1 else band
        part |= {
            "mag": raw[mag],
            "magerr": raw[error] if error else np.full(n, np.nan),
            "filter": np.full(n, own_filter),
        }
        for name, values in part.items():
            parts.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _columns_of_band(raw: Columns, band: str) -> tuple[str, str] | None:
    """Return the magnitude of a filter and its error, which may be empty; None if there is none."""
    mag = next((name for name in raw if _is_of_band(name, band)), None)
    if mag is None:
        return None
    b, m = re.escape(band), r"[ _]?(?:mag)?"
    before, after = r"(?:e|d|err|error|sig|sigma|unc)_?", r"_?(?:e|err|error|unc|uncertainty|sigma)"
    error = rf"{before}{b}{m}|{b}{m}{after}|(?:[a-z]+)?[mM]ag_?[eE]rr_?{b}|(?:e|d)_?mag_?{b}"
    errors = [name for name in raw if re.fullmatch(error, name)]
    others = [name for name in raw if simplify(name) in (*ANY_ERROR, *KNOWN["mag_err"])]
    return mag, next(iter(errors or others), "")


def _is_of_band(name: str, band: str) -> bool:
    b = re.escape(band)
    usual = rf"{b}[ _]?(?:mag|magnitude)|(?:[a-z]*[mM]ag|magnitude|m)_{b}|(?:mag|magnitude) ?\({b}\)"
    is_usual = re.fullmatch(rf"{usual}|phot_{b.lower()}_mean_mag", name) is not None
    return is_usual or (name == band and band in BARE_BANDS)


def _measured(columns: Columns, named: ColumnMap, altdata: Mapping[str, Any]) -> Measured:
    units = dict(named.units)
    if "flux" not in units and "flux_err" in units:
        units["flux"] = units["flux_err"]
    given = known(altdata.get("zero_point"))
    return Measured(
        columns.get("mag"),
        columns.get("mag_err"),
        columns.get("flux"),
        columns.get("flux_err"),
        dict(named.names),
        units,
        given if given is not None or "zero_point" not in columns else numbers_of(columns["zero_point"]),
        known(altdata.get("mag")),
    )


def _flags(columns: Columns, named: ColumnMap, altdata: Mapping[str, Any], remarks: list[str]) -> NDArray[np.bool_]:
    if "flag" not in columns:
        return np.zeros(len(columns["time"]), bool)
    name = named.names["flag"]
    is_good = simplify(name) in quality_words.GOOD_COLUMNS
    good = altdata.get("good_flags") or ()
    return quality_words.flags_of(columns["flag"], name, is_good=is_good, good=good, remarks=remarks)


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
        It has no times, or they make no sense.
    """
    raw = {str(name): values for name, values in raw.items()}
    named = map_columns(list(raw), altdata)
    if "time" not in named.names:
        raise Unprocessable(f"raw photometry needs a time; it has {', '.join(raw)}")
    return _mjd(_times(raw, _selected(raw, named, []), named), named, altdata, [])


def _times(raw: Columns, columns: Columns, named: ColumnMap) -> NDArray[Any]:
    """Return the column of times, with times of day that have a column of their own."""
    name = named.names["time"]
    return with_times_of_day(raw, name) if named.format is None and name in raw else columns["time"]


def _mjd(values: NDArray[Any], named: ColumnMap, altdata: Mapping[str, Any], remarks: list[str]) -> NDArray[np.float64]:
    position = altdata.get("ra"), altdata.get("dec")
    unit = named.units.get("time", "")
    found = parsed_unit(unit) if unit and not named.time.kind.startswith("unix") else None
    if found is not None and found.physical_type == "time" and str(found) != "d":
        raise Unprocessable(f"times of {named.names['time']!r} are in {unit}: expected days, as JD or MJD, or dates")
    return mjd_of_times(values, named.time, named.names["time"], position, remarks)
