"""Watches of users: sent once for each event, after a restart too; never of what their user may not see."""

import json
import socketserver
from datetime import timedelta
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from obsarchive.accounts.users import AccountError
from obsarchive.accounts.watches import MOST_WATCHES, add_watch
from obsarchive.config.model import Config
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.step_state import State
from obsarchive.daemon.notifications import Alerts
from obsarchive.daemon.watches import Watchers
from obsarchive.store import Store
from tests.daemon.test_notifications import Letterbox, Webhook, serve

__all__ = ["serve"]


def observation(store: Store, program: str, name: str) -> Observation:
    found = {
        "_id": f"{program}_{name}_VIC_Si_o_20260314_030000.000000",
        "night": "20260314",
        "name": name,
        "science_program": {"program_id": program, "program_PI": []},
        "pipelined": {},
    }
    store.observations.insert(found)
    return Observation(found)


def config_of(**alerts: Any) -> Config:
    raw = {"paths": {"raw": ["raw"], "archive": "a", "tmp": "t", "logs": "l"}, "pipelines": [], "alerts": alerts}
    raw["server"] = {"name": "Robo-AO", "public_url": "https://archive.example.org"}
    return Config.model_validate(raw)


def alerts_of(config: Config, store: Store) -> Alerts:
    """Return the alerts of a daemon that has just been started."""
    return Alerts(config, store.outbox, Watchers(config.alerts, store))


@pytest.fixture
def people(store: Store) -> Store:
    store.users.save("ana", {"programs": ["3"]})
    store.users.save("ben", {"programs": ["4"]})
    store.users.save("admin", {"programs": "all"})
    return store


def test_a_watch_fires_once_for_each_event_after_a_restart_too(people: Store, serve) -> None:
    hook = serve(ThreadingHTTPServer, Webhook)
    config = config_of(watch_hosts=[f"127.0.0.1:{hook.server_port}"])
    assert add_watch(
        people.watches, config.alerts, "ana", "target", "hd 140283", f"http://127.0.0.1:{hook.server_port}/x"
    )
    mine, other = observation(people, "3", "HD_140283"), observation(people, "3", "GJ_436")
    first = alerts_of(config, people)
    first.data_ready(mine)
    first.data_ready(other)
    later = utc_now() + timedelta(hours=1)
    first.send(later)
    first.send(later)
    again = alerts_of(config, people)
    again.data_ready(mine)  # known already
    again.send(later)
    (event,) = [event for body, _ in hook.heard for event in json.loads(body)["events"]]
    assert (event["name"], event["event"]) == ("HD_140283", "new data")
    assert len(hook.heard) == 1


def test_an_event_that_could_not_be_delivered_is_sent_after_a_restart(people: Store, serve) -> None:
    hook = serve(ThreadingHTTPServer, Webhook)
    hook.answers[:] = [500]
    config = config_of(watch_hosts=[f"127.0.0.1:{hook.server_port}"])
    add_watch(people.watches, config.alerts, "ana", "program", "3", f"http://127.0.0.1:{hook.server_port}/x")
    first = alerts_of(config, people)
    first.data_ready(observation(people, "3", "Vega"))
    later = utc_now() + timedelta(hours=1)
    first.send(later)
    alerts_of(config, people).send(later)
    alerts_of(config, people).send(later)
    assert len(hook.heard) == 2, "refused, then taken, then nothing more"


