"""Plots of a night: seeing, Strehl ratios, contrast curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from obsarchive.figures.plot_style import FAINT_INK, INK, curve_styles, empty_plots, encoded, filter_colour
from obsarchive.figures.previews import Labels
from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.psf.seeing import StarWidth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """A contrast curve.

    Parameters
    ----------
    filter, pipeline : str
        Where it comes from.
    separation_arcsec, contrast_mag : ndarray (n,)
        Separation from the star [arcsec] and contrast at five sigma [mag].
    """

    filter: str
    pipeline: str
    separation_arcsec: FloatArray
    contrast_mag: FloatArray


def _filters(axes: "Axes", items: Sequence[Point], x: str, y: str, error: str = "") -> None:
    """Plot points with errors, in the colour of their filter."""
    for name in sorted({str(item["filter"]) for item in items}):
        mine = [item for item in items if item["filter"] == name]
        errors = [item.get(error) or 0.0 for item in mine] if error else None
        axes.errorbar(
            [item[x] for item in mine],
            [item[y] for item in mine],
            errors,
            fmt="o",
            ms=5,
            lw=1,
            color=filter_colour(name),
            label=name,
        )


def _hours(axes: "Axes") -> None:
    from matplotlib.dates import DateFormatter  # late, as in plot_style

    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.set_xlabel("Time [UTC]")


def seeing_frame(
    window: FloatArray, star: StarWidth, centre: tuple[float, float], pixel_arcsec: float, title: str
) -> bytes:
    """Show a star, and its radial profile with the fit.

    Parameters
    ----------
    window : ndarray (ny, nx)
        Part of the image.
    star : StarWidth
        The fitted profile.
    centre : (float, float)
        The star in the window (y, x) [pixel].
    pixel_arcsec : float
        Plate scale [arcsec/pixel].
    title : str
        Heading.

    Returns
    -------
    bytes
        PNG, 1500 x 720.
    """
    figure, (picture, profile) = empty_plots((10, 4.8), Labels(target=title), (1, 1.2))
    distance = np.hypot(*(np.indices(window.shape) - np.reshape(centre, (2, 1, 1))))
    half_y, half_x = (side / 2 * pixel_arcsec for side in window.shape)
    shown = np.arcsinh((window - star.background) / max(0.1 * star.peak, 1e-9))
    picture.grid(visible=False)
    picture.imshow(shown, origin="lower", extent=(-half_x, half_x, -half_y, half_y), cmap="magma")
    picture.set(xlabel="x [arcsec]", ylabel="y [arcsec]")
    angle = np.linspace(0, 2 * np.pi, 100)
    middle = [(c - (n - 1) / 2) * pixel_arcsec for c, n in zip(centre, window.shape, strict=True)]
    radius = star.fwhm_px * pixel_arcsec / 2
    picture.plot(middle[1] + radius * np.cos(angle), middle[0] + radius * np.sin(angle), color="#7fe3ff", lw=1.2)
    near = (distance < 2.5 * star.fwhm_px) & np.isfinite(window)
    thin = slice(None, None, max(1, int(near.sum() // 4000)))
    unit = star.peak
    profile.plot(
        distance[near][thin] * pixel_arcsec,
        (window[near][thin] - star.background) / unit,
        ".",
        ms=2,
        color=FAINT_INK,
        label="pixels",
        rasterized=True,
    )
    radii = np.linspace(0, 2.5 * star.fwhm_px, 200)
    fit = f"Moffat, β = {star.beta:.1f}"
    profile.plot(radii * pixel_arcsec, star.profile(radii) / unit, color=INK, lw=2, label=fit)
    text = f"FWHM {star.fwhm_px * pixel_arcsec:.2f} ± {star.error_px * pixel_arcsec:.2f}″"
    profile.axvline(radius, color="#2f6fb7", lw=1, ls=":", label=text)
    profile.set(xlabel="Distance [arcsec]", ylabel="Flux / peak", ylim=(-0.15, 1.25))
    profile.legend(frameon=False)
    return encoded(figure)


def seeing_of_night(items: Sequence[Point], trend_arcsec: FloatArray, title: str) -> bytes:
    """Plot the seeing against time.

    Parameters
    ----------
    items : sequence of mapping
        ``date_utc`` (datetime), ``filter``, ``fwhm_arcsec``, ``fwhm_error_arcsec``, in the order of time.
    trend_arcsec : ndarray (n,)
        Smoothed seeing at the times of the items [arcsec].
    title : str
        Heading.

    Returns
    -------
    bytes
        PNG, 1350 x 750.
    """
    figure, (axes,) = empty_plots((9, 5), Labels(target=title))
    _filters(axes, items, "date_utc", "fwhm_arcsec", "fwhm_error_arcsec")
    axes.plot([item["date_utc"] for item in items], trend_arcsec, color=INK, lw=1.5, label="trend")
    values = np.array([item["fwhm_arcsec"] for item in items], float)
    usual = float(np.median(values))
    axes.axhline(usual, color=FAINT_INK, lw=1, ls="--", label=f"median {usual:.2f}″")
    axes.set(ylabel="Seeing, FWHM [arcsec]", ylim=(0, 1.25 * float(values.max())))
    _hours(axes)
    axes.legend(frameon=False, ncols=3, loc="lower right")
    return encoded(figure)


def strehl_of_night(items: Sequence[Point], title: str) -> bytes:
    """Plot Strehl ratios against time, and against the seeing where it is known.

    Parameters
    ----------
    items : sequence of mapping
        ``date_utc`` (datetime), ``filter``, ``ratio_percent``, ``ratio_error_percent``, ``seeing_arcsec`` or None.
    title : str
        Heading.

    Returns
    -------
    bytes
        PNG, 1950 x 750.
    """
    figure, (in_time, by_seeing) = empty_plots((13, 5), Labels(target=title), (1.5, 1))
    _filters(in_time, items, "date_utc", "ratio_percent", "ratio_error_percent")
    top = 1.2 * max(float(item["ratio_percent"]) for item in items)
    in_time.set(ylabel="Strehl ratio [%]", ylim=(0, top))
    _hours(in_time)
    with_seeing = [item for item in items if item.get("seeing_arcsec") is not None]
    _filters(by_seeing, with_seeing, "seeing_arcsec", "ratio_percent", "ratio_error_percent")
    by_seeing.set(xlabel="Seeing, FWHM [arcsec]", ylabel="Strehl ratio [%]", ylim=(0, top))
    if not with_seeing:
        by_seeing.text(0.5, 0.5, "seeing not measured", transform=by_seeing.transAxes, ha="center", color=FAINT_INK)
    in_time.legend(frameon=False, ncols=6, loc="upper right")
    return encoded(figure)


def contrast_of_night(curves: Sequence[Curve], title: str) -> bytes:
    """Plot the contrast curves of a night and their median.

    Parameters
    ----------
    curves : sequence of Curve
        Of each observation.
    title : str
        Heading.

    Returns
    -------
    bytes
        PNG, 1200 x 825.
    """
    figure, (axes,) = empty_plots((8, 5.5), Labels(target=title))
    styles = curve_styles((curve.filter, curve.pipeline) for curve in curves)
    is_mixed = len({curve.pipeline for curve in curves}) > 1
    named: set[str] = set()
    for curve in curves:
        name = f"{curve.filter}, {curve.pipeline.replace('_', ' ')}" if is_mixed else curve.filter
        style = styles[curve.filter, curve.pipeline]
        label = name if name not in named else None
        named.add(name)
        axes.plot(curve.separation_arcsec, curve.contrast_mag, lw=1.1, alpha=0.7, label=label, **style)
    grid, middle = median_curve(curves)
    axes.plot(grid, middle, color=INK, lw=2.6, label=f"median of {len(curves)}")
    axes.invert_yaxis()
    axes.set(xlabel="Separation [arcsec]", ylabel="Contrast at 5 σ [mag]")
    axes.legend(frameon=False)
    return encoded(figure)


def median_curve(curves: Sequence[Curve]) -> tuple[Float64Array, Float64Array]:
    """Return the median of contrast curves, where at least half of them reach: separation [arcsec], contrast [mag]."""
    first = min(float(curve.separation_arcsec.min()) for curve in curves)
    last = max(float(curve.separation_arcsec.max()) for curve in curves)
    grid = np.linspace(first, last, 80)
    values = np.array(
        [np.interp(grid, curve.separation_arcsec, curve.contrast_mag, left=np.nan, right=np.nan) for curve in curves]
    )
    enough = np.isfinite(values).sum(axis=0) * 2 >= len(curves)
    return grid[enough], np.nanmedian(values[:, enough], axis=0)
