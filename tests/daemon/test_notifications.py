"""Alerts: what is sent, what is tried again, what is signed."""

import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from obsarchive.config.model import Config
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.raw_problems import RawProblem, by_kind
from obsarchive.core.step_state import State
from obsarchive.daemon.notifications import Alerts
from obsarchive.store import Store

OBS = Observation(
    {
        "_id": "4_M_13_VIC_Si_o_20260314_030000.000000",
        "night": "20260314",
        "name": "M_13\nBcc: all@x",
        "science_program": {"program_id": "4"},
    }
)


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((body, dict(self.headers)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, *said: object) -> None:
        """Say nothing."""


class Letterbox(socketserver.StreamRequestHandler):
    """As much of a mail server (RFC 5321) as a letter needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 hello\r\n")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (text := self.rfile.readline()) != b".\r\n":
                    lines.append(text.decode())
                self.server.heard.append("".join(lines))
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 fine\r\n")


@pytest.fixture
def serve() -> Iterator[Any]:
    servers = []

    def start(kind: type, handler: type) -> Any:
        server = kind(("127.0.0.1", 0), handler)
        server.heard, server.answers = [], []
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def alerts_of(store: Store, **alerts: Any) -> Alerts:
    raw = {"paths": {"raw": ["raw"], "archive": "a", "tmp": "t", "logs": "l"}, "pipelines": [], "alerts": alerts}
    raw["server"] = {"name": "Robo-AO", "public_url": "https://archive.example.org/x/"}
    return Alerts(Config.model_validate(raw), store.outbox)


def test_a_webhook_hears_of_its_programmes_and_events_once(store: Store, serve: Any, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOOK", "a secret between the two of us")
    hook = serve(ThreadingHTTPServer, Webhook)
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    recipient = {"programs": ["4"], "webhook": url, "secret": {"env": "HOOK"}}
    alerts = alerts_of(store, recipients=[recipient], batch_window_s=60)
    alerts.data_ready(OBS)
    alerts.data_ready(OBS)
    alerts.step_ended(OBS, "bright_star.reduce", State.FAILED, "disk full")
    alerts.step_ended(OBS, "bright_star.reduce", State.REJECTED, "not asked for")
    alerts.step_ended(OBS, "bright_star.reduce", State.DONE, "")
    alerts.step_ended(Night({"_id": "20260314"}), "calib.darks", State.FAILED, "of no programme")
    alerts.send(utc_now())
    assert hook.heard == [], "events are gathered first"
    alerts.send(utc_now() + timedelta(seconds=61))
    alerts.send(utc_now() + timedelta(seconds=999))
    ((body, headers),) = hook.heard
    events = json.loads(body)["events"]
    assert [(event["event"], event["step"]) for event in events] == [("new data", ""), ("failed", "bright_star.reduce")]
    assert events[0]["url"] == f"https://archive.example.org/x/observation/{OBS.id}"
    signature = hmac.new(b"a secret between the two of us", body, hashlib.sha256).hexdigest()
    assert headers["X-Archiver-Signature"] == f"sha256={signature}"


def test_what_is_not_delivered_is_tried_again_and_not_lost(store: Store, serve: Any) -> None:
    hook = serve(ThreadingHTTPServer, Webhook)
    hook.answers = [500, 302]
    url = f"http://127.0.0.1:{hook.server_port}/hook"
    settings = {"recipients": [{"programs": "all", "webhook": url}], "batch_window_s": 0.001}
    alerts = alerts_of(store, **settings)
    alerts.data_ready(OBS)
    now = utc_now() + timedelta(seconds=1)
    alerts.send(now)
    alerts.send(now + timedelta(seconds=29))
    assert len(hook.heard) == 1, "not before half a minute"
    alerts.send(now + timedelta(seconds=31))
    assert len(hook.heard) == 2, "a redirection is not followed"
    after_a_restart = alerts_of(store, **settings)
    after_a_restart.send(now)
    after_a_restart.send(now + timedelta(seconds=900))
    assert len(hook.heard) == 3
    nobody = alerts_of(store, recipients=[{"programs": "all", "webhook": "http://127.0.0.1:9/"}], batch_window_s=0.001)
    nobody.send(now)


def test_a_letter_tells_in_words(store: Store, serve: Any) -> None:
    post = serve(socketserver.ThreadingTCPServer, Letterbox)
    mail = {"host": "127.0.0.1", "port": post.server_address[1], "sender": "archive@example.org"}
    recipient = {"programs": "all", "email": ["pi@example.org"]}
    alerts = alerts_of(store, recipients=[recipient], mail=mail, batch_window_s=0.001)
    alerts.data_ready(OBS)
    alerts.step_ended(OBS, "bright_star.reduce", State.FAILED, "disk full\nBcc: y@x")
    alerts.send(utc_now() + timedelta(seconds=1))
    (letter,) = post.heard
    head, _, text = letter.partition("\r\n\r\n")
    assert "Subject: Robo-AO: 1 with new data, 1 failed" in head
    assert "Bcc" not in head
    assert "failed: M_13" in text
    assert "bright_star.reduce: disk full" in text
    assert OBS.id in text.replace("=\r\n", "")


def test_files_not_understood_are_one_event_for_a_night_and_reason(store: Store, serve: Any) -> None:
    post = serve(socketserver.ThreadingTCPServer, Letterbox)
    mail = {"host": "127.0.0.1", "port": post.server_address[1], "sender": "archive@example.org"}
    recipients = [{"programs": programs, "email": ["pi@example.org"]} for programs in ("all", ["4"])]
    alerts = alerts_of(store, recipients=recipients, mail=mail, batch_window_s=0.001)
    for count in (2, 3):
        problems = [RawProblem(f"{i}.fits", "/raw", f"DATE-OBS is 2026-03-{40 + i}") for i in range(count)]
        (group,) = by_kind(problems)
        alerts.not_understood(Night({"_id": "20260314"}), group)
    alerts.send(utc_now() + timedelta(seconds=1))
    (letter,) = post.heard
    head, _, text = letter.replace("=\r\n", "").partition("\r\n\r\n")
    assert "Subject: Robo-AO: 1 not understood" in head
    assert "2 raw file(s) not understood (0.fits, 1.fits): DATE-OBS is 2026-03-40" in text
    assert "night/20260314/summary" in text


def test_nobody_told_nothing_kept(store: Store) -> None:
    alerts = alerts_of(store)
    alerts.data_ready(OBS)
    alerts.start()
    alerts.stop()
    assert store.outbox.untold("x", {}) == []
