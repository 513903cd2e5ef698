"""Two stars compared: both light curves, what they differ by, and what is left of that without mean or median."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.science.light_curves.comparison import Difference, difference
from obsarchive.web.models.light_curve_data import MAG_DIGITS, TIME_DIGITS, Axis, Curve, Facts

MAGNITUDES_PER_E = 2.5 / math.log(10)
KINDS = ("difference", "ratio")
Place = tuple[str, str]
Values = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Times [d], values and errors."""


@dataclass(frozen=True)
class Row:
    """A row of the table: light curve, number of common epochs, and numbers of their difference.

    Where it varies, no mean is the difference: the median, with half of the range, says where it lies.
    """

    name: str
    n: int
    varies: bool
    level: float
    error: float
    scatter: float
    scatter_error: float | None
    half_range: float
    reduced_chi2: float

    @property
    def dof(self) -> int:
        """Degrees of freedom."""
        return self.n - 1

    @property
    def chi2(self) -> float:
        """Chi-square about the mean."""
        return self.reduced_chi2 * self.dof


@dataclass(frozen=True)
class Comparison:
    """What a page of two stars shows.

    Parameters
    ----------
    facts : dict
        What ``plots.js`` draws.
    rows : list of Row
        Numbers, for each instrument and filter.
    """

    facts: Facts
    rows: list[Row]


def compared(
    stars: tuple[Sequence[Curve], Sequence[Curve]],
    names: tuple[str, str],
    axis: Axis,
    within_d: float,
    period_d: float | None = None,
    kind: str = "difference",
) -> Comparison:
    """Compare the light curves of two stars, filter by filter; flagged epochs do not count.

    Parameters
    ----------
    stars : (sequence of Curve, sequence of Curve)
        Light curves of both.
    names : (str, str)
        What they are called.
    axis : Axis
        Axis of time.
    within_d : float
        Largest distance of epochs that belong together [d].
    period_d : float, optional
        Period with which all is folded [d].
    kind : str
        ``difference`` [mag], or ``ratio`` of the fluxes.

    Returns
    -------
    Comparison
    """
    first, second = (_joined(curves) for curves in stars)
    both = [(place, first[place], second[place]) for place in first if place in second]
    found = {place: made for place, a, b in both if (made := difference(a, b, within_d)) is not None}
    own = [
        _series(place, values, axis, name, number)
        for number, (one, name) in enumerate(zip((first, second), names, strict=True))
        for place, values in one.items()
    ]
    pair = f"{names[0]} − {names[1]}" if kind == "difference" else f"{names[0]} / {names[1]}"
    shown = [_series(place, (made.time, *_shown(made, kind)), axis, pair) for place, made in found.items()]
    left = [_series(place, (made.time, made.residual, made.error), axis, "residual") for place, made in found.items()]
    panels = [{"label": "Magnitude", "is_magnitude": True, "curves": own, "share": 5}]
    if found:
        label = "Difference [mag]" if kind == "difference" else "Flux ratio"
        panels.append({"label": label, "is_magnitude": kind == "difference", "curves": shown, "share": 3})
        panels.append({"label": "Residual [mag]", "is_magnitude": True, "curves": left, "level": 0, "share": 2.6})
    facts = {
        "axis": axis.label,
        "period": period_d,
        "epoch": 0.0,
        "panels": panels,
        "second": f"{names[1]} (hollow)",
    }
    return Comparison(facts, [_row(place, made) for place, made in found.items()])


def _joined(curves: Iterable[Curve]) -> dict[Place, Values]:
    """Return time, magnitude and error of the good epochs, by instrument and filter."""
    groups: dict[Place, list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.instrument, curve.filter), []).append(curve)
    joined = {}
    for place, own in groups.items():
        good = [~one.is_flagged & np.isfinite(one.mag) & np.isfinite(one.time) for one in own]
        time, mag, error = (
            np.concatenate(
                [np.asarray(getattr(one, name), np.float64)[kept] for one, kept in zip(own, good, strict=True)]
            )
            for name in ("time", "mag", "mag_err")
        )
        joined[place] = time, mag, error
    return joined


def _shown(made: Difference, kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if kind == "difference":
        return made.mag, made.error
    ratio = 10 ** (-0.4 * made.mag)
    return ratio, ratio * made.error / MAGNITUDES_PER_E


def _series(place: Place, values: Values, axis: Axis, star: str, number: int = 0) -> Facts:
    time, shown, errors = values
    return {
        "instrument": place[0],
        "filter": place[1],
        "star": star,
        "is_second": number == 1,
        "time": np.round(time - axis.offset_d, TIME_DIGITS).tolist(),
        "values": np.round(shown, MAG_DIGITS).tolist(),
        "errors": [round(value, MAG_DIGITS) if math.isfinite(value) else None for value in errors.tolist()],
    }


def _row(place: Place, made: Difference) -> Row:
    name = " ".join(filter(None, dict.fromkeys(place)))
    n, level = len(made.time), (made.median, made.typical_error) if made.varies else made.mean
    scatter_error = made.rms / math.sqrt(2 * (n - 1)) if n > 1 else None
    return Row(name, n, made.varies, *level, made.rms, scatter_error, made.half_range, made.reduced_chi2)
