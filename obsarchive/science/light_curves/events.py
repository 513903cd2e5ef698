"""Event detection in light curves: runs of epochs that deviate to the same side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray


@dataclass(frozen=True)
class Event:
    """A range of deviating epochs of a light curve.

    Parameters
    ----------
    start, stop : int
        First epoch, and the one after the last.
    peak : int
        Epoch of the strongest deviation.
    score : float
        S/N of the peak; positive: brighter, negative: fainter.
    n_epochs : int
        Number of deviating epochs.
    """

    start: int
    stop: int
    peak: int
    score: float
    n_epochs: int


def signal_to_noise(flux: FloatArray, error: FloatArray, mean: float, rms: float) -> Float64Array:
    """Return ``(flux - mean) / max(error, rms)``.

    Parameters
    ----------
    flux, error : ndarray (n,)
        Fluxes and their errors; epochs without an error have the scatter as noise.
    mean, rms : float
        Quiescent level and scatter, same unit.

    Returns
    -------
    ndarray (n,)
        S/N of each epoch; NaN without noise.
    """
    noise = np.fmax(np.asarray(error, np.float64), rms)
    return (np.asarray(flux, np.float64) - mean) / np.where(noise > 0, noise, np.nan)


def find_events(
    snr: FloatArray, good: BoolArray, threshold: float, edge: float, min_epochs: int = 1, bridge: int = 0
) -> list[Event]:
    """Return brightenings and dips, the strongest first.

    An event is a run of good epochs that deviate to the same side by more than `edge`, at least one of them by
    `threshold`.

    Parameters
    ----------
    snr : ndarray (n,)
        S/N of the epochs in the order of time; NaN where there is none.
    good : ndarray (n,) of bool
        Epochs to use; the others are skipped.
    threshold, edge : float
        S/N that the peak reaches, and that all epochs of an event exceed.
    min_epochs : int
        Least number of deviating epochs of an event.
    bridge : int
        Largest number of consecutive good epochs within an event that deviate less.

    Returns
    -------
    list of Event
        Epochs are numbered as in `snr`.
    """
    # runs are found among the good epochs alone, then translated to the numbers of all epochs
    places = np.flatnonzero(good & np.isfinite(snr))
    chosen = np.ascontiguousarray(snr[places], np.float64)
    found = _runs(chosen, float(edge), int(bridge))
    events = []
    for start, stop, n_epochs in found:
        part = np.abs(chosen[start:stop])
        peak = start + int(np.argmax(part))
        if abs(chosen[peak]) >= threshold and n_epochs >= min_epochs:
            events.append(
                Event(int(places[start]), int(places[stop - 1]) + 1, int(places[peak]), float(chosen[peak]), n_epochs)
            )
    return sorted(events, key=lambda event: -abs(event.score))


def joined_events(
    events: Sequence[Event], mjd: FloatArray, snr: FloatArray, good: BoolArray, edge: float
) -> list[Event]:
    """Join the parts into which noise divides one event, as in the wings of a slow brightening.

    Two neighbours of the same sign are one event if the light curve does not return to its quiescent level between
    them, or if they are closer than half of the longer one lasts.

    Parameters
    ----------
    events : sequence of Event
        As :func:`find_events` returns them.
    mjd, snr : ndarray (n,)
        Times [d] and S/N of the epochs.
    good : ndarray (n,) of bool
        Epochs to use.
    edge : float
        S/N that all epochs of an event exceed; half of it is no quiescence.

    Returns
    -------
    list of Event
        The strongest first.
    """
    joined: list[Event] = []
    for event in sorted(events, key=lambda one: one.start):
        before = joined[-1] if joined else None
        if before is not None and _belong_together(before, event, mjd, np.where(good, snr, np.nan), edge):
            joined[-1] = _union(before, event)
        else:
            joined.append(event)
    return sorted(joined, key=lambda event: -abs(event.score))


def _belong_together(first: Event, second: Event, mjd: FloatArray, snr: FloatArray, edge: float) -> bool:
    sign = np.sign(first.score)
    if sign != np.sign(second.score):
        return False
    between = snr[first.stop : second.start]
    between = between[np.isfinite(between)]
    if not between.size or sign * np.median(between) > edge / 2:
        return True
    longest = max(float(mjd[one.stop - 1] - mjd[one.start]) for one in (first, second))
    return bool(mjd[second.start] - mjd[first.stop - 1] < longest / 2)


def _union(first: Event, second: Event) -> Event:
    strongest = max(first, second, key=lambda event: abs(event.score))
    start, stop = min(first.start, second.start), max(first.stop, second.stop)
    return Event(start, stop, strongest.peak, strongest.score, first.n_epochs + second.n_epochs)


@njit(cache=True)
def _runs(snr, edge, bridge):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    found = []
    start, last, sign, n_epochs = -1, -1, 0, 0
    for i in range(snr.size):
        side = 1 if snr[i] > edge else (-1 if snr[i] < -edge else 0)
        # a run ends at a change of sign, or when more epochs in a row deviate less than may be bridged
        if start >= 0 and (side == -sign or i - last - 1 > bridge or (side == 0 and i - last > bridge)):
            found.append((start, last + 1, n_epochs))
            start = -1
        if side != 0:
            if start < 0:
                start, sign, n_epochs = i, side, 0
            last = i
            n_epochs += 1
    if start >= 0:
        found.append((start, last + 1, n_epochs))
    return found
