"""Strehl ratio of a stacked star: a step that the bright-star and faint-star pipelines share."""

from dataclasses import replace
from typing import Any

import numpy as np

from obsarchive.figures.plot_style import strehl_profile
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import FloatArray
from obsarchive.science.psf.model import diffraction_limited_psf, drizzled_response
from obsarchive.science.psf.stack_noise import LIFT_ERROR, StackNoise
from obsarchive.science.psf.strehl import StrehlResult, measure_strehl
from pipelines.shared.frame_sequence import PIXFRACS
from pipelines.shared.preview_step import labels_of
from pipelines.shared.product_headers import require_optics

STREHL = ("strehl/{id}_strehl.txt", "strehl/{id}_box.fits", "strehl/{id}_profile.png")
"""What :func:`measure_and_publish` makes."""
PSF_SIDE = 129
"""Side of the diffraction-limited PSF that is plotted [pixel]."""


def measure_and_publish(work: Workspace, image_name: str, scale: int) -> dict[str, Any]:
    """Measure the Strehl ratio of a product and publish table, box and radial profile.

    Parameters
    ----------
    work : Workspace
        Of the step.
    image_name : str
        Product whose guide star (``GUIDEX``, ``GUIDEY`` of its header) is measured.
    scale : int
        Its pixels per raw pixel along each axis; with the ``pixfrac`` of the results of the step ``reduce`` they say
        how it was drizzled, and the diffraction-limited PSF gets the same pixels.

    Returns
    -------
    dict
        Results of the step: ``ratio_percent``, ``fwhm_arcsec``, ``core_arcsec``, ``halo_arcsec``, ``flag``, …

    Raises
    ------
    Unprocessable
        The configuration does not describe the filter.
    """
    optics = require_optics(work)
    image, header = work.read(image_name)
    pixel_arcsec = work.telescope.plate_scale_arcsec / scale
    response = stack_response(work, scale)
    centre = (header["GUIDEY"] - 1.0, header["GUIDEX"] - 1.0)
    found = measure_strehl(image, optics, pixel_arcsec, response, centre=centre, noise=stack_noise_of(work))
    work.publish("strehl/{id}_strehl.txt", _table(found).encode())
    work.publish_fits("strehl/{id}_box.fits", found.box, {"PIXSCALE": pixel_arcsec})
    perfect = diffraction_limited_psf(optics, pixel_arcsec, PSF_SIDE, response)
    work.publish("strehl/{id}_profile.png", _profile(work, found, perfect, pixel_arcsec))
    return {
        "ratio_percent": round(100 * found.ratio, 2),
        "ratio_error_percent": round(100 * found.ratio_error, 2),
        "fwhm_arcsec": round(found.fwhm_arcsec, 4),
        "fwhm_error_arcsec": _rounded(found.fwhm_error_arcsec),
        "core_arcsec": round(found.core_arcsec, 4),
        "core_error_arcsec": _rounded(found.core_error_arcsec),
        "halo_arcsec": _rounded(found.halo_arcsec),
        "halo_error_arcsec": _rounded(found.halo_error_arcsec),
        "flux_adu": found.flux,
        "flux_error_adu": found.flux_error,
        "lock_position": [found.y, found.x],
        "lock_position_error": [found.y_error, found.x_error],
        "flag": found.flag,
        "flag_reason": found.reason,
    }


def stack_noise_of(work: Workspace) -> StackNoise | None:
    """Noise of the stack as its frames tell it; None where the step that made it did not measure it."""
    told = work.results("reduce").get("stack_noise")
    if not told:
        return None
    y, x = told.get("offset_px", (0.0, 0.0))
    # earlier versions measured coverage otherwise
    of_coverage = told if "n_places" in told else {}
    return StackNoise(
        sky=told["sky_adu2"],
        grain=told["grain_adu"],
        lift=told["lift_adu"],
        sampling=told["sampling"],
        offset=(y, x),
        light_lift=told.get("light_lift", 0.0),
        chosen=told.get("chosen_adu", 0.0),
        light_chosen=told.get("light_chosen", 0.0),
        lift_error=told.get("lift_error", LIFT_ERROR),
        coverage=of_coverage.get("coverage"),
        widening=of_coverage.get("widening", 0.0),
        n_places=of_coverage.get("n_places", 1),
    )


def _rounded(value: float) -> float | None:
    """Return an error or width for the results; None where there is none."""
    return round(value, 5) if np.isfinite(value) else None


def stack_response(work: Workspace, scale: int) -> tuple[float, ...]:
    """Return the pixel response of a drizzled stack.

    Parameters
    ----------
    work : Workspace
        Of a step that comes after ``reduce``, whose results hold the side of the drops.
    scale : int
        Pixels of the stack per raw pixel along each axis.

    Returns
    -------
    tuple of float
        Widths of the square responses the light goes through, see `drizzled_response` [pixel of the stack].
    """
    return drizzled_response(scale, work.results("reduce").get("pixfrac", PIXFRACS[0]))


def _profile(work: Workspace, found: StrehlResult, perfect: FloatArray, pixel_arcsec: float) -> bytes:
    # the numbers of the results: one value everywhere
    ratio, error = (round(100 * value, 2) for value in (found.ratio, found.ratio_error))
    labels = replace(labels_of(work), strehl_percent=ratio, strehl_error_percent=error)
    is_trusted = found.flag == "OK"
    return strehl_profile(
        found.box,
        perfect,
        pixel_arcsec,
        labels,
        core_fwhm_arcsec=found.core_arcsec if is_trusted else None,
        halo_fwhm_arcsec=found.halo_arcsec if is_trusted and np.isfinite(found.halo_arcsec) else None,
    )


def _table(found: StrehlResult) -> str:
    rows = [
        ("strehl_ratio_percent", 100 * found.ratio, 100 * found.ratio_error),
        ("fwhm_arcsec", found.fwhm_arcsec, found.fwhm_error_arcsec),
        ("core_fwhm_arcsec", found.core_arcsec, found.core_error_arcsec),
        ("halo_fwhm_arcsec", found.halo_arcsec, found.halo_error_arcsec),
        ("flux_adu", found.flux, found.flux_error),
        ("lock_position_x_px", found.x, found.x_error),
        ("lock_position_y_px", found.y, found.y_error),
    ]
    lines = ["# quantity                        value        error"]
    lines += [f"{name:24s} {value:14.4f} {error:12.4f}" for name, value, error in rows]
    lines.append(f"{'flag':24s} {found.flag:>14s}  {found.reason}".rstrip())
    return "\n".join(lines) + "\n"
