"""Connections that fail: host and reason are told, and nobody waits where nobody listens."""

import socket
from collections.abc import Iterator

import pytest

from obsarchive.remote import http
from obsarchive.remote.http import HttpClient, ServerUnavailableError, request_once


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(http, "sleep", found.append)
    return found


@pytest.fixture
def silent() -> Iterator[int]:
    """A port at which something listens that never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "https://me:s3cr3t@localhost:9/x?token=s3cr3t"])
def test_where_nobody_listens_is_told_at_once(address: str, pauses: list[float]) -> None:
    host = "localhost:9" if "localhost" in address else "127.0.0.1:9"
    with HttpClient("the archive", address) as client, pytest.raises(ServerUnavailableError) as failed:
        client.get("page")
    assert f"the archive: connection refused: nobody listens at {host}" in str(failed.value)
    assert pauses == []
    with pytest.raises(
        ServerUnavailableError, match=f"cannot be reached: connection refused: nobody listens at {host}"
    ):
        request_once("the archive", address, ServerUnavailableError, 5.0)
    assert "s3cr3t" not in str(failed.value)


def test_a_host_without_an_address_is_told_at_once(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = HttpClient("the archive", "http://archvie.example.org/")
    with client, pytest.raises(ServerUnavailableError, match=r"no address is known of archvie\.example\.org: Name or"):
        client.get("page")
    assert pauses == []


def test_silence_is_waited_for_and_asked_again(silent: int, pauses: list[float]) -> None:
    client = HttpClient("the archive", f"http://127.0.0.1:{silent}/", timeout_s=0.05, tries=3)
    with client, pytest.raises(ServerUnavailableError, match=f"ReadTimeout at 127.0.0.1:{silent}, 3 times"):
        client.get("page")
    assert len(pauses) == 2


def test_an_address_that_is_none_is_told(pauses: list[float]) -> None:
    with HttpClient("the archive", "http://127.0.0.1:9/") as client, pytest.raises(ServerUnavailableError):
        client.get("http://[bad/")
    assert pauses == []
