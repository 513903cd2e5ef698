"""Names of targets as people write them: ``HIP 55203``, ``HIP_55203`` and ``hip55203`` are one.

A name is folded to its letters and numbers. Case, accents, blanks and the signs ``_ - +`` between them do not count,
nor do zeros that fill up the number of a catalogue. Signs that belong to a position do: ``J1023-3421`` is not
``J1023+3421``.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from obsarchive.names import target_of

FOLDING = 2
"""Version of the block `target`; documents folded by another one are folded again."""
MAX_NAMES, MAX_LENGTH = 20, 100
"""Names of one target, and letters of a name, that are indexed."""
PART = 16
"""Letters of a part of a name that are indexed; longer ones are compared with the whole name."""

_TOKEN = re.compile(r"([0-9]+)(\.[0-9]+)?|[^\W_0-9]+")
_POSITION = re.compile(r"(?:(?<![a-z])b|psrb|pksb|(?<!(?<![a-z])[gh])j)[0-9]{4,}(?:\.[0-9]+)?$")
"""End of a name that gives a right ascension: declination follows. GJ and HJ are catalogues of numbers."""
_DESIGNATION = re.compile(r"(?:(?<![a-z])b|psrb|pksb|(?<!(?<![a-z])[gh])j)$")
_ZONES = frozenset({"bd", "cd", "cpd"})
"""Catalogues whose first number is a zone of declination, with a sign."""
_MINUS = ("-", "−", "–")


def folded(name: str) -> str:
    """Return a name of a target in the form in which names are compared.

    Parameters
    ----------
    name : str
        The name as it is written.

    Returns
    -------
    str
        Small letters and numbers, ``_`` between numbers that follow each other, ``-`` before a number that is a
        southern declination; empty if the name has neither letter nor number. Folding it again changes nothing.
    """
    text, done, end = _plain(name), "", 0
    for token in _TOKEN.finditer(text):
        between, end = text[end : token.start()], token.end()
        whole, fraction = token[1], token[2] or ""
        done += token[0] if whole is None else _number(done, between, whole) + fraction
    return done


def _plain(name: str) -> str:
    """Return a name without case and accents, Greek letters by their names."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return "".join(_latin(letter) for letter in decomposed if not unicodedata.combining(letter))


def _latin(letter: str) -> str:
    if not "α" <= letter <= "ω":
        return letter
    return unicodedata.name(letter).rpartition(" ")[2].lower().replace("lamda", "lambda")


def _number(before: str, between: str, digits: str) -> str:
    """Return a number with the sign that separates it from what comes before."""
    is_south = between.endswith(_MINUS)
    if _POSITION.search(before):
        return ("-" if is_south else "_") + digits
    if _DESIGNATION.search(before) and len(digits) > 3:
        return digits
    plain = digits.lstrip("0") or "0"
    if before[-1:].isdigit():
        return f"_{plain}"
    return f"-{plain}" if is_south and before in _ZONES else plain


def target_fields(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block ``target`` of an observation, by which it is found.

    Parameters
    ----------
    document : mapping
        Document of the observation, or its names alone.

    Returns
    -------
    dict
        ``keys``: its folded names; ``text``: the same in one text; ``parts``: what they hold from each letter on, at
        most `PART` letters; ``folding``: version of the block.
    """
    keys = folded_names(document)
    parts = sorted(set().union(*map(_parts, keys)))
    return {"keys": keys, "text": " ".join(keys), "parts": parts, "folding": FOLDING}


def folded_names(document: Mapping[str, Any]) -> list[str]:
    """Return the folded names of the target of an observation, its own one first, by its document."""
    return list(dict.fromkeys(key for key in map(folded, _names(document)) if key))[:MAX_NAMES]


def _names(document: Mapping[str, Any]) -> Iterable[str]:
    name, others = document.get("name"), document.get("alternative_names")
    yield (name if isinstance(name, str) and name else target_of(str(document.get("_id", ""))))[:MAX_LENGTH]
    for other in (others,) if isinstance(others, str) else others if isinstance(others, list) else ():
        if isinstance(other, str):
            yield other[:MAX_LENGTH]


def _parts(key: str) -> set[str]:
    """Return the beginning of what a key holds from each letter on."""
    return {key[start : start + PART] for start in range(len(key))}
