"""YAML files that people cannot have meant: a message with the file, and no waiting."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.config import yaml_files
from obsarchive.errors import ConfigError


def read(folder: Path, text: str) -> dict[str, object]:
    path = folder / "a.yaml"
    path.write_text(text)
    return yaml_files.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "night: 2026-02-30",
        "night: !!timestamp yesterday",
        "many: !!int ''",
        "is: !!bool perhaps",
        "a: &a [*a]",
        "? [1, 2]\n: b",
        "a: " + "[" * 2000 + "]" * 2000,
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.yaml.*: not YAML"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a: this key is given twice, first in line 1: keep one"),
        ("a:\n  - {}\n  - b:\n      c: 1\n      'c': 2\n", "line 5: a.1.b.c: this key is given twice, first in line 4"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as failed:
        read(tmp_path, text)
    assert str(failed.value) == f"{tmp_path / 'a.yaml'}, {words}" + ("" if words.endswith("one") else ": keep one")


def test_groups_that_are_merged_may_repeat_keys(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3}\nc:\n  <<: *a\n  y: 4\nd: {<<: [*b, *a], x: 5}\n"
    found = read(tmp_path, text)
    assert (found["c"], found["d"]) == ({"x": 1, "y": 4}, {"x": 5, "y": 3})


def test_values_behind_aliases_count_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_files, "MOST_VALUES", 50)
    text = "a: &a [x, y]\nb: &b [*a, *a, *a]\nc: &c [*b, *b]\n"
    assert read(tmp_path, text)["c"] == [[["x", "y"]] * 3] * 2
    with pytest.raises(ConfigError, match="more than 50 values, those behind aliases counted each time"):
        read(tmp_path, text + "d: [*c, *c, *c]\n")


@given(st.lists(st.integers(), max_size=8))
def test_ordinary_lists_are_read(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    assert read(tmp_path_factory.getbasetemp(), f"numbers: {numbers}")["numbers"] == numbers
