"""JSON that others wrote becomes values that MongoDB holds, or a ValueError."""

import json

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.json_text import (
    CHECKSUM,
    DEEPEST,
    ChecksumError,
    json_with_checksum,
    parse_json,
    parse_with_checksum,
)

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


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=4))
def test_what_was_written_with_a_checksum_is_read(content):
    content.pop(CHECKSUM, None)
    assert parse_with_checksum(json_with_checksum(content)) == parse_json(json.dumps(content))
    assert parse_with_checksum(json_with_checksum(content, indent=None)) == parse_json(json.dumps(content))


DOCUMENT = {"strehl": 0.31, "OBJECT": "HD 1", "states": [{"state": "done", "n": 12}], "when": None}


@given(st.integers(min_value=0), st.integers(0, 7))
def test_no_flipped_bit_changes_what_is_read(place, bit):
    text = bytearray(json_with_checksum(DOCUMENT))
    text[place % len(text)] ^= 1 << bit
    try:
        found = parse_with_checksum(bytes(text))
    except ValueError:
        return
    assert {key: found[key] for key in DOCUMENT} == DOCUMENT


def test_a_wrong_checksum_tells_what_is_there():
    text = json_with_checksum(DOCUMENT).replace(b"HD 1", b"HD 2")
    with pytest.raises(ChecksumError) as found:
        parse_with_checksum(text)
    assert found.value.content == {**DOCUMENT, "OBJECT": "HD 2"}


def test_files_of_earlier_versions_have_no_checksum():
    assert parse_with_checksum(json.dumps(DOCUMENT)) == DOCUMENT
    assert parse_with_checksum("[1]") == [1]
