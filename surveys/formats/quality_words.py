"""Quality of epochs, given as numbers or words, as flags: one table of what words mean."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from surveys.formats.cell_values import words_of

DENIALS = frozenset(("", "0", "0.0", "0x0", "false", "f", "n", "no", "none", "nan", "null", "na", "n/a", "-", "--"))
"""Words, in lower case, that deny a quality or a flag."""
AFFIRMATIONS = frozenset(("1", "1.0", "true", "t", "y", "yes"))
"""Words that affirm it."""
PRAISES = frozenset(
    (
        "ok",
        "good",
        "g",
        "pass",
        "passed",
        "p",
        "valid",
        "fine",
        "clean",
        "unflagged",
        "normal",
        "accepted",
        "use",
        "used",
    )
)
"""Words of good epochs."""
BLAMES = frozenset(
    (
        *(
            "bad",
            "b",
            "fail",
            "failed",
            "x",
            "invalid",
            "flagged",
            "rejected",
            "reject",
            "poor",
            "suspect",
            "saturated",
        ),
        *("cosmic", "cloud", "clouds", "blend", "blended", "edge", "outlier", "limit"),
    )
)
"""Words of flagged epochs; any other word flags an epoch, too, if some are known to be good."""
GOOD_COLUMNS = ("good", "isgood", "valid", "isvalid", "ok", "usable", "use")
"""Simplified names of columns in which 1, true and yes mean good."""


def flags_of(
    values: NDArray[Any], name: str, *, is_good: bool, good: Iterable[Any], remarks: list[str]
) -> NDArray[np.bool_]:
    """Return which epochs are flagged.

    Parameters
    ----------
    values : ndarray (n,)
        Numbers: any but 0 is a flag. Text: words as listed above.
    name : str
        Name of the column, for messages.
    is_good : bool
        Whether it is a column in which 1 or true means a good epoch.
    good : iterable
        Further values that mean a good epoch; if there are any, all others are flags.
    remarks : list of str
        What a person should know is appended.

    Returns
    -------
    ndarray of bool (n,)

    Raises
    ------
    Unprocessable
        No word is known, so that all epochs would be flagged.
    """
    own = {_plain(value) for value in good}
    if own:
        flags = np.array([_plain(word) not in own for word in words_of(values).tolist()], bool)
    elif values.dtype.kind in "OSU":
        flags = _flags_of_words(words_of(values), name, is_good)
    else:
        is_set = (values != 0) & ~np.isnan(values) if values.dtype.kind == "f" else values.astype(bool)
        flags = ~is_set if is_good else is_set
    if not own and not is_good and name.lower().startswith("qual"):
        _refuse_ambiguous(flags, values, name)
    if len(flags) and flags.all():
        found = ", ".join(f"{word!r} ({n})" for word, n in Counter(words_of(values).tolist()).most_common(5))
        remarks.append(
            f"all {len(flags)} epochs are flagged by column {name!r}, which holds {found}; "
            "if some of these are good, name them: good_flags"
        )
    return flags


def _refuse_ambiguous(flags: NDArray[np.bool_], values: NDArray[Any], name: str) -> None:
    """Raise Unprocessable if a quality is 0 or 1 and mostly 1: that may as well be the good value."""
    found = {_plain(word) for word in words_of(values).tolist()}
    if len(flags) and 2 * flags.sum() > len(flags) and found <= {"0", "1", "true", "false", ""}:
        raise Unprocessable(
            f"quality of epochs not understood: {int(flags.sum())} of {len(flags)} in column {name!r} are 1 or true, "
            "which may mean good or flagged; name the good values: good_flags"
        )


def _plain(value: object) -> str:
    """Return a value as a word: 1, 1.0 and "1" are the same."""
    word = str(value).strip().lower()
    return word.removesuffix(".0") if word.removesuffix(".0").lstrip("-").isdigit() else word


def _flags_of_words(written: NDArray[np.str_], name: str, is_good: bool) -> NDArray[np.bool_]:
    words = np.strings.lower(written)
    if is_good:
        return ~np.isin(words, sorted(AFFIRMATIONS | PRAISES))
    flags = ~np.isin(words, sorted(DENIALS | PRAISES))
    known = AFFIRMATIONS | BLAMES
    unknown = Counter(word for word in written[flags].tolist() if word.lower() not in known and not _is_number(word))
    if unknown and flags.all():
        found = ", ".join(f"{word!r} ({n})" for word, n in unknown.most_common(5))
        raise Unprocessable(
            f"quality of epochs not understood: column {name!r} holds {found}; expected words such as good, G, OK, "
            "bad, B, 0, 1; name those of good epochs: good_flags"
        )
    return flags


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
