"""The period with which light curves are folded, read from the parameter of an address."""

import math

from obsarchive.web.models.light_curve_data import TIME_DIGITS

SHORTEST_D = 100 * 10.0**-TIME_DIGITS
"""Times of plots have so few digits that phases of a shorter period are wrong by more than half a percent [d]."""
LONGEST_D = 100_000.0
"""No light curve is longer: photographic plates go back to 1885 [d]."""


def read_period(text: str) -> tuple[float | None, str]:
    """Read a period.

    Parameters
    ----------
    text : str
        Number of days; empty: light curves are not folded.

    Returns
    -------
    period_d : float or None
        The period [d]; None if there is none.
    problem : str
        What is wrong with the text; empty if nothing is.
    """
    text = text.strip()
    if not text:
        return None, ""
    try:
        found = float(text.replace(",", ".").replace("−", "-"))
    except ValueError:
        found = math.nan
    if SHORTEST_D <= found <= LONGEST_D:
        return found, ""
    return None, f"a positive number of days from {SHORTEST_D:g} to {LONGEST_D:.0f} is needed, not {text[:30]!r}"
