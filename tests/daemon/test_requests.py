"""What people ask for in the portal is done by the daemon, and programmes are told."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from astropy.io import fits

from tests.daemon.conftest import NIGHT, Site

OTHER = "20260315"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *said: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def ask(site: Site, *wishes: tuple[str, dict[str, str]]) -> list[str]:
    """Ask, let the daemon answer, return the problems."""
    with site.store() as store:
        for kind, what in wishes:
            assert store.requests.ask(kind, "grace", what)
            assert not store.requests.ask(kind, "grace", what), "the same wish counts once"
    site.run()
    with site.store() as store:
        assert store.requests.waiting() == []
        return [store.requests.about(kind, **what)[0]["problem"] for kind, what in wishes]


def origin(site: Site) -> str:
    return fits.getheader(site.layout.calibration(NIGHT) / "dark_6.fits")["ORIGIN"]


def test_wishes_are_granted_and_told(site: Site, receiver: ThreadingHTTPServer) -> None:
    other = site.folder / "raw" / OTHER
    other.mkdir()
    for path in [*site.night.glob("dark_*"), *site.night.glob("flat_*")]:
        shutil.copy(path, other)
    recipient = {
        "programs": "all",
        "events": ["new data", "rejected"],
        "webhook": f"http://127.0.0.1:{receiver.server_port}/",
    }
    site.change(alerts={"recipients": [recipient], "batch_window_s": 0.1})
    site.run()
    name = site.observation("HIP_1")
    assert origin(site) == "own"

    with site.store() as store:
        before = store.observations.find(name)["pipelined"]["bright_star"]["steps"]
    problems = ask(
        site,
        ("copy calibration", {"night": NIGHT, "source": OTHER}),
        ("copy calibration", {"night": OTHER, "source": "20200101"}),
        ("redo", {"subject": name, "pipeline": "bright_star", "step": "preview"}),
        ("redo", {"subject": "nothing", "pipeline": "bright_star"}),
        ("library remove", {"observation": name}),
        ("dance", {}),
    )
    assert [bool(problem) for problem in problems] == [False, True, False, True, True, True]
    assert "no master of its own" in problems[1]
    assert origin(site) == f"copied from {OTHER}"
    with site.store() as store:
        after = store.observations.find(name)["pipelined"]["bright_star"]["steps"]
    assert {step: record["state"] for step, record in after.items()} == {
        step: record["state"] for step, record in before.items()
    }
    assert all(after[step]["finished"] > before[step]["finished"] for step in ("reduce", "preview"))

    assert ask(site, ("copy calibration", {"night": NIGHT})) == [""]
    assert origin(site) == "own"

    events = [event for message in receiver.heard for event in message["events"]]
    assert {event["event"] for event in events} <= {"new data", "rejected"}
    told = [event["subject"] for event in events if event["event"] == "new data"]
    assert sorted(told) == sorted(set(told)), "new data are told once"
