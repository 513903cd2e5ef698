"""Masters of a night, and what calibration its science needs; both are read with defaults for missing fields."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from obsarchive.core.document_types.nights import CalibrationNeedDocument, MasterDocument
from obsarchive.core.values import as_shape


@dataclass(frozen=True)
class Master:
    """A master dark or flat of a night."""

    kind: str
    key: str
    """Mode of a dark, filter of a flat."""
    shape: tuple[int, int]
    signature: str
    origin: str
    """``own``, or ``copied from yyyymmdd``."""
    night: str

    @property
    def label(self) -> str:
        """``dark_6``, ``flat_Si``: the name of its file without the ending."""
        return f"{self.kind}_{self.key}"

    @property
    def own(self) -> bool:
        """Whether it was made from the night's own files."""
        return self.origin == "own"

    @property
    def source_night(self) -> str:
        """The night whose files it was made from."""
        return self.night if self.own else self.origin.rpartition(" ")[2]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], night: str) -> "Master":
        """Return a master read from the results of a calibration step.

        Parameters
        ----------
        document : mapping
            A `MasterDocument`.
        night : str
            The night of the step, ``yyyymmdd``.

        Returns
        -------
        Master
        """
        return cls(
            kind=str(document.get("kind", "")),
            key=str(document.get("key", "")),
            shape=as_shape(document.get("shape")) or (0, 0),
            signature=str(document.get("signature", "")),
            origin=str(document.get("origin", "own")),
            night=night,
        )

    def to_document(self) -> MasterDocument:
        """Return it as the results of a calibration step hold it."""
        return {
            "kind": self.kind,
            "key": self.key,
            "shape": list(self.shape),
            "signature": self.signature,
            "origin": self.origin,
        }


@dataclass(frozen=True)
class CalibrationNeed:
    """A detector mode, frame shape and filter that science of a night was taken with."""

    mode: str
    shape: tuple[int, int] | None
    filter: str
    detector: tuple[int, int] | None = None
    """Shape of a full frame; a smaller one is the central part of the detector."""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "CalibrationNeed":
        """Return a need read from the document of a night."""
        return cls(
            str(document.get("mode") or ""),
            as_shape(document.get("shape")),
            str(document.get("filter") or ""),
            as_shape(document.get("detector")),
        )

    def to_document(self) -> CalibrationNeedDocument:
        """Return it as the document of a night holds it."""
        return {
            "mode": self.mode,
            "shape": list(self.shape) if self.shape else None,
            "filter": self.filter,
            "detector": list(self.detector) if self.detector else None,
        }


def choose(masters: Iterable[Master], kind: str, key: str | None) -> Master | None:
    """Return the first master of a kind, mode and filter.

    Parameters
    ----------
    masters : iterable of Master
        Where to look.
    kind : str
        ``dark`` or ``flat``.
    key : str or None
        Mode of a dark, filter of a flat.

    Returns
    -------
    Master or None
        None if there is none.
    """
    return next((m for m in masters if m.kind == kind and m.key == key), None)
