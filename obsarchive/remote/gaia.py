"""Entries of Gaia DR3 near a place, as pages show them, from the VizieR service that is configured; kept on disk."""

import hashlib
import math
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from obsarchive.remote.services import Unanswered, ask, kept
from obsarchive.remote.star_catalogs import GAIA_TABLE, vizier_rows
from obsarchive.science.astrometry.spherical import tangent_plane_offsets

LIMIT_S = 10.0
MAX_BYTES = 1_000_000
MAX_ENTRIES = 50
MAX_KEPT = 5000
"""Answers that are kept; the ones used least recently go first."""
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
        From the place [arcsec], at epoch 2016.0.
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
    """Return the entries of Gaia DR3 (Gaia Collaboration 2023, A&A 674, A1) around a place, the nearest first.

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

    Raises
    ------
    Unanswered
        The service cannot be reached, is too slow, or answers something else.
    """
    query = {
        "-source": GAIA_TABLE,
        "-c": f"{place[0]:.6f} {place[1]:+.6f}",
        "-c.rs": f"{radius_arcsec:g}",
        "-out": ",".join(("Source", "RA_ICRS", "DE_ICRS", *_COLUMNS.values())),
        "-out.max": str(MAX_ENTRIES),
    }
    url = f"{service}?{urllib.parse.urlencode(query)}"
    path = cache / f"near_{hashlib.sha256(url.encode()).hexdigest()[:32]}.tsv"
    answer = kept(path, lambda: _checked(ask("the catalogue service", url, LIMIT_S, MAX_BYTES)), MAX_KEPT)
    rows = vizier_rows(answer.read_text(encoding="utf-8", errors="replace"))
    return sorted((_match(row, place) for row in rows), key=lambda match: match.distance_arcsec)


def _checked(content: bytes) -> bytes:
    """Refuse what is no answer of VizieR: none of its comments, or rows without what was asked for."""
    text = content.decode(errors="replace")
    rows = vizier_rows(text)
    if not text.startswith("#") or any(_number(rows[0].get(name)) is None for name in ("RA_ICRS", "DE_ICRS") if rows):
        raise Unanswered("the catalogue service sent no table of Gaia")
    return content


def _match(row: dict[str, str], place: tuple[float, float]) -> Match:
    ra, dec = (np.array([_number(row.get(name)) or 0.0]) for name in ("RA_ICRS", "DE_ICRS"))
    east, north = tangent_plane_offsets(ra, dec, place)
    known = {key: _number(row.get(name)) for key, name in _COLUMNS.items()}
    return Match(f"Gaia DR3 {row.get('Source', '').strip()}", float(np.hypot(east[0], north[0])), **known)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
