"""Plot of a plate solution."""

from collections.abc import Mapping

import numpy as np

from obsarchive.figures.plot_style import FAINT_INK, INK, WARNING_INK, empty_plots, encoded
from obsarchive.figures.previews import NO_LABELS, Labels
from obsarchive.science.arrays import FloatArray


def plate_solution(
    image: FloatArray,
    marks: Mapping[str, tuple[FloatArray, FloatArray]],
    residuals_arcsec: FloatArray,
    rms_arcsec: float | None,
    labels: Labels = NO_LABELS,
) -> bytes:
    """Plot the matched stars on the image, and the residuals of their positions.

    Parameters
    ----------
    image : ndarray (ny, nx)
        The image, in any unit.
    marks : mapping of str to (y, x)
        Positions [pixel] of ``sources``, ``catalogue`` and ``matched``.
    residuals_arcsec : ndarray (n, 2)
        Image minus catalogue, east and north [arcsec].
    rms_arcsec : float or None
        Root mean square of the residuals along an axis [arcsec]; None without a solution.
    labels : Labels
        Heading.

    Returns
    -------
    bytes
        PNG, 1950 x 1050.
    """
    figure, (field, scatter) = empty_plots((13, 7), labels, (1.35, 1))
    finite = image[np.isfinite(image)]
    low, high = np.percentile(finite, (5, 99.7)) if finite.size else (0, 1)
    field.grid(visible=False)
    shown = np.arcsinh((image - low) / max(0.1 * (high - low), 1e-9))
    field.imshow(shown, origin="lower", cmap="gray_r", vmin=0, vmax=np.arcsinh(10), interpolation="nearest")
    styles = {"catalogue": ("+", "#2f6fb7"), "sources": ("s", FAINT_INK), "matched": ("o", WARNING_INK)}
    for name, (y, x) in marks.items():
        sign, colour = styles[name]
        size = 11 if sign == "o" else 7
        field.plot(x, y, sign, ms=size, mfc="none", mec=colour, mew=1.1, label=f"{name} ({len(y)})")
    field.set(
        xlabel="x [pixel]", ylabel="y [pixel]", xlim=(-0.5, image.shape[1] - 0.5), ylim=(-0.5, image.shape[0] - 0.5)
    )
    field.set_title("")
    if rms_arcsec is None:
        scatter.text(0.5, 0.5, "no solution", transform=scatter.transAxes, ha="center", color=WARNING_INK, size=16)
        scatter.set_axis_off()
    else:
        mas = 1000 * residuals_arcsec
        scatter.plot(mas[:, 0], mas[:, 1], "o", color=WARNING_INK, ms=5)
        angle = np.linspace(0, 2 * np.pi, 200)
        radius = 1000 * rms_arcsec
        scatter.plot(
            radius * np.cos(angle), radius * np.sin(angle), color=INK, lw=1, label=f"rms {radius:.1f} mas per axis"
        )
        reach = 1.15 * max(float(np.abs(mas).max(initial=0)), radius, 1e-3)
        scatter.set(
            xlim=(reach, -reach), ylim=(-reach, reach), xlabel="East residual [mas]", ylabel="North residual [mas]"
        )
        scatter.set_aspect("equal")
        scatter.legend(frameon=False, loc="upper right")
    figure.legend(*field.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False)
    return encoded(figure)
