"""Why requests to services outside fail, in words, and whether and when it helps to repeat them."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

LONGEST_PAUSE_S = 120.0
"""Longest pause before a request is repeated."""


def is_final(err: httpx.HTTPError | httpx.InvalidURL) -> bool:
    """Return whether a request that failed so fails again if it is repeated soon: nobody listens, or no such host."""
    if isinstance(err, httpx.InvalidURL):
        return True
    reasons = list(_causes(err))
    if any(isinstance(reason, ConnectionRefusedError) for reason in reasons):
        return True
    return any(isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN for reason in reasons)


def reason_of(err: httpx.HTTPError | httpx.InvalidURL) -> str:
    """Return why a request failed, with host and port; not the address, which may contain a secret.

    Parameters
    ----------
    err : httpx.HTTPError or httpx.InvalidURL
        What was raised.

    Returns
    -------
    str
        Such as ``connection refused: nobody listens at archive.example.org:443``.
    """
    try:
        url = err.request.url  # type: ignore[union-attr]
        host = f"{url.host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme, '')}"
    except (AttributeError, RuntimeError):  # it was not sent
        host = ""
    kind = type(err).__name__
    for reason in _causes(err):
        match reason:
            case ConnectionRefusedError():
                return f"connection refused: nobody listens at {host} ({kind})"
            case socket.gaierror():
                return f"no address is known of {host.rpartition(':')[0]}: {reason.strerror or reason} ({kind})"
            case ssl.SSLCertVerificationError():
                return f"the certificate of {host} is not valid: {reason.verify_message} ({kind})"
            case OSError() if reason.strerror:
                return f"{host}: {reason.strerror} ({kind})"
    return f"{kind} at {host}" if host else kind


def _causes(err: BaseException | None) -> Iterator[BaseException]:
    while err is not None:
        yield err
        err = err.__cause__ or err.__context__


def retry_after(answer: httpx.Response) -> float | None:
    """Return how long a service asks to wait: a number or a date in the header ``Retry-After``.

    Parameters
    ----------
    answer : httpx.Response
        Its answer.

    Returns
    -------
    float or None
        Pause [s], not above `LONGEST_PAUSE_S`; None if it does not say.
    """
    text = answer.headers.get("Retry-After", "")
    if text.isdecimal():
        return min(float(text), LONGEST_PAUSE_S)
    try:
        pause = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a time zone
        return None
    return min(max(0.0, pause), LONGEST_PAUSE_S)
