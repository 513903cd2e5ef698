"""The glossary names what there is in the code."""

import inspect
import pkgutil
import re
from pathlib import Path

import pytest

from obsarchive.core.step_state import State

TEXT = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()
ROWS = re.findall(r"^\| ([^|`]+) \| ([^|]+) \| `([\w.]+)` \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("word", "name"), [(word, name) for word, _, name in ROWS])
def test_a_word_stands_for_something_in_the_code(word, name):
    found = pkgutil.resolve_name(name)
    assert not inspect.isroutine(found) or found.__doc__


def test_every_row_is_read_and_no_word_is_explained_twice():
    words = [word for word, _, _ in ROWS]
    assert len(words) == len(set(words)) == TEXT.count("\n| ") - TEXT.count("\n| word |")


def test_states_are_those_of_the_table():
    meaning = next(meaning for word, meaning, _ in ROWS if word == "state")
    named = re.findall(r"\w+", re.sub(r"\(.*?\)", "", meaning).partition(":")[2])
    assert named == [str(state) for state in State]
