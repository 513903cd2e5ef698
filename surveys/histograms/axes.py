"""Axes of histograms: fixed ones with underflow and overflow bins, and dynamic ones that grow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError

GUARD = 1e-5
"""Tolerance [steps]: values this little below an edge count as on it, as edges and float32 values are inexact."""
MOST_BINS = 2**40
"""Largest number of bins of all fixed axes of a histogram together."""
_ENDS = "each bin is named by its lower edge, which is in it"
_FIXED = f"{_ENDS}; the first (-inf) holds all below, the last but one all above, the last (NaN) what is not a number"
_GROWN = f"{_ENDS}; only bins that hold something are here"


@dataclass(frozen=True)
class Axis:
    """An axis of a histogram: a fixed one, or made by `dynamic` or `text`.

    Parameters
    ----------
    name : str
        Name of the quantity and of the coordinate.
    low, high, step : float
        Ends, a whole number of steps apart, and width of the bins. A fixed axis also has bins for underflow, overflow
        and NaN.
    units, help : str
        Unit and description, as shown in plots.
    kind : str
        ``fixed``, ``dynamic`` or ``text``.

    Raises
    ------
    ConfigError
        Such an axis is impossible.
    """

    name: str
    low: float = 0.0
    high: float = math.inf
    step: float = 1.0
    units: str = ""
    help: str = field(default="", compare=False)
    kind: Literal["fixed", "dynamic", "text"] = "fixed"

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in ("source", "source_name"):
            raise ConfigError(f"axis {self.name!r}: expected letters, digits and _ (and not 'source') as its name")
        if self.kind not in ("fixed", "dynamic", "text"):
            raise ConfigError(
                f"axis {self.name}: expected 'fixed', 'dynamic' or 'text' as its kind, found {self.kind!r}"
            )
        is_right = all(isinstance(number, Real) for number in (self.low, self.high, self.step))
        is_right = is_right and 0 < self.step < math.inf and math.isfinite(self.low)
        if is_right and self.kind == "fixed":
            steps = (self.high - self.low) / self.step
            is_right = 0.5 < steps < MOST_BINS and abs(steps - round(steps)) < GUARD
        if not is_right:
            found = f"{self.low!r} to {self.high!r} in steps of {self.step!r}"
            raise ConfigError(f"axis {self.name}: expected numbers a whole number of steps apart, found {found}")

    @classmethod
    def dynamic(cls, name: str, start: float, step: float, units: str = "", help: str = "") -> "Axis":
        """Return an axis of numbers that has the bins in which values occur.

        Parameters
        ----------
        name : str
            Name of the quantity.
        start, step : float
            An edge of one bin, and the width of all.
        units, help : str
            Unit and description.

        Returns
        -------
        Axis
        """
        return cls(name, start, math.inf, step, units, help, "dynamic")

    @classmethod
    def text(cls, name: str, help: str = "") -> "Axis":
        """Return an axis that has a bin for each text.

        Parameters
        ----------
        name : str
            Name of the quantity.
        help : str
            Description.

        Returns
        -------
        Axis
        """
        return cls(name, help=help, kind="text")

    @cached_property
    def n_bins(self) -> int:
        """Number of bins of a fixed axis."""
        return round((self.high - self.low) / self.step) + 3

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Lower edges (n_bins,) of a fixed axis: -inf, low, low + step ... high, NaN."""
        return np.array([-math.inf, *map(self.edge, range(self.n_bins - 2)), math.nan])

    def edge(self, k: float) -> float:
        """Return the lower edge of the bin `k` steps above the low end, rounded so that 0.3 is found as 0.3."""
        digits = max(0, 9 - math.floor(math.log10(self.step)))
        return round(self.low + k * self.step, digits) + 0.0  # turns -0.0 into 0.0

    def steps(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many whole steps values are above the low end; see `GUARD`."""
        with np.errstate(over="ignore"):  # numbers near the largest float count as infinite
            return np.floor((values - self.low) / self.step + GUARD)

    def bins(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the index of the bin of a fixed axis into which each value falls."""
        last = self.n_bins - 1
        return np.where(np.isnan(values), last, np.clip(self.steps(values) + 1, 0, last - 1)).astype(np.int64)

    @property
    def attrs(self) -> dict[str, str | float]:
        """Attributes of the coordinate in a file."""
        about: dict[str, str | float] = {"long_name": self.help or self.name, "bins": self.kind}
        if self.kind == "text":
            return about
        about |= {"units": self.units or "1", "low": float(self.low), "step": float(self.step)}
        if self.kind == "fixed":
            return about | {"high": float(self.high), "comment": _FIXED}
        return about | {"comment": _GROWN}

    @classmethod
    def from_attrs(cls, name: str, attrs: Mapping[str, Any]) -> "Axis":
        """Return the axis that `attrs` describes.

        Parameters
        ----------
        name : str
            Name of the quantity.
        attrs : mapping
            Attributes of its coordinate.

        Returns
        -------
        Axis

        Raises
        ------
        KeyError
            An attribute is missing.
        """
        kind, about = attrs["bins"], str(attrs["long_name"])
        if kind == "text":
            return cls.text(name, about)
        units = "" if attrs["units"] == "1" else str(attrs["units"])
        high = float(attrs["high"]) if kind == "fixed" else math.inf
        return cls(name, float(attrs["low"]), high, float(attrs["step"]), units, about, kind)

    @property
    def label(self) -> str:
        """Description and unit, for a plot."""
        return f"{self.help or self.name} [{self.units}]" if self.units else self.help or self.name


DEFAULT_SCORES = (
    Axis("snr", -20.0, 20.0, 0.1, help="signal-to-noise ratio of the deviation"),
    Axis("dmag", -3.0, 3.0, 0.1, "mag", "difference from the mean magnitude"),
    Axis("offset", -5.0, 5.0, 0.1, help="offset from the median position, relative to its scatter"),
)
DEFAULT_SHARED = (
    Axis("mag", 15.0, 21.0, 0.5, "mag", "mean magnitude"),
    Axis.dynamic("exptime", 30.0, 1.0, "s", "exposure time"),
    Axis.text("filter", "filter"),
)
