"""Faults 7, 8, 18, 22 and 25: disks that are full, forbid, do not answer, or are away."""

import json
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from obsarchive.core.documents import Night
from obsarchive.store import Store
from tests.daemon.conftest import NIGHT, wait_for
from tests.faults.archives import FaultSite, assert_nothing_is_lost, raw_name, step_of
from tests.faults.rooms import Room


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte; return the file that does it."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def status_file(site: FaultSite) -> dict[str, Any]:
    """Return what the command ``status`` reads."""
    path = site.folder / "logs" / "status.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def problems_of(store: Store) -> dict[str, str]:
    """Return why raw files of the night are not understood, by their names."""
    return {problem.name: problem.reason for problem in Night(store.nights.find(NIGHT) or {}).problems()}


def raw_missing(store: Store) -> list[bool]:
    """Return for each observation whether its raw files are gone."""
    return [document["raw_data"]["missing"] for document in store.database["objects"].find()]


def test_07_archive_full(site: FaultSite, clean: FaultSite, room: Room) -> None:
    room.mount(site.layout.root, "3m")
    archive = room.inside(site.layout.root)
    site.order("Vega", "add", "hold")
    with site.running():
        site.held()
        filler = fill(archive)
        site.release()
        with site.store() as store:
            wait_for(lambda: step_of(store, "Vega").get("waits", 0) >= 3)
            assert step_of(store, "Vega")["state"] in ("waiting", "enqueued")
            assert step_of(store, "Vega").get("retries", 0) == 0
            assert "no space" in step_of(store, "Vega")["message"]
            queued = [job["queued"] for job in store.jobs.recent(limit=500) if job["step"] == "add"]
        assert len(queued) < 12  # the pauses grow
        wait_for(lambda: any("no space" in error["message"] for error in status_file(site)["last_errors"]))
        assert not list(archive.rglob("*.part"))
        site.change(daemon={"min_free_gb": 0.001})
        wait_for(lambda: status_file(site)["state"] == "no space")
        filler.unlink()
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean, archive=archive)
    room.unmount(site.layout.root)


def test_08_disks_of_temporary_files_and_logs_full(site: FaultSite, clean: FaultSite, room: Room) -> None:
    folders = [site.folder / name for name in ("tmp", "logs")]
    for folder in folders:
        room.mount(folder, "64k")
        fill(room.inside(folder))
    with site.running():
        with site.store() as store:
            wait_for(lambda: "no space" in step_of(store, "Vega").get("message", ""))
        for folder in folders:
            room.remount(folder, "size=4m")
        site.waits_until_settled()
    assert site.step("Vega")["retries"] == 0
    assert not list((room.inside(folders[0]) / "steps").glob("*"))
    assert_nothing_is_lost(site, clean)
    assert "Traceback" not in site.said
    for folder in folders:
        room.unmount(folder)


def test_18_permission_denied(site: FaultSite, clean: FaultSite) -> None:
    raw = site.night / f"{raw_name('KOI-2', 1)}.fits.bz2"
    raw.chmod(0)
    folder = site.layout.observation(NIGHT, raw_name("HD_3", 2))
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    with site.running():
        with site.store() as store:
            wait_for(lambda: step_of(store, "Vega", "note").get("state") == "done")
            assert "Permission denied" in problems_of(store)[raw.name]
            wait_for(lambda: "Permission denied" in step_of(store, "HD_3").get("message", ""))
            jobs = len(store.jobs.recent(limit=500))
            time.sleep(1.0)
            assert len(store.jobs.recent(limit=500)) - jobs < 6  # it does not spin
        folder.chmod(0o755)
        raw.chmod(0o644)
        site.waits_until_settled()
    assert [site.step(target)["retries"] for target in ("KOI-2", "HD_3")] == [0, 0]
    assert_nothing_is_lost(site, clean)


def test_22_logs_that_cannot_be_written(site: FaultSite, clean: FaultSite) -> None:
    logs = site.folder / "logs"
    logs.mkdir()
    logs.chmod(0)
    try:
        with site.running():
            site.waits_until_settled()
    finally:
        logs.chmod(0o755)
    assert "logging to the terminal only" in site.said
    assert "the status file cannot be written" in site.said
    assert_nothing_is_lost(site, clean)


def test_25_disks_that_do_not_answer(reduced: FaultSite, clean: FaultSite, room: Room) -> None:
    ended = subprocess.Popen(["sleep", "600"])
    room.bind(Path(f"/proc/{ended.pid}/task"), reduced.night)
    ended.kill()
    ended.wait()  # the folder of a process that ended gives errors, as one of a server that went away
    try:
        with reduced.running():
            reduced.waits_for_words("cannot be read, looked at again later")
            room.unmount(reduced.night)
            with reduced.store() as store:
                wait_for(lambda: raw_missing(store) == [False] * 3)
            reduced.waits_until_settled()
            room.mount(reduced.folder / "raw", "64k")  # the disk is not mounted: its folder is empty
            time.sleep(1.0)
            with reduced.store() as store:
                assert raw_missing(store) == [False] * 3
            room.unmount(reduced.folder / "raw")
            time.sleep(0.5)
        with reduced.store() as store:
            assert store.jobs.recent() == []
    finally:
        ended.kill()
    assert_nothing_is_lost(reduced, clean)


def test_25_raw_file_on_a_failing_disk(site: FaultSite, clean: FaultSite, room: Room) -> None:
    raw = site.night / f"{raw_name('KOI-2', 1)}.fits.bz2"
    room.bind(Path(f"/proc/{room.pid}/mem"), raw)  # reading its first bytes is an input/output error
    with site.running():
        with site.store() as store:
            wait_for(lambda: step_of(store, "Vega", "note").get("state") == "done")
            wait_for(lambda: "Input/output error" in problems_of(store).get(raw.name, ""))
            assert step_of(store, "KOI-2") == {}  # without its header it would lack everything
        room.unmount(raw)
        site.waits_until_settled()
    assert_nothing_is_lost(site, clean)
