"""How hostile inputs are made: valid ones with something wrong in them, and what no valid one holds."""

import json
from typing import Any

from hypothesis import strategies as st

WORDS = (
    *("", " ", ".", "..", "../../../etc/hostname", "/etc/hostname", "-rf", "~", "a\0b", "a\nb", "a\rb", "$(touch x)"),
    *("%2e%2e%2f", "\\..\\", "é", "\u202e", "\ud800", "x" * 300, "{{7*7}}", "<b>", "'\"`;", "$ne", "$where", "a.b"),
    *("nan", "NaN", "inf", "-inf", "1e400", "1e-400", "9" * 30, "-1", "0", "0x10", "1_0", "١", "True", "null", "~"),
    *("20160230", "99999999", "00000000", "2016-13-45", "24:60:60", "-90:00:00.0", "=1+1", "@", "&a", "*a", "!!x"),
)
NUMBERS = (0, -1, 2**31, 2**63, 2**70, -(2**64), 1e300, -1e-300, float("nan"), float("inf"))

texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))
ascii_texts = texts.map(lambda text: "".join(c for c in text if 32 <= ord(c) < 127))
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-3, 70), st.floats(width=32))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
tokens = st.one_of(texts.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=6))


@st.composite
def mutated(draw: st.DrawFn, seeds: tuple[bytes, ...], most: int = 4) -> bytes:
    """Draw one of some valid contents with a few bytes replaced, put in, left out, doubled, or cut off."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        token = draw(tokens)
        match draw(st.integers(0, 4)):
            case 0:
                content[at : at + len(token)] = token
            case 1:
                content[at:at] = token
            case 2:
                del content[at : at + draw(st.integers(1, 100))]
            case 3:
                content[at:at] = content[at : at + draw(st.integers(1, 200))]
            case _:
                del content[at:]
    return bytes(content)


@st.composite
def changed(draw: st.DrawFn, seeds: tuple[Any, ...]) -> Any:
    """Draw a valid structure with a few of its values replaced, removed, or added."""
    found = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        place = found
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.booleans()):
                _change(draw, place, key)
                break
            place = place[key]
    return found


def _change(draw: st.DrawFn, place: Any, key: Any) -> None:
    match draw(st.integers(0, 3)):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[draw(texts)] = draw(values)
        case _:
            place[key] = draw(values)


def as_json(value: Any) -> bytes:
    """Write a structure as programs do that are less careful: with NaN, huge integers and lone surrogates."""
    return json.dumps(value, ensure_ascii=True).encode()
