"""Subtraction of a star with the PSF library: a step that the bright-star and faint-star pipelines share.

Reference-star differential imaging with KLIP (Soummer, Pueyo & Larkin 2012, ApJ 755, L28), the contrast curve after
Mawet et al. (2014, ApJ 792, 97).
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from astropy.io import fits
from pydantic import NonNegativeInt, PositiveInt

from obsarchive.errors import Lacking, Unprocessable
from obsarchive.figures.contrast import before_and_after, contrast_curve
from obsarchive.figures.previews import Mark
from obsarchive.io.psf_library import PsfLibrary
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import FloatArray
from obsarchive.science.psf.contrast import ContrastCurve, Detection, Subtraction, subtract_star
from obsarchive.science.psf.subtraction import MARGIN_PX, cut_star
from pipelines.shared.preview_step import labels_of
from pipelines.shared.product_headers import moved_wcs, require_optics
from pipelines.shared.strehl_step import stack_noise_of

SUBTRACTION = (
    "pca/{id}_pca.fits",
    "pca/{id}_contrast_curve.txt",
    "pca/{id}_contrast_curve.png",
    "pca/{id}_pca.png",
)
"""What :func:`subtract_and_publish` makes."""
NAMED_SEPARATIONS = (0.5, 1.0)
"""Where the contrast is given in the results [arcsec]."""
CURVE_POINTS = 60
"""Most points of the contrast curve that the database keeps; the product holds all."""


@dataclass(frozen=True)
class SubtractionSettings:
    """Settings of the PSF subtraction."""

    max_references: PositiveInt = field(
        default=50, metadata={"help": "most references used, those that resemble the star"}
    )
    enough_references: NonNegativeInt = field(
        default=10, metadata={"help": "with fewer references the step is due again when the library grows"}
    )


def subtract_and_publish(work: Workspace, image_name: str, stack: str) -> dict[str, Any]:
    """Subtract the guide star of a product with references, and publish image, contrast curve and plots.

    Parameters
    ----------
    work : Workspace
        Of the step, with `SubtractionSettings`.
    image_name : str
        Product whose guide star (``GUIDEX``, ``GUIDEY`` of its header) is subtracted.
    stack : str
        Which stack of the library's stars has the same PSF: ``100p`` or ``20p``.

    Returns
    -------
    dict
        Results of the step: references, contrast curve, detected companions.

    Raises
    ------
    Lacking
        There is no reference.
    Unprocessable
        There is no star, or it lies too close to the edge of the image, or the configuration does not describe the
        filter.
    """
    settings: SubtractionSettings = work.settings
    observation = work.observation
    image, header = work.read(image_name)
    target, flux = cut_star(image, (header["GUIDEY"] - 1.0, header["GUIDEX"] - 1.0), margin_px=MARGIN_PX)
    telescope = str(observation.document.get("telescope") or "")
    pixel_arcsec = float(header["PIXSCALE"])
    library = PsfLibrary.read(work.layout).select(
        telescope=telescope, filter=observation.filter, stack=stack, pixel_arcsec=pixel_arcsec, but=observation
    )
    if not library.entries:
        raise Lacking(
            "references",
            f"no references: the PSF library holds no other star in {observation.filter} of {telescope}",
            results={"n_references": 0, "lacks_references": "any"},
        )
    fwhm_px = _core_px(work, pixel_arcsec)
    work.progress(0.2, f"subtracting with the best of {len(library.entries)} references")
    photon_variance = _photon_variance(work, int(header["NCOMBINE"]), flux)
    found = subtract_star(target, library.stamps, fwhm_px, settings.max_references, photon_variance)
    if not found.holds_star:
        raise Unprocessable("no star: another one as bright would not be found anywhere in the noise around it")
    used = [library.entries[i].observation for i in found.used]
    few = len(used) < settings.enough_references
    middle = (len(target) - 1) / 2
    wcs = moved_wcs(header, (middle + 1 - header["GUIDEY"], middle + 1 - header["GUIDEX"]))
    _publish(work, target, found, wcs, _note(len(used), few))
    return {
        "n_references": len(used),
        "references": used,
        "lacks_references": "any" if few else "",
        "library_version": library.version,
        "components": found.n_components,
        "aperture_arcsec": fwhm_px * pixel_arcsec,
        "noise_tail": found.tail,
        "detections": [_detection(work, item, pixel_arcsec) for item in found.detections],
        **_contrast(found.curve, pixel_arcsec),
    }


def _core_px(work: Workspace, pixel_arcsec: float) -> float:
    """FWHM of a companion's core [pixel]: that of the star if measured, within one to two diffraction limits."""
    limit = 1e-3 * require_optics(work).diffraction_fwhm_mas / pixel_arcsec
    strehl = work.results("strehl")
    measured = strehl.get("core_arcsec") if strehl.get("flag") == "OK" else None
    return float(np.clip((measured or 0.0) / pixel_arcsec, limit, 2 * limit))


