"""Notes of people: the last one counts, none is lost, and who wrote first is not overwritten unseen."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from obsarchive.store import Store
from obsarchive.store.notes import Note, Notes, subject_of_night
from obsarchive.store.versions import MOST_EARLIER


@pytest.fixture
def notes(store: Store) -> Notes:
    store.notes.ensure_indexes()
    return store.notes


def test_an_edit_keeps_what_was_there(notes) -> None:
    first = notes.write("a", "20160925", Note("bad", "clouds", "ana"))
    assert (first.quality, first.text, first.author, first.version) == ("bad", "clouds", "ana", 1)
    second = notes.write("a", "20160925", Note("good", "$no clouds", "ben", version=1))
    assert (second.quality, second.text, second.version) == ("good", "$no clouds", 2)
    assert [(note.quality, note.text, note.author, note.version) for note in second.earlier] == [
        ("bad", "clouds", "ana", 1)
    ]
    assert second.earlier[0].written == first.written
    assert notes.find("a") == second
    assert notes.find("b") == Note()


def test_who_comes_second_is_refused(notes) -> None:
    notes.write("a", "20160925", Note("bad", "clouds", "ana"))
    assert notes.write("a", "20160925", Note("good", "", "ben")) is None, "Ben saw no note"
    notes.write("a", "20160925", Note("doubtful", "", "ana", version=1))
    assert notes.write("a", "20160925", Note("good", "", "ben", version=1)) is None
    assert notes.find("a").quality == "doubtful"


def test_of_many_at_once_one_is_first(notes) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda n: notes.write("a", "20160925", Note("bad", str(n), "ana")), range(16)))
    assert sum(note is not None for note in written) == 1


def test_a_selection_is_marked_at_once(notes) -> None:
    notes.write("a", "20160925", Note("good", "mine", "ana"))
    nights = {"a": "20160925", "b": "20160925", "c": "20160926"}
    assert notes.mark(nights, "bad", "", "ben") == 3
    assert {name: (note.quality, note.text) for name, note in notes.of("abcd").items()} == {
        "a": ("bad", "mine"),
        "b": ("bad", ""),
        "c": ("bad", ""),
    }
    assert [note.quality for note in notes.find("a").earlier] == ["good"]
    notes.mark(nights, "doubtful", "<b>", "ben")
    assert notes.find("b").version == 2
    assert notes.mark({}, "bad", "", "ben") == 0


def test_earlier_versions_are_bounded(notes) -> None:
    for _ in range(MOST_EARLIER + 5):
        notes.mark({"a": "20160925"}, "bad", "x", "ana")
    found = notes.find("a")
    assert (found.version, len(found.earlier)) == (MOST_EARLIER + 5, MOST_EARLIER)


def test_the_quality_of_a_night_counts_where_an_observation_has_none(store, notes) -> None:
    objects = store.database["objects"]
    objects.insert_many(
        [{"_id": name, "night": night} for name, night in zip("abcd", ("1", "1", "2", "2"), strict=True)]
    )
    notes.mark({"a": "1", "c": "2"}, "good", "", "ana")
    notes.write(subject_of_night("1"), "1", Note("bad", "clouds", "admin"))

    def found(quality: str) -> list[str]:
        return sorted(document["_id"] for document in objects.find(notes.query(quality)))

    assert [found(quality) for quality in ("good", "bad", "doubtful", "unmarked")] == [["a", "c"], ["b"], [], ["d"]]
