"""Events that were found in light curves."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from obsarchive.science.astrometry.times import MJD_1970


@dataclass
class Detection:
    """An event in the light curve of a source.

    Parameters
    ----------
    source_name, observatory : str
        In whose photometry it was found.
    run : str
        Folder of the project that found it.
    filter : str
        Filter of the light curve.
    series_number, number : int
        Number of the light curve, and of the event in it; the strongest is 1.
    method : str
        ``peak`` or ``matched filter``, or whatever a finder of somebody's own calls its way.
    score : float
        S/N; positive: brighter, negative: fainter.
    mjd_start, mjd_peak, mjd_stop : float
        When it began, was strongest, and ended [d].
    peak_mag : float or None
        Magnitude at the peak.
    n_epochs : int
        Epochs that deviate.
    width_d, amplitude : float or None
        Width [d] and amplitude [µJy] of the template that fits best.
    quality : bool
        Whether one of its epochs is flagged.
    simulated : bool
        Whether it was put in by a simulator; kept apart from what is real.
    sim_pars : dict
        What was put in.
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
    n_epochs: int = 1
    width_d: float | None = None
    amplitude: float | None = None
    quality: bool = False
    simulated: bool = False
    sim_pars: dict[str, Any] = field(default_factory=dict)
    cfg_hash: str = ""

    @property
    def snr(self) -> float:
        """Signal to noise ratio."""
        return self.score

    @property
    def time_peak(self) -> datetime:
        """When it was strongest."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=self.mjd_peak - MJD_1970)

    @property
    def identifier(self) -> str:
        """What it is called in the database: the same event has the same name whenever it is found."""
        kind = f"simulated {self.sim_pars.get('number', 1)}" if self.simulated else "real"
        return f"{self.run}/{self.source_name}/{self.observatory}/{self.series_number}/{kind}/{self.number}"

    def document(self) -> dict[str, Any]:
        """Return what the database keeps of it."""
        return {"_id": self.identifier, **vars(self), "strength": abs(self.score)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what a document stands for."""
        return cls(**{known.name: document[known.name] for known in fields(cls) if known.name in document})
