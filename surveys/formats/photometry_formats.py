"""Named formats of light curves: what the columns of well-known services and programs mean.

An adopter adds one by `register`::

    register(PhotometryFormat("mine", "My telescope", signature=("jd", "counts"), columns={"flux": "counts"}))

Preparations find columns by their simplified names (`cell_values.simplify`): lower case, without digits, blanks, signs
and an s at the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError, did_you_mean
from obsarchive.science.light_curves.light_curve import AB_MICROJANSKY
from surveys.formats.cell_values import numbers_of, simplify, words_of
from surveys.formats.hdf5_light_curves import Columns

Prepare = Callable[[dict[str, NDArray[Any]], list[str]], dict[str, NDArray[Any]]]
"""Columns by simplified names, and remarks to append to -> columns to add or replace, by simplified names."""


@dataclass(frozen=True)
class PhotometryFormat:
    """Meaning of the columns of a service or program.

    Parameters
    ----------
    name, title : str
        Name in configurations, and for people.
    signature : sequence of str
        Names by which a table is recognised; all must be there. Empty: only by its name.
    columns : mapping of str to str
        Name by meaning (``time``, ``mag``, ``mag_err``, ``flux``, ``flux_err``, ``filter``, ``flag``);
        others are recognised as in any table, but no other magnitude or flux.
    facts : mapping
        Metadata: ``time_scale``, ``time_offset`` [d], ``time_system``, ``units``, ``zero_point``; those given with the
        data win.
    headerless : sequence of sequence of str
        Names of the columns of files that have none: the longest that a file has columns for.
    suffixes : sequence of str
        Endings of the names of such files.
    prepare : callable, optional
        Computes columns that need more than a name.
    filters : mapping of str to str
        Names of filters, by those of the service.
    """

    name: str
    title: str
    signature: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    headerless: Sequence[Sequence[str]] = ()
    suffixes: Sequence[str] = ()
    prepare: Prepare | None = None
    filters: Mapping[str, str] = field(default_factory=dict)


FORMATS: dict[str, PhotometryFormat] = {}
"""All named formats."""


def register(made: PhotometryFormat) -> None:
    """Add a format, or replace the one of this name; names of its columns may be written as in the files."""
    signature = tuple(simplify(name) for name in made.signature)
    columns = {what: simplify(name) for what, name in made.columns.items()}
    FORMATS[made.name] = replace(made, signature=signature, columns=columns)


def format_named(name: str) -> PhotometryFormat:
    """Return a format by its name.

    Raises
    ------
    ConfigError
        There is none.
    """
    if name.lower() not in FORMATS:
        raise ConfigError(
            f"no format of light curves {name!r}{did_you_mean(name.lower(), FORMATS)}; known are "
            f"{', '.join(sorted(FORMATS))}"
        )
    return FORMATS[name.lower()]


def format_of(plain: Mapping[str, str], named: str = "") -> PhotometryFormat | None:
    """Return the format of a table: the named one, or the one whose signature it has; None if there is none.

    Parameters
    ----------
    plain : mapping of str to str
        Names of columns by their simplified names.
    named : str
        Name of the format, if it was given.

    Returns
    -------
    PhotometryFormat or None
    """
    if named:
        return format_named(named)
    found = [made for made in FORMATS.values() if made.signature and all(name in plain for name in made.signature)]
    return max(found, key=lambda made: len(made.signature), default=None)


# ------------------------------------------------------------------------------------------------ preparations


def _asassn(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return the magnitudes with limits marked: the survey writes an error of 99.99 beside them."""
    mag, error = words_of(columns["mag"]), columns.get("magerr", columns.get("magerror"))
    if error is None:
        return {}
    is_limit = (numbers_of(error) > 90) & ~np.strings.startswith(mag, ">") & (mag != "")
    return {"mag": np.where(is_limit, np.strings.add(">", mag), mag)}


def _aavso(columns: dict[str, NDArray[Any]], remarks: list[str]) -> dict[str, NDArray[Any]]:
    """Note differential magnitudes."""
    kinds = np.strings.upper(words_of(columns["mtype"])) if "mtype" in columns else np.empty(0, "U1")
    if (kinds == "DIF").any():
        remarks.append(
            f"{int((kinds == 'DIF').sum())} magnitudes are differential (MTYPE DIF): their fluxes are relative"
        )
    return {}


