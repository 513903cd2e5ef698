"""Observing conditions of a night, and what of them belongs to an observation."""

from datetime import datetime, timedelta
from statistics import median

from obsarchive.core.document_types.observations import ObservationSeeing
from obsarchive.core.documents import Night

NEAREST = timedelta(hours=1)
"""A seeing measurement farther away in time is not assigned to an observation."""


def nearest_seeing(night: Night, when: datetime) -> ObservationSeeing:
    """Return the seeing of an observation: the night's median, and the measurement nearest in time.

    Parameters
    ----------
    night : Night
        The night, with the seeing that was measured in it.
    when : datetime
        Time of the observation, aware.

    Returns
    -------
    ObservationSeeing
        ``median_arcsec``, ``nearest_arcsec``, their errors, ``nearest_utc``; None for what is not known.
    """
    known = [
        (datetime.fromisoformat(str(frame["date_utc"])), float(frame["fwhm_arcsec"]), frame.get("fwhm_error_arcsec"))
        for frame in night.seeing_frames()
        if frame.get("fwhm_arcsec") is not None
    ]
    nearest = min(known, key=lambda item: abs(item[0] - when), default=None)
    if nearest is not None and abs(nearest[0] - when) > NEAREST:
        nearest = None
    return {
        "median_arcsec": median(value for _, value, _ in known) if known else None,
        "median_error_arcsec": night.seeing_median_error if known else None,
        "nearest_arcsec": nearest[1] if nearest else None,
        "nearest_error_arcsec": nearest[2] if nearest else None,
        "nearest_utc": nearest[0] if nearest else None,
    }
