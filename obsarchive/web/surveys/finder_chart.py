"""A finder chart of what catalogues have around a source: north up, east left, in arcseconds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from obsarchive.science.astrometry.spherical import tangent_plane_offsets
from obsarchive.store import Document

RADIUS_ARCSEC = 60.0
LARGEST_DOT, SMALLEST_DOT = 4.5, 1.0


@dataclass(frozen=True)
class Neighbour:
    """A source on a finder chart: offsets to the west and south [arcsec], as the chart counts, and its dot."""

    document: Document
    x: float
    y: float
    dot: float

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document["_id"])

    @property
    def distance_arcsec(self) -> float:
        """Distance from the middle."""
        return math.hypot(self.x, self.y)


@dataclass(frozen=True)
class Chart:
    """A finder chart, north up, east left, in arcseconds: the source in the middle and what is around it."""

    middle: Neighbour
    others: list[Neighbour]
    radius: float = RADIUS_ARCSEC


def chart(source: Document, found: Sequence[Document]) -> Chart:
    """Return the finder chart of a source.

    Parameters
    ----------
    source : dict
        The source in the middle.
    found : sequence of dict
        Sources around it; itself may be among them.

    Returns
    -------
    Chart
        The source and its neighbours with their offsets [arcsec].
    """
    others = [other for other in found if other["_id"] != source["_id"]]
    everything = [source, *others]
    ra, dec = (np.array([float(one[key]) for one in everything]) for key in ("ra_deg", "dec_deg"))
    east, north = tangent_plane_offsets(ra, dec, (ra[0], dec[0]))
    dots = _dots([one.get("mag") for one in everything])
    neighbours = [
        Neighbour(one, round(-float(x), 2), round(-float(y), 2), dot)
        for one, x, y, dot in zip(everything, east, north, dots, strict=True)
    ]
    return Chart(neighbours[0], neighbours[1:])


def _dots(magnitudes: Sequence[Any]) -> list[float]:
    """Return radii of dots: the brightest has the largest, 5 mag fainter the smallest."""
    known = [float(mag) for mag in magnitudes if isinstance(mag, int | float) and math.isfinite(mag)]
    brightest = min(known, default=0.0)
    slope = (LARGEST_DOT - SMALLEST_DOT) / 5
    return [
        round(max(SMALLEST_DOT, LARGEST_DOT - slope * (float(mag) - brightest)), 2)
        if isinstance(mag, int | float) and math.isfinite(mag)
        else SMALLEST_DOT
        for mag in magnitudes
    ]
