"""Questions to services on the internet: patient, slow enough for them, and never led elsewhere."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep
from typing import Any

import httpx

from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_path

log = logging.getLogger(__name__)

TRIES = 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 120.0
AGENT = "Archiver (observatory archive)"
MOST_BYTES = 200_000_000
AGAIN = (408, 425, 429)
"""Answers that ask for patience, beside those from 500 on."""


class ArchiveUnavailable(ArchiveError):
    """An archive that does not answer, or not as it should; what was asked for can be asked again."""

    exit_code = 3


class Refused(ArchiveError):
    """An archive that refuses what was asked for: asking again does not help."""

    exit_code = 2


class Pace:
    """Keeps all threads together from asking more often than so many times a second.

    Parameters
    ----------
    per_second : float
        Largest rate; 0: no limit.
    """

    def __init__(self, per_second: float) -> None:
        self._step = 1.0 / per_second if per_second > 0 else 0.0
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._step
        if turn > now:
            sleep(turn - now)


def patiently(
    name: str, ask: Callable[[], httpx.Response], refusal: Callable[[httpx.Response], str], tries: int = TRIES
) -> httpx.Response:
    """Ask until a good answer comes, as long apart as the service wishes.

    Parameters
    ----------
    name : str
        What the service is called in messages: its address may hold what nobody should read.
    ask : callable
        Sends the question.
    refusal : callable
        Says in words what an answer that is final means.
    tries : int
        How often it is asked.

    Raises
    ------
    Refused
        The service refuses.
    ArchiveUnavailable
        It does not answer as it should, even when asked several times.
    """
    pause, why = FIRST_PAUSE_S, ""
    for attempt in range(tries):
        if attempt:
            log.info("%s: %s; asking again in %.0f s", name, why, pause)
            sleep(pause)
        try:
            answer = ask()
        except httpx.HTTPError as err:
            why, pause = type(err).__name__, min(2 * pause, LONGEST_PAUSE_S)
            continue
        if answer.is_success:
            return answer
        why = f"answered {answer.status_code}"
        if answer.status_code not in AGAIN and answer.status_code < 500:
            raise Refused(refusal(answer))
        pause = retry_after(answer) or min(2 * pause, LONGEST_PAUSE_S)
    raise ArchiveUnavailable(f"{name}: {why}, {tries} times")


def retry_after(answer: httpx.Response) -> float | None:
    """Return how long a service asks to wait [s]: a number or a date; None if it does not say."""
    told = answer.headers.get("Retry-After", "")
    if told.isdecimal():
        return min(float(told), LONGEST_PAUSE_S)
    try:
        until = parsedate_to_datetime(told)
    except (ValueError, TypeError):
        return None
    return min(max(0.0, (until - datetime.now(UTC)).total_seconds()), LONGEST_PAUSE_S)


class PoliteClient:
    """A client of one service.

    Redirections are not followed, and answers have a largest size: nobody can lead it elsewhere or fill the memory.

    Parameters
    ----------
    name : str
        What the service is called in messages.
    url : str
        Its address; paths are relative to it.
    per_second : float
        Largest rate of questions.
    timeout_s : float
        Longest silence [s].
    tries : int
        How often a question is asked.
    """

    def __init__(
        self, name: str, url: str, per_second: float = 0.0, timeout_s: float = 60.0, tries: int = TRIES
    ) -> None:
        self.name, self.tries = name, tries
        self._pace = Pace(per_second)
        self._client = httpx.Client(base_url=url, timeout=timeout_s, headers={"User-Agent": AGENT})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, parameters: dict[str, Any] | None = None) -> httpx.Response:
        """Return the answer to a question; `Refused` or `ArchiveUnavailable` if there is none."""
        return self._ask("GET", path, params=parameters)

    def post(self, path: str, form: dict[str, Any]) -> httpx.Response:
        """Return the answer to a form; what it holds is in no address."""
        return self._ask("POST", path, data=form)

    def fetch(self, path: str, target: Path) -> None:
        """Write the answer to a question to a file, however large; whole or not at all.

        What is packed stays packed, also where a service says of a packed file that it is so for the way only.
        """

        def ask() -> httpx.Response:
            self._pace.wait()
            with self._client.stream("GET", path, headers={"Accept-Encoding": "identity"}) as answer:
                if answer.is_success:
                    with atomic_path(target) as part, part.open("wb") as file:
                        for chunk in answer.iter_raw():
                            file.write(chunk)
                else:
                    answer.read()
                return answer

        patiently(self.name, ask, self._refusal, self.tries)

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        def ask() -> httpx.Response:
            self._pace.wait()
            with self._client.stream(method, path, **content) as answer:
                return self._whole(answer)

        return patiently(self.name, ask, self._refusal, self.tries)

    def _whole(self, answer: httpx.Response) -> httpx.Response:
        parts, size = [], 0
        for part in answer.iter_bytes():
            size += len(part)
            if size > MOST_BYTES:
                raise ArchiveUnavailable(f"{self.name}: an answer of more than {MOST_BYTES / 1e6:.0f} MB is not read")
            parts.append(part)
        kept = [
            (key, value) for key, value in answer.headers.items() if key not in ("content-encoding", "content-length")
        ]
        return httpx.Response(answer.status_code, headers=kept, content=b"".join(parts), request=answer.request)

    def _refusal(self, answer: httpx.Response) -> str:
        if answer.is_redirect:
            return f"{self.name} sends us elsewhere ({answer.status_code}): check the address that is configured"
        return f"{self.name} refuses {answer.url.path}: {answer.status_code} {answer.text[:200]}"
