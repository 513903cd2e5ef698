"""What users said of observations, a second time: for when a sidecar file is lost together with the database.

``observations.jsonl`` lies beside the journal of people and holds one line for each edit: the name of the observation
and the fields that users edit. The last line of an observation counts.
"""

import logging
from pathlib import Path
from typing import Any, cast

from obsarchive.core.document_types.observations import UserFields
from obsarchive.core.json_text import json_with_checksum, parse_with_checksum
from obsarchive.core.values import as_mapping
from obsarchive.daemon.sidecars import REDO
from obsarchive.io.atomic import append_private, atomic_write
from obsarchive.store import Document

log = logging.getLogger(__name__)

NAME = "observations.jsonl"
MOST_SUPERSEDED = 10_000
"""Lines that newer ones replaced before the file is written anew."""


class ObservationEdits:
    """The last state of what users said of each observation.

    Parameters
    ----------
    folder : Path
        Where it is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._last: dict[str, UserFields] | None = None

    def note(self, name: str, fields: UserFields) -> None:
        """Keep what users said of an observation; it is on the disk when this returns.

        Raises
        ------
        OSError
            It cannot be written.
        """
        last = self._read()
        if last.get(name) != fields:
            append_private(self.path, _line(name, fields))
            last[name] = fields

    def corrected(self, sidecar: Document) -> Document:
        """Return a damaged sidecar file with what users said of its observation, if they said something."""
        fields = self._read().get(sidecar["_id"])
        if fields is None:
            return sidecar
        return {
            **sidecar,
            "science_program": {**as_mapping(sidecar.get("science_program")), "program_PI": fields["program_PI"]},
            "comment": fields["comment"],
            "alternative_names": fields["names"] or [],
            REDO: fields["redo"],
        }

    def _read(self) -> dict[str, UserFields]:
        if self._last is None:
            lines = self.path.read_bytes().splitlines() if self.path.exists() else []
            self._last = dict(filter(None, map(_edit_of, lines)))
            if len(lines) > MOST_SUPERSEDED + 2 * len(self._last):
                atomic_write(self.path, b"".join(_line(*edit) for edit in self._last.items()))
                self.path.chmod(0o600)
        return self._last


def _line(name: str, fields: UserFields) -> bytes:
    return json_with_checksum({"id": name, "is": fields}, default=str, indent=None) + b"\n"


def _edit_of(line: bytes) -> tuple[str, UserFields] | None:
    """Read a line; None for a damaged one, as a power failure leaves."""
    try:
        found: Any = as_mapping(parse_with_checksum(line))
        said = as_mapping(found["is"])
        fields = {key: said[key] for key in UserFields.__annotations__}
        return str(found["id"]), cast(UserFields, fields)
    except (ValueError, LookupError) as err:
        log.warning("%s: a line cannot be read: %s", NAME, err)
        return None