def test_a_watch_shows_nothing_of_others(people: Store, serve) -> None:
    hook = serve(ThreadingHTTPServer, Webhook)
    config = config_of(watch_hosts=[f"127.0.0.1:{hook.server_port}"])
    for user in ("ana", "ben", "admin"):
        address = f"http://127.0.0.1:{hook.server_port}/{user}"
        add_watch(people.watches, config.alerts, user, "target", "Vega", address)
        add_watch(people.watches, config.alerts, user, "program", "4", address)
        add_watch(people.watches, config.alerts, user, "failure", "", address)
    alerts = alerts_of(config, people)
    theirs = observation(people, "4", "Vega")
    alerts.data_ready(theirs)
    alerts.step_ended(theirs, "bright_star.strehl", State.FAILED, "OSError: broken")
    alerts.step_ended(Night({"_id": "20260314"}), "calib.darks", State.FAILED, "4_secret.fits is bad")
    alerts.send(utc_now() + timedelta(hours=1))
    people.users.save("ben", {"programs": []})
    alerts.step_ended(theirs, "bright_star.pca", State.FAILED, "OSError: broken again")
    alerts.send(utc_now() + timedelta(hours=1))
    sent = [json.loads(body)["events"] for body, _ in hook.heard]
    # ben: target, programme, failure; administrators: the same, the night's failure among them, and the last one
    assert sorted(len(events) for events in sent) == [1, 1, 1, 1, 1, 1, 2]
    assert sum("secret" in str(events) for events in sent) == 1
    assert sum("broken again" in str(events) for events in sent) == 1


def test_a_letter_says_why_it_comes(people: Store, serve) -> None:
    letters = serve(socketserver.ThreadingTCPServer, Letterbox)
    mail = {"host": "127.0.0.1", "port": letters.server_address[1]}
    config = config_of(watch_domains=["example.org"], mail=mail)
    add_watch(people.watches, config.alerts, "ana", "failure", "", "ana@example.org")
    alerts = alerts_of(config, people)
    alerts.step_ended(observation(people, "3", "Vega"), "bright_star.strehl", State.REJECTED, "no star")
    alerts.send(utc_now() + timedelta(hours=1))
    (letter,) = letters.heard
    assert "To: ana@example.org" in letter
    assert "rejected: Vega, night 20260314: bright_star.strehl: no star" in letter
    assert "You watch failure; /account ends it." in letter


def test_an_address_that_is_no_longer_allowed_gets_nothing(people: Store, serve) -> None:
    hook = serve(ThreadingHTTPServer, Webhook)
    config = config_of(watch_hosts=[f"127.0.0.1:{hook.server_port}"])
    add_watch(people.watches, config.alerts, "ana", "program", "3", f"http://127.0.0.1:{hook.server_port}/x")
    alerts_of(config, people).data_ready(observation(people, "3", "Vega"))
    alerts_of(config_of(watch_hosts=["elsewhere"]), people).send(utc_now() + timedelta(hours=1))
    people.users.remove("ana")
    alerts_of(config, people).send(utc_now() + timedelta(hours=1))
    assert hook.heard == []


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost/x",
        "http://hooks.example.org:8080/x",
        "http://hooks.example.org@localhost/x",
        "https://hooks.example.org.evil/x",
        "ftp://hooks.example.org/x",
        "ana@evil.org",
        "ana@example.org\nBcc: x@example.org",
        "a,b@example.org",
        "example.org",
        "",
    ],
)
def test_only_addresses_that_are_allowed(people: Store, address: str) -> None:
    config = config_of(watch_hosts=["hooks.example.org"], watch_domains=["example.org"])
    with pytest.raises(AccountError):
        add_watch(people.watches, config.alerts, "ana", "program", "3", address)
    assert not people.watches.any()


def test_watches_are_limited_and_named(people: Store) -> None:
    config = config_of(watch_domains=["example.org"])
    for kind, value in (("target", " _ "), ("program", ""), ("anything", "x"), ("target", "x" * 300)):
        with pytest.raises(AccountError):
            add_watch(people.watches, config.alerts, "ana", kind, value, "ana@example.org")
    for number in range(MOST_WATCHES):
        assert add_watch(people.watches, config.alerts, "ana", "program", str(number), "ana@example.org")
    with pytest.raises(AccountError, match="enough"):
        add_watch(people.watches, config.alerts, "ana", "program", "x", "ana@example.org")
