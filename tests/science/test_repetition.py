"""Which light curves repeat themselves: single events of any shape do not, pulsations and eclipses do."""

import numpy as np
import pytest

from obsarchive.science.light_curves.point_lens import magnification
from surveys.periods import Period, find_period
from surveys.repetition import is_repeated

ERROR, SPAN = 0.02, 200.0


def shape(kind: str, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Magnitudes without their mean, at times from 0 to `SPAN` [d]."""
    peak, cycles = rng.uniform(0.2, 0.8) * SPAN, time / rng.uniform(1.3, 60)
    since = np.where(time >= peak, time - peak, np.inf)
    return {
        "noise": np.zeros(len(time)),
        "point lens": -2.5 * np.log10(magnification(np.hypot(0.2, (time - peak) / rng.uniform(5, 40)))),
        "flare": -np.exp(-since / 3),
        "transient": -2 * np.exp(-since / 40),
        "dip": 0.5 * (np.abs(time - peak) < 5),
        "trend": 0.3 * time / SPAN,
        "pulsation": 0.15 * np.sin(2 * np.pi * cycles),
        "eclipses": 0.5 * (np.abs((time / rng.uniform(0.6, 5) + 0.5) % 1 - 0.5) < 0.04),
    }[kind]


def light_curve(kind: str, seed: int) -> tuple[np.ndarray, ...]:
    """Two bands; every other seed is of nights of eight hours."""
    rng = np.random.default_rng(seed)
    time = rng.uniform(0, SPAN, 250)
    time = np.sort(np.floor(time) + rng.uniform(0, 1 / 3, 250) if seed % 2 else time)
    band = rng.choice(["g", "r"], 250)
    mag = 15 + 0.4 * (band == "g") + shape(kind, time, rng) + rng.normal(size=250) * ERROR
    return 58000 + time, mag, np.full(250, ERROR), band


def found_in(kind: str, seed: int, method: str = "lomb-scargle") -> tuple[Period, bool]:
    curve = light_curve(kind, seed)
    period_range = (0.3, 100.0) if method == "lomb-scargle" else (2.0, 5.0)
    found = find_period(*curve, period_range, method)
    return found, is_repeated(found, *curve)


@pytest.mark.parametrize("kind", ["noise", "point lens", "flare", "transient", "dip", "trend"])
def test_what_happens_once_has_no_period(kind: str) -> None:
    for seed in range(4):
        found, repeated = found_in(kind, seed)
        assert not repeated, f"seed {seed}: {found}"


@pytest.mark.parametrize("kind", ["pulsation", "eclipses"])
def test_what_comes_back_has_a_period(kind: str) -> None:
    assert all(found_in(kind, seed)[1] for seed in range(4))


def test_boxes_come_back_or_not() -> None:
    assert found_in("eclipses", 1, "bls")[1]
    assert not any(found_in(kind, 1, "bls")[1] for kind in ("dip", "noise"))
