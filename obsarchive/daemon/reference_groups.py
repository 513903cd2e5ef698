"""Groups of reference stars that observations have in common, and their signatures."""

import hashlib
from collections.abc import Mapping, Sequence

from obsarchive.io.psf_library import Entry, PsfLibrary


def groups_of(library: PsfLibrary) -> dict[tuple[str, ...], list[Entry]]:
    """Return the reference stars that observations have in common.

    Parameters
    ----------
    library : PsfLibrary
        The library.

    Returns
    -------
    dict
        Entries by (telescope, filter) and (telescope, filter, night); of each of their targets also by the same key
        with :func:`without_target` at its end, because no star is its own reference.
    """
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in library.entries:
        groups.setdefault((entry.telescope, entry.filter), []).append(entry)
        groups.setdefault((entry.telescope, entry.filter, entry.night), []).append(entry)
    others = {
        (*key, without_target(target)): [entry for entry in entries if entry.target != target]
        for key, entries in groups.items()
        for target in {entry.target for entry in entries}
    }
    return {**groups, **others}


def without_target(target: str) -> str:
    """Return the part of a key of :func:`groups_of` that stands for the exclusion of a target."""
    return f"without {target}"


def signatures(groups: Mapping[tuple[str, ...], Sequence[Entry]]) -> dict[tuple[str, ...], str]:
    """Return a signature of each group of :func:`groups_of`: 16 hex digits, ``none`` for an empty one."""
    texts = {
        key: sorted(f"{entry.observation}:{entry.stack}:{entry.added}" for entry in entries)
        for key, entries in groups.items()
    }
    return {
        key: hashlib.sha256("|".join(lines).encode()).hexdigest()[:16] if lines else "none"
        for key, lines in texts.items()
    }
