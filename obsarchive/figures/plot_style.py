"""Plots, from arrays to PNG bytes: a common style, and the plots of a reduced star."""

import io
import math
import re
from collections.abc import Iterable, Sequence
from itertools import cycle
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from obsarchive.figures.image_scaling import checked
from obsarchive.figures.previews import NO_LABELS, Labels
from obsarchive.science.arrays import Float64Array, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILTER_COLOURS = {"g": "#10a37f", "r": "#a8192c", "i": "#b97f1e", "z": "#2b2f36", "lp600": "#2f6fb7", "c": "#7a828c"}
"""Colours of the filters in every plot, also for eyes that do not tell red from green.

:func:`filter_colour` accepts other names of the filters.
"""
SECOND_COLOURS = ("#cb7d51", "#8c32fe")
"""Colours of a filter's curves by another pipeline; all eyes tell them apart, and from those of the filters."""
DASHES = {"g": (9, 4), "r": (2, 3), "i": (9, 3, 2, 3), "z": (5, 3), "c": (14, 4)}
"""Lengths of the dashes and gaps of a filter's curves [points]; of the others the curves have no gaps."""
SECOND_DASHES = ((7, 6), (1, 4))
INK, FAINT_INK, WARNING_INK = "#22262c", "#bcc3ca", "#b3261e"


def filter_colour(name: str) -> str:
    """Return the colour of a filter under any usual name (``Si``, ``sdss_i``, ``i'``, ``ip``); grey if unknown."""
    return FILTER_COLOURS.get(_band(name), FILTER_COLOURS["c"])


def _band(name: str) -> str:
    sloan = re.fullmatch(r"(?:sdss)?[ _]?s?([griz])['p]?", name.lower())
    return sloan[1] if sloan else name.lower()


