"""Entries of Gaia DR3 around a position, from the VizieR service that is configured; answers are cached on disk.

Gaia Collaboration (2023, A&A 674, A1); VizieR: https://vizier.cds.unistra.fr/doc/asu-summary.htx.
"""

import csv
import hashlib
import io
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from astropy.table import Table

from obsarchive.errors import Unprocessable
from obsarchive.remote.answer_files import cached_file
from obsarchive.remote.http import ServiceTimeoutError, request_once
from obsarchive.remote.star_catalogs import MAX_STARS, Catalog, catalog_of
from obsarchive.science.astrometry.spherical import tangent_plane_offsets

log = logging.getLogger(__name__)

GAIA_TABLE = "I/355/gaiadr3"
STAR_COLUMNS = ("RA_ICRS", "DE_ICRS", "Gmag", "pmRA", "pmDE", "BP-RP")
TIMEOUT_S, MAX_CATALOG_BYTES = 30.0, 2**26
LIMIT_S, MAX_BYTES = 10.0, 1_000_000
"""Limits of what a page waits for."""
MAX_ENTRIES = 50
MAX_CACHED = 5000
"""Answers for pages that are cached; the ones used least recently go first."""
_COLUMNS = {
    "magnitude": "Gmag",
    "colour": "BP-RP",
    "parallax_mas": "Plx",
    "parallax_error_mas": "e_Plx",
    "pm_ra_mas": "pmRA",
    "pm_dec_mas": "pmDE",
}


@dataclass(frozen=True)
class Match:
    """An entry of Gaia DR3.

    Parameters
    ----------
    name : str
        Its name, as ``Gaia DR3 4472832130942575872``.
    distance_arcsec : float
        From the position that was asked for [arcsec], at epoch 2016.0.
    magnitude, colour : float or None
        G, and BP - RP.
    parallax_mas, parallax_error_mas : float or None
        Parallax and its error [mas].
    pm_ra_mas, pm_dec_mas : float or None
        Proper motion, in right ascension times cos(declination) [mas/yr].
    """

    name: str
    distance_arcsec: float
    magnitude: float | None = None
    colour: float | None = None
    parallax_mas: float | None = None
    parallax_error_mas: float | None = None
    pm_ra_mas: float | None = None
    pm_dec_mas: float | None = None


def gaia_near(place: tuple[float, float], radius_arcsec: float, service: str, cache: Path) -> list[Match]:
    """Return the entries of Gaia DR3 around a position, the nearest first, as a page shows them.

    Parameters
    ----------
    place : (float, float)
        Right ascension and declination [deg].
    radius_arcsec : float
        Radius of the cone [arcsec].
    service : str
        Address of VizieR's ``asu-tsv`` program.
    cache : Path
        Folder for answers.

    Returns
    -------
    list of Match
        At most `MAX_ENTRIES`.

    Raises
    ------
    ServiceTimeoutError
        The service cannot be reached, is too slow, or answers something else.
    """
    cone = {"-c": f"{place[0]:.6f} {place[1]:+.6f}", "-c.rs": f"{radius_arcsec:g}"}
    url = _address(service, cone, ("Source", "RA_ICRS", "DE_ICRS", *_COLUMNS.values()), MAX_ENTRIES)

    def ask() -> bytes:
        content = request_once("the catalogue service", url, ServiceTimeoutError, LIMIT_S, (MAX_BYTES, LIMIT_S))
        return _checked(content)

    path = cached_file(cache / f"near_{_digest(url)[:32]}.tsv", ask, MAX_CACHED)
    return sorted((_match(row, place) for row in _read_rows(path)), key=lambda match: match.distance_arcsec)


def gaia_around(
    place: tuple[float, float], radius_deg: float, service: str, cache: Path, most: int = MAX_STARS
) -> Catalog:
    """Return the stars of Gaia DR3 around a position, the brightest first.

    Parameters
    ----------
    place : (float, float)
        Right ascension and declination [deg].
    radius_deg : float
        Radius of the cone [deg].
    service : str
        Address of VizieR's ``asu-tsv`` program.
    cache : Path
        Folder for answers.
    most : int
        Largest number of stars; the brightest come.

    Returns
    -------
    Catalog
        At least one star.

    Raises
    ------
    Unprocessable
        The service cannot be reached, or its answer is none.
    """
    if not service.startswith(("https://", "http://")):
        raise Unprocessable(f"no catalogue: {service} is no http address")
    cone = {"-c": f"{place[0]:.5f} {place[1]:+.5f}", "-c.rd": f"{radius_deg:.5f}"}
    url = _address(service, cone, STAR_COLUMNS, most, {"-sort": "Gmag"})

    def ask() -> bytes:
        log.info("asking for reference stars: %s", service)
        limits = MAX_CATALOG_BYTES, math.inf
        return request_once(f"no catalogue: {service}", url, Unprocessable, TIMEOUT_S, limits)

    path = cached_file(cache / f"gaia_{_digest(url)[:20]}.tsv", ask)
    rows = _read_rows(path)
    if not rows:
        path.unlink(missing_ok=True)
        raise Unprocessable(
            f"no stars of Gaia DR3 within {radius_deg:.3f} deg of {place}: the answer of {service} is empty"
        )
    return catalog_of(Table({name: [_number(row[name]) for row in rows] for name in rows[0]}), "Gaia DR3")


def _address(
    service: str, cone: Mapping[str, str], columns: Iterable[str], most: int, more: Mapping[str, Any] | None = None
) -> str:
    query = {"-source": GAIA_TABLE, **cone, "-out": ",".join(columns), "-out.max": most, **(more or {})}
    return f"{service}?{urlencode(query)}"


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _read_rows(path: Path) -> list[dict[str, str]]:
    return _rows(path.read_text(encoding="utf-8", errors="replace"))


def _rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a tab-separated answer by its columns: comments, names, units, dashes, then the rows."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) < 4:
        return []
    names = [name.strip() for name in lines[0].split("\t")]
    rows = csv.reader(io.StringIO("\n".join(lines[3:])), delimiter="\t")
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]


def _checked(content: bytes) -> bytes:
    """Reject what is no answer of VizieR: none of its comments, or rows without what was asked for."""
    text = content.decode(errors="replace")
    rows = _rows(text)
    place = [_number(row.get(name)) for row in rows for name in ("RA_ICRS", "DE_ICRS")]
    if not text.startswith("#") or not all(map(math.isfinite, place)):
        raise ServiceTimeoutError("the catalogue service sent no table of Gaia")
    return content


def _match(row: Mapping[str, str], place: tuple[float, float]) -> Match:
    ra, dec = (np.array([_number(row.get(name))]) for name in ("RA_ICRS", "DE_ICRS"))
    east, north = tangent_plane_offsets(ra, dec, place)
    values = {key: _number(row.get(name)) for key, name in _COLUMNS.items()}
    known = {key: value if math.isfinite(value) else None for key, value in values.items()}
    return Match(f"Gaia DR3 {row.get('Source', '').strip()}", float(np.hypot(east[0], north[0])), **known)


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
