"""What the tree cannot rebuild is saved in one file and put back, on a real MongoDB."""

import gzip
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from obsarchive.cli.backup import _backup_of
from obsarchive.daemon.people_journal import PeopleJournal
from obsarchive.errors import ArchiveError
from obsarchive.io.backup_file import check_backup, read_backup, write_backup
from obsarchive.store import Act, Decision, Store
from obsarchive.store.backup import WHOLE
from tests.daemon.conftest import NIGHT, Site, wait_for

from .test_commands import command

Saved = tuple[Site, Path, dict[str, list[dict[str, Any]]]]


def act(store: Store, observation: str) -> None:
    """Do what people do, and what the tree holds nothing of."""
    store.users.add("ana", {"programs": ["4", "β"], "password": "$argon2id$…"})
    store.users.add("ben", {"programs": "all", "totp": {"secret": "x"}})
    store.tokens.add("digest", "ana", "script", ["read"], timedelta(days=9))
    store.requests.ask("redo", "ana", {"subject": "x", "pipeline": "toy"})
    store.audit.record("login", "ana", text="entry\n1")
    store.programmes.save("4", {"title": "β Pictoris", "period": "never"}, "ben")
    store.notes.mark({observation: NIGHT}, "bad", "clouds", "ana")
    store.decisions.write("RUN", "WD 1", Decision("keep", "a lens", "ana", (58000.5,)))
    store.watches.add("ana", kind="failed", value="", email="ana@example.org")
    store.frames.offer("lco", "frame", {"md5": "0"})
    store.datasets.note(Path("/data/x/y/z"), {"state": "due", "force_redo": True})
    store.outbox.add("event", {"kind": "failed"})
    store.observations.request_redo(observation, "bright_star")
    store.observations.request_step_redo(observation, ("bright_star", "strehl"))
    store.nights.set_fields(NIGHT, {"raw_data.copies_calibration_from": "20260313"})


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {name: list(store.database[name].find().sort("_id", 1)) for name in WHOLE}


@pytest.fixture
def saved(copied: Site, tmp_path: Path) -> Saved:
    """An archive with its backup, and what the database held then; the database is gone."""
    command(copied, "rebuild")
    file = tmp_path / "archive.backup"
    with copied.store() as store:
        act(store, copied.observation("HIP_1"))
        said = command(copied, "backup", str(file))
        assert "2 users" in said
        assert "one moment" not in said
        held = everything(store)
        store.database.client.drop_database(store.database.name)
    return copied, file, held


def test_all_that_the_tree_lacks_comes_back(saved: Saved) -> None:
    site, file, held = saved
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(held.values())
    assert "users: 2 restored" in command(site, "restore", str(file))
    with site.store() as store:
        assert everything(store) == held
        (observation,) = (found for found in store.observations.of_night(NIGHT) if found.document["name"] == "HIP_1")
        assert observation.pipeline("bright_star").force_redo
        assert observation.pipeline("bright_star").steps()["strehl"].redo
        assert store.nights.find(NIGHT)["raw_data"]["copies_calibration_from"] == "20260313"
    assert "restored" not in command(site, "restore", str(file)).replace("objects: 1 restored", "").replace(
        "aux: 1 restored", ""
    )


def test_the_wishes_are_granted_after_a_restore(saved: Saved) -> None:
    site, file, _ = saved
    command(site, "restore", str(file))
    assert "8 done" not in site.run()
    with site.store() as store:
        assert not [found for found in store.observations.of_night(NIGHT) if found.pipeline("bright_star").force_redo]


def test_what_is_there_stays_unless_it_is_to_be_overwritten(saved: Saved) -> None:
    site, file, held = saved
    with site.store() as store:
        store.users.add("ana", {"programs": ["7"]})
        assert "users: 1 were there" in command(site, "restore", str(file))
        assert store.users.find("ana")["programs"] == ["7"]
        assert "users: 1 replaced" in command(site, "restore", str(file), "--overwrite")
        assert everything(store) == held


