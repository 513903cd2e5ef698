"""A daemon that has not reported yet: whether it is starting, and since when."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obsarchive.core.documents import utc_now
from obsarchive.core.processes import start_of, this_process
from obsarchive.io.start_record import noted_start, starting_since

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_daemon_starts_until_it_reports_or_ends(tmp_path: Path) -> None:
    note = tmp_path / "archive" / ".daemon.json"
    assert starting_since(note, None) is None
    with noted_start(note):
        began = start_of(this_process())
        assert began <= utc_now()
        assert [starting_since(note, last) for last in (None, LONG_AGO)] == [began, began]
        assert starting_since(note, utc_now() + timedelta(seconds=1)) is None
    assert starting_since(note, None) is None
    assert not note.exists()


def test_a_daemon_that_was_killed_does_not_start(tmp_path: Path) -> None:
    note, process = tmp_path / "note", this_process()
    note.write_text(json.dumps({**process, "started": process["started"] - 60, "noted": utc_now().isoformat()}))
    assert starting_since(note, None) is None, "another process has its number"
    elsewhere = {**process, "host": "elsewhere"}
    for age, is_starting in ((60, True), (3600, False)):
        noted = utc_now() - timedelta(seconds=age)
        note.write_text(json.dumps({**elsewhere, "noted": noted.isoformat()}))
        assert (starting_since(note, None) is not None) == is_starting


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"noted": "2026-01-01"}', '{"noted": "yesterday", "host": "here"}']
)
def test_a_note_that_cannot_be_understood_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "note").write_text(content)
    assert starting_since(tmp_path / "note", LONG_AGO) is None


def test_a_folder_that_cannot_be_written_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with noted_start(tmp_path / "file" / ".daemon.json"):
        assert starting_since(tmp_path / "file" / ".daemon.json", None) is None


def test_a_process_that_comes_second_leaves_the_note_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / ".daemon.json"
    with noted_start(path):
        first = path.read_bytes()
        with noted_start(path):
            assert path.read_bytes() == first
        assert path.read_bytes() == first
    assert not path.exists()
