"""Previews of a product: a step that all imaging pipelines share."""

from dataclasses import dataclass, field
from typing import Any

from astropy.io import fits
from pydantic import PositiveFloat

from obsarchive.figures.image_scaling import Box
from obsarchive.figures.previews import Labels, Sky, preview_cropped, preview_full, thumbnail
from obsarchive.pipeline import Workspace
from obsarchive.science.arrays import FloatArray

PREVIEWS = ("preview/{id}_full.png", "preview/{id}_cropped.png", "preview/{id}_thumb.png")
"""What :func:`publish_previews` makes."""
STAR_SIZES = 8.0
"""Least side of the cropped preview, in sizes (sigma) of the whole star, so that some sky is seen around it."""


@dataclass(frozen=True)
class PreviewSettings:
    """Settings of the previews."""

    crop_arcsec: PositiveFloat = field(default=3.0, metadata={"help": "least side of the cropped preview [arcsec]"})


def publish_previews(work: Workspace, image_name: str, scale: int) -> dict[str, Any]:
    """Publish a preview of a whole product, one of its star, and a thumbnail.

    Parameters
    ----------
    work : Workspace
        Of the step, with `PreviewSettings`.
    image_name : str
        Product shown.
    scale : int
        Its pixels per raw pixel, along each axis.

    Returns
    -------
    dict
        Results of the step: centre (y, x) and side of the cropped preview [pixel].
    """
    image, header = work.read(image_name)
    telescope = work.telescope
    pixel_arcsec = telescope.plate_scale_arcsec / scale
    north_deg = telescope.north_angle_deg
    sky = Sky(pixel_arcsec, north_deg or 0.0, telescope.east_left, is_oriented=north_deg is not None)
    centre = _centre(header, image)
    star_px = scale * (work.results("reduce").get("guide_star") or {}).get("size_px", 0.0)
    box_px = min(max(work.settings.crop_arcsec / pixel_arcsec, STAR_SIZES * star_px), max(image.shape))
    labels = labels_of(work)
    work.publish("preview/{id}_full.png", preview_full(image, sky, labels, crop_box=Box(centre, box_px)))
    work.publish("preview/{id}_cropped.png", preview_cropped(image, sky, centre, box_px, labels))
    work.publish("preview/{id}_thumb.png", thumbnail(image, sky, centre, box_px))
    return {"crop_centre": [centre[0], centre[1]], "crop_px": box_px}


def labels_of(work: Workspace) -> Labels:
    """Return the labels of an observation's previews and plots: target, filter, time, exposure, Strehl ratio."""
    observation, strehl = work.observation, work.results("strehl")
    return Labels(
        target=str(observation.document.get("name") or ""),
        filter=observation.filter,
        date_utc=observation.date_utc,
        exposure_s=observation.number("exposure_s"),
        strehl_percent=strehl.get("ratio_percent") if strehl.get("flag") == "OK" else None,
        strehl_error_percent=strehl.get("ratio_error_percent"),
    )


def _centre(header: fits.Header, image: FloatArray) -> tuple[float, float]:
    """Guide star (y, x), or the middle of an image without one [pixel]."""
    ny, nx = image.shape
    return float(header.get("GUIDEY", (ny + 1) / 2)) - 1, float(header.get("GUIDEX", (nx + 1) / 2)) - 1