def _photon_variance(work: Workspace, n_frames: int, flux: float) -> float | None:
    """Variance of the photons of a stack over their flux, that of the star 1; None where frames were not measured."""
    noise, reduced = stack_noise_of(work), work.results("reduce")
    # it is that of the stack of all good frames
    return noise.grain * reduced["frames_used"] / n_frames / flux if noise else None


def _publish(work: Workspace, target: FloatArray, found: Subtraction, wcs: fits.Header, note: str) -> None:
    middle, pixel_arcsec = (len(target) - 1) / 2, float(wcs["PIXSCALE"])
    header = wcs.copy()
    about = {
        "OBJECT": str(work.observation.document.get("name", "")),
        "FILTER": work.observation.filter,
        "GUIDEX": (middle + 1, "[pixel] guide star, from 1"),
        "GUIDEY": (middle + 1, "[pixel] guide star, from 1"),
        "NREF": (len(found.used), "references"),
        "NCOMP": (found.n_components, "components subtracted"),
        "NOISTAIL": (found.tail, "S/N of noise as rare as 5 sigma, over 5"),
        "BUNIT": ("star", "flux of the star within 50 pixels is 1"),
    }
    header.update(about)
    work.publish_fits("pca/{id}_pca.fits", {"": found.residual, "SNR": found.snr}, header)
    curve = found.curve
    work.publish("pca/{id}_contrast_curve.txt", _table(curve, pixel_arcsec, note).encode())
    labels = labels_of(work)
    seen = [(item.separation_px * pixel_arcsec, item.delta_mag) for item in found.detections]
    plot = contrast_curve(curve.radius_px * pixel_arcsec, curve.magnitudes, labels, seen, f", {note}")
    work.publish("pca/{id}_contrast_curve.png", plot)
    marks = [Mark(middle + item.dy, middle + item.dx, f"Δ{item.delta_mag:.1f} mag") for item in found.detections]
    compass = work.telescope.compass_deg
    picture = before_and_after(target, found.residual, pixel_arcsec, replace(labels, marks=marks), compass)
    work.publish("pca/{id}_pca.png", picture)


def _note(n_references: int, few: bool) -> str:
    """Text of how many references there are; with few the curve is shallower than with more."""
    text = f"{n_references} reference{'' if n_references == 1 else 's'}"
    return f"{text} (few)" if few else text


def _detection(work: Workspace, item: Detection, pixel_arcsec: float) -> dict[str, float | None]:
    telescope = work.telescope
    angle = np.degrees(np.arctan2(-item.dx, item.dy))  # of the image, counterclockwise from up
    sign = 1 if telescope.east_left else -1
    north = telescope.north_angle_deg
    return {
        "dy_px": item.dy,
        "dx_px": item.dx,
        "separation_arcsec": item.separation_px * pixel_arcsec,
        "separation_error_arcsec": item.separation_error_px * pixel_arcsec,
        "position_angle_deg": None if north is None else float(sign * (angle - north) % 360),
        "position_angle_error_deg": None if north is None else item.angle_error_deg,
        "delta_mag": item.delta_mag,
        "delta_mag_error": item.delta_mag_error,
        "snr": item.snr,
        "significance": item.significance,
    }


def _contrast(curve: ContrastCurve, pixel_arcsec: float) -> dict[str, Any]:
    separation = curve.radius_px * pixel_arcsec
    thin = slice(None, None, max(1, -(-len(separation) // CURVE_POINTS)))
    rows = zip(separation[thin], curve.magnitudes[thin], curve.throughput[thin], strict=True)
    named = {
        f"contrast_{where:g}_arcsec_mag".replace(".", "_"): np.interp(
            where, separation, curve.magnitudes, left=np.nan, right=np.nan
        )
        for where in NAMED_SEPARATIONS
        if len(separation)
    }
    return {"curve": [[round(float(value), 4) for value in row] for row in rows], **named}


def _table(curve: ContrastCurve, pixel_arcsec: float, note: str) -> str:
    lines = [
        "# Companion that is found in half of all cases, at five sigma with the statistics of small samples, corrected",
        f"# for the throughput; {note}.",
        "# separation_arcsec  contrast_mag    throughput",
    ]
    lines += [
        f"{radius * pixel_arcsec:19.4f} {magnitude:13.4f} {throughput:13.4f}"
        for radius, magnitude, throughput in zip(curve.radius_px, curve.magnitudes, curve.throughput, strict=True)
    ]
    return "\n".join(lines) + "\n"
