"""Plots of time-series photometry: light curves, scatter of all stars, curves of growth, residuals over the field."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from obsarchive.figures.plot_style import FAINT_INK, INK, WARNING_INK, empty_plots, encoded, filter_colour
from obsarchive.figures.previews import Labels
from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray

JD_OFFSET = 2_450_000
MOST_POINTS = 20_000
"""Stars plotted of a field with more: their distribution is what is seen."""


def light_curve(
    time_bjd: Float64Array,
    mag: tuple[Float64Array, Float64Array],
    limit: Float64Array,
    bad: BoolArray,
    labels: Labels,
    filter_name: str,
) -> bytes:
    """Plot a light curve with errors; upper limits as arrows, bad points hollow.

    Parameters
    ----------
    time_bjd : ndarray (n,)
        Times, BJD(TDB) [d].
    mag : (ndarray, ndarray)
        Magnitudes and errors (n,) [mag]; NaN where there are none.
    limit : ndarray (n,)
        Upper limits [mag]; NaN where the star was detected.
    bad : ndarray (n,) of bool
        Points with flags.
    labels : Labels
        Heading.
    filter_name : str
        Gives the colour.

    Returns
    -------
    bytes
        PNG, 1350 x 750.
    """
    figure, (axes,) = empty_plots((9, 5), labels)
    time, colour = time_bjd - JD_OFFSET, filter_colour(filter_name)
    seen = np.isfinite(mag[0]) & ~np.isfinite(limit)
    for chosen, face in ((seen & ~bad, colour), (seen & bad, "white")):
        axes.errorbar(
            time[chosen],
            mag[0][chosen],
            mag[1][chosen],
            fmt="o",
            ms=4,
            lw=0.9,
            color=colour,
            mfc=face,
            mec=colour,
            ecolor=colour,
            alpha=0.9,
        )
    faint = np.isfinite(limit)
    axes.plot(time[faint], limit[faint], linestyle="none", marker=r"$\downarrow$", ms=9, color=FAINT_INK)
    axes.invert_yaxis()
    axes.set_xlabel(f"BJD(TDB) - {JD_OFFSET} [d]")
    axes.set_ylabel("magnitude")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if not (seen | faint).any():
        axes.text(0.5, 0.5, "no measurement", transform=axes.transAxes, ha="center", color=WARNING_INK)
    return encoded(figure)


def scatter_against_magnitude(
    mag: Float64Array, scatter: Float64Array, expected: Float64Array, target: int, labels: Labels
) -> bytes:
    """Plot the scatter of all stars against their magnitudes, with the scatter expected from their errors.

    Parameters
    ----------
    mag, scatter, expected : ndarray (n,)
        Magnitude of each star, the scatter of its light curve, and that expected from its errors [mag]; NaN where
        there is none.
    target : int
        Number of the target.
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1350 x 825.
    """
    figure, (axes,) = empty_plots((9, 5.5), labels)
    valid = np.isfinite(mag) & (scatter > 0) & np.isfinite(expected)
    few = np.flatnonzero(valid)[:: max(1, valid.sum() // MOST_POINTS)]
    axes.semilogy(mag[few], scatter[few], ".", ms=3, color="#2f6fb7", alpha=0.5, label="stars")
    if valid.sum() > 10:
        edges = np.quantile(mag[valid], np.linspace(0, 1, 21))
        middles, medians = _running(mag[valid], expected[valid], edges)
        axes.semilogy(middles, medians, color=INK, lw=1.5, label="their errors")
    if valid[target]:
        axes.semilogy(mag[target], scatter[target], "*", ms=13, color=WARNING_INK, label="target")
    if valid.any():
        low, high = np.quantile(mag[valid], (0.002, 0.99))
        axes.set_xlim(float(low) - 0.3, float(high) + 0.5)
    axes.set_xlabel("magnitude")
    axes.set_ylabel("scatter [mag]")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False)
    return encoded(figure)


def _running(x: Float64Array, y: Float64Array, edges: Float64Array) -> tuple[list[float], list[float]]:
    """Medians of x and y between the edges."""
    middles, medians = [], []
    for low, high in pairwise(edges.tolist()):
        inside = (x >= low) & (x <= high)
        if inside.any():
            middles.append(float(np.median(x[inside])))
            medians.append(float(np.median(y[inside])))
    return middles, medians


def curve_of_growth(
    radii_arcsec: Sequence[float], growth: Float64Array, fwhm_arcsec: Float64Array, labels: Labels
) -> bytes:
    """Plot the curve of growth of each frame, coloured by the seeing.

    Parameters
    ----------
    radii_arcsec : sequence of n_radii float
        Radii of the apertures [arcsec].
    growth : ndarray (n_frames, n_radii)
        Flux in each aperture relative to the main one.
    fwhm_arcsec : ndarray (n_frames,)
        Seeing, FWHM [arcsec].
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1350 x 825.
    """
    figure, (axes,) = empty_plots((9, 5.5), labels)
    order = np.argsort(radii_arcsec)
    low, high = (float(np.nanmin(fwhm_arcsec)), float(np.nanmax(fwhm_arcsec)) + 1e-6)
    for line, fwhm in zip(growth, fwhm_arcsec, strict=True):
        shade = 0.25 + 0.65 * (fwhm - low) / (high - low)
        axes.plot(np.array(radii_arcsec)[order], line[order], "o-", ms=3, lw=1, color=(0.16, 0.38, 0.66, shade))
    axes.axhline(1.0, color=FAINT_INK, lw=1)
    axes.set_xlabel("radius [arcsec]")
    axes.set_ylabel("light, in units of the main aperture's")
    axes.text(
        0.98, 0.05, f"seeing {low:.2f}-{high:.2f}\u2033, darker: worse", transform=axes.transAxes, ha="right", color=INK
    )
    return encoded(figure)


def residual_map(x: Float64Array, y: Float64Array, residual_mag: Float64Array, labels: Labels) -> bytes:
    """Plot the residuals of the photometric calibration over the field.

    Parameters
    ----------
    x, y : ndarray (n,)
        Positions of the stars [pixel].
    residual_mag : ndarray (n,)
        Magnitude of the catalogue minus the measured one [mag]; NaN for stars that are not in the catalogue.
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1080 x 900.
    """
    figure, (axes,) = empty_plots((7.2, 6), labels)
    known = np.isfinite(residual_mag) & np.isfinite(x) & np.isfinite(y)
    span = max(6 * float(np.median(np.abs(residual_mag[known]))), 0.01) if known.any() else 0.1
    dots = axes.scatter(
        x[known], y[known], c=residual_mag[known], s=14, cmap="RdBu_r", vmin=-span, vmax=span, lw=0.2, ec=INK
    )
    axes.set_aspect("equal")
    axes.set_xlabel("x [pixel]")
    axes.set_ylabel("y [pixel]")
    figure.colorbar(dots, ax=axes, label="catalogue - measured [mag]", shrink=0.85)
    if not known.any():
        axes.text(0.5, 0.5, "no star of known magnitude", transform=axes.transAxes, ha="center", color=WARNING_INK)
    return encoded(figure)


def measured_sources(
    image: FloatArray,
    positions: tuple[Float64Array, Float64Array, float],
    mag: tuple[Float64Array, Float64Array],
    labels: Labels,
) -> bytes:
    """Show the apertures on an image, and the errors against the magnitudes.

    Parameters
    ----------
    image : ndarray (ny, nx)
        The image, in any unit.
    positions : (ndarray, ndarray, float)
        Centres y, x (n,) and radius of the apertures [pixel].
    mag : (ndarray, ndarray)
        Magnitudes and errors (n,) [mag].
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1950 x 1050.
    """
    from matplotlib.collections import EllipseCollection  # late, as in plot_style

    figure, (field, errors) = empty_plots((13, 7), labels, (1.35, 1))
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (5, 99.7)) if finite.size else (0, 1)
    field.grid(visible=False)
    shown = np.arcsinh((image - low) / max(0.1 * (high - low), 1e-9))
    field.imshow(shown, origin="lower", cmap="gray_r", vmin=0, vmax=np.arcsinh(10), interpolation="nearest")
    y, x, radius = positions
    rings = EllipseCollection(
        [2 * radius] * len(y),
        [2 * radius] * len(y),
        [0.0] * len(y),
        units="xy",
        offsets=np.stack([x, y], axis=1),
        offset_transform=field.transData,
        facecolors="none",
        edgecolors=WARNING_INK,
        lw=0.8,
    )
    field.add_collection(rings)
    field.set(
        xlabel="x [pixel]", ylabel="y [pixel]", xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.5, image.shape[0] - 0.5)
    )
    known = np.isfinite(mag[0]) & (mag[1] > 0)
    if known.any():
        errors.semilogy(mag[0][known], mag[1][known], "o", ms=4, color="#2f6fb7", alpha=0.7)
        errors.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    else:
        errors.text(0.5, 0.5, "nothing to measure", transform=errors.transAxes, ha="center", color=WARNING_INK)
    errors.set(xlabel="magnitude", ylabel="error [mag]")
    return encoded(figure)
