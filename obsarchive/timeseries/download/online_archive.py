"""What an online archive is to the intake: frames of a proposal within a range of time, and their bytes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import httpx

from obsarchive.config.field_types import shown_variable
from obsarchive.errors import ConfigError
from obsarchive.remote.http import PACKED, HttpClient, RequestRefusedError, ServerUnavailableError
from obsarchive.remote.http_failures import reason_of
from obsarchive.timeseries.download.download_config import ArchiveRequest

Kind = Literal["image", "spectrum"]


@dataclass(frozen=True)
class Frame:
    """A frame as an archive offers it.

    Parameters
    ----------
    archive, id : str
        Which archive, and its own number for the frame.
    name : str
        File name, such as ``lsc1m005-fa15-20240701-0100-e91.fits.fz``.
    md5, url : str
        Checksum, and where the bytes are.
    kind : str
        ``image`` or ``spectrum``.
    target, proposal, instrument, filter : str
        What was observed, for whom, with what.
    date_utc : datetime
        Start of the exposure.
    """

    archive: str
    id: str
    name: str
    md5: str
    url: str
    kind: Kind
    target: str
    proposal: str
    instrument: str
    filter: str
    date_utc: datetime


class OnlineArchive(Protocol):
    """The language of an archive; another archive is another class like this."""

    def frames(self, proposal: str, start: datetime, end: datetime) -> Iterator[Frame]:
        """Yield all frames of a proposal that began between `start` and `end`.

        Parameters
        ----------
        proposal : str
            Id of the proposal.
        start, end : datetime
            Range of the times at which exposures began [UTC].

        Yields
        ------
        Frame
            A frame, not fetched yet.
        """

    def fetch(self, frame: Frame, path: Path) -> None:
        """Write the bytes of a frame to a file, resuming a broken transfer, and check them.

        Parameters
        ----------
        frame : Frame
            The frame.
        path : Path
            The file, which is kept when the transfer breaks.

        Raises
        ------
        ServerUnavailableError
            The transfer failed, or the bytes do not agree with their checksum.
        """

    def close(self) -> None:
        """Close the connection."""


class Line(HttpClient):
    """Connection to an archive.

    Parameters
    ----------
    request : ArchiveRequest
        The archive.
    token : str
        Access token; sent to the archive itself only.
    timeout_s : float
        Longest silence [s].
    """

    def __init__(self, request: ArchiveRequest, token: str, timeout_s: float) -> None:
        authorization = f"Token {token}" if token else ""
        super().__init__(request.name, request.url, timeout_s=timeout_s, authorization=authorization)
        self.token_source = shown_variable(request.token_envvar) if request.token_envvar else "no token_envvar is named"

    def fetch(self, frame: Frame, path: Path) -> None:
        """Write the bytes of a frame to a file, resuming a broken transfer.

        Parameters
        ----------
        frame : Frame
            The frame.
        path : Path
            The file, which is kept when the transfer breaks.

        Raises
        ------
        ServerUnavailableError
            The transfer failed, or the bytes do not agree with their checksum; then they are deleted.
        """
        if not frame.url.startswith(("https://", "http://")):
            raise ServerUnavailableError(f"{frame.name}: {self.name} gives no address of it")
        have = path.stat().st_size if path.exists() else 0
        headers = PACKED | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with self._stream("GET", frame.url, headers=headers) as answer:
                self._write(answer, frame, path)
        except (httpx.HTTPError, httpx.InvalidURL) as err:
            raise ServerUnavailableError(f"{frame.name}: the transfer broke: {reason_of(err)}") from err
        if frame.md5 and md5_of(path) != frame.md5:
            path.unlink(missing_ok=True)
            raise ServerUnavailableError(f"{frame.name}: not what its checksum says; it is fetched again")

    def _write(self, answer: httpx.Response, frame: Frame, path: Path) -> None:
        """Write what comes, as it comes: a transfer that breaks leaves what it brought."""
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is nothing left to fetch; the checksum decides
        if not answer.is_success:
            raise ServerUnavailableError(f"{frame.name}: {self.name} answered {answer.status_code}")
        with path.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as file:
            file.writelines(answer.iter_raw())

    def _rejection(self, answer: httpx.Response) -> RequestRefusedError:
        if answer.status_code in (401, 403):
            return RequestRefusedError(f"{self.name} refuses the token ({self.token_source}): {answer.status_code}")
        return RequestRefusedError(
            f"{self.name} does not understand {answer.url.path}: {answer.status_code} {answer.text[:200]}"
        )


def md5_of(path: Path) -> str:
    """Return the MD5 sum that archives give for their frames.

    Parameters
    ----------
    path : Path
        A file.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def token_of(request: ArchiveRequest, environment: dict[str, str]) -> str:
    """Return the token that the configuration names.

    Parameters
    ----------
    request : ArchiveRequest
        The archive.
    environment : dict
        Variables.

    Returns
    -------
    str
        The token; empty if none is named.

    Raises
    ------
    ConfigError
        The variable is not set.
    """
    name = request.token_envvar
    if name is None:
        return ""
    if not environment.get(name):
        raise ConfigError(
            f"archive {request.name}: token_envvar: the environment variable {shown_variable(name)} is not set: "
            "it must hold the token"
        )
    return environment[name]
