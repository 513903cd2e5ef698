"""Figure of a point-lens fit: data of all bands as magnifications, model and residuals, over the event and its peak."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from obsarchive.figures.plot_style import FAINT_INK, FILTER_COLOURS, INK, WARNING_INK, encoded, filter_colour
from obsarchive.figures.previews import Labels
from obsarchive.science.arrays import IndexArray
from obsarchive.science.light_curves.point_lens_model import Measured, PointLens, SetFit

PALETTE = ("#2f6fb7", "#a8192c", "#10a37f", "#c77d1e", "#7d5ba6", "#2a9d8f", "#b0578d", "#6c7a2f", "#8a5a2b", "#4c5561")
EVENT_WIDTHS, PEAK_WIDTHS = 2.5, 4.0
"""Half widths of the plots: in Einstein times, and in ``u0 tE``."""
LOGARITHMIC = 4.0
"""Peak magnification from which the scale is logarithmic."""
MOST_SIGMA = 6.0
LARGE = 300
"""Number of points from which they are small."""
LINE = 130
"""Length of a line of the legend [characters]."""


def point_lens_plot(found: PointLens, labels: Labels, time_name: str = "JD") -> bytes:
    """Plot a fit.

    Parameters
    ----------
    found : PointLens
        The fit.
    labels : Labels
        Heading.
    time_name : str
        Name of the kind of times.

    Returns
    -------
    bytes
        PNG, 2100 x 1200.
    """
    figure = Figure(figsize=(14, 8), dpi=150, layout="constrained", facecolor="white")
    grid = GridSpec(2, 2, figure=figure, width_ratios=(1.5, 1), height_ratios=(3, 1))
    offset = 1000.0 * np.floor(found.t0.value / 1000.0) if found.t0.value > 1e4 else 0.0
    colours = _colours(found.sets)
    widths = _widths(found)
    for column, half_width in enumerate(widths):
        top = figure.add_subplot(grid[0, column])
        bottom = figure.add_subplot(grid[1, column], sharex=top)
        _magnifications(top, found, colours, (offset, half_width))
        _residuals(bottom, found, colours, (offset, half_width))
        top.tick_params(labelbottom=False)
        bottom.set_xlabel(f"{time_name} - {offset:.0f} [d]" if offset else f"{time_name} [d]")
        for axes in (top, bottom):
            _style(axes)
        if column == 0:
            top.set_title(" · ".join(line for line in labels.lines if line), loc="left", parse_math=False, color=INK)
            top.set_ylabel("magnification")
            bottom.set_ylabel("residual [σ]")
            top.text(0.02, 0.97, _text(found), transform=top.transAxes, va="top", color=INK, parse_math=False)
        else:
            top.set_title("peak", loc="left", color=INK)
    _legend(figure, found, colours)
    return encoded(figure)


def _widths(found: PointLens) -> tuple[float, float]:
    times = np.concatenate([one.data.time for one in found.sets])
    reach = float(np.abs(times - found.t0.value).max())
    event = min(EVENT_WIDTHS * found.t_e.value * max(1.0, found.u0.value), max(reach, 1e-3))
    return event, min(PEAK_WIDTHS * max(found.t_eff.value, 0.005 * found.t_e.value), event / 2)


def _colours(sets: Sequence[SetFit]) -> list[str]:
    """Return a colour for each data set: that of its filter, unless others have the same."""
    own = [filter_colour(one.name.split()[-1]) if one.name.split() else "" for one in sets]
    if len(set(own)) == len(own) and FILTER_COLOURS["c"] not in own:
        return own
    palette = cycle(PALETTE)
    return [next(palette) for _ in sets]


def _inside(one: SetFit, found: PointLens, half_width: float) -> tuple[IndexArray, IndexArray]:
    """Return the numbers of kept and rejected epochs within the plot."""
    near = np.abs(one.data.time - found.t0.value) <= half_width
    return np.flatnonzero(near & one.kept), np.flatnonzero(near & ~one.kept)


def _magnifications(axes: Axes, found: PointLens, colours: Sequence[str], view: tuple[float, float]) -> None:
    offset, half_width = view
    n_points = sum(len(_inside(one, found, half_width)[0]) for one in found.sets)
    size, fade = (2.2, 0.55) if n_points > LARGE else (4.0, 0.9)
    for one, colour in zip(found.sets, colours, strict=True):
        values, errors = one.magnifications()
        for epochs, face in zip(_inside(one, found, half_width), (colour, "white"), strict=True):
            time = one.data.time[epochs] - offset
            style: dict[str, Any] = {
                "fmt": "o",
                "ms": size,
                "lw": 0.6,
                "color": colour,
                "mfc": face,
                "mew": 0.7,
                "alpha": fade,
            }
            axes.errorbar(time, values[epochs], errors[epochs], **style)
    x = np.linspace(-1.0, 1.0, 1001)
    # densely where the model bends
    time = found.t0.value + half_width * np.sign(x) * np.abs(x) ** 3
    model = found.magnification(time)
    axes.plot(time - offset, model, color=INK, lw=1.4, zorder=5)
    top, bottom = float(model.max()), float(model.min())
    axes.set_xlim(found.t0.value - offset - half_width, found.t0.value - offset + half_width)
    if top > LOGARITHMIC:
        axes.set_yscale("log")
        axes.set_ylim(max(0.5, 0.6 * bottom), 1.6 * top)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom - 0.25 * (top - bottom), top + 0.25 * (top - bottom))


def _residuals(axes: Axes, found: PointLens, colours: Sequence[str], view: tuple[float, float]) -> None:
    offset, half_width = view
    axes.axhline(0, color=INK, lw=1)
    for one, colour in zip(found.sets, colours, strict=True):
        for epochs, face in zip(_inside(one, found, half_width), (colour, "white"), strict=True):
            shown = np.clip(one.residual[epochs], -MOST_SIGMA, MOST_SIGMA)
            axes.plot(one.data.time[epochs] - offset, shown, "o", ms=2.5, color=colour, mfc=face, mew=0.7, alpha=0.7)
    axes.set_ylim(-MOST_SIGMA - 0.5, MOST_SIGMA + 0.5)


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(color=INK, labelcolor=INK)
    axes.grid(color="#e4e7ea", lw=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))


def value_and_error(found: Measured) -> str:
    """Return a parameter with its error, rounded to two digits of the error."""
    if not np.isfinite(found.error) or found.error <= 0:
        return f"{found.value:.6g} ± ?"
    digits = max(0, 1 - int(np.floor(np.log10(found.error))))
    return f"{found.value:.{digits}f} ± {found.error:.{digits}f}"


def _text(found: PointLens) -> str:
    named = (("t0", found.t0), ("u0", found.u0), ("tE", found.t_e), ("rho", found.rho))
    lines = [f"{name} = {value_and_error(value)}" for name, value in named if value is not None]
    return "\n".join([*lines, f"χ²/dof = {found.chi2:.1f} / {found.dof}"])


def _legend(figure: Figure, found: PointLens, colours: Sequence[str]) -> None:
    axes = figure.axes[0]
    for one, colour in zip(found.sets, colours, strict=True):
        axes.plot([], [], "o", ms=5, color=colour, label=f"{one.name} ({one.n})")
    if any(one.n_rejected for one in found.sets):
        axes.plot([], [], "o", ms=5, mfc="white", mec=FAINT_INK, label="rejected")
    longest = max(len(one.name) for one in found.sets)
    figure.legend(
        loc="outside lower center", ncols=max(1, min(len(found.sets) + 1, LINE // (longest + 12))), frameon=False
    )
    if found.warnings and not found.is_reliable:
        figure.text(0.995, 0.985, "see the warnings", ha="right", va="top", color=WARNING_INK)
