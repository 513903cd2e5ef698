"""HTTP requests to services outside: limited in time, size and rate, repeated where that helps, never redirected."""

import logging
import math
import threading
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from time import sleep
from typing import Any, Self

import httpx

from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_path
from obsarchive.remote.http_failures import LONGEST_PAUSE_S, is_final, reason_of, retry_after

log = logging.getLogger(__name__)

TRIES = 6
FIRST_PAUSE_S = 1.0
AGENT = {"User-Agent": "Archiver (observatory archive)"}
PACKED = {"Accept-Encoding": "identity"}
"""Asks for the bytes of a file as they are."""
MOST_BYTES = 200_000_000
RETRIED = (408, 425, 429)
"""Statuses after which a request is repeated, beside those from 500 on."""


class ServerUnavailableError(ArchiveError):
    """A service gave no usable answer; the request may be repeated later."""

    exit_code = 3


class RequestRefusedError(ArchiveError):
    """A service rejects a request: repeating it does not help."""

    exit_code = 2


class ServiceTimeoutError(ServerUnavailableError):
    """A service gave no usable answer within the limits of a page; says why."""


class RateLimiter:
    """Keeps all threads together below a rate of requests.

    Parameters
    ----------
    per_second : float
        Largest rate [1/s]; 0: no limit.
    """

    def __init__(self, per_second: float) -> None:
        self._step = 1.0 / per_second if per_second > 0 else 0.0
        self._lock, self._next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Wait until the next request may be sent."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._step
        if turn > now:
            sleep(turn - now)


