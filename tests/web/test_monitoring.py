"""What programs that watch the archive are told, and who is told it."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pymongo import MongoClient
from toy_archive import make_config
from visitors import PEOPLE, make_app

from obsarchive.core.documents import utc_now
from obsarchive.store import Store
from obsarchive.web import Portal

TOKEN = "a token of forty characters, no less 1234"
WATCHED = ("/metrics", "/health/daemon", "/health/daemon/ready")


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read metrics with the parser of Prometheus' own library: the value of every sample by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(app: Portal, **options: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = app.test_client().get("/metrics", **options)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return samples(answer.text)


def value(found: dict[Any, float], name: str, **labels: str) -> float | None:
    return found.get((f"archiver_{name}", frozenset(labels.items())))


def report(app: Portal, **more: Any) -> None:
    """Let a daemon have reported."""
    now = utc_now()
    status = {
        "updated": now - timedelta(seconds=4),
        "last_cycle": now - timedelta(seconds=30),
        "started": now - timedelta(hours=2),
        "state": "working",
        "running": [{"subject": "3_secret_star", "step": "bright_star.reduce"}],
        "workers": [{"name": "0"}, {"name": "1"}],
        "queue": 7,
        "totals": {"done": 40, "failed": 3, "rejected": 1},
        "retries": 2,
        "causes": {"time limit": 2, "other": 1},
        "memory_mb": 210,
        "disks": [{"path": str(app.settings.paths.archive), "free_gb": 1.5, "total_gb": 20.0}],
    }
    app.store.jobs.report({**status, **more})


def test_numbers_are_those_of_the_database(app: Portal, archive: SimpleNamespace) -> None:
    report(app)
    now = utc_now()
    arrived, came = now - timedelta(minutes=12), now - timedelta(minutes=20)
    app.store.observations.set_fields(archive.named, {"raw_data.last_modified": arrived})  # the newest
    app.store.observations.set_fields(archive.hostile, {"date_added": came, "distributed.last_modified": None})
    for other in (archive.own, archive.failed, archive.foreign, archive.named, archive.earlier):
        app.store.observations.set_fields(other, {"distributed.status": True, "date_added": now - timedelta(days=9)})
    found = scrape(app)
    assert value(found, "database_up") == value(found, "daemon_up") == 1
    states = {dict(labels)["state"] for (name, labels), is_it in found.items() if name.endswith("_state") and is_it}
    assert states == {"working"}
    assert value(found, "observations") == 6
    assert value(found, "steps", pipeline="bright_star", step="reduce", state="done") == 2
    assert value(found, "steps", pipeline="bright_star", step="reduce", state="failed") == 1
    assert value(found, "steps", pipeline="bright_star", step="reduce", state="rejected") == 1
    assert value(found, "steps", pipeline="calib", step="darks", state="done") == 1
    assert value(found, "queue_length") == 7
    assert value(found, "steps_running") == 1
    assert value(found, "workers") == 2
    assert value(found, "step_endings_total", state="failed") == 3
    assert value(found, "step_retries_total") == 2
    assert value(found, "step_failures_total", cause="time limit") == 2
    assert value(found, "daemon_report_age_seconds") == pytest.approx(4, abs=3)
    assert value(found, "daemon_cycle_age_seconds") == pytest.approx(30, abs=3)
    assert value(found, "raw_file_age_seconds") == pytest.approx(12 * 60, abs=5)
    assert value(found, "reduction_lag_seconds") == pytest.approx(20 * 60, abs=5)
    assert value(found, "disk_free_bytes", folder="archive") == pytest.approx(1.5e9)
    assert value(found, "disk_wanted_bytes") == pytest.approx(app.settings.daemon.min_free_gb * 1e9)
    assert value(found, "disk_guard") == 0


def test_a_daemon_that_is_silent_or_short_of_space_is_seen(app: Portal, archive: SimpleNamespace) -> None:
    report(app, state="no space", space="/archive has 0.10 GB free, daemon.min_free_gb wants 1")
    found = scrape(app)
    assert value(found, "disk_guard") == 1
    assert value(found, "daemon_state", state="no space") == 1
    report(app, updated=utc_now() - timedelta(minutes=5))
    assert value(scrape(app), "daemon_up") == 0
    answer = app.test_client().get("/health/daemon")
    assert (answer.status_code, answer.json) == (503, {"status": "not running"})
    app.store.jobs.report({})
    found = scrape(app)
    assert value(found, "daemon_up") == 0
    assert value(found, "daemon_cycle_age_seconds") is None


def test_a_daemon_that_starts_lives_but_is_not_ready(app: Portal, archive: SimpleNamespace) -> None:
    client, answers = app.test_client(), {}
    for state in ("starting", "idle", "stopped"):
        report(app, state=state)
        alive, ready = client.get("/health/daemon"), client.get("/health/daemon/ready")
        assert alive.json == ready.json == {"status": state}
        answers[state] = (alive.status_code, ready.status_code)
    assert answers == {"starting": (200, 503), "idle": (200, 200), "stopped": (503, 503)}


def test_no_observation_and_no_person_is_named(app: Portal, archive: SimpleNamespace) -> None:
    report(app, last_errors=[{"subject": archive.own, "step": "bright_star.reduce", "message": "ana's star"}])
    text = app.test_client().get("/metrics").text
    documents = app.store.database["objects"].find()
    secrets = {*PEOPLE, "secret_star", *(str(d[key]) for d in documents for key in ("_id", "name"))}
    labels = {value for _, found in samples(text) for _, value in found}
    assert not {secret for secret in secrets for label in labels if secret in label}
    assert str(app.settings.paths.archive) not in text


@pytest.mark.parametrize("address", WATCHED)
@pytest.mark.parametrize(
    "asked",
    [
        {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
        {"environ_base": {"REMOTE_ADDR": ""}},
        {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        {"headers": {"Via": "1.1 proxy"}},
        {"headers": {"Host": "rebound.example"}},
        {"headers": {"Authorization": f"Bearer {TOKEN}"}, "environ_base": {"REMOTE_ADDR": "192.0.2.7"}},
    ],
)
def test_other_machines_are_refused(app: Portal, address: str, asked: dict[str, Any]) -> None:
    assert app.test_client().get(address, **asked).status_code == 403


@pytest.mark.parametrize("address", WATCHED)
def test_with_a_token_whoever_sends_it_is_answered_and_nobody_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, address: str
) -> None:
    monkeypatch.setenv("WATCHERS", TOKEN)
    client = make_app(store, make_config(tmp_path, metrics_token={"env": "WATCHERS"})).test_client()
    report(client.application)  # type: ignore[arg-type]
    far = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}}
    assert client.get(address).status_code == 403
    for wrong in ("Bearer wrong", f"Basic {TOKEN}", "Bearer", "Bearer \xff", f"bearer {TOKEN}x"):
        assert client.get(address, headers={"Authorization": wrong}, **far).status_code == 403
    assert client.get(address, headers={"Authorization": f"Bearer {TOKEN}"}, **far).status_code == 200
    assert store.database["throttle"].count_documents({}) == 0  # it is no token of a user


def test_behind_a_proxy_its_clients_are_strangers(store: Store, tmp_path: Any) -> None:
    client = make_app(store, make_config(tmp_path, trusted_proxies=1)).test_client()
    assert client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    assert client.get("/metrics").status_code == 200


def test_anybody_learns_whether_the_portal_lives_and_nothing_else(app: Portal, archive: SimpleNamespace) -> None:
    far = {"environ_base": {"REMOTE_ADDR": "192.0.2.7"}, "headers": {"Host": "archive.example"}}
    for address in ("/health/live", "/health/ready"):
        answer = app.test_client().get(address, **far)
        assert (answer.status_code, answer.json) == (200, {"status": "ok"})
        assert "Set-Cookie" not in answer.headers


def test_without_the_database_the_portal_lives_but_is_not_ready(
    app: Portal, archive: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is looked for where nobody listens, as when the server died."""
    client = app.test_client()
    client.set_cookie("archiver", "anything")
    with MongoClient("mongodb://127.0.0.1:9", serverSelectionTimeoutMS=100) as gone:
        for part in ("sessions", "users"):
            monkeypatch.setattr(getattr(app.store, part), "collection", gone["gone"][part])
        monkeypatch.setattr(app.store.jobs, "telemetry", gone["gone"]["telemetry"])
        assert client.get("/health/live").json == {"status": "ok"}
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json) == (503, {"status": "no database"})
        found = scrape(app)
    assert value(found, "database_up") == 0
    assert value(found, "observations") is None
