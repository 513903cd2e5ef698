"""Positions that are on none of the frames of a dataset: how far from them, and which confusion may be the reason."""

import numpy as np

from obsarchive.science.arrays import Float64Array
from obsarchive.science.astrometry.spherical import unit_vectors
from obsarchive.timeseries.names import CONFIGURATION

HOURS = 15.0
"""Degrees in an hour of right ascension."""
MARGIN = 1.2
"""A confusion explains a position if it leads so near to the field, in units of its radius."""


def explain_distance(position: tuple[float, float], stars: tuple[Float64Array, Float64Array]) -> str:
    """Return how far a position is from a field, and which confusion would put it inside.

    Parameters
    ----------
    position : (float, float)
        Right ascension and declination [deg].
    stars : (ndarray (n,), ndarray (n,))
        Right ascensions and declinations of stars all over the field [deg].

    Returns
    -------
    str
        Such as ``12.3 deg from the middle of the field at 180.0000 +45.0000; right ascension and declination seem to be
        swapped``.
    """
    vectors = unit_vectors(*stars)
    middle = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    radius = float(_apart_deg(vectors, middle).max())

    def distance(ra: float, dec: float) -> float:
        return float(_apart_deg(unit_vectors(np.array([ra]), np.array([dec])), middle)[0])

    centre = np.degrees(np.arctan2(middle[1], middle[0])) % 360, np.degrees(np.arcsin(middle[2]))
    found = distance(*position)
    size = f"{found:.2f} deg" if found >= 1 else f"{60 * found:.2f} arcmin"
    text = f"{size} from the middle of the field at {centre[0]:.4f} {centre[1]:+.4f}"
    for ra, dec, confusion in _confusions(*position):
        if abs(dec) <= 90 and distance(ra, dec) < MARGIN * radius:
            return f"{text}; {confusion}: {ra % 360:.4f} {dec:+.4f} would be inside"
    return text


def target_outside(position: tuple[float, float], stars: tuple[Float64Array, Float64Array]) -> str:
    """Return the message about a target that is on no frame.

    Parameters
    ----------
    position, stars
        As of `explain_distance`.

    Returns
    -------
    str
        The message.
    """
    return (
        f"the target at {position[0]:.4f} {position[1]:+.4f} is on none of the frames, but "
        f"{explain_distance(position, stars)}: correct target.RA and target.Dec of {CONFIGURATION}"
    )


def _apart_deg(vectors: Float64Array, other: Float64Array) -> Float64Array:
    half = np.linalg.norm(vectors - other, axis=-1) / 2
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(half, 1.0))))


def _confusions(ra: float, dec: float) -> list[tuple[float, float, str]]:
    hours = "the right ascension seems to be in degrees where hours were read"
    degrees = "the right ascension seems to be in hours where degrees were read"
    swapped = "right ascension and declination seem to be swapped"
    return [
        (ra / HOURS, dec, hours),
        (ra * HOURS, dec, degrees),
        (dec % 360, ra if ra <= 90 else ra - 360, swapped),
        (dec * HOURS, ra / HOURS, f"{swapped}, with hours"),
        (dec * HOURS, ra, f"{swapped}, and {degrees}"),
        (ra, -dec, "the declination seems to have the wrong sign"),
        (-ra, dec, "the right ascension seems to have the wrong sign"),
    ]
