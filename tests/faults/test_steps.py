"""Faults 23, 24, 31, 34 and 35: steps that hang, take all memory, fail, are wanted again, or wait for others."""

import itertools
import json
import socket
from datetime import timedelta

import psutil

from tests.daemon.conftest import wait_for
from tests.faults.archives import FaultSite, assert_nothing_is_lost, raw_name, step_of, write_science

LIMIT_S = 6.0


def test_23_step_that_hangs(site: FaultSite, clean: FaultSite) -> None:
    site.change(parallel={"job_timeout_s": LIMIT_S}, daemon={"max_retries": 1})
    site.order("Vega", "add", "hang")
    with site.running():
        child = site.held()
        site.waits_until_settled()
    assert not psutil.pid_exists(child)
    assert f"not finished after {LIMIT_S:g} s" in site.step("Vega")["message"]
    assert site.step("Vega")["retries"] == 2
    assert_nothing_is_lost(site, clean, failed=("Vega",))


def test_24_step_that_takes_all_memory(site: FaultSite, clean: FaultSite) -> None:
    site.change(parallel={"memory_limit_gb": 0.4})
    site.order("Vega", "add", "eat")
    with site.running():
        site.waits_until_settled()
    assert "0.4 GB allowed" in site.step("Vega")["message"]
    assert_nothing_is_lost(site, clean, failed=("Vega",))


def test_31_observation_that_always_fails(site: FaultSite, clean: FaultSite) -> None:
    others = [f"S{number}" for number in range(16)]
    for number, target in enumerate(others):
        write_science(site.night, raw_name(target, 10 + number), number)
    site.change(daemon={"max_retries": 3, "retry_delay_s": 0.2})
    site.order("Vega", "add", "fail")
    with site.running():
        site.waits_until_settled(3 + len(others), seconds=150)
    with site.store() as store:
        jobs = list(store.database["jobs"].find({"step": "add"}).sort("queued", 1))
    tries = [job for job in jobs if job["subject"] == raw_name("Vega")]
    assert len(tries) == 4
    pauses = [later["queued"] - former["finished"] for former, later in itertools.pairwise(tries)]
    assert all(pause >= timedelta(seconds=0.2 * 2**n) for n, pause in enumerate(pauses))
    first = {job["subject"]: job["queued"] for job in reversed(jobs)}
    assert max(first.values()) < tries[-1]["queued"]  # the others did not wait for it
    assert site.step("Vega")["message"] == "failed as ordered"
    assert_nothing_is_lost(site, clean, failed=("Vega",), besides=others)


def test_34_redo_wanted_while_it_runs(site: FaultSite, clean: FaultSite) -> None:
    site.order("Vega", "add", "hold")
    with site.running():
        site.held()
        with site.store() as store:
            assert store.observations.request_redo(raw_name("Vega"), "sum")
        site.release()
        with site.store() as store:
            wait_for(lambda: store.database["jobs"].count_documents({"step": "add", "subject": raw_name("Vega")}) == 2)
        site.waits_until_settled()
    with site.store() as store:
        first, second = store.database["jobs"].find({"step": "add", "subject": raw_name("Vega")}).sort("queued", 1)
        assert (first["state"], second["state"]) == ("done", "done")
        assert first["finished"] <= second["queued"]
        assert store.observations.find(raw_name("Vega"))["pipelined"]["sum"]["status"]["force_redo"] is False
    assert_nothing_is_lost(site, clean)


def test_35_services_that_never_answer(site: FaultSite, clean: FaultSite) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        request = {
            "archives": {"lco": {"name": "LCO", "url": address, "proposals": ["A"]}},
            **{"log_dir": "logs", "data_download_dir": "incoming", "data_reduction_dir": "data"},
        }
        (site.folder / "download.yaml").write_text(json.dumps(request))  # which is YAML as well
        recipient = {"programs": "all", "webhook": address, "events": ["new data"]}
        site.change(intake={"download": "download.yaml"}, alerts={"recipients": [recipient], "batch_window_s": 0.1})
        with site.running():
            site.waits_until_settled(seconds=30)
            before = site.status()["updated"]
            wait_for(lambda: site.status()["updated"] > before, 20)
            write_science(site.night, raw_name("late", 50), 5)
            with site.store() as store:
                wait_for(lambda: step_of(store, "late", "note").get("state") == "done", 20)
            site.waits_until_settled(4)
    assert_nothing_is_lost(site, clean, besides=("late",))
