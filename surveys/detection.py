"""Detections: events that were found in light curves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from obsarchive.science.astrometry.times import MJD_1970
from surveys.display import card, line


class DetectionMixin:
    """Base of the classes of detections: what relates them to their source and to the database."""

    source_name: str

    @property
    def identifier(self) -> str:
        """Identifier in the database."""
        raise NotImplementedError

    @property
    def source_id(self) -> str:
        """Name of the source: the same as `source_name`."""
        return self.source_name

    @property
    def id(self) -> str:
        """Identifier in the database: the same as `identifier`."""
        return self.identifier


@dataclass
class Detection(DetectionMixin):
    """An event in the light curve of a source.

    Parameters
    ----------
    source_name, observatory : str
        Source and observatory of the light curve.
    run : str
        Folder of the project that found it.
    filter : str
        Filter of the light curve.
    series_number, number : int
        Number of the light curve, and of the event in it; the strongest is 1.
    method : str
        ``peak`` or ``matched filter``, or the name of the method of a user's own finder.
    score : float
        S/N; positive: brighter, negative: fainter.
    mjd_start, mjd_peak, mjd_stop : float
        Times of the first, the strongest and the last epoch, MJD [d].
    peak_mag : float or None
        Magnitude at the peak: of the strongest epoch, which noise may have made so.
    peak_mag_error : float or None
        Its error.
    n_epochs : int
        Number of epochs of the event.
    width_d, amplitude : float or None
        Width [d] and amplitude [µJy] of the best-fitting template.
    fit : dict
        Of a template fitted freely: ``mjd``, ``width_d`` and ``amplitude`` [µJy], each with its error,
        ``mjd_error_d``, ``width_error_d``, ``amplitude_error``; empty where none could be fitted.
    quality : bool
        Whether one of its epochs is flagged.
    simulated : bool
        Whether it is an injected event; these are kept apart from real ones.
    sim_pars : dict
        Parameters of the injected event.
    cfg_hash : str
        Hash of the configuration.
    also_seen : list of dict
        Weaker detections of the same event: in other filters or seasons, or by other methods.
    """

    source_name: str = ""
    observatory: str = ""
    run: str = ""
    filter: str = ""
    series_number: int = 1
    number: int = 1
    method: str = "peak"
    score: float = 0.0
    mjd_start: float = 0.0
    mjd_peak: float = 0.0
    mjd_stop: float = 0.0
    peak_mag: float | None = None
    peak_mag_error: float | None = None
    n_epochs: int = 1
    width_d: float | None = None
    amplitude: float | None = None
    fit: dict[str, float] = field(default_factory=dict)
    quality: bool = False
    simulated: bool = False
    sim_pars: dict[str, Any] = field(default_factory=dict)
    cfg_hash: str = ""
    also_seen: list[dict[str, Any]] = field(default_factory=list)

    @property
    def snr(self) -> float:
        """Signal to noise ratio."""
        return self.score

    @property
    def time_peak(self) -> datetime:
        """Time of the strongest epoch."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=self.mjd_peak - MJD_1970)

    @property
    def identifier(self) -> str:
        """Identifier in the database: the same for the same event in every run."""
        kind = f"simulated {self.sim_pars.get('number', 1)}" if self.simulated else "real"
        return f"{self.run}/{self.source_name}/{self.observatory}/{self.series_number}/{kind}/{self.number}"

    def _facts(self) -> dict[str, Any]:
        return {
            **{"source": self.source_name, "project": self.run, "seen_in": f"{self.observatory} {self.filter}".strip()},
            **{"score": round(self.score, 1), "mjd_peak": round(self.mjd_peak, 3), "peak_mag": self.peak_mag},
            **{"mjd_start": round(self.mjd_start, 3), "mjd_stop": round(self.mjd_stop, 3), "n_epochs": self.n_epochs},
            **{"method": self.method, "also_seen": len(self.also_seen) or None},
            **{"quality": "flagged" if self.quality else None, "simulated": self.simulated or None},
        }

    __repr__ = line
    _repr_html_ = card

    def document(self) -> dict[str, Any]:
        """Return the document for the database."""
        return {"_id": self.identifier, **vars(self), "strength": abs(self.score)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the detection of a document."""
        return cls(**{known.name: document[known.name] for known in fields(cls) if known.name in document})


DetectionInTime = Detection
"""The name of virtualobserver."""