class HttpClient:
    """Client of one service, to be shared by threads.

    Redirects are not followed, and answers have a largest size: no service can send the archive to another host or fill
    its memory. Used in a ``with`` block, it is closed at the end.

    Parameters
    ----------
    name : str
        What the service is called in messages: its address may contain a secret.
    url : str
        Base address; paths are relative to it.
    per_second : float
        Largest rate of requests [1/s]; 0: no limit.
    timeout_s : float
        Longest silence of the service [s].
    tries : int
        Attempts of a request.
    authorization : str
        Header ``Authorization``; sent to addresses of this service and to no others. Empty: none.
    """

    def __init__(
        self,
        name: str,
        url: str,
        per_second: float = 0.0,
        timeout_s: float = 60.0,
        tries: int = TRIES,
        authorization: str = "",
    ) -> None:
        self.name, self.tries = name, tries
        self._origin, self._limiter = _origin_of(url), RateLimiter(per_second)
        self._secret = {"Authorization": authorization} if authorization else {}
        auth = self._authorize if authorization else None
        self._client = httpx.Client(base_url=url, timeout=timeout_s, headers=AGENT, auth=auth)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, parameters: dict[str, Any] | None = None) -> httpx.Response:
        """Return the answer to a GET request.

        Parameters
        ----------
        path : str
            Path below the base address, or a full address.
        parameters : dict, optional
            Of the query.

        Returns
        -------
        httpx.Response
            The whole answer, of a status that means success.

        Raises
        ------
        RequestRefusedError
            The service rejects the request.
        ServerUnavailableError
            It gives no usable answer, however often it is asked.
        """
        return self.request_with_retry("GET", path, params=parameters)

    def post(self, path: str, form: dict[str, Any]) -> httpx.Response:
        """Send a form; its fields do not appear in the address.

        Parameters
        ----------
        path : str
            Path below the base address, or a full address.
        form : dict
            Fields of the form.

        Returns
        -------
        httpx.Response
            The whole answer.

        Raises
        ------
        RequestRefusedError, ServerUnavailableError
            As for :meth:`get`.
        """
        return self.request_with_retry("POST", path, data=form)

    def json(self, path: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON object that answers a GET request.

        Parameters
        ----------
        path : str
            Path below the base address, or a full address.
        parameters : dict, optional
            Parameters of the query.

        Returns
        -------
        dict
            The object.

        Raises
        ------
        RequestRefusedError
            As for :meth:`get`.
        ServerUnavailableError
            The answer is no JSON object; else as for :meth:`get`.
        """
        answer = self.get(path, parameters)
        try:
            found = answer.json()
        except ValueError as err:
            raise ServerUnavailableError(
                f"{self.name} answered something that is no JSON to {answer.url.path}"
            ) from err
        if not isinstance(found, dict):
            raise ServerUnavailableError(f"{self.name} answered {type(found).__name__} to {answer.url.path}")
        return found

    def download(self, path: str, target: Path) -> None:
        """Write the answer to a GET request to a file, however large; whole or not at all.

        What is packed stays packed, also where a service says of a packed file that it is so for the way only.

        Parameters
        ----------
        path : str
            Path below the base address, or a full address.
        target : Path
            The file.

        Raises
        ------
        RequestRefusedError, ServerUnavailableError
            As for `get`.
        """
        self.request_with_retry("GET", path, target=target, headers=PACKED)

    def request_with_retry(
        self,
        method: str,
        path: str,
        tries: int | None = None,
        accept: Collection[int] = (),
        target: Path | None = None,
        **content: Any,
    ) -> httpx.Response:
        """Return the answer to a request, which is repeated as late as the service asks for.

        Parameters
        ----------
        method : str
            ``GET``, ``POST``, ...
        path : str
            Path below the base address, or a full address.
        tries : int, optional
            Attempts; 1 for a request that must not be sent twice.
        accept : collection of int
            Statuses that are no error either.
        target : Path, optional
            File that the answer is written to.
        **content
            What httpx takes: ``params``, ``data``, ``files``, ...

        Returns
        -------
        httpx.Response
            The answer; whole, if it is not in a file.

        Raises
        ------
        RequestRefusedError
            The service rejects the request.
        ServerUnavailableError
            It gives no usable answer to any attempt.
        """
        pause, why, tries = FIRST_PAUSE_S, "", tries or self.tries
        answer: httpx.Response | None = None
        for attempt in range(tries):
            if attempt:
                log.info("%s: %s; asking again in %.0f s", self.name, why, pause)
                sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            try:
                answer = self._send(method, path, target, **content)
            except (httpx.HTTPError, httpx.InvalidURL) as err:
                answer, why = None, reason_of(err)
                if is_final(err):
                    raise self._outage(why, 1, None) from err
                continue
            if answer.is_success or answer.status_code in accept:
                return answer
            if answer.status_code not in RETRIED and answer.status_code < 500:
                raise self._rejection(answer)
            pause, why = retry_after(answer) or pause, f"answered {answer.status_code}"
        raise self._outage(why, tries, answer)

    def _send(self, method: str, path: str, target: Path | None, **content: Any) -> httpx.Response:
        with self._stream(method, path, **content) as answer:
            if target is None or not answer.is_success:
                return self._whole(answer)
            with atomic_path(target) as part, part.open("wb") as file:
                file.writelines(answer.iter_raw())
            return answer

    def _stream(self, method: str, path: str, **content: Any) -> AbstractContextManager[httpx.Response]:
        """Send a request once, in its turn; the ``with`` block gets the answer, of any status, with its body unread."""
        self._limiter.wait()
        return self._client.stream(method, path, **content)

    def _rejection(self, answer: httpx.Response) -> ArchiveError:
        """Return the error for an answer that is final."""
        if answer.is_redirect:
            return RequestRefusedError(
                f"{self.name} sends us elsewhere ({answer.status_code}): check the address that is configured"
            )
        return RequestRefusedError(f"{self.name} refuses {answer.url.path}: {answer.status_code} {answer.text[:200]}")

    def _outage(self, why: str, tries: int, answer: httpx.Response | None) -> ArchiveError:  # noqa: ARG002
        """Return the error after the last attempt; subclasses may quote its answer, if there was one."""
        return ServerUnavailableError(f"{self.name}: {why}{f', {tries} times' if tries > 1 else ''}")

    def _headers(self, address: str | httpx.URL) -> dict[str, str]:
        """Return the secret for addresses of the service itself, nothing for others."""
        return self._secret if _origin_of(address) == self._origin else {}

    def _authorize(self, request: httpx.Request) -> httpx.Request:
        request.headers.update(self._headers(request.url))
        return request

    def _whole(self, answer: httpx.Response) -> httpx.Response:
        content = _read(answer, self.name, ServerUnavailableError, MOST_BYTES)
        unpacked = ("content-encoding", "content-length")
        headers = [(key, value) for key, value in answer.headers.items() if key not in unpacked]
        return httpx.Response(answer.status_code, headers=headers, content=content, request=answer.request)


def request_once(
    name: str,
    url: str,
    error: type[ArchiveError],
    timeout_s: float,
    limits: tuple[float, float] = (MOST_BYTES, math.inf),
    **content: Any,
) -> bytes:
    """Return the body of the answer to a single request, for callers that have no time to repeat it.

    Parameters
    ----------
    name : str
        What the service is called in messages.
    url : str
        Full address.
    error : type
        What is raised.
    timeout_s : float
        Longest silence of the service [s].
    limits : (float, float)
        Largest size of the answer [byte], and longest time that it may take [s].
    **content
        What httpx takes: ``content`` (which makes the request a POST), ``headers``, ...

    Returns
    -------
    bytes
        The body of an answer whose status means success.

    Raises
    ------
    ArchiveError
        Of the type `error`: the service cannot be reached, rejects the request, redirects it, is too slow or sends too
        much.
    """
    until = time.monotonic() + limits[1]
    headers = AGENT | content.pop("headers", {})
    try:
        method = "POST" if "content" in content else "GET"
        with httpx.stream(method, url, timeout=timeout_s, headers=headers, **content) as answer:
            if not answer.is_success:
                raise error(f"{name} answered {answer.status_code}")
            return _read(answer, name, error, limits[0], until)
    except (httpx.HTTPError, httpx.InvalidURL) as err:
        raise error(f"{name} cannot be reached: {reason_of(err)}") from err


def _read(
    answer: httpx.Response, name: str, error: type[ArchiveError], max_bytes: float, until: float = math.inf
) -> bytes:
    """Return the unpacked body of an answer, up to its largest size and, on the monotonic clock, its last moment."""
    parts, size = [], 0
    for part in answer.iter_bytes():
        size += len(part)
        if size > max_bytes:
            raise error(f"{name} sent more than {max_bytes} bytes")
        if time.monotonic() > until:
            raise error(f"{name} is too slow")
        parts.append(part)
    return b"".join(parts)


def _origin_of(address: str | httpx.URL) -> tuple[str, str, int | None]:
    url = httpx.URL(address)
    return url.scheme, url.host, url.port
