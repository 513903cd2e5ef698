"""Faults 15, 19 and 21: clocks that jump, very many observations, and a configuration that is edited."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest

from obsarchive.config.model import QuietHours
from obsarchive.core import documents
from obsarchive.core.documents import Observation
from obsarchive.daemon.raw_scanner import signature_of
from obsarchive.names import ObservationName
from tests.daemon.conftest import wait_for
from tests.faults.archives import (
    STEPS,
    TARGETS,
    FaultSite,
    assert_nothing_is_left_over,
    assert_nothing_is_lost,
    raw_name,
    write_science,
)


@dataclass(frozen=True)
class OwnClock:
    """Gives a new daemon a clock that is wrong by what a file says [s], and a time zone."""

    enter: Callable[[], None]
    offset: Path
    zone: str = "UTC"

    def __call__(self) -> None:
        self.enter()
        offset, zone, true_time = self.offset, self.zone, time.time

        class Wrong(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + timedelta(seconds=float(offset.read_text() or 0))

        documents.datetime = Wrong  # type: ignore[attr-defined,misc]
        time.time = lambda: true_time() + float(offset.read_text() or 0)  # type: ignore[assignment]
        os.environ["TZ"] = zone
        time.tzset()


@pytest.mark.parametrize("jump_s", [-3600.0, 86400.0])
def test_15_clock_that_jumps(site: FaultSite, clean: FaultSite, jump_s: float) -> None:
    offset = site.folder / "offset"
    offset.write_text("0")
    assert site.first is not None
    site.first = OwnClock(site.first, offset)
    site.change(daemon={"max_retries": 2, "retry_delay_s": 0.5})
    site.order("KOI-2", "add", "fail")
    site.order("Vega", "add", "hold")
    with site.running():
        site.held()
        offset.write_text(str(jump_s))
        site.release()
        wait_for(lambda: _retries(site) >= 1)
        site.release("KOI-2")
        offset.write_text("0")  # the clock is put right again
        site.waits_until_settled(seconds=30)
        with site.store() as store:
            assert store.lease.collection.find_one({})["run"] == (store.jobs.daemon() or {})["run"]
    assert_nothing_is_lost(site, clean)


def _retries(site: FaultSite) -> int:
    return int(site.step("KOI-2").get("retries", 0))


@pytest.mark.parametrize("zone", ["America/Phoenix", "Europe/Berlin"])
def test_15_quiet_hours_are_those_of_the_place(site: FaultSite, clean: FaultSite, zone: str) -> None:
    offset = site.folder / "offset"
    here = datetime.now(ZoneInfo(zone))
    summer = datetime(2026, 7, 1, here.hour, here.minute, tzinfo=UTC)  # Berlin has summer time, Phoenix has not
    offset.write_text(str((summer - datetime.now(UTC)).total_seconds()))
    assert site.first is not None
    site.first = OwnClock(site.first, offset, zone)
    local = summer.astimezone(ZoneInfo(zone))
    hours = {"start": f"{local - timedelta(minutes=30):%H:%M}", "stop": f"{local + timedelta(minutes=30):%H:%M}"}
    site.change(daemon={"quiet_hours": {**hours, "frame": "local"}})
    with site.running():
        wait_for(lambda: site.status().get("state") == "napping")
        with site.store() as store:
            assert store.database["objects"].count_documents({}) == 0
    offset.write_text("0")
    site.change(daemon={"quiet_hours": None})
    with site.running():
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean)


def test_15_quiet_hours_across_the_change_to_summer_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = QuietHours.model_validate({"start": "23:30", "stop": "04:00", "frame": "local"})
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    covered = [
        hours.covers(datetime(2026, 3, 28, 22, 0, tzinfo=UTC) + timedelta(minutes=30 * step)) for step in range(12)
    ]
    monkeypatch.undo()
    time.tzset()
    # from 22:30 UTC (23:30 in winter) until 2:00 UTC (4:00 in summer), an hour less than in other nights
    assert covered == [False] + [True] * 7 + [False] * 4


def test_21_configuration_edited_while_the_daemon_runs(site: FaultSite) -> None:
    before = site.config_file.read_text()
    with site.running() as daemon, site.store() as store:
        site.waits_until_settled()
        site.config_file.write_text(before[:-1])
        wait_for(lambda: "not JSON" in str((store.jobs.daemon() or {}).get("configuration")))
        site.config_file.write_text(before)
        site.change(paths={"archive": "elsewhere"})
        wait_for(lambda: "need a restart" in str((store.jobs.daemon() or {}).get("configuration")))
        site.config_file.write_text(before)
        chain = [*json.loads(before)["pipelines"], {"class": "tests.sample_pipelines.Toy"}]
        site.change(pipelines=chain)
        wait_for(lambda: site.said.count("toy.look: done") == len(TARGETS))
        site.config_file.write_text(before)
        wait_for(lambda: (store.jobs.daemon() or {}).get("configuration") == "")
        assert daemon.poll() is None
        site.waits_until_settled()
    assert len(list(site.layout.root.rglob("toy/*.txt"))) == len(TARGETS)
    assert_nothing_is_left_over(site, site.layout.root)


N_NIGHTS, N_EACH = 100, 1000
"""A hundred thousand observations."""
NO_CALIBRATION = {
    "darks": {"state": "lacking", "lacks": "dark files", "inputs": {"dark": ""}},
    "flats": {"state": "lacking", "lacks": "flat files", "inputs": {"flat": "", "dark": ""}},
}
FIRST_S, LONGEST_S, MOST_MB = 400.0, 60.0, 700
"""Time of the first look at all and until a new observation is reduced, on a busy machine [s]; memory [MB]."""


def known_night(site: FaultSite, night: str) -> Iterator[dict[str, Any]]:
    """Write empty raw files of a night; yield the documents of its observations, which are all done."""
    folder = site.folder / "raw" / night
    folder.mkdir()
    for number in range(N_EACH):
        name = raw_name(f"S{number}", number, night)
        path = folder / f"{name}.fits"
        path.touch()
        stat = path.stat()
        signature = signature_of([(path.name, stat.st_size, stat.st_mtime_ns)])
        steps = {step: {"state": "done", "inputs": {"science": signature}, "products": []} for step in STEPS}
        yield {
            "_id": name,
            "schema": 1,
            "night": night,
            "name": f"S{number}",
            "date_utc": ObservationName.parse(name).date_utc,
            "fits_header": [{"key": "MODE_NUM", "value": 6, "comment": ""}],
            "raw_data": {
                **{"location": ["here", str(folder)], "data": [path.name], "signature": signature},
                "missing": False,
            },
            "science_program": {"program_id": "3", "program_PI": []},
            "pipelined": {"sum": {"status": {"done": True}, "steps": steps}},
            "distributed": {"status": True},
        }


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_19_a_hundred_thousand_observations(site: FaultSite) -> None:
    nights = [f"2025{1 + number // 28:02d}{1 + number % 28:02d}" for number in range(N_NIGHTS)]
    with site.store() as store:
        for night in nights:
            store.database["objects"].insert_many(known_night(site, night))
            store.nights.touch(night)
            store.nights.set_fields(night, {"calib": {"steps": NO_CALIBRATION}})
    site.change(daemon={"audit_interval_s": 3600.0})
    names = [raw_name(target, number) for number, target in enumerate(TARGETS)]
    with site.running() as daemon, site.store() as store:

        def is_done(name: str) -> bool:
            document = store.observations.find(name) or {}
            return bool(Observation(document).pipeline("sum").document.get("status", {}).get("done"))

        wait_for(lambda: all(map(is_done, names)), FIRST_S)
        assert len(store.jobs.recent(limit=1000)) == 2 + len(STEPS) * len(TARGETS)
        assert psutil.Process(daemon.pid).memory_info().rss / 1e6 < MOST_MB
        write_science(site.night, raw_name("late", 50), 5)
        wait_for(lambda: is_done(raw_name("late", 50)), LONGEST_S)
