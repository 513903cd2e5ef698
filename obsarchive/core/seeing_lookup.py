"""Observing conditions of a night, and what of them belongs to an observation."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from obsarchive.core.document_types.observations import ObservationSeeing

NEAREST = timedelta(hours=1)
"""A seeing measurement farther away in time is not assigned to an observation."""


def nearest_seeing(frames: Sequence[Mapping[str, Any]], when: datetime) -> ObservationSeeing:
    """Return the seeing of an observation: the night's median, and the measurement nearest in time.

    Parameters
    ----------
    frames : sequence of mapping
        Measurements of the night: ``date_utc`` (ISO 8601 text), ``fwhm_arcsec`` [arcsec] or None.
    when : datetime
        Time of the observation, aware.

    Returns
    -------
    ObservationSeeing
        ``median_arcsec``, ``nearest_arcsec``, ``nearest_utc``; None for what is not known.
    """
    known = [
        (datetime.fromisoformat(str(frame["date_utc"])), float(frame["fwhm_arcsec"]))
        for frame in frames
        if frame.get("fwhm_arcsec") is not None
    ]
    nearest = min(known, key=lambda item: abs(item[0] - when), default=None)
    if nearest is not None and abs(nearest[0] - when) > NEAREST:
        nearest = None
    return {
        "median_arcsec": median(value for _, value in known) if known else None,
        "nearest_arcsec": nearest[1] if nearest else None,
        "nearest_utc": nearest[0] if nearest else None,
    }
