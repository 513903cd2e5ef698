"""Positions for which photometry was fetched, and whether those of the catalogue are still the same."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from obsarchive.science.astrometry.spherical import unit_vectors
from surveys.formats.hdf5_light_curves import ra_zone

if TYPE_CHECKING:
    from surveys.catalog import Catalog

LEAST_ARCSEC, MOST_ARCSEC = 0.1, 1.0
FRACTION_OF_RADIUS = 0.1
"""A source has moved if it did so by this fraction of the radius of the search, within the limits above."""
PM = ("pmra", "pmdec")
YEARS = 10.0
"""A proper motion that changes moves a source by that of so many years."""


def place_of(row: Mapping[str, Any]) -> list[float | None]:
    """Return what is stored of the position of a row: ra, dec [deg], pmra, pmdec [mas/yr]; None without such a key."""
    return [float(row["ra"]), float(row["dec"]), *(float(row[name] or 0.0) if name in row else None for name in PM)]


def tolerance_arcsec(radius: float | None) -> float:
    """Return how far a source may move without another download [arcsec]; `radius` is that of the search [arcsec]."""
    return float(np.clip((radius or 0.0) * FRACTION_OF_RADIUS, LEAST_ARCSEC, MOST_ARCSEC))


def apart_arcsec(ra: float, dec: float, other_ra: float, other_dec: float) -> float:
    """Return the distance of two positions [deg] in arcsec."""
    east, north = math.radians(ra - other_ra) / 2, math.radians(dec - other_dec) / 2
    cosines = math.cos(math.radians(dec)) * math.cos(math.radians(other_dec))
    half_chord = math.hypot(math.sin(north), math.sqrt(max(0.0, cosines)) * math.sin(east))
    return math.degrees(2 * math.asin(min(1.0, half_chord))) * 3600


def moved(row: Mapping[str, Any], fetched: Mapping[str, Any], tolerance: float) -> str:
    """Return how a source has moved since its photometry was fetched.

    Parameters
    ----------
    row : mapping
        Row of the catalogue.
    fetched : mapping
        Document of its raw photometry, with `place_of` as ``place``; older ones have a ``filename`` alone.
    tolerance : float
        Smallest distance that counts [arcsec].

    Returns
    -------
    str
        Old and new position; empty if it has not moved.
    """
    ra, dec = float(row["ra"]), float(row["dec"])
    place = fetched.get("place")
    if place is None:
        name = str(fetched.get("filename") or "")
        there = name.partition("_photometry_RA")[2][:3]
        if not there.isdigit() or int(there) in {ra_zone(ra + shift) for shift in (-0.01, 0.0, 0.01)}:
            return ""
        return f"right ascension {int(there)}, now {ra:.5f} {dec:+.5f}"
    apart = apart_arcsec(ra, dec, place[0], place[1])
    if apart > tolerance:
        distance = f"{apart:.2f} arcsec" if apart < 3600 else f"{apart / 3600:.2f} deg"
        return f"{place[0]:.5f} {place[1]:+.5f}, now {ra:.5f} {dec:+.5f}, {distance} apart"
    if not set(PM) <= row.keys() or None in place:
        return ""  # rows and files of the database have no proper motion
    drift = math.hypot(*((row[name] or 0.0) - old for name, old in zip(PM, place[2:], strict=True)))
    if drift * YEARS / 1000 > tolerance:
        old = ", ".join(f"{value or 0.0:g}" for value in place[2:])
        return f"proper motion {old} mas/yr, now {row['pmra'] or 0.0:g}, {row['pmdec'] or 0.0:g}"
    return ""


def may_have_moved(catalog: "Catalog", fetched: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the row numbers and documents of sources that `moved` has to look at: a fast selection among many.

    Parameters
    ----------
    catalog : Catalog
        The sources.
    fetched : sequence of mapping
        Documents of raw photometry; those of other sources are passed over.
    """
    numbers = {name: i for i, name in enumerate(catalog.names)}
    known = [(numbers[one["source_name"]], one) for one in fetched if one["source_name"] in numbers]
    placed = [(number, one) for number, one in known if one.get("place") is not None]
    yield from ((number, one) for number, one in known if one.get("place") is None)
    if not placed:
        return
    rows = np.array([number for number, _ in placed])
    then = np.array([one["place"] for _, one in placed], np.float64)  # None becomes NaN
    ra, dec = catalog.places()
    chord = np.linalg.norm(unit_vectors(ra[rows], dec[rows]) - unit_vectors(then[:, 0], then[:, 1]), axis=1)
    drift = np.nan_to_num(catalog.proper_motions()[rows]) - np.nan_to_num(then[:, 2:])
    shift_arcsec = np.maximum(np.degrees(chord) * 3600, np.hypot(*drift.T) * YEARS / 1000)
    for i in np.flatnonzero(shift_arcsec > LEAST_ARCSEC / 2).tolist():
        yield placed[i]
