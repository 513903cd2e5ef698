"""The command ``point-lens``: the fit of a microlensing event, as text, JSON, a figure and input of other programs."""

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from obsarchive.cli.console import say
from obsarchive.core import logs
from obsarchive.errors import ConfigError, Unprocessable
from obsarchive.figures.point_lens import point_lens_plot, value_and_error
from obsarchive.figures.previews import Labels
from obsarchive.io.atomic import atomic_write
from obsarchive.io.point_lens_files import EXPORTS, Position, write_results
from obsarchive.science.light_curves import point_lens
from obsarchive.science.light_curves.point_lens_model import Options, Photometry, PointLens
from obsarchive.timeseries.point_lens import is_plain, read_dataset, read_file
from surveys.point_lens import read_table


def run(options: Namespace) -> int:
    """Fit light curves of files and datasets."""
    logs.set_up(None, "point-lens", "WARNING")
    data: list[Photometry] = []
    for path in options.what:
        if path.is_dir():
            data.append(read_dataset(path, options.star))
        elif is_plain(path):
            data.append(read_file(path, is_flux=options.flux))
        else:
            data += read_table(path)
    if not data:
        raise Unprocessable(f"{', '.join(map(str, options.what))}: there is no epoch")
    first = options.what[0].resolve()
    name = options.name or (first.parts[-3] if first.is_dir() and len(first.parts) > 2 else first.stem)
    report(fitted(distinct(data), options), name, options)
    return 0


def distinct(data: Sequence[Photometry]) -> list[Photometry]:
    """Return data sets with different names, by which they are told apart in results."""
    names = [one.name for one in data]
    return [
        one if names.count(one.name) == 1 else replace(one, name=f"{one.name} {number}")
        for number, one in enumerate(data, 1)
    ]


def options_of(options: Namespace) -> Options:
    """Return how the fit is done, by the arguments of the command."""
    for start, stop in [*(options.exclude or ()), *([options.within] if options.within else ())]:
        if not start < stop:
            raise ConfigError(f"{start:g} {stop:g}: a range of Julian days is needed, the earlier first")
    return Options(
        clip_sigma=options.clip,
        within=tuple(options.within) if options.within else None,
        exclude=tuple((start, stop) for start, stop in options.exclude or ()),
        extended_source=True if options.extended_source else None,
    )


def fitted(data: Sequence[Photometry], options: Namespace) -> PointLens:
    """Return the fit that the arguments of the command ask for."""
    return point_lens.fit(data, options_of(options))


def report(found: PointLens, name: str, options: Namespace, position: Position | None = None) -> None:
    """Print a fit and write its files.

    Parameters
    ----------
    found : PointLens
        The fit, with times in Julian days.
    name : str
        Name of the event, in headings and names of files.
    options : Namespace
        Arguments of the command: folder, exports, position.
    position : (float, float), optional
        Right ascension and declination [deg], if the command does not give them.
    """
    say(text(found))
    stem = re.sub(r"[^\w.+-]+", "_", name).strip("_") or "event"
    folder: Path = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(f"--output {folder}: cannot be made: {err.strerror}") from err
    results, figure = folder / f"{stem}_point_lens.json", folder / f"{stem}_point_lens.png"
    write_results(results, found, name)
    atomic_write(figure, point_lens_plot(found, Labels(name)))
    say(f"results and figure: {results}, {figure.name}\n")
    place = tuple(options.position) if options.position else position
    for program in options.export or ():
        written = EXPORTS[program](folder / f"{stem}_{program}", found, place)
        say(f"input of {program}: {written[0]} and {len(written) - 1} light curves\n")


def text(found: PointLens) -> str:
    """Return a fit as text."""
    named = (("t0 [JD]", found.t0), ("u0", found.u0), ("tE [d]", found.t_e), ("u0 tE [d]", found.t_eff))
    rows = [*named, *((("rho", found.rho),) if found.rho else ())]
    lines = ["parameter   value ± error                  errors as given    profile -    profile +"]
    lines += [
        f"{name:11s} {value_and_error(value):30s} {value.formal_error:15.3g} {value.lower:12.3g} {value.upper:12.3g}"
        for name, value in rows
    ]
    width = max(len(one.name) for one in found.sets)
    lines.append(f"{'data set':{width}s}      n rejected  chi2/dof  errors x    source     blend  blend/source")
    for one in found.sets:
        reduced = one.chi2 / max(one.n - 2, 1)
        lines.append(
            f"{one.name:{width}s} {one.n:6d} {one.n_rejected:8d} {reduced:9.2f} {one.error_scale:9.2f}"
            f" {one.source_mag:9.3f} {one.blend_mag:9.3f} {one.blend_ratio:13.3f}"
        )
    lines.append(
        f"chi2 {found.chi2:.1f} of {found.dof} degrees of freedom, in the errors as given; source and blend in mag"
    )
    lines += [f"warning: {warning}" for warning in found.warnings]
    return "\n".join(lines) + "\n"
