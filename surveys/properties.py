"""What an analysis says of a source as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from obsarchive.core.documents import utc_now


@dataclass
class Properties:
    """Summary of a source in a project; that it exists says that the source was analysed.

    Parameters
    ----------
    source_name, run : str
        Which source, in which project.
    cfg_hash : str
        Configuration that made it.
    state : str
        ``done``, or ``failed`` with a reason.
    has_data : bool
        Whether any light curve was there.
    n_detections : int
        Real events.
    features : dict
        Features by observatory and filter.
    inputs : dict
        Checksums of the raw photometry that it rests on, by observatory.
    extra : dict
        Whatever an analysis of somebody's own adds.
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
    def identifier(self) -> str:
        """What it is called in the database."""
        return f"{self.run}/{self.source_name}"

    def document(self) -> dict[str, Any]:
        """Return what the database keeps of it."""
        return {"_id": self.identifier, **vars(self), "stale": False, "made": utc_now()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what a document stands for."""
        names = cls.__dataclass_fields__
        return cls(**{name: document[name] for name in names if name in document})
