"""The command ``compare-photometry``: how the two engines differ, as text, a table and a plot."""

import math
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from astropy import units as u
from astropy.table import Table

from obsarchive.cli.console import say
from obsarchive.core import logs
from obsarchive.errors import ConfigError, Unprocessable
from obsarchive.figures.photometry_comparison import engine_differences
from obsarchive.figures.previews import Labels
from obsarchive.io.atomic import atomic_path, atomic_write
from obsarchive.science.photometry.comparison import Bin, Comparison, binned, joined
from obsarchive.timeseries.compare_photometry import (
    KINDS,
    Detector,
    Exposure,
    Limits,
    compare,
    read_frames,
    read_image,
)

DIFFERENCE = "photutils minus fast"


def run(options: Namespace) -> int:
    """Compare the engines, print a table, and write it and a plot."""
    logs.set_up(None, "compare-photometry", "WARNING")
    detector = Detector(options.gain, options.saturation)
    is_dataset = options.what.is_dir()
    exposures: Iterable[Exposure] = (
        read_frames(options.what, options.frames, detector) if is_dataset else [read_image(options.what, detector)]
    )
    found: list[dict[str, Comparison]] = []
    for exposure in exposures:
        if not math.isfinite(exposure.planes.saturation):
            say(f"{exposure.name}: no level of saturation is known, see --saturation\n")
        counts, common = compare(exposure, Limits(options.snr, options.stars, options.aperture_fwhm))
        say(_summary(exposure.name, counts, common))
        # the ensemble of a dataset removes what is the same for all stars of a frame
        found.append({kind: each.without_offset() for kind, each in common.items()} if is_dataset else common)
    stars = {kind: joined([common[kind] for common in found]) for kind in KINDS}
    bins = {kind: binned(stars[kind], options.bin) for kind in KINDS}
    if not any(bins.values()):
        raise Unprocessable(f"{options.what}: no star is measured by both engines without a fault")
    say(_text(bins))
    _write(options, stars, bins)
    return 0


def _summary(name: str, counts: Mapping[str, int], common: Mapping[str, Comparison]) -> str:
    sources = ", ".join(f"{n} sources by {engine}" for engine, n in counts.items())
    offsets = ", ".join(f"{kind} {found.offset:+.4f} mag" for kind, found in common.items())
    return f"{name}: {sources}; {len(common[KINDS[0]].mag)} in common; offsets: {offsets}\n"


def _text(bins: Mapping[str, Sequence[Bin]]) -> str:
    """Return the table that is printed."""
    lines = [f"{DIFFERENCE} [mag]", "photometry     magnitude      n  difference   scatter  expected   pull"]
    for kind, found in bins.items():
        for each in found:
            place = f"{each.low:6.2f} {each.high:6.2f} {each.n:6d}"
            values = f"{each.difference:11.4f} {each.scatter:9.4f} {each.expected:9.4f} {each.pull:6.2f}"
            lines.append(f"{kind:10s} {place} {values}")
    return "\n".join(lines) + "\n"


def _write(options: Namespace, stars: Mapping[str, Comparison], bins: Mapping[str, Sequence[Bin]]) -> None:
    path = options.what.resolve()
    name = "/".join(path.parts[-3:]) if path.is_dir() else path.name
    stem = name.split(".fits")[0].replace("/", "_") + "_photometry_comparison"
    rows: list[dict[str, Any]] = [{"photometry": kind, **vars(each)} for kind, found in bins.items() for each in found]
    table = Table(rows)
    for column in ("low", "high", "difference", "scatter", "expected"):
        table[column].unit = u.mag
    table.meta = {"difference": DIFFERENCE, "image": str(options.what)}
    try:
        with atomic_path(options.output / f"{stem}.ecsv") as part:
            table.write(part, format="ascii.ecsv", overwrite=True)
        atomic_write(options.output / f"{stem}.png", engine_differences(stars, bins, DIFFERENCE, Labels(name)))
    except OSError as err:
        raise ConfigError(f"--output {options.output}: cannot be written: {err.strerror}") from err
    say(f"table and plot: {options.output / stem}.ecsv, .png\n")
