"""Light curves as the plots of pages take them: columns of plain numbers, one set of them for each curve."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 20_000
"""Points of a page; of more, every second, third, … is drawn."""
TIME_DIGITS, MAG_DIGITS = 6, 4

Facts = dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """The axis of time: what it is called, and what is taken off the times to keep its numbers short [d]."""

    label: str
    offset_d: float = 0.0


MJD = Axis("MJD [d]")
BJD = Axis("BJD(TDB) − 2450000 [d]", 2_450_000.0)


@dataclass(frozen=True)
class Curve:
    """A light curve.

    Parameters
    ----------
    instrument, filter : str
        Where it comes from.
    time : ndarray (n,)
        Times [d].
    mag, mag_err : ndarray (n,)
        Magnitudes and errors; epochs without a magnitude are not drawn.
    is_flagged : ndarray (n,) of bool
        Epochs with which something is wrong.
    model : ndarray (n,), optional
        Magnitudes of a model at these times [mag].
    """

    instrument: str
    filter: str
    time: NDArray[Any]
    mag: NDArray[Any]
    mag_err: NDArray[Any]
    is_flagged: NDArray[np.bool_]
    model: NDArray[Any] | None = None

    def drawn(self) -> int:
        """Count the epochs that can be drawn."""
        return int(np.isfinite(self.mag).sum())

    def facts(self, axis: Axis, step: int) -> Facts:
        """Return the data of the curve for the plot.

        Parameters
        ----------
        axis : Axis
            Axis of time of the plot.
        step : int
            Every `step`-th epoch is drawn.

        Returns
        -------
        dict
            Lists for JSON: time less the offset of the axis [d], magnitude and error [mag], flags, residual [mag].
        """
        shown = np.flatnonzero(np.isfinite(self.mag) & np.isfinite(self.time))[::step]
        residual = {} if self.model is None else {"residual": _plain((self.mag - self.model)[shown], MAG_DIGITS)}
        return {
            **residual,
            "instrument": self.instrument,
            "filter": self.filter,
            "time": _plain(self.time[shown] - axis.offset_d, TIME_DIGITS),
            "mag": _plain(self.mag[shown], MAG_DIGITS),
            "mag_err": _plain(self.mag_err[shown], MAG_DIGITS),
            "flagged": self.is_flagged[shown].astype(int).tolist(),
        }


def _plain(values: NDArray[Any], digits: int) -> list[float | None]:
    rounded = np.round(values.astype(np.float64), digits).tolist()
    return [value if math.isfinite(value) else None for value in rounded]


def light_curves(
    curves: Iterable[Curve],
    axis: Axis,
    period_d: float | None = None,
    epoch: float = 0.0,
    events: Sequence[Facts] = (),
    models: Sequence[Facts] = (),
) -> Facts:
    """Return the data of a plot of light curves.

    Parameters
    ----------
    curves : iterable of Curve
        Curves of the plot.
    axis : Axis
        Its axis of time.
    period_d : float, optional
        Period with which it is folded [d].
    epoch : float
        Time of phase 0, as the times are given [d].
    events : sequence of dict
        Ranges of time that are marked: ``start``, ``peak``, ``stop`` [d], ``filter`` and ``text``.
    models : sequence of dict
        Lines over the points: ``instrument``, ``filter``, ``time`` [d, as on the axis; phases if folded], ``mag``.

    Returns
    -------
    dict
        What ``plots.js`` draws.
    """
    curves = list(curves)
    step = max(1, math.ceil(sum(curve.drawn() for curve in curves) / MOST_POINTS))
    moved = [{**event, **{key: event[key] - axis.offset_d for key in ("start", "peak", "stop")}} for event in events]
    return {
        "axis": axis.label,
        "curves": [curve.facts(axis, step) for curve in curves],
        "drawn": sum(curve.drawn() for curve in curves),
        "every": step,
        "period": period_d,
        "epoch": epoch - axis.offset_d,
        "events": moved,
        "models": list(models),
    }
