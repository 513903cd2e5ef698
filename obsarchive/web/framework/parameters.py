"""Parameters of an address that nothing takes, and values that they do not have: refused, with what there is."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from flask import abort, request
from werkzeug.datastructures import MultiDict

YES_OR_NO = ("1", "0")
"""Values of a parameter that is set or not."""


def unknown_parameters(given: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Return messages about parameters that there are not, by parameter.

    Parameters
    ----------
    given : iterable of str
        Parameters of an address.
    known : collection of str
        Those that there are.

    Returns
    -------
    dict of str to str
    """
    return {name: _message(name, known) for name in given if name not in known}


def unknown_values(given: MultiDict[str, str], known: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return messages about values that parameters do not take, by parameter; an empty value stands for none.

    Parameters
    ----------
    given : MultiDict
        Parameters of an address.
    known : mapping of str to collection of str
        The values of each parameter that takes no others.

    Returns
    -------
    dict of str to str
    """
    wrong = ((name, text) for name in known for text in given.getlist(name) if text and text not in known[name])
    return {name: f"one of {', '.join(known[name]) or 'none'}, not {text[:40]!r}" for name, text in wrong}


def _message(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name.lower(), known, 1, 0.6)
    return f"there is no such parameter; did you mean {near[0]}?" if near else "there is no such parameter"


def in_one_line(problems: Mapping[str, str]) -> str:
    """Return what is wrong with parameters as one text; empty without a problem."""
    return "; ".join(f"{name}: {problem}" for name, problem in problems.items())


def refuse(problems: Mapping[str, str]) -> None:
    """Abort with 400 and what is wrong with parameters; without a problem do nothing.

    Parameters
    ----------
    problems : mapping of str to str
        Messages by parameter.
    """
    if problems:
        abort(400, in_one_line(problems))


def is_set(name: str) -> bool:
    """Whether a parameter is 1, not 0 or absent; abort with 400 if it is something else."""
    refuse(unknown_values(request.args, {name: YES_OR_NO}))
    return request.args.get(name) == YES_OR_NO[0]
