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


def test_values_behind_aliases_count_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_files, "MOST_VALUES", 50)
    text = "a: &a [x, y]\nb: &b [*a, *a, *a]\nc: &c [*b, *b]\n"
    assert read(tmp_path, text)["c"] == [[["x", "y"]] * 3] * 2
    with pytest.raises(ConfigError, match="more than 50 values, those behind aliases counted each time"):
        read(tmp_path, text + "d: [*c, *c, *c]\n")


@given(st.lists(st.integers(), max_size=8))
def test_ordinary_lists_are_read(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    assert read(tmp_path_factory.getbasetemp(), f"numbers: {numbers}")["numbers"] == numbers
