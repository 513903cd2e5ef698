"""What was done to a frame before it came here, as the programs that reduce frames write it into headers."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], bool]

_NOT_DONE = ("", "f", "false", "no", "none", "n/a", "0", "omit", "omitted", "perform", "skipped")


def _is_done(value: Any) -> bool:
    return str(value).strip().lower() not in _NOT_DONE


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _says(pattern: str) -> Test:
    return lambda value: re.search(pattern, str(value), re.IGNORECASE) is not None


_BOTH = ("dark", "flat")
_SIGNS: tuple[tuple[tuple[str, ...], Test, tuple[str, ...]], ...] = (
    # LCO, where 0 is raw; IRAF; the Python package ccdproc; HST; MaxIm DL, AstroImageJ; SWarp; NOAO; this archive
    (("RLEVEL",), _is_positive, _BOTH),
    (("ZEROCOR", "DARKCOR", "SUBBIAS", "SUBDARK", "BIASCORR", "DARKCORR"), _is_done, ("dark",)),
    (("FLATCOR", "FLATCORR"), _is_done, ("flat",)),
    (("CALSTAT",), _says("[BD]"), ("dark",)),
    (("CALSTAT",), _says("F"), ("flat",)),
    (("SOFTNAME",), _says("^SWarp"), _BOTH),
    (("PROCTYPE",), _says("^(InstCal|MasterCal|Resampled|Stacked)"), _BOTH),
    (("PIPESTEP",), _is_done, _BOTH),
)
"""Keywords, what their value must be, and which calibration it stands for."""


def reduction_state(header: Mapping[str, Any]) -> dict[str, str]:
    """Return the calibrations that were applied to a frame before, and the cards that say so.

    Parameters
    ----------
    header : mapping
        Header of a raw file.

    Returns
    -------
    dict of str to str
        Of ``dark`` and ``flat`` those that are done: ``{"flat": "FLATCOR = 'done'"}``. Empty for a raw frame.
    """
    done: dict[str, str] = {}
    for keywords, test, kinds in _SIGNS:
        for keyword in keywords:
            value = header.get(keyword)
            if value is not None and test(value):
                for kind in kinds:
                    done.setdefault(kind, f"{keyword} = {value!r}")
    return done
