"""The science archive of Las Cumbres Observatory, and of every observatory that runs the same software."""

import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from obsarchive.remote.http import ArchiveUnavailable
from obsarchive.timeseries.download.download_config import ArchiveRequest
from obsarchive.timeseries.download.online_archive import Frame, Kind, Line

log = logging.getLogger(__name__)

PAGE = 500
KINDS: dict[str, Kind] = {"EXPOSE": "image", "REPEAT_EXPOSE": "image", "STANDARD": "image", "SPECTRUM": "spectrum"}
"""Types of configurations that are science; everything else is calibration and stays away."""
TIME = "%Y-%m-%dT%H:%M:%S"


class LcoArchive:
    """Speaks the frames interface (observatorycontrolsystem/science-archive).

    Parameters
    ----------
    request : ArchiveRequest
        The archive and what is wanted of it.
    token : str
        Token of its owner's account.
    timeout_s : float
        Longest silence [s].
    """

    def __init__(self, request: ArchiveRequest, token: str, timeout_s: float = 60.0) -> None:
        self.request = request
        self.line = Line(request, token, timeout_s)

    def frames(self, proposal: str, start: datetime, end: datetime) -> Iterator[Frame]:
        """Yield all frames of a proposal, page by page, of every reduction level that is wanted."""
        levels = self.request.reduction_level
        for level in levels.all:
            wanted = {kind for kind, of in (("image", levels.image), ("spectrum", levels.spectrum)) if of == level}
            for record in self._records(proposal, level, (start, end)):
                kind = KINDS.get(_text(record, "configuration_type", "OBSTYPE").upper())
                if kind in wanted:
                    yield self._frame(record, kind)

    def _records(self, proposal: str, level: int, span: tuple[datetime, datetime]) -> Iterator[Mapping[str, Any]]:
        start, end = (moment.astimezone(UTC).strftime(TIME) for moment in span)
        parameters: dict[str, str] | None = {
            "proposal_id": proposal,
            "reduction_level": str(level),
            "start": start,
            "end": end,
            "public": "false",
            "limit": str(PAGE),
            "include_related_frames": "false",
        }
        address = "/frames/"
        seen: set[str] = set()
        while address not in seen:
            seen.add(address)
            page = self.line.json(address, parameters)
            results = page.get("results")
            if not isinstance(results, list):
                raise ArchiveUnavailable(f"{self.request.name}: the answer about {proposal} holds no list of frames")
            log.info("%s, %s, level %d: %d frames on this page", self.request.name, proposal, level, len(results))
            yield from (record for record in results if isinstance(record, Mapping))
            address, parameters = str(page.get("next") or address), None

    def _frame(self, record: Mapping[str, Any], kind: Kind) -> Frame:
        versions = record.get("version_set")
        version = versions[0] if isinstance(versions, list) and versions and isinstance(versions[0], Mapping) else {}
        name = _text(record, "filename") or _text(record, "basename") + _text(version, "extension")
        if not name or Path(name).name != name or name.startswith("."):
            raise ArchiveUnavailable(
                f"{self.request.name}: a frame is called {name[:80]!r}, which is no name of a file"
            )
        return Frame(
            archive=self.request.name,
            id=_text(record, "id"),
            name=name,
            md5=_text(version, "md5").lower(),
            url=_text(record, "url") or _text(version, "url"),
            kind=kind,
            target=_text(record, "target_name", "OBJECT"),
            proposal=_text(record, "proposal_id", "PROPID"),
            instrument=_text(record, "instrument_id", "INSTRUME"),
            filter=_text(record, "primary_optical_element", "FILTER"),
            date_utc=_moment(_text(record, "observation_date", "DATE_OBS")),
        )

    def close(self) -> None:
        """Close the connection."""
        self.line.close()

    def fetch(self, frame: Frame, path: Path) -> None:
        """Write the bytes of a frame to `path`, going on with what is there, and check them."""
        self.line.fetch(frame, path)


def _text(record: Mapping[str, Any], *keys: str) -> str:
    """Return the first of some fields that is there: today's name, then the one of older servers."""
    return next((str(record[key]) for key in keys if record.get(key) not in (None, "")), "")


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
