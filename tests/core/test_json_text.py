"""JSON that others wrote becomes values that MongoDB holds, or a ValueError."""

import json

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.json_text import DEEPEST, parse_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
)


@given(JSON)
def test_whatever_is_read_can_be_stored(value):
    found = parse_json(json.dumps(value))
    bson.encode({"value": found})
    json.dumps(found, allow_nan=False).encode()


def test_plain_values_stay():
    value = {"a": [1, 2.5, None, True, "β Pic"], "b": {"c": 2**62}}
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize("levels", [DEEPEST + 2, 900, 100_000])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_deep_nesting_is_an_error_of_values(levels, brackets):
    with pytest.raises(ValueError, match="nested deeper than 80 levels"):
        parse_json(brackets[:-1] * levels + "1" + brackets[-1] * levels)
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe\xfa", "9" * 5000, '{"a": 1}x'])
def test_what_is_not_json_is_an_error_of_values(text):
    with pytest.raises(ValueError):
        parse_json(text)
