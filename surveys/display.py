"""How objects are shown: one line in a terminal, a small table in a notebook.

A class defines ``_facts``, what there is to say of it, and takes ``__repr__ = line`` and ``_repr_html_ = card``.
Nothing is loaded from disk or database to be shown.
"""

from collections.abc import Mapping
from html import escape
from typing import Any, Protocol

LONGEST = 60
"""Longest text of a fact in a line."""


class Shown(Protocol):
    """An object that can be shown."""

    def _facts(self) -> Mapping[str, Any]: ...


def line(self: Shown) -> str:
    """Return an object in one line; facts that are None or empty are omitted."""
    facts = (f"{name}={_short(value)}" for name, value in self._facts().items() if _is_known(value))
    return f"{type(self).__name__}({', '.join(facts)})"


def card(self: Shown) -> str:
    """Return an object as a small table in HTML."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name.replace("_", " "))}</th>'
        f'<td style="text-align:left">{escape(_text(value))}</td></tr>'
        for name, value in self._facts().items()
        if _is_known(value)
    )
    return f"<table><caption><b>{escape(type(self).__name__)}</b></caption>{rows}</table>"


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, str | list | dict) and not value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.8g}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else _text(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
