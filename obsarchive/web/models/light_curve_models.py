"""Models over the points of light curves: a point lens against time, harmonics against phase."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from obsarchive.science.light_curves.harmonics import Wave, fit_wave
from obsarchive.web.models.light_curve_data import MAG_DIGITS, Curve, Facts

PHASES = np.linspace(0.0, 2.0, 241)


@dataclass(frozen=True)
class Amplitude:
    """A row of the table of amplitudes: light curve, amplitude with error [mag], chi-square, degrees of freedom."""

    name: str
    amplitude: float
    error: float
    chi2: float
    dof: int


@dataclass(frozen=True)
class Folded:
    """Light curves with the harmonics of a period.

    Parameters
    ----------
    curves : list of Curve
        With the magnitudes of the model.
    models : list of dict
        Lines for the plot, against phase.
    rows : list of Amplitude
        What the models say.
    """

    curves: list[Curve]
    models: list[Facts]
    rows: list[Amplitude]


def folded(curves: Iterable[Curve], period_d: float, epoch: float) -> Folded:
    """Fit harmonics of a period, for each instrument and filter.

    Parameters
    ----------
    curves : iterable of Curve
        The light curves; flagged epochs do not count.
    period_d, epoch : float
        Period, and time of phase 0 [d].

    Returns
    -------
    Folded
    """
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.instrument, curve.filter), []).append(curve)
    found = Folded([], [], [])
    for key, own in groups.items():
        wave = _wave(own, period_d, epoch)
        found.curves.extend(replace(curve, model=wave.magnitude(curve.time)) if wave else curve for curve in own)
        if wave is not None:
            mag = np.round(wave.at_phase(PHASES), MAG_DIGITS).tolist()
            line: Facts = {"instrument": key[0], "filter": key[1], "time": np.round(PHASES, 4).tolist(), "mag": mag}
            found.models.append(line)
            name = " ".join(filter(None, dict.fromkeys(key)))
            found.rows.append(Amplitude(name, *wave.amplitude, wave.chi2, wave.dof))
    return found


def _wave(curves: Sequence[Curve], period_d: float, epoch: float) -> Wave | None:
    time, mag, error = (
        np.concatenate([np.asarray(getattr(curve, name), np.float64)[~curve.is_flagged] for curve in curves])
        for name in ("time", "mag", "mag_err")
    )
    return fit_wave(time, mag, error, period_d, epoch)