def test_no_daemon_may_run(saved: Saved) -> None:
    site, file, _ = saved
    daemon = site.start()
    try:
        wait_for(lambda: site.daemon_state == "idle")  # one that only starts does not have the lease
        assert "another daemon" in command(site, "restore", str(file), code=4)
    finally:
        daemon.kill()
        daemon.communicate(60)
    with site.store() as store:
        store.users.remove("ana")
        held_by = store.lease.archive()
        store.database["lease"].delete_many({})
        assert store.lease.take("its run", replace(held_by, host="another host"), "another host, process 7", 60)
        assert "another host" in command(site, "restore", str(file), code=4)
        assert store.users.find("ana") is None
        store.lease.give_back("its run")
    command(site, "restore", str(file))


def test_the_backup_of_another_archive_is_refused(saved: Saved) -> None:
    site, file, held = saved
    site.layout.identifier.write_text("another\n")
    assert "another archive" in command(site, "restore", str(file), code=2)
    with site.store() as store:
        assert not store.users.all()
        command(site, "restore", str(file), "--other-archive")
        assert everything(store) == held


def test_only_a_backup_of_the_same_archive_is_replaced(saved: Saved) -> None:
    site, file, _ = saved
    before = file.read_bytes()
    kept = site.layout.identifier.read_text()
    site.layout.identifier.unlink()  # as when the disk of the archive is not mounted
    assert "another archive" in command(site, "backup", str(file), code=2)
    assert file.read_bytes() == before
    assert not site.layout.identifier.exists()
    site.layout.identifier.write_text(kept)
    command(site, "backup", str(file))
    assert file.read_bytes() != before
    settings = site.config_file.read_bytes()
    assert "no complete backup" in command(site, "backup", str(site.config_file), code=1)
    assert site.config_file.read_bytes() == settings


def flip(data: bytes) -> bytes:
    text = gzip.decompress(data)
    return gzip.compress(text.replace(b"digest", b"digesT", 1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-30],
        lambda data: gzip.compress(b"".join(gzip.decompress(data).splitlines(keepends=True)[:-1])),
        lambda data: gzip.compress(b"".join(gzip.decompress(data).splitlines(keepends=True)[:1])),
        flip,
        lambda data: b"",
        lambda data: b"users",
        lambda data: gzip.compress(b'{"format": "another"}\n{}\n'),
        lambda data: gzip.compress(b"[1]\n"),
    ],
    ids=["cut", "no end", "first line alone", "changed", "empty", "no gzip", "another format", "a list"],
)
def test_a_damaged_backup_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "damaged"
    acts = [Act.of("users", {"_id": "ben"}), Act.of("tokens", {"_id": "digest"})]
    write_backup(file, {"archive": "x"}, (act.to_line() for act in acts))
    assert check_backup(file)["archive"] == "x"
    assert [Act.from_line(line) for line in read_backup(file)] == acts
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ArchiveError, match="no complete backup"):
        check_backup(file)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such file"):
        check_backup(tmp_path / "absent")


def test_it_holds_what_was_true_at_one_moment(copied: Site) -> None:
    """Who is removed, and noted in the audit log, while it is read is in it, and the note is not."""
    with copied.store() as store:
        store.users.add("ana", {"programs": "all"})
        store.users.add("ben", {"programs": "all"})
        store.audit.record("user added", "ana", name="ben")
        command(copied, "backup", str(copied.folder / "backup"))  # waits until the new collections can be read so
        acts = _backup_of(store, copied.config).acts()
        found = [next(acts)]
        store.users.remove("ben")
        store.audit.record("user removed", "ana", name="ben")
        found += acts
        assert [(it.collection, it.key) for it in found[:2]] == [("users", '"ana"'), ("users", '"ben"')]
        assert ["user added" in it.line for it in found[2:]] == [True]


def test_the_journal_is_newer_than_the_backup(saved: Saved) -> None:
    """An account that was made after the backup comes back from the journal, and the newer state of one counts."""
    site, file, _ = saved
    with site.store() as store:
        command(site, "restore", str(file))
        store.users.add("eve", {"programs": ["9"]})
        store.users.save("ana", {"programs": ["5"]})
        PeopleJournal(store.people, site.config.database_folder, lambda _: None).catch_up()
        store.database.client.drop_database(store.database.name)
        assert "document(s) of people restored" in command(site, "restore", str(file))
        assert store.users.find("eve") is not None
        assert store.users.find("ana")["programs"] == ["5"]
        assert len(store.tokens.of_user("ana")) == 1