def _aavso_download(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return flags of what the validation of AAVSO calls discrepant."""
    status = np.strings.upper(words_of(columns.get("validationflag", np.empty(0, "U1"))))
    return {"quality": ~np.isin(status, ("", "V", "Z", "U", "P", "Y"))} if len(status) else {}


BAD_INFOBITS = 2**25
"""ZTF's images with this bit or a higher one are not fit for photometry (Masci et al. 2023, arXiv:2305.16279)."""
HARMLESS_PROCSTATUS = {"0", "57", "58", "60", "", "nan", "null"}
"""Codes of ZTF's forced photometry that do not concern the quality of an epoch."""


def _ztf_forced(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return difference fluxes in µJy, from counts with a zero point for each image."""
    factor = 10 ** (0.4 * (AB_MICROJANSKY - numbers_of(columns["zpdiff"])))
    flags = np.zeros(len(factor), bool)
    if "infobitssci" in columns:
        flags |= numbers_of(columns["infobitssci"]) >= BAD_INFOBITS
    if "procstatu" in columns:
        codes = (set(word.removesuffix(".0").split(",")) for word in words_of(columns["procstatu"]).tolist())
        flags |= np.array([not found <= HARMLESS_PROCSTATUS for found in codes], bool)
    return {
        "flux": numbers_of(columns["forcediffimflux"]) * factor,
        "fluxerr": numbers_of(columns["forcediffimfluxunc"]) * factor,
        "flag": flags,
    }


GAIA_AB = {"G": 25.8010446445, "BP": 25.3539555559, "RP": 25.1039837393}
"""AB zero points of Gaia's fluxes in electrons a second (Riello et al. 2021, A&A 649, A3)."""


def _gaia(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return fluxes in µJy, from electrons a second with the zero point of each band."""
    bands = np.strings.upper(words_of(columns["band"]))
    points = np.array([GAIA_AB.get(band, np.nan) for band in bands.tolist()])
    factor = 10 ** (0.4 * (AB_MICROJANSKY - points))
    return {
        "ujy": numbers_of(columns["flux"]) * factor,
        "ujyerr": numbers_of(columns["fluxerror"]) * factor,
    }


def _pan_starrs(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return flags of detections of which a tenth of the PSF or more is masked."""
    coverage = columns.get("psfqfperfect")
    return {} if coverage is None else {"flag": ~(numbers_of(coverage) >= 0.9)}


def _archiver(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return flags without the bit of stars that were measured by PSF fitting, which is no fault."""
    return {"flag": (numbers_of(columns["flag"]).astype(np.int64) & ~32) != 0}


def _with_full_hjd(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return times from 2450000 on, which the survey leaves away."""
    return {"hjd": _full_dates(numbers_of(columns["hjd"]))}


def _with_full_jd(columns: dict[str, NDArray[Any]], _: list[str]) -> dict[str, NDArray[Any]]:
    """Return times from 2450000 on, as above."""
    return {"jd": _full_dates(numbers_of(columns["jd"]))}


def _full_dates(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Julian dates, also of those that are counted from 2450000."""
    return np.where(days < 30_000, days + 2_450_000, days)


# ----------------------------------------------------------------------------------------------------- formats

_AAVSO = ("NAME", "DATE", "MAG", "MERR", "FILT")
_UJY = {"flux": "uJy", "flux_err": "uJy"}
_MJY = {"flux": "mJy", "flux_err": "mJy"}

for _made in (
    PhotometryFormat(
        "atlas",
        "ATLAS forced photometry",
        signature=("MJD", "uJy", "duJy"),
        # not m: it is negative where the flux is
        columns={"time": "MJD", "flux": "uJy", "flux_err": "duJy", "filter": "F", "flag": "err"},
        facts={"units": _UJY},
    ),
    PhotometryFormat(
        "asassn",
        "ASAS-SN Sky Patrol, version 1",
        signature=("hjd", "camera", "fwhm", "limit", "mag", "flux"),
        columns={"time": "hjd", "mag": "mag", "flux": "flux"},
        facts={"units": _MJY},
        prepare=_asassn,
    ),
    PhotometryFormat(
        "asassn2",
        "ASAS-SN Sky Patrol, version 2 (website, pyasassn)",
        signature=("jd", "camera", "fwhm", "limit", "quality", "mag", "flux"),
        columns={"time": "jd", "mag": "mag", "flux": "flux", "flag": "quality"},
        facts={"units": _MJY},
        prepare=_asassn,
    ),
    PhotometryFormat(
        "aavso_extended",
        "AAVSO extended format",
        signature=("DATE", "MAG", "MERR", "FILT"),
        columns={"time": "date", "mag": "mag", "mag_err": "merr", "filter": "filt"},
        headerless=(
            (*_AAVSO, "TRANS", "MTYPE", "CNAME", "CMAG", "KNAME", "KMAG", "AMASS", "GROUP", "CHART", "NOTES"),
            _AAVSO,
        ),
        prepare=_aavso,
    ),
    PhotometryFormat(
        "aavso_visual",
        "AAVSO visual format",
        columns={"time": "DATE", "mag": "MAG"},
        facts={"filter": "Vis."},
        headerless=(("NAME", "DATE", "MAG", "COMMENTCODE", "COMP1", "COMP2", "CHART", "NOTES"),),
    ),
    PhotometryFormat(
        "aavso_download",
        "AAVSO download (WebObs, Data Download)",
        signature=("jd", "magnitude", "uncertainty", "band"),
        columns={"time": "jd", "mag": "magnitude", "mag_err": "uncertainty", "filter": "band", "flag": "quality"},
        prepare=_aavso_download,
    ),
    PhotometryFormat(
        "ztf_forced",
        "ZTF forced photometry service",
        signature=("jd", "forcediffimflux", "forcediffimfluxunc", "zpdiff"),
        columns={"time": "jd", "flux": "flux", "flux_err": "fluxerr", "filter": "filter", "flag": "flag"},
        facts={"units": _UJY},
        prepare=_ztf_forced,
        filters={"ZTF_g": "g", "ZTF_r": "r", "ZTF_i": "i"},
    ),
    PhotometryFormat(
        "ztf",
        "ZTF light curves (IRSA)",
        signature=("hjd", "mjd", "mag", "magerr", "catflags", "filtercode"),
        columns={"time": "mjd", "mag": "mag", "mag_err": "magerr", "filter": "filtercode", "flag": "catflags"},
    ),
    PhotometryFormat(
        "gaia",
        "Gaia epoch photometry (DataLink)",
        signature=("transit_id", "band", "time", "flux", "flux_error", "rejected_by_photometry"),
        columns={
            "time": "time",
            "mag": "mag",
            "flux": "ujy",
            "flux_err": "ujyerr",
            "filter": "band",
            "flag": "rejected_by_photometry",
        },
        facts={"time_scale": "bjd", "time_offset": 2_455_197.5, "time_system": "tcb", "units": _UJY},
        prepare=_gaia,
    ),
    PhotometryFormat(
        "panstarrs",
        "Pan-STARRS DR2 detections",
        signature=("obsTime", "psfFlux", "psfFluxErr", "filterID"),
        columns={"time": "obsTime", "flux": "psfFlux", "flux_err": "psfFluxErr", "filter": "filterID", "flag": "flag"},
        facts={"time_scale": "mjd", "units": {"flux": "Jy", "flux_err": "Jy"}},
        prepare=_pan_starrs,
        filters={"1": "g", "2": "r", "3": "i", "4": "z", "5": "y"},
    ),
    PhotometryFormat(
        "lsst",
        "Rubin LSST sources",
        signature=("midpointMjdTai", "psfFlux", "psfFluxErr", "band"),
        columns={"time": "midpointMjdTai", "flux": "psfFlux", "flux_err": "psfFluxErr", "filter": "band"},
        facts={"units": {"flux": "nJy", "flux_err": "nJy"}},
    ),
    PhotometryFormat(
        "archiver",
        "lightcurve.ecsv of a dataset of this archive",
        signature=("time_mjd_utc", "time_bjd_tdb", "flux", "mag", "limit", "flags"),
        columns={"time": "time_mjd_utc", "mag": "mag", "flux": "flux", "flag": "flags"},
        facts={"time_scale": "mjd"},
        prepare=_archiver,
    ),
    PhotometryFormat(
        "exoplanet_archive",
        "NASA Exoplanet Archive light curves",
        signature=("JD", "RELATIVE_MAGNITUDE", "MAGNITUDE_UNCERTAINTY"),
        columns={"time": "jd", "mag": "RELATIVE_MAGNITUDE", "mag_err": "MAGNITUDE_UNCERTAINTY"},
    ),
    PhotometryFormat(
        "ogle",
        "OGLE (phot.dat of the Early Warning System, light curves of the catalogues)",
        columns={"time": "hjd", "mag": "mag"},
        headerless=(("hjd", "mag", "magerr", "seeing", "sky"), ("hjd", "mag", "magerr")),
        suffixes=("phot.dat",),
        prepare=_with_full_hjd,
    ),
    PhotometryFormat(
        "kmtnet",
        "KMTNet (pySIS, DIA)",
        signature=("hjd", "deltaflux", "mag", "magerr", "secz"),
        columns={"time": "hjd", "mag": "mag"},
        headerless=(
            ("hjd", "delta_flux", "flux_err", "mag", "mag_err", "fwhm", "sky", "secz"),
            ("hjd", "mag", "magerr"),
        ),
        suffixes=(".pysis", ".diapl"),
        prepare=_with_full_hjd,
    ),
    PhotometryFormat(
        "moa",
        "MOA (difference photometry)",
        columns={"time": "jd", "flux": "delta_flux"},
        facts={"units": {"flux": "adu", "flux_err": "adu"}},
        headerless=(("jd", "delta_flux", "flux_err"),),
        prepare=_with_full_jd,
    ),
):
    register(_made)


def prepared(made: PhotometryFormat, raw: Columns, plain: Mapping[str, str], remarks: list[str]) -> Columns:
    """Return the columns of a format by simplified names, with those that it computes and its own names of filters.

    Parameters
    ----------
    made : PhotometryFormat
        The format.
    raw : dict of str to ndarray (n,)
        Columns as the survey returned them.
    plain : mapping of str to str
        Their names by simplified names.
    remarks : list of str
        What a person should know is appended.

    Returns
    -------
    dict of str to ndarray (n,)
    """
    columns = {simple: raw[name] for simple, name in plain.items()}
    if made.prepare is not None:
        columns |= made.prepare(columns, remarks)
    band = made.columns.get("filter", "")
    if made.filters and band in columns:
        names = [made.filters.get(word.removesuffix(".0"), word) for word in words_of(columns[band]).tolist()]
        columns[band] = np.array(names, dtype="U")
    return columns