def curve_styles(curves: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return how curves are drawn, so that neither filters nor pipelines are told apart by colour alone.

    Parameters
    ----------
    curves : iterable of (str, str)
        Filter and pipeline of each.

    Returns
    -------
    dict
        Arguments of a line of matplotlib, by filter and pipeline: of the first pipeline in the alphabet the colour
        and the dashes of the filter.
    """
    known = sorted(set(curves))
    first = min((pipeline for _, pipeline in known), default="")
    seconds = [key for key in known if key[1] != first]
    styles = {key: (filter_colour(key[0]), DASHES.get(_band(key[0]))) for key in known}
    for number, key in enumerate(seconds):
        n = len(SECOND_COLOURS)
        styles[key] = SECOND_COLOURS[number % n], SECOND_DASHES[number % n]
    return {
        key: {"color": colour, "linestyle": (0, dashes) if dashes else "-"} for key, (colour, dashes) in styles.items()
    }


def strehl_profile(
    star: FloatArray,
    perfect: FloatArray,
    plate_scale_arcsec: float,
    labels: Labels = NO_LABELS,
    *,
    core_fwhm_arcsec: float | None = None,
    halo_fwhm_arcsec: float | None = None,
) -> bytes:
    """Plot the radial profile of a star against the diffraction-limited PSF.

    Parameters
    ----------
    star : ndarray, shape (ny, nx)
        The star, its brightest pixel the core, minus background; any unit if the labels hold the Strehl ratio,
        else in the unit of `perfect`, both of the same flux.
    perfect : ndarray, shape (my, mx)
        The telescope's diffraction-limited PSF at the same plate scale.
    plate_scale_arcsec : float
        Plate scale [arcsec/pixel].
    labels : Labels
        Heading.
    core_fwhm_arcsec, halo_fwhm_arcsec : float, optional
        FWHM of core and halo, marked at half of it [arcsec].

    Returns
    -------
    bytes
        PNG, 1200 x 825.
    """
    figure, (axes,) = empty_plots((8, 5.5), labels)
    radius_px, (_, ideal, _) = _radial_profile(checked(perfect))
    axes.plot(radius_px * plate_scale_arcsec, ideal / ideal[0], "--", color=FAINT_INK, label="perfect PSF")
    radius_px, rings = _radial_profile(checked(star))
    unit = 100 * rings[1, 0] / labels.strehl_percent if labels.strehl_percent else ideal[0]
    low, median, high = rings / unit if unit > 0 else np.full_like(rings, np.nan)
    radius, colour = radius_px * plate_scale_arcsec, filter_colour(labels.filter)
    axes.fill_between(radius, low, high, color=colour, alpha=0.15, lw=0, label="68 % of its pixels")
    axes.plot(radius, median, color=colour, lw=1.8, label="star, median of all directions")
    axes.set_yscale("log", nonpositive="clip")
    axes.set(xlabel="Distance from the star [arcsec]", ylabel="Flux / peak of the perfect PSF")
    axes.set_xlim(0, max(radius[-1], plate_scale_arcsec))
    axes.set_ylim(max(1e-6, 0.3 * np.min(median, where=median > 0, initial=0.1)), 2)
    for name, fwhm, height in (("core", core_fwhm_arcsec, 0.95), ("halo", halo_fwhm_arcsec, 0.89)):
        if fwhm is not None and math.isfinite(fwhm):
            axes.axvline(fwhm / 2, color=INK, lw=0.9, ls=":")
            text = f"  {name} FWHM {fwhm:.2f}″"
            axes.text(fwhm / 2, height, text, transform=axes.get_xaxis_transform(), clip_on=True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return encoded(figure)


def frame_quality(
    quality: FloatArray, reasons: Sequence[str], labels: Labels = NO_LABELS, *, selected_fraction: float = 0.2
) -> bytes:
    """Plot the quality of an observation's frames, in the order of time and sorted.

    Parameters
    ----------
    quality : ndarray, shape (n,)
        Quality of each frame, the higher the better, any unit; NaN without a star.
    reasons : sequence of n str
        Why a frame was rejected: up to a colon the kind of reason, which is counted; empty for good frames.
    labels : Labels
        Heading.
    selected_fraction : float
        Fraction of the good frames that is highlighted, the best, 0 to 1.

    Returns
    -------
    bytes
        PNG, 1800 x 750.

    Raises
    ------
    ValueError
        If there are not as many reasons as frames.
    """
    if len(quality) != len(reasons):
        raise ValueError(f"expected a reason for each of the {len(quality)} frames, found {len(reasons)}")
    kept = np.isfinite(quality) & np.array([not reason for reason in reasons], dtype=bool)
    order = np.flatnonzero(kept)[np.argsort(-quality[kept], kind="stable")]
    n_selected = min(max(1, round(selected_fraction * len(order))), len(order))
    median = np.median(quality[kept]) if kept.any() else 0.0
    relative = quality / median if median > 0 else quality
    figure, (in_time, ranked) = empty_plots((12, 5), labels, (2.2, 1))
    rank_percent = 100 * (np.arange(len(order)) + 0.5) / max(len(order), 1)
    best = (filter_colour(labels.filter), f"best {100 * selected_fraction:.0f} % ({n_selected})")
    rest = (FAINT_INK, f"other frames ({len(order) - n_selected})")
    for part, (colour, label) in ((slice(n_selected, None), rest), (slice(n_selected), best)):
        in_time.plot(order[part], relative[order[part]], ".", color=colour, ms=5, label=label)
        ranked.fill_between(rank_percent[part], relative[order[part]], color=colour, alpha=0.35, lw=0)
        ranked.plot(rank_percent[part], relative[order[part]], color=colour, lw=2)
    _mark_rejected(in_time, reasons)
    top = max(1.1, 1.08 * relative[order].max(initial=0))
    in_time.set(xlim=(-0.01 * len(quality) - 0.5, 1.01 * len(quality)), ylim=(-0.04 * top, top))
    in_time.set(xlabel="Frame number", ylabel="Quality / median")
    ranked.set(xlabel="Rank among kept frames [%]", xlim=(0, 100), ylim=(-0.04 * top, top))
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    return encoded(figure)


def _mark_rejected(axes: "Axes", reasons: Sequence[str]) -> None:
    """Mark rejected frames on the zero line, with a symbol for each kind of reason."""
    kinds = [reason.partition(":")[0] for reason in reasons]
    for kind, sign in zip(sorted(set(kinds) - {""}), cycle("x^v+sd"), strict=False):
        numbers = [i for i, other in enumerate(kinds) if other == kind]
        label = f"rejected: {kind} ({len(numbers)})"
        axes.plot(numbers, np.zeros(len(numbers)), sign, color=WARNING_INK, ms=6, label=label)


def _radial_profile(image: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Profile around the brightest pixel, out to the nearest edge.

    Radii of rings one pixel wide, shape (n,) [pixel], and the 16th, 50th and 84th percentile of the pixels in each,
    shape (3, n); NaN in a ring without values.
    """
    y, x = np.unravel_index(np.argmax(np.where(np.isfinite(image), image, -np.inf)), image.shape)
    n = 1 + min(y, x, image.shape[0] - 1 - y, image.shape[1] - 1 - x)
    part = np.asarray(image[y - n + 1 : y + n, x - n + 1 : x + n], dtype=float)
    ring = np.rint(np.hypot(*np.ogrid[1 - n : n, 1 - n : n])).astype(int)
    order = np.argsort(ring, axis=None, kind="stable")
    edges = np.searchsorted(ring.ravel()[order], np.arange(1, n))
    rings = np.full((3, n), np.nan)
    for i, pixels in enumerate(np.split(part.ravel()[order], edges)[:n]):
        finite = pixels[np.isfinite(pixels)]
        if finite.size:
            rings[:, i] = np.percentile(finite, (16, 50, 84))
    return np.arange(n, dtype=float), rings


def empty_plots(
    size_inch: tuple[float, float], labels: Labels, widths: Sequence[float] = (1,)
) -> "tuple[Figure, list[Axes]]":
    """Make empty plots side by side, in the common style.

    Parameters
    ----------
    size_inch : (float, float)
        Width and height; 150 pixels an inch.
    labels : Labels
        Heading.
    widths : sequence of float, optional
        Relative widths of the plots.

    Returns
    -------
    (Figure, list of Axes)
        The figure, for :func:`encoded`, and its plots from left to right.
    """
    from matplotlib.figure import Figure  # late: the daemon plots nothing, its steps do

    figure = Figure(figsize=size_inch, dpi=150, layout="constrained", facecolor="white")
    axes = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(color=INK, labelcolor=INK)
        panel.grid(color="#e4e7ea", lw=0.7)
        panel.set_axisbelow(True)
    title = " · ".join(part for part in (*labels.lines, labels.strehl) if part)
    axes[0].set_title(shorten(title, 100, placeholder=" …"), loc="left", parse_math=False, color=INK)
    return figure, axes


def encoded(figure: "Figure") -> bytes:
    """Return a figure as a PNG: the same bytes for the same figure, without date and version."""
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
