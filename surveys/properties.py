"""Properties: the summary of the analysis of a source."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from obsarchive.core.documents import utc_now
from surveys.display import card, line


@dataclass
class Properties:
    """Summary of a source in a project; if it exists, the source was analysed.

    Parameters
    ----------
    source_name, run : str
        Name of the source and folder of the project.
    cfg_hash : str
        Hash of the configuration.
    state : str
        ``done``, or ``failed`` with a `reason`.
    reason : str
        Why the analysis failed.
    has_data : bool
        Whether there was any light curve.
    n_detections : int
        Number of real events.
    features : dict
        Features by observatory and filter.
    inputs : dict
        Checksums of the raw photometry, by observatory.
    extra : dict
        Results of a user's own analysis.
    """

    source_name: str = ""
    run: str = ""
    cfg_hash: str = ""
    state: str = "done"
    reason: str = ""
    has_data: bool = False
    n_detections: int = 0
    features: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def source_id(self) -> str:
        """Name of the source: the same as `source_name`."""
        return self.source_name

    @property
    def id(self) -> str:
        """Identifier in the database: the same as `identifier`."""
        return self.identifier

    @property
    def identifier(self) -> str:
        """Identifier in the database."""
        return f"{self.run}/{self.source_name}"

    def _facts(self) -> dict[str, Any]:
        bands = {band: _in_words(found) for band, found in self.features.items()}
        return {
            **{"source": self.source_name, "project": self.run, "state": self.state, "reason": self.reason},
            **{"has_data": self.has_data, "n_detections": self.n_detections, **bands, **self.extra},
        }

    __repr__ = line
    _repr_html_ = card

    def document(self) -> dict[str, Any]:
        """Return the document for the database."""
        return {"_id": self.identifier, **vars(self), "stale": False, "made": utc_now()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the properties of a document."""
        names = cls.__dataclass_fields__
        return cls(**{name: document[name] for name in names if name in document})


def _in_words(features: Mapping[str, float]) -> str:
    names = ("n", "median_mag", "scatter_mag", "amplitude_mag")
    return ", ".join(f"{name} {features[name]:.4g}" for name in names if name in features)
