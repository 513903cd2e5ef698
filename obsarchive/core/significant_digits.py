"""Measured values as text: one number has the same digits wherever it is shown, those that its error allows."""

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, TypeGuard

FEWEST, MOST = 0, 6
"""Decimals of a value whose error is known."""
PDG_TWO, PDG_UP = 3.55, 9.5
"""Leading digits of an error below which two are written, and from which it is rounded up to the next power of ten."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimals_of(error: float) -> int:
    """Return the decimals that an error allows, as the Particle Data Group rounds: 0.18, 0.4, 0.10.

    Two digits of the error are written where they are below 3.55, one above; 0.096 is rounded to 0.10.
    """
    if not is_number(error) or error <= 0:
        return 2
    magnitude = math.floor(math.log10(error))
    leading = error / 10.0**magnitude
    digits = 2 if leading < PDG_TWO or leading >= PDG_UP else 1
    return min(max(digits - 1 - magnitude - (leading >= PDG_UP), FEWEST), MOST)


def fixed(value: float, decimals: int) -> str:
    """Return a number with fixed decimals; halves are rounded up as the number is written, not as it is stored."""
    rounded = Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded:f}".replace("-", "−")


def significant(value: float, digits: int = 4) -> str:
    """Return a number with at most so many significant digits, without trailing zeros."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 <= magnitude < 9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    text = fixed(value, max(digits - 1 - magnitude, 0))
    return text.rstrip("0").rstrip(".") if "." in text else text


def with_error(value: float, error: float | None) -> str:
    """Return a value and its error.

    Parameters
    ----------
    value : float
        The value.
    error : float or None
        Its error, in the same unit; None if it is not known.

    Returns
    -------
    str
        Such as ``14.85 ± 0.18`` or ``14.9 ± 0.4``; without an error, four significant digits.
    """
    if error is None or not is_number(error) or error <= 0:
        return significant(value)
    decimals = decimals_of(error)
    return f"{fixed(value, decimals)} ± {fixed(error, decimals)}"
