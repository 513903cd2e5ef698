"""Alerts: programmes are told of new data and of failures, by a webhook or by letter.

What happened is noted in the database first and sent by a thread of its own, so that neither a slow receiver holds the
archive up nor a daemon that stops loses a message. A receiver that cannot be reached is tried again, ever more rarely.
"""

import hashlib
import hmac
import json
import logging
import smtplib
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

from obsarchive.config.model import Alert, Config, Mail
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.errors import ArchiveError, ServiceUnavailable
from obsarchive.remote.http import request_once
from obsarchive.store import Document, Outbox, one_line, outage_as_error

log = logging.getLogger(__name__)

TIMEOUT_S = 15.0
LOOK_S = 5.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=2)
MOST_LINES = 200
"""Events that one letter lists; the rest is counted."""

EVENTS = {State.FAILED: "failed", State.REJECTED: "rejected"}


class DeliveryError(ArchiveError):
    """A message that did not reach its receiver; says why."""


class Alerts:
    """Notes events and tells them.

    Parameters
    ----------
    config : Config
        Whom to tell what.
    outbox : Outbox
        Where events wait.
    """

    def __init__(self, config: Config, outbox: Outbox) -> None:
        self.config, self.outbox = config, outbox
        self.told = {_key(alert): alert for alert in config.alerts.tell}
        self._next: dict[str, datetime] = {}
        self._pause: dict[str, timedelta] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def data_ready(self, observation: Observation | Night) -> None:
        """Note that everything about an observation was done for the first time."""
        self._note(f"new data {observation.id}", "new data", observation, {})

    def step_ended(self, subject: Observation | Night, step: str, state: State, message: str) -> None:
        """Note that a step failed for good or was rejected."""
        event = EVENTS.get(state)
        if event is not None:
            self._note(f"{event} {subject.id} {step} {utc_now()}", event, subject, {"step": step, "message": message})

    def _note(self, key: str, event: str, subject: Observation | Night, facts: dict[str, str]) -> None:
        if not self.told:
            return
        document = subject.document
        science = document.get("science_program")
        program = str(science.get("program_id") or "") if isinstance(science, dict) else ""
        name = {"subject": subject.id, "night": subject.night, "name": str(document.get("name") or subject.id)}
        self.outbox.add(key, {"event": event, "program": program, **name, **facts})

    def start(self) -> None:
        """Begin to send, in a thread."""
        if self.told:
            self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what was not sent waits for the next start."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S + LOOK_S)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            try:
                with outage_as_error():
                    self.send(utc_now())
            except ServiceUnavailable as err:
                log.debug("alerts wait: %s", err)

    def send(self, now: datetime) -> None:
        """Send what was gathered long enough, to everybody whose turn it is."""
        for key, alert in self.told.items():
            if now < self._next.get(key, now):
                continue
            events = self.outbox.untold(key, _query(alert))
            if events and now - events[0]["when"] >= timedelta(seconds=self.config.alerts.gather_s):
                self._tell(key, alert, events, now)

    def _tell(self, key: str, alert: Alert, events: Sequence[Document], now: datetime) -> None:
        try:
            if alert.webhook is not None:
                self._post(alert, events)
            else:
                self._write(alert, events)
        except DeliveryError as err:
            pause = min(LONGEST_PAUSE, 2 * self._pause.get(key, FIRST_PAUSE / 2))
            self._pause[key], self._next[key] = pause, now + pause
            log.warning("%d alert(s) were not delivered: %s; tried again in %s", len(events), err, pause)
            return
        self._pause.pop(key, None)
        self.outbox.note_told([event["_id"] for event in events], key)
        log.info("%d event(s) told to %s", len(events), "a webhook" if alert.webhook else ", ".join(alert.email))

    def _post(self, alert: Alert, events: Sequence[Document]) -> None:
        told = {"archive": self.config.server.name, "events": [self._described(event) for event in events]}
        body = json.dumps(told).encode()
        headers = {"Content-Type": "application/json"}
        if alert.secret is not None:
            signature = hmac.new(alert.secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
            headers["X-Archiver-Signature"] = f"sha256={signature}"
        request_once("the webhook", str(alert.webhook), DeliveryError, TIMEOUT_S, content=body, headers=headers)

    def _write(self, alert: Alert, events: Sequence[Document]) -> None:
        letter = EmailMessage()
        letter["From"], letter["To"] = self.config.alerts.mail.sender, ", ".join(alert.email)
        letter["Subject"] = one_line(f"{self.config.server.name}: {_summary(events)}")
        letter.set_content("\n".join(self._lines(events)) + "\n")
        try:
            with _mail_server(self.config.alerts.mail) as server:
                server.send_message(letter)
        except (OSError, smtplib.SMTPException) as err:
            raise DeliveryError(f"the mail server refused: {type(err).__name__}") from err

    def _lines(self, events: Sequence[Document]) -> list[str]:
        lines = []
        for event in map(self._described, events[:MOST_LINES]):
            why = f": {event['step']}: {one_line(event['message'])}" if event.get("step") else ""
            lines += [f"{event['event']}: {one_line(event['name'])}, night {event['night']}{why}", f"  {event['url']}"]
        if len(events) > MOST_LINES:
            lines.append(f"and {len(events) - MOST_LINES} more")
        return lines

    def _described(self, event: Document) -> dict[str, Any]:
        subject, night = event["subject"], event["night"]
        page = f"night/{night}/summary" if subject == night else f"observation/{quote(subject)}"
        kept = {key: event.get(key, "") for key in ("event", "program", "subject", "night", "name", "step", "message")}
        return {**kept, "when": event["when"].isoformat(), "url": f"{self.config.server.address}/{page}"}


def _query(alert: Alert) -> Document:
    query: Document = {"event": {"$in": list(alert.events)}}
    if alert.programs != "all":
        query["program"] = {"$in": list(alert.programs)}
    return query


def _key(alert: Alert) -> str:
    """Name of a receiver, under which the database remembers what it was told; no address and no secret in it."""
    text = alert.model_dump_json(include={"programs", "webhook", "email"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _summary(events: Sequence[Document]) -> str:
    counts = {name: sum(event["event"] == name for event in events) for name in ("new data", "failed", "rejected")}
    words = {"new data": "with new data", "failed": "failed", "rejected": "rejected"}
    return ", ".join(f"{count} {words[name]}" for name, count in counts.items() if count)


def _mail_server(mail: Mail) -> smtplib.SMTP:
    kind = smtplib.SMTP_SSL if mail.security == "tls" else smtplib.SMTP
    server = kind(mail.host, mail.port, timeout=TIMEOUT_S)
    if mail.security == "starttls":
        server.starttls()
    if mail.user is not None and mail.password is not None:
        server.login(mail.user, mail.password.get_secret_value())
    return server
