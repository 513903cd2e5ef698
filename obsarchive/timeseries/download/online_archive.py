"""What an online archive is to the intake: frames of a proposal within a range of time, and their bytes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import httpx

from obsarchive.errors import ConfigError
from obsarchive.remote.http import AGENT, ArchiveUnavailable, patiently
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
        """Yield all frames of a proposal that began between `start` and `end`."""

    def fetch(self, frame: Frame, path: Path) -> None:
        """Write the bytes of a frame to `path`, going on with what is there, and check them."""

    def close(self) -> None:
        """Close the connection."""


class Line:
    """A polite connection to an archive: waits as long as it is told to, and tries again.

    Parameters
    ----------
    request : ArchiveRequest
        The archive.
    token : str
        Secret that proves who asks; sent to the archive itself and to nobody else.
    timeout_s : float
        Longest silence [s].
    """

    def __init__(self, request: ArchiveRequest, token: str, timeout_s: float) -> None:
        self.request, self.root = request, httpx.URL(request.url)
        headers = {"Authorization": f"Token {token}"} if token else {}
        self._client = httpx.Client(timeout=timeout_s, headers={"User-Agent": AGENT})
        self._secret = headers

    def close(self) -> None:
        """Close it."""
        self._client.close()

    def json(self, address: str, parameters: dict[str, str] | None = None) -> dict:
        """Return what the archive answers to a question.

        Raises
        ------
        Refused
            It refuses: a wrong token, a question that it does not understand.
        ArchiveUnavailable
            It does not answer as it should, even when asked several times.
        """
        answer = patiently(
            self.request.name,
            lambda: self._client.get(address, params=parameters, headers=self._headers(address)),
            self._refusal,
        )
        try:
            found = answer.json()
        except ValueError as err:
            raise ArchiveUnavailable(
                f"{self.request.name} answered something that is no JSON to {answer.url.path}"
            ) from err
        if not isinstance(found, dict):
            raise ArchiveUnavailable(f"{self.request.name} answered {type(found).__name__} to {answer.url.path}")
        return found

    def _headers(self, address: str) -> dict[str, str]:
        """Return the secret for addresses of the archive itself, nothing for others."""
        url = httpx.URL(address)
        same = (url.scheme, url.host, url.port) == (self.root.scheme, self.root.host, self.root.port)
        return self._secret if same else {}

    def _refusal(self, answer: httpx.Response) -> str:
        if answer.status_code in (401, 403):
            source = self.request.token_envvar or "no token_envvar is named"
            return f"{self.request.name} refuses the token ({source}): {answer.status_code}"
        return f"{self.request.name} does not understand {answer.url.path}: {answer.status_code} {answer.text[:200]}"

    def fetch(self, frame: Frame, path: Path) -> None:
        """Write the bytes of a frame to `path`, going on with what is there already.

        Raises
        ------
        ArchiveUnavailable
            The bytes do not come, or are not what their checksum says; what came is thrown away then.
        """
        have = path.stat().st_size if path.exists() else 0
        headers = {**self._headers(frame.url), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with self._client.stream("GET", frame.url, headers=headers) as answer:
                self._write(answer, frame, path)
        except httpx.HTTPError as err:
            raise ArchiveUnavailable(f"{frame.name}: the transfer broke: {type(err).__name__}") from err
        if frame.md5 and md5_of(path) != frame.md5:
            path.unlink(missing_ok=True)
            raise ArchiveUnavailable(f"{frame.name}: not what its checksum says; it is fetched again")

    def _write(self, answer: httpx.Response, frame: Frame, path: Path) -> None:
        """Write what comes, as it comes: a transfer that breaks leaves what it brought."""
        if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # there is nothing left to fetch; the checksum decides
        if not answer.is_success:
            raise ArchiveUnavailable(f"{frame.name}: {self.request.name} answered {answer.status_code}")
        with path.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)


def md5_of(path: Path) -> str:
    """Return the MD5 sum that archives give for their frames."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def token_of(request: ArchiveRequest, environment: dict[str, str]) -> str:
    """Return the token that the configuration names.

    Raises
    ------
    ConfigError
        The variable is not set.
    """
    name = request.token_envvar
    if name is None:
        return ""
    if not environment.get(name):
        raise ConfigError(f"archive {request.name}: the environment variable {name} is not set: it must hold the token")
    return environment[name]
