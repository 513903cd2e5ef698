"""Values of the archive beside those of a second program on the same data, in units of the errors of both."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.quality.pulls import markdown

MOST_SIGMA = 2.0
"""Largest difference of a single value [combined errors]."""
MOST_RMS, MOST_OUTLIERS = 1.2, 0.02
"""Of many values: largest root mean square of the differences [combined errors] without the outliers beyond
`OUTLIER` of them, and the largest share of those."""
OUTLIER = 5.0
HEADER = (
    "data",
    "quantity",
    "n",
    "Archiver",
    "its error",
    "second program",
    "its value",
    "its error",
    "difference [σ]",
    "agrees",
)


def version_of(package: str) -> str:
    """Return name and version of an installed Python package."""
    return f"{package} {metadata.version(package)}"


@dataclass(frozen=True, eq=False)
class Compared:
    """One quantity as two programs measure it: a single value, or one each of n objects.

    Parameters
    ----------
    data, quantity, program : str
        For people; the program with its version, or the publication.
    ours, ours_error : array_like
        Of the archive; no error (NaN) where it claims none.
    theirs, theirs_error : array_like
        Of the second program; no error (NaN) where it claims none.
    unit : str
        For people.
    tolerance : array_like
        Takes the place of an error that the archive does not claim, and is marked as such.
    note : str
        Why they differ, for a row that does not agree.
    """

    data: str
    quantity: str
    program: str
    ours: ArrayLike
    ours_error: ArrayLike
    theirs: ArrayLike
    theirs_error: ArrayLike = np.nan
    unit: str = ""
    tolerance: ArrayLike = 0.0
    note: str = ""

    @property
    def differences(self) -> np.ndarray:
        """Differences in units of the combined error (n,); NaN where a value is missing."""
        claimed = np.nan_to_num(np.asarray(self.ours_error, float))
        ours_error = np.where(claimed > 0, claimed, self.tolerance)
        error = np.hypot(ours_error, np.nan_to_num(np.asarray(self.theirs_error, float)))
        difference = np.asarray(self.ours, float) - np.asarray(self.theirs, float)
        return np.atleast_1d(np.divide(difference, error, out=np.full(np.shape(difference), np.nan), where=error > 0))

    @property
    def deviation(self) -> float:
        """Difference of a single value, or the rms of many without outliers [combined errors]."""
        found = np.abs(self.differences)
        found = found[np.isfinite(found)]
        if not found.size:
            return float("nan")
        return float(found[0] if len(found) == 1 else np.sqrt(np.mean(found[found < OUTLIER] ** 2)))

    @property
    def outliers(self) -> float:
        """Share of the values that differ by more than `OUTLIER` combined errors."""
        found = np.abs(self.differences)
        return float(np.mean(found[np.isfinite(found)] >= OUTLIER)) if np.isfinite(found).any() else 0.0

    @property
    def agrees(self) -> bool:
        """Whether the values differ by no more than their errors allow, within the statistical error of so many."""
        if len(self.differences) == 1:
            return self.deviation <= MOST_SIGMA
        n = int(np.isfinite(self.differences).sum())
        chance = 2 * self.deviation / np.sqrt(2 * max(n, 1))
        return bool(self.deviation <= MOST_RMS + chance and self.outliers <= MOST_OUTLIERS)

    def cells(self) -> tuple[str, ...]:
        """One row of the table: see `HEADER`; medians of many values."""
        n = int(np.isfinite(self.differences).sum())
        claims = bool(np.any(np.nan_to_num(np.asarray(self.ours_error, float)) > 0))
        error = _number(self.ours_error, self.unit) if claims else f"none; within {_number(self.tolerance, self.unit)}"
        deviation = f"{self.deviation:.2f}" + (f", {100 * self.outliers:.1f} % > {OUTLIER:g}" if self.outliers else "")
        return (
            self.data,
            self.quantity,
            str(n),
            _number(self.ours, self.unit),
            error,
            self.program,
            _number(self.theirs, self.unit),
            _number(self.theirs_error, self.unit),
            deviation,
            ("yes" if self.agrees else "**no**") + (f": {self.note}" if self.note else ""),
        )


def _number(values: ArrayLike, unit: str) -> str:
    known = np.atleast_1d(np.asarray(values, float))
    known = known[np.isfinite(known)]
    if not known.size:
        return "–"
    value = float(np.median(known))
    text = f"{value:.4f}" if abs(value) >= 1e6 else f"{value:.6g}"
    return f"{text} {unit}".strip()


def table(rows: Iterable[Compared]) -> str:
    """Return the Markdown table of several comparisons."""
    return markdown(HEADER, (row.cells() for row in rows))
