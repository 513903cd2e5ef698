"""What people said outlives a dropped database, on a real MongoDB."""

import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from obsarchive.daemon import people_journal
from obsarchive.daemon.people_journal import AUDIT, PEOPLE, PeopleJournal
from obsarchive.store import Act, Decision, People, Store
from tests.daemon.conftest import wait_for


class Kept:
    """A database with people, their journal, and what it had written again."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.edited = store, folder, []
        self.journal = PeopleJournal(store.people, folder, self.edited.append)

    def act(self) -> None:
        self.store.users.add("ana", {"programs": ["4", "β"], "password": "$argon2id$…"})
        self.store.users.add("ben", {"programs": "all"})
        self.store.tokens.add("digest", "ana", "script", ["read"], timedelta(days=9))
        self.store.requests.ask("redo", "ana", {"subject": "x", "pipeline": "toy"})
        self.store.notes.mark({"x": "20160925"}, "bad", "clouds", "ana")
        self.store.notes.mark({"x": "20160925"}, "good", "none", "ben")
        for verdict, version in (("keep", 0), ("reject", 1)):
            decision = Decision(verdict, "$text", "ana", (58000.5,), version=version)
            assert self.store.decisions.write("RUN", "WD 1", decision)
        for number in range(3):
            self.store.audit.record("login", "ana", text=f"entry\n{number}")

    def everything(self) -> dict[str, list[dict]]:
        names = ("users", "tokens", "requests", "notes", "decisions", "audit")
        return {name: list(self.store.database[name].find().sort("_id", 1)) for name in names}

    def drop(self) -> None:
        self.store.database.client.drop_database(self.store.database.name)

    def lines(self, name: str) -> int:
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def kept(store: Store, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(store, tmp_path / "db")
    yield made
    made.journal.stop()


def test_all_comes_back_as_it_was(kept: Kept) -> None:
    kept.act()
    kept.journal.catch_up()
    before = kept.everything()
    kept.drop()
    assert kept.journal.take_up() == 9
    assert kept.everything() == before
    assert kept.journal.take_up() == 0
    for name in (PEOPLE, AUDIT):
        assert stat.S_IMODE((kept.folder / name).stat().st_mode) == 0o600


def test_what_is_said_of_programmes_comes_back(kept: Kept) -> None:
    """Without it, the data of a programme could be taken for public."""
    kept.act()
    kept.store.programmes.save("4", {"period": "never", "title": "β Pictoris"}, "ana")
    kept.journal.start()
    wait_for(lambda: kept.lines(PEOPLE) >= 6)
    kept.store.programmes.save("4", {"period": 24}, "ana")
    # a change may be written twice, by the first look and by the stream: lines tell nothing
    wait_for(lambda: '{"$numberInt": "24"}' in (kept.folder / PEOPLE).read_text())
    before = kept.store.database["programmes"].find_one({"_id": "4"})
    kept.drop()
    wait_for(lambda: not kept.store.users.all())
    kept.journal.take_up()
    assert kept.store.database["programmes"].find_one({"_id": "4"}) == before
    assert kept.store.programmes.find("4").period == 24


def test_acts_reach_the_disk_as_they_happen(kept: Kept) -> None:
    kept.journal.start()
    kept.act()
    wait_for(lambda: kept.lines(PEOPLE) >= 5 and kept.lines(AUDIT) >= 3)
    kept.store.users.save("ana", {"programs": ["5"]})
    kept.store.users.remove("ben")
    wait_for(lambda: kept.lines(PEOPLE) >= 7)
    before = kept.everything()
    kept.drop()
    wait_for(lambda: not kept.store.users.all())
    assert kept.journal.take_up() > 0
    assert kept.everything() == before


def test_a_change_that_is_read_after_the_database_was_dropped_removes_nobody(kept: Kept) -> None:
    acts = kept.store.people.follow()
    assert next(acts) is None
    kept.act()
    kept.store.users.save("ana", {"programs": ["5"]})  # the stream looks its document up when it is read
    kept.store.users.remove("ben")
    kept.drop()
    assert [act.key for act in acts if act is not None and not act.line] == ['"ben"']


def test_edits_of_observations_are_reported_at_once(kept: Kept) -> None:
    documents = [{"_id": "a", "science_program": {"program_id": "4"}, "pipelined": {}}, {"_id": "b"}]
    kept.store.database["objects"].insert_many(documents)
    kept.journal.start()
    wait_for(lambda: kept.journal._thread.is_alive())
    objects = kept.store.database["objects"]

    def edit() -> bool:
        objects.update_one({"_id": "a"}, {"$set": {"science_program.program_PI": f"ana{len(kept.edited)}"}})
        objects.update_one({"_id": "b"}, {"$set": {"seeing.median": 1.2}})
        return "a" in kept.edited

    wait_for(edit)
    nights = kept.store.database["aux"]
    nights.insert_one({"_id": "20260314", "calib": {"steps": {"darks": {"state": "waiting"}}}})
    nights.update_one({"_id": "20260314"}, {"$set": {"last_modified": 1, "calib.steps.darks.state": "done"}})
    objects.update_one({"_id": "b"}, {"$set": {"comment": "pretty"}})
    wait_for(lambda: "b" in kept.edited)
    assert "20260314" not in kept.edited
    asked = ("calib.status.force_redo", "calib.status.force_redo", "summary.status.force_redo")
    for field in (*asked, "raw_data.copies_calibration_from", "raw_data.copies_calibration_from"):
        n = kept.edited.count("20260314")
        nights.update_one({"_id": "20260314"}, {"$set": {field: n + 2}})
        wait_for(lambda n=n: kept.edited.count("20260314") > n)
    n = kept.edited.count("a")
    objects.update_one(
        {"_id": "a"}, {"$set": {"pipelined.toy.status.force_redo": True}}
    )  # of a pipeline that never ran
    wait_for(lambda: kept.edited.count("a") > n)
    objects.update_one({"_id": "a"}, {"$set": {"comment": "pretty"}})
    n = len(kept.edited)
    wait_for(lambda: len(kept.edited) >= n)
    assert set(kept.edited) == {"a", "b", "20260314"}


def test_acts_while_nothing_followed_are_caught_up(kept: Kept) -> None:
    kept.act()
    kept.journal.catch_up()
    kept.store.users.save("ana", {"programs": ["5"]})
    kept.store.users.remove("ben")
    kept.store.audit.record("logout", "ana")
    kept.journal.catch_up()
    before = kept.everything()
    assert (kept.lines(PEOPLE), kept.lines(AUDIT)) == (8, 4)
    kept.journal.catch_up()
    assert (kept.lines(PEOPLE), kept.lines(AUDIT)) == (8, 4)
    kept.drop()
    kept.journal.catch_up()  # a dropped database is no act of people
    kept.journal.take_up()
    assert kept.everything() == before


def test_a_line_that_was_cut_off_costs_itself_only(kept: Kept) -> None:
    kept.act()
    kept.journal.catch_up()
    path = kept.folder / PEOPLE
    path.write_bytes(path.read_bytes()[:-20])
    kept.journal.catch_up()
    before = kept.everything()
    kept.drop()
    kept.journal.take_up()
    assert kept.everything() == before


def test_a_long_journal_is_written_anew(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_journal, "MOST_SUPERSEDED", 3)
    kept.act()
    for number in range(12):
        kept.store.users.save("ana", {"programs": [str(number)]})
        kept.journal.catch_up()
    assert kept.lines(PEOPLE) < 13
    before = kept.everything()
    kept.drop()
    kept.journal.take_up()
    assert kept.everything() == before


def test_a_database_that_cannot_be_followed_is_compared(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(People, "follow", lambda self: iter(()))
    monkeypatch.setattr(people_journal, "POLL_S", 0.05)
    monkeypatch.setattr(people_journal, "PAUSE_S", 0.05)
    kept.journal.start()
    kept.act()
    wait_for(lambda: kept.lines(PEOPLE) >= 5)


@pytest.mark.parametrize("line", ["", "{", "[]", '{"in": "users"}', '{"in": "users", "id": {"$oid": "x"}, "is": null}'])
def test_damaged_lines_are_told_by_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match="no act"):
        Act.from_line(line)


def test_a_flipped_bit_in_a_line_is_noticed() -> None:
    act = Act.of("users", {"_id": "ana", "programs": ["4"]})
    assert Act.from_line(act.to_line()) == act
    with pytest.raises(ValueError, match="differs from its checksum"):
        Act.from_line(act.to_line().replace('"4"', '"5"'))
    assert Act.from_line('{"in": "users", "id": "ana", "is": null}\n') == Act("users", '"ana"')  # of earlier versions


@pytest.mark.parametrize("is_followed", [True, False])
def test_an_administrator_whom_the_portal_adds_to_a_dropped_database_replaces_nobody(kept: Kept, is_followed) -> None:
    kept.act()
    kept.store.users.add("admin", {"programs": "all", "password": "$argon2id$…"})
    kept.journal.catch_up()
    if is_followed:
        kept.journal.start()
        kept.store.audit.record("logout", "ana")
        wait_for(lambda: kept.lines(AUDIT) == 4)
    before = kept.everything()
    kept.drop()
    kept.store.users.add("admin", {"programs": "all", "invite": {"digest": "x"}})  # the set-up link of the portal
    kept.store.users.add("eve", {"programs": ["4"]})
    kept.journal.catch_up()
    assert kept.journal.take_up() == sum(map(len, before.values()))
    after = kept.everything()
    assert [user for user in after["users"] if user["_id"] != "eve"] == before["users"]
    assert {name: after[name] for name in ("tokens", "requests", "audit")} == {
        name: before[name] for name in ("tokens", "requests", "audit")
    }
    kept.drop()
    kept.journal.take_up()
    assert kept.everything() == after
