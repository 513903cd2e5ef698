"""Contrast curves, and images side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from obsarchive.figures.plot_style import FAINT_INK, WARNING_INK, empty_plots, encoded, filter_colour
from obsarchive.figures.previews import NO_LABELS, Labels
from obsarchive.science.arrays import FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HIDDEN = "#3a3f46"
"""Colour of pixels without a value."""


def contrast_curve(
    separation_arcsec: FloatArray,
    magnitudes: FloatArray,
    labels: Labels = NO_LABELS,
    companions: Sequence[tuple[float, float]] = (),
    note: str = "",
) -> bytes:
    """Plot the contrast at five sigma against the separation.

    Parameters
    ----------
    separation_arcsec : ndarray (n,)
        Distance from the star [arcsec].
    magnitudes : ndarray (n,)
        Magnitude difference of a companion that is found in half of all cases [mag]; NaN where it is not known.
    labels : Labels
        Heading.
    companions : sequence of (float, float)
        Separation [arcsec] and magnitude difference [mag] of the companions detected.
    note : str
        Beside the name of the curve, such as the number of references.

    Returns
    -------
    bytes
        PNG, 1200 x 825.
    """
    figure, (axes,) = empty_plots((8, 5.5), labels)
    colour = filter_colour(labels.filter)
    known = np.isfinite(magnitudes)
    axes.plot(separation_arcsec[known], magnitudes[known], color=colour, lw=2, label=f"5 σ contrast{note}")
    if known.any():
        deepest = max([magnitudes[known].max(), *(faint for _, faint in companions)]) + 0.5
        axes.fill_between(separation_arcsec[known], magnitudes[known], deepest, color=colour, alpha=0.08, lw=0)
        axes.set_ylim(deepest, min(0.0, magnitudes[known].min()))
        axes.set_xlim(0, 1.03 * separation_arcsec[known].max())
    if companions:
        separations, faint = np.transpose(companions)
        axes.plot(separations, faint, "*", ms=13, color=WARNING_INK, mec="white", label="companion found")
    axes.set(xlabel="Separation [arcsec]", ylabel="Contrast [mag]")
    axes.legend(frameon=False, loc="upper right")
    return encoded(figure)


def before_and_after(
    star: FloatArray,
    residual: FloatArray,
    pixel_arcsec: float,
    labels: Labels = NO_LABELS,
    north_deg: tuple[float, float] | None = None,
) -> bytes:
    """Show a star before and after its subtraction, both in units of the noise of the residual.

    Parameters
    ----------
    star, residual : ndarray (side, side)
        Centred stamps in the same unit; NaN where a pixel has no value.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    labels : Labels
        Heading; marks (pixels of the stamps) are circled in the residual.
    north_deg : (float, float), optional
        Directions of north and of east, counterclockwise from up [deg]; without it no compass is drawn.

    Returns
    -------
    bytes
        PNG, 1650 x 900.
    """
    figure, panels = empty_plots((11, 6), labels, (1, 1))
    half = len(star) / 2 * pixel_arcsec
    known = np.isfinite(residual)
    spread = MAD_TO_SIGMA * float(np.median(np.abs(residual[known]))) if known.any() else 1.0
    spread = spread or 1.0
    images = (np.arcsinh(np.nan_to_num(star) / (3 * spread)), residual / spread)
    ranges = ((-1.0, float(images[0].max())), (-6.0, 10.0))
    for axes, image, (low, high), name in zip(panels, images, ranges, ("star", "star subtracted"), strict=True):
        axes.grid(visible=False)
        axes.set_facecolor(HIDDEN)
        shown = axes.imshow(
            image,
            origin="lower",
            extent=(-half, half, -half, half),
            cmap="magma",
            vmin=low,
            vmax=high,
            aspect="equal",
            interpolation="nearest",
        )
        axes.set(xlabel="x [arcsec]", ylabel="y [arcsec]" if axes is panels[0] else "")
        _name(axes, name)
    bar = figure.colorbar(shown, ax=panels[1], shrink=0.72, pad=0.02, label="residual / noise")  # of the last panel
    bar.outline.set_visible(False)
    middle = (len(star) - 1) / 2
    for mark in labels.marks:
        place = (mark.x - middle) * pixel_arcsec, (mark.y - middle) * pixel_arcsec
        panels[1].plot(*place, "o", ms=22, mfc="none", mec="#7fe3ff", mew=1.4)
        panels[1].annotate(mark.label, place, (12, 12), textcoords="offset points", color="#7fe3ff")
    if north_deg is not None:
        _compass(panels[1], north_deg, half)
    return encoded(figure)


def side_by_side(
    images: Mapping[str, FloatArray],
    pixel_arcsec: float,
    labels: Labels = NO_LABELS,
    north_deg: tuple[float, float] | None = None,
) -> bytes:
    """Show images of the same object beside each other, each on its own scale.

    Parameters
    ----------
    images : mapping of str to ndarray (ny, nx)
        By the title of each.
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    labels : Labels
        Heading.
    north_deg : (float, float), optional
        Directions of north and of east, counterclockwise from up [deg]; without it no compass is drawn.

    Returns
    -------
    bytes
        PNG, 825 pixels wide for each image.
    """
    ny, nx = next(iter(images.values())).shape
    figure, panels = empty_plots((5.5 * len(images), 1 + 5 * ny / nx), labels, (1,) * len(images))
    for axes, (title, image) in zip(panels, images.items(), strict=True):
        half_y, half_x = (side / 2 * pixel_arcsec for side in image.shape)
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, (2, 99.9)) if finite.size else (0.0, 1.0)
        extent = (-half_x, half_x, -half_y, half_y)
        axes.grid(visible=False)
        axes.set_facecolor(HIDDEN)
        axes.imshow(image, origin="lower", extent=extent, cmap="inferno", vmin=low, vmax=high, aspect="equal")
        axes.set(xlabel="x [arcsec]", ylabel="y [arcsec]" if axes is panels[0] else "")
        _name(axes, title)
    if north_deg is not None:
        _compass(panels[-1], north_deg, min(half_y, half_x))
    return encoded(figure)


def _name(axes: "Axes", name: str) -> None:
    """Title of a panel, in its corner: the heading of the figure needs the room above."""
    axes.text(0.03, 0.97, name, transform=axes.transAxes, color="white", va="top", fontweight="bold")


def _compass(axes: "Axes", directions_deg: tuple[float, float], half: float) -> None:
    """Arrows to north and east at the bottom right."""
    origin = np.array([0.78, -0.78]) * half
    for name, angle in zip("NE", np.radians(directions_deg), strict=True):
        tip = origin + 0.14 * half * np.array([-np.sin(angle), np.cos(angle)])
        style = {"arrowstyle": "-|>", "color": FAINT_INK, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (tip[0], tip[1]), (origin[0], origin[1]), arrowprops=style)
        text = origin + 0.19 * half * np.array([-np.sin(angle), np.cos(angle)])
        axes.text(text[0], text[1], name, color=FAINT_INK, ha="center", va="center")
