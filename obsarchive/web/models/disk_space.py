"""How long the disks last at the pace of the last days."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from obsarchive.core.significant_digits import is_number
from obsarchive.core.values import as_time

SHORTEST = timedelta(hours=12)
"""A pace is known after so long."""
DAY_S = 86400.0


@dataclass(frozen=True)
class DiskSpace:
    """Space of the disk of a folder.

    Parameters
    ----------
    path : str
        The folder.
    free_gb, total_gb : float
        Free space and size [GB].
    days_left : float or None
        Days until it is full; None if the pace is not known or nothing is added.
    is_pace_known : bool
        Whether it was reported for half a day.
    """

    path: str
    free_gb: float
    total_gb: float | None
    days_left: float | None = None
    is_pace_known: bool = False

    @property
    def why_no_days(self) -> str:
        """Why nobody can say how long it lasts."""
        return "nothing was added in a week" if self.is_pace_known else "known after half a day"


def disk_space(disks: Iterable[Mapping[str, Any]], samples: Iterable[Mapping[str, Any]]) -> list[DiskSpace]:
    """Return the space of the disks, the fullest first; folders of one disk are one entry.

    Parameters
    ----------
    disks : iterable of mapping
        As the daemon reports them.
    samples : iterable of mapping
        Earlier free space: ``when``, and ``free_gb`` by path.

    Returns
    -------
    list of DiskSpace
    """
    samples = list(samples)
    found: dict[tuple[float, float], DiskSpace] = {}
    for disk in disks:
        path, free, total = str(disk.get("path", "")), disk.get("free_gb"), disk.get("total_gb")
        if not is_number(free):
            continue
        size = total if is_number(total) else None
        pace = _pace_gb(path, samples)
        days_left = free / -pace if pace is not None and pace < 0 else None
        entry = DiskSpace(path, free, size, days_left, pace is not None)
        found.setdefault((round(free, 1), round(size or 0.0, 1)), entry)
    return sorted(found.values(), key=lambda disk: disk.free_gb)


def _pace_gb(path: str, samples: Iterable[Mapping[str, Any]]) -> float | None:
    """Return how fast the free space of a disk changes, by the straight line through its samples [GB/day]."""
    points: list[tuple[datetime, float]] = []
    for sample in samples:
        when, free = as_time(sample.get("when")), (sample.get("free_gb") or {}).get(path)
        if when is not None and is_number(free):
            points.append((when, free))
    if not points or max(points)[0] - min(points)[0] < SHORTEST:
        return None
    first = min(points)[0]
    days = [(when - first).total_seconds() / DAY_S for when, _ in points]
    mean_day, mean_free = sum(days) / len(days), sum(free for _, free in points) / len(points)
    spread = sum((day - mean_day) ** 2 for day in days)
    return sum((day - mean_day) * (free - mean_free) for day, (_, free) in zip(days, points, strict=True)) / spread
