"""Parameters of an address that nothing takes: they are refused, with the nearest name that there is."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


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


def _message(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name.lower(), known, 1, 0.6)
    return f"there is no such parameter; did you mean {near[0]}?" if near else "there is no such parameter"
