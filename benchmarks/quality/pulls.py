"""Are claimed errors true: errors of many independent simulations in units of what was claimed for each."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

LEAST_STD, MOST_STD, MOST_BIAS = 0.8, 1.2, 0.3
"""Goals: the standard deviation of the pulls, and their mean in units of it."""
HEADER = (
    "quantity",
    "regime",
    "n",
    "none",
    "claimed error",
    "actual error",
    "bias [σ]",
    "std of pulls",
    "beyond 3σ",
    "holds",
)


@dataclass
class Pulls:
    """Pulls of one quantity in one regime.

    Parameters
    ----------
    quantity, regime, unit : str
        For people.

    Attributes
    ----------
    errors, claimed : list of float
        Found minus true values, and the error claimed for each [unit].
    missing : int
        Trials without a value or without an error.
    """

    quantity: str
    regime: str
    unit: str = ""
    errors: list[float] = field(default_factory=list)
    claimed: list[float] = field(default_factory=list)
    missing: int = 0

    def add(self, found: ArrayLike, claimed: ArrayLike, truth: ArrayLike) -> None:
        """Add values with the errors claimed for them; what is not finite, or has no error above zero, is missing."""
        errors, sigma = np.broadcast_arrays(np.subtract(found, truth, dtype=float), np.asarray(claimed, float))
        good = np.isfinite(errors) & np.isfinite(sigma) & (sigma > 0)
        self.errors.extend(errors[good].tolist())
        self.claimed.extend(sigma[good].tolist())
        self.missing += int(np.sum(~good))

    @property
    def pulls(self) -> np.ndarray:
        return np.array(self.errors) / np.array(self.claimed)

    @property
    def bias(self) -> float:
        return float(np.mean(self.pulls))

    @property
    def std(self) -> float:
        """Standard deviation of all pulls; outliers count."""
        return float(np.std(self.pulls, ddof=1))

    @property
    def holds(self) -> bool:
        """Whether both goals are met, within the statistical error of so many trials."""
        n = len(self.errors)
        if n < 2:
            return False
        of_std, of_bias = 2 * self.std / np.sqrt(2 * n), 2 * self.std / np.sqrt(n)
        return bool(LEAST_STD - of_std < self.std < MOST_STD + of_std and abs(self.bias) < MOST_BIAS + of_bias)

    def cells(self) -> tuple[str, ...]:
        """One row of the table: see `HEADER`."""
        n = len(self.errors)
        if n < 2:
            return (self.quantity, self.regime, str(n), str(self.missing), *5 * ("–",), "**no**")
        unit = f" {self.unit}" if self.unit else ""
        return (
            self.quantity,
            self.regime,
            str(n),
            str(self.missing),
            f"{np.median(self.claimed):.3g}{unit}",
            f"{np.std(self.errors):.3g}{unit}",
            f"{self.bias:+.2f}",
            f"{self.std:.2f}",
            f"{100 * np.mean(np.abs(self.pulls) > 3):.1f} %",
            "yes" if self.holds else "**no**",
        )


def table(pulls: Iterable[Pulls]) -> str:
    """Return the Markdown table of several quantities and regimes."""
    return markdown(HEADER, (each.cells() for each in pulls))


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def simulate(trial: Callable[[int], Any], seeds: Iterable[int], processes: int | None = None) -> Iterator[Any]:
    """Yield what a function of a module returns for each seed, computed in several processes of one thread each."""
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield from map(trial, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(trial, seeds, chunksize=4)
