"""What an online archive is to the intake: frames of a proposal within a range of time, and their bytes."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep
from typing import Literal, Protocol

import httpx

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.intake.request import ArchiveRequest

log = logging.getLogger(__name__)

Kind = Literal["image", "spectrum"]

TRIES = 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 120.0
AGENT = "Archiver (observatory archive)"


class ArchiveUnavailable(ArchiveError):
    """An archive that does not answer, or not as it should; what was asked for can be asked again."""

    exit_code = 3


class Refused(ArchiveError):
    """An archive that refuses what was asked for: asking again does not help."""

    exit_code = 2


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
        answer = self._polite(address, parameters)
        try:
            found = answer.json()
        except ValueError as err:
            raise ArchiveUnavailable(
                f"{self.request.name} answered something that is no JSON to {answer.url.path}"
            ) from err
        if not isinstance(found, dict):
            raise ArchiveUnavailable(f"{self.request.name} answered {type(found).__name__} to {answer.url.path}")
        return found

    def _polite(self, address: str, parameters: dict[str, str] | None) -> httpx.Response:
        pause, why = FIRST_PAUSE_S, ""
        for attempt in range(TRIES):
            if attempt:
                log.info("%s: %s; asking again in %.0f s", self.request.name, why, pause)
                sleep(pause)
            try:
                answer = self._client.get(address, params=parameters, headers=self._headers(address))
            except httpx.HTTPError as err:
                why, pause = type(err).__name__, min(2 * pause, LONGEST_PAUSE_S)
                continue
            if answer.is_success:
                return answer
            why = f"answered {answer.status_code}"
            if answer.status_code not in (408, 425, 429) and answer.status_code < 500:
                raise Refused(self._refusal(answer))
            pause = retry_after(answer) or min(2 * pause, LONGEST_PAUSE_S)
        raise ArchiveUnavailable(f"{self.request.name}: {why}, {TRIES} times")

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


def retry_after(answer: httpx.Response) -> float | None:
    """Return how long an archive asks to wait [s]: a number or a date; None if it does not say."""
    told = answer.headers.get("Retry-After", "")
    if told.isdecimal():
        return min(float(told), LONGEST_PAUSE_S)
    try:
        until = parsedate_to_datetime(told)
    except (ValueError, TypeError):
        return None
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), LONGEST_PAUSE_S)


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
