"""Alerts: receivers are notified of new data and of failures of their programmes, by a webhook or by e-mail.

Events are recorded in the database first and sent by a thread of its own: a slow receiver does not delay the
archive, and a daemon that stops loses no event. A receiver that cannot be reached is tried again at growing intervals.
"""

import hashlib
import hmac
import json
import logging
import smtplib
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote

from obsarchive.accounts.watches import are_allowed, folded
from obsarchive.config.model import Config, Mail, Recipient
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.raw_problems import ProblemGroup
from obsarchive.core.step_state import State
from obsarchive.daemon.watches import Receiver, Watchers
from obsarchive.errors import ArchiveError, ServiceUnavailable
from obsarchive.remote.http import request_once
from obsarchive.store import Document, Outbox, one_line, outage_as_error

log = logging.getLogger(__name__)

TIMEOUT_S = 15.0
LOOK_S = 5.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=2)
MOST_LINES = 200
"""Events that one e-mail lists; the rest is counted."""

EVENTS = {State.FAILED: "failed", State.REJECTED: "rejected"}


NOT_UNDERSTOOD = "not understood"
"""Event: raw files of a night are not understood."""


class DeliveryError(ArchiveError):
    """A message did not reach its receiver, for the reason given."""


class Alerts:
    """Records events and sends them to receivers.

    Parameters
    ----------
    config : Config
        Its section ``alerts`` lists the receivers.
    outbox : Outbox
        Events that wait to be sent.
    watchers : Watchers, optional
        Users who watch something.
    """

    def __init__(self, config: Config, outbox: Outbox, watchers: Watchers | None = None) -> None:
        self.config, self.outbox = config, outbox
        self.receivers = [_receiver(alert) for alert in config.alerts.recipients]
        self.watchers = watchers if are_allowed(config.alerts) else None
        self._next: dict[str, datetime] = {}
        self._pause: dict[str, timedelta] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def data_ready(self, observation: Observation | Night) -> None:
        """Record that everything about an observation was done for the first time."""
        self._note(f"new data {observation.id}", "new data", observation, {})

    def step_ended(self, subject: Observation | Night, step: str, state: State, message: str) -> None:
        """Record that a step failed for good or was rejected; other states are ignored.

        Parameters
        ----------
        subject : Observation or Night
            What the step belongs to.
        step : str
            Pipeline and step, ``pipeline.step``.
        state : State
            How it ended.
        message : str
            Why.
        """
        event = EVENTS.get(state)
        if event is not None:
            self._note(f"{event} {subject.id} {step} {utc_now()}", event, subject, {"step": step, "message": message})

    def not_understood(self, night: Night, group: ProblemGroup) -> None:
        """Record that raw files are not understood: once for a night and a kind of reason.

        Parameters
        ----------
        night : Night
            The night.
        group : ProblemGroup
            The files and the reason.
        """
        digest = hashlib.sha256(group.kind.encode()).hexdigest()[:16]
        facts = {"step": "raw files", "message": str(group)}
        self._note(f"{NOT_UNDERSTOOD} {night.id} {digest}", NOT_UNDERSTOOD, night, facts)

    def _note(self, key: str, event: str, subject: Observation | Night, facts: dict[str, str]) -> None:
        if not self.receivers and not (self.watchers and self.watchers.any()):
            return
        document = subject.document
        science = document.get("science_program")
        program = str(science.get("program_id") or "") if isinstance(science, dict) else ""
        name = {"subject": subject.id, "night": subject.night, "name": str(document.get("name") or subject.id)}
        target = folded(name["name"])
        self.outbox.add(key, {"event": event, "program": program, "target": target, **name, **facts})

    def start(self) -> None:
        """Start the thread that sends."""
        if self.receivers or self.watchers:
            self._thread = threading.Thread(target=self._run, name="alerts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; events that were not sent wait for the next start."""
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
        """Send the events gathered for long enough to every receiver that is not paused."""
        for receiver in (*self.receivers, *(self.watchers.receivers() if self.watchers else ())):
            if now < self._next.get(receiver.key, now):
                continue
            waiting = self.outbox.untold(receiver.key, receiver.query)
            events = receiver.visible(waiting) if waiting else []
            kept = {event["_id"] for event in events}
            if others := [event["_id"] for event in waiting if event["_id"] not in kept]:
                self.outbox.note_told(others, receiver.key)
            if events and now - events[0]["when"] >= timedelta(seconds=self.config.alerts.batch_window_s):
                self._deliver(receiver, events, now)

    def _deliver(self, receiver: Receiver, events: Sequence[Document], now: datetime) -> None:
        key, alert = receiver.key, receiver.recipient
        try:
            if alert.webhook is not None:
                self._post(alert, events)
            else:
                self._write(alert, events, receiver.note)
        except DeliveryError as err:
            pause = min(LONGEST_PAUSE, 2 * self._pause.get(key, FIRST_PAUSE / 2))
            self._pause[key], self._next[key] = pause, now + pause
            log.warning("%d alert(s) were not delivered: %s; tried again in %s", len(events), err, pause)
            return
        self._pause.pop(key, None)
        self.outbox.note_told([event["_id"] for event in events], key)
        log.info("%d event(s) sent to %s", len(events), "a webhook" if alert.webhook else ", ".join(alert.email))

    def _post(self, alert: Recipient, events: Sequence[Document]) -> None:
        message = {"archive": self.config.server.name, "events": [self._described(event) for event in events]}
        body = json.dumps(message).encode()
        headers = {"Content-Type": "application/json"}
        if alert.secret is not None:
            signature = hmac.new(alert.secret.get_secret_value().encode(), body, hashlib.sha256).hexdigest()
            headers["X-Archiver-Signature"] = f"sha256={signature}"
        request_once("the webhook", str(alert.webhook), DeliveryError, TIMEOUT_S, content=body, headers=headers)

    def _write(self, alert: Recipient, events: Sequence[Document], note: str) -> None:
        counts = Counter(event["event"] for event in events)
        words = {"new data": "with new data", **{name: name for name in (*EVENTS.values(), NOT_UNDERSTOOD)}}
        summary = ", ".join(f"{counts[name]} {text}" for name, text in words.items() if counts[name])
        mail = EmailMessage()
        mail["From"], mail["To"] = self.config.alerts.mail.sender, ", ".join(alert.email)
        mail["Subject"] = one_line(f"{self.config.server.name}: {summary}")
        lines = [*self._lines(events), *((one_line(note),) if note else ())]
        mail.set_content("\n".join(lines) + "\n")
        try:
            with _mail_server(self.config.alerts.mail) as server:
                server.send_message(mail)
        except (OSError, smtplib.SMTPException) as err:
            host = f"{self.config.alerts.mail.host}:{self.config.alerts.mail.port}"
            why = f": {err.strerror}" if isinstance(err, OSError) and err.strerror else ""
            raise DeliveryError(f"the mail server {host} refused: {type(err).__name__}{why}") from err

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


def _receiver(alert: Recipient) -> Receiver:
    """Return a receiver of the configuration; its identifier in the database holds no address and no secret."""
    text = alert.model_dump_json(include={"programs", "webhook", "email"})
    query: Document = {"event": {"$in": list(alert.events)}}
    if alert.programs != "all":
        query["program"] = {"$in": list(alert.programs)}
    return Receiver(hashlib.sha256(text.encode()).hexdigest()[:16], alert, query)


def _mail_server(mail: Mail) -> smtplib.SMTP:
    kind = smtplib.SMTP_SSL if mail.security == "tls" else smtplib.SMTP
    server = kind(mail.host, mail.port, timeout=TIMEOUT_S)
    if mail.security == "starttls":
        server.starttls()
    if mail.user is not None and mail.password is not None:
        server.login(mail.user, mail.password.get_secret_value())
    return server
