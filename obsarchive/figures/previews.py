"""Previews, from arrays to PNG bytes.

Images are shown as they are stored, rows upwards and columns to the right; a compass shows north and east.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from obsarchive.core.significant_digits import decimals_of, fixed, is_number
from obsarchive.figures.canvas import Canvas, shortened
from obsarchive.figures.image_scaling import Box, Point, View, checked, levels, pixels_in, tone_bytes
from obsarchive.science.arrays import AnyArray

_LENGTHS_ARCSEC = (*(m * 10.0**e for e in (-3, -2, -1, 0, 1) for m in (1, 2, 5)), 60, 120, 300, 600, 1200, 3600)
_MARGIN, _SMALL, _LARGE = 0.025, 0.031, 0.035
"""Distance of text from the edges of a picture, height of ordinary text and of titles, as fractions of its side.

On a phone the side is 355 points, where letters of fewer than 10 points cannot be read.
"""


@dataclass(frozen=True)
class Sky:
    """Scale and orientation of an image on the sky.

    Parameters
    ----------
    plate_scale_arcsec, north_angle_deg : float
        Plate scale [arcsec/pixel] and direction of north, counterclockwise from up (+y) [deg].
    east_left, is_oriented : bool
        East is 90 degrees counterclockwise from north, as on the sky; the orientation is known (gives a compass).

    Raises
    ------
    ValueError
        If the plate scale is not positive or something is not finite.
    """

    plate_scale_arcsec: float
    north_angle_deg: float = 0.0
    east_left: bool = True
    is_oriented: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.plate_scale_arcsec < math.inf and math.isfinite(self.north_angle_deg)):
            raise ValueError(f"expected a positive plate scale and a finite angle of north, found {self}")

    @property
    def east_angle_deg(self) -> float:
        """Direction of east, counterclockwise from up (+y) [deg]."""
        return self.north_angle_deg + (90 if self.east_left else -90)


class Mark(NamedTuple):
    """A circle around something of interest, at (y, x) [pixel of the image]."""

    y: float
    x: float
    label: str = ""


@dataclass(frozen=True)
class Labels:
    """Text on a picture or above a plot; empty fields are not written.

    Parameters
    ----------
    target, filter : str
        Their names.
    date_utc : datetime, optional
        Time of the observation; without a time zone it is taken as UTC.
    exposure_s, strehl_percent, strehl_error_percent : float, optional
        Exposure time [s], Strehl ratio and its error [%]: the ratio is written with the digits that the error allows.
    marks : sequence of Mark
        Companions and other positions to be circled.
    """

    target: str = ""
    filter: str = ""
    date_utc: datetime | None = None
    exposure_s: float | None = None
    strehl_percent: float | None = None
    marks: Sequence[Mark] = ()
    strehl_error_percent: float | None = None

    @property
    def strehl(self) -> str:
        """Strehl ratio as text; empty if it was not measured."""
        if not is_number(self.strehl_percent):
            return ""
        error = self.strehl_error_percent
        return f"Strehl {fixed(self.strehl_percent, 1 if error is None else decimals_of(error))} %"

    @property
    def lines(self) -> tuple[str, str, str]:
        """Target; filter and exposure; time."""
        date = self.date_utc.replace(tzinfo=self.date_utc.tzinfo or UTC).astimezone(UTC) if self.date_utc else None
        exposure = "" if self.exposure_s is None else f"{self.exposure_s:.3g} s"
        conditions = ", ".join(part for part in (self.filter, exposure) if part)
        return self.target, conditions, f"{date:%Y-%m-%d %H:%M:%S} UTC" if date else ""


NO_LABELS = Labels()


def preview_full(
    image: AnyArray, sky: Sky, labels: Labels = NO_LABELS, *, crop_box: Box | None = None, size_px: int = 1200
) -> bytes:
    """Draw the whole image with compass, scale bar and labels.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in any unit; pixels that are not finite are shown as missing.
    sky : Sky
        Scale and orientation.
    labels : Labels
        Text written on it.
    crop_box : Box, optional
        Part shown by `preview_cropped`: it is outlined, and its peak is white.
    size_px : int
        Side of the square picture; the surroundings of an oblong image are dark [pixel].

    Returns
    -------
    bytes
        PNG, `size_px` x `size_px`.

    Raises
    ------
    ValueError
        If the image is not two-dimensional or is empty, the box is not finite or a size is not positive.
    """
    ny, nx = checked(image).shape
    view = View(Box(((ny - 1) / 2, (nx - 1) / 2), max(ny, nx)), size_px)
    canvas = _canvas(image, view, crop_box)
    if crop_box is not None:
        (y, x), half = crop_box.centre_yx, crop_box.side_px / 2
        canvas.frame((view.column(x - half), view.row(y + half), view.column(x + half), view.row(y - half)))
    _annotate(canvas, view, sky, labels)
    return canvas.png()


def preview_cropped(
    image: AnyArray, sky: Sky, centre_yx: Point, box_px: float, labels: Labels = NO_LABELS, *, size_px: int = 800
) -> bytes:
    """Draw the surroundings of the star, interpolated, with compass, scale bar and labels.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in any unit; pixels that are not finite are shown as missing.
    sky : Sky
        Scale and orientation.
    centre_yx : (float, float)
        Centre (y, x) of the part shown [pixel]; its peak is white.
    box_px : float
        Side of that part [pixel]; what lies beyond the image is dark.
    labels : Labels
        Text written on it.
    size_px : int
        Side of the square picture [pixel].

    Returns
    -------
    bytes
        PNG, `size_px` x `size_px`.

    Raises
    ------
    ValueError
        If the image is not two-dimensional or is empty, the centre is not finite or a size is not positive.
    """
    view = View(Box(centre_yx, box_px), size_px)
    canvas = _canvas(checked(image), view, view.box)
    _annotate(canvas, view, sky, labels)
    return canvas.png()


def thumbnail(image: AnyArray, sky: Sky, centre_yx: Point, box_px: float, size_px: int = 240) -> bytes:
    """Draw the surroundings of the star without text, in the same tones as `preview_cropped`.

    A thumbnail has no compass, so that all of them need the same orientation: it is turned by quarters and mirrored
    until north is nearest to up and east is left.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Image in any unit; pixels that are not finite are shown as missing.
    sky : Sky
        Scale and orientation.
    centre_yx : (float, float)
        Centre (y, x) of the part shown [pixel]; its peak is white.
    box_px : float
        Side of that part [pixel]; what lies beyond the image is dark.
    size_px : int
        Side of the square picture [pixel].

    Returns
    -------
    bytes
        PNG, `size_px` x `size_px`.

    Raises
    ------
    ValueError
        If the image is not two-dimensional or is empty, the centre is not finite or a size is not positive.
    """
    view = View(Box(centre_yx, box_px), size_px)
    tones = tone_bytes(checked(image), view, levels(image, pixels_in(image, view.box)))
    tones = np.rot90(tones, -round(sky.north_angle_deg / 90))
    return Canvas(tones if sky.east_left else tones[:, ::-1]).png()


def _canvas(image: AnyArray, view: View, star: Box | None) -> Canvas:
    return Canvas(tone_bytes(image, view, levels(image, pixels_in(image, star))))


def _annotate(canvas: Canvas, view: View, sky: Sky, labels: Labels) -> None:
    """Draw circles, text, scale bar and compass."""
    for mark in labels.marks:
        _circle(canvas, view, mark)
    _captions(canvas, labels)
    _scale_bar(canvas, sky.plate_scale_arcsec / view.zoom)
    if sky.is_oriented:
        _compass(canvas, sky)


def _circle(canvas: Canvas, view: View, mark: Mark) -> None:
    x, y = view.column(mark.x), view.row(mark.y)
    if 0 <= x <= canvas.size and 0 <= y <= canvas.size:
        radius = min(max(12 * view.zoom, 0.016 * canvas.size), 0.035 * canvas.size)
        canvas.circle((x, y), radius)
        canvas.text((x + 0.9 * radius, y - 0.9 * radius), mark.label, canvas.font(_SMALL), "ls", accent=True)


def _captions(canvas: Canvas, labels: Labels) -> None:
    """Target, conditions and time at the top left, Strehl ratio at the top right."""
    margin, small, large = _MARGIN * canvas.size, canvas.font(_SMALL), canvas.font(_LARGE, bold=True)
    canvas.text((canvas.size - margin, margin), labels.strehl, large, "ra")
    room, y = canvas.size - 3 * margin - large.getlength(labels.strehl), margin
    for line, font in zip(labels.lines, (large, small, small), strict=True):
        if line:
            canvas.text((margin, y), shortened(line, font, room), font, "la")
            y += 1.45 * font.size


def _scale_bar(canvas: Canvas, pixel_arcsec: float) -> None:
    """Bar of a round length of at most a quarter of the picture, at the bottom left; none if no length suits."""
    longest_arcsec = 0.25 * canvas.size * pixel_arcsec
    length_arcsec = max((length for length in _LENGTHS_ARCSEC if length <= longest_arcsec), default=0.0)
    length_px, height, left = round(length_arcsec / pixel_arcsec), 2 * canvas.line, round(_MARGIN * canvas.size)
    if length_px <= height:
        return
    bottom, font = canvas.size - left, canvas.font(_SMALL)
    canvas.bar((left, bottom - height, left + length_px - 1, bottom - 1))
    canvas.text((left, bottom - height - 0.5 * font.size), _angle(length_arcsec), font, "ls")


def _compass(canvas: Canvas, sky: Sky) -> None:
    """Arrows to north and east at the bottom right."""
    font = canvas.font(_SMALL)
    arm, gap = 0.06 * canvas.size, 0.9 * font.size
    arrows = {"N": _direction(sky.north_angle_deg), "E": _direction(sky.east_angle_deg)}
    corner = (1 - _MARGIN) * canvas.size - 0.5 * font.size
    x, y = (corner - (arm + gap) * max(0.0, *along) for along in zip(*arrows.values(), strict=True))
    canvas.arrows((x, y), tuple(arrows.values()), arm)
    for letter, (dx, dy) in arrows.items():
        canvas.text((x + dx * (arm + gap), y + dy * (arm + gap)), letter, font, "mm")


def _direction(angle_deg: float) -> Point:
    """Unit vector (right, down) of an angle counterclockwise from up."""
    return -math.sin(math.radians(angle_deg)), -math.cos(math.radians(angle_deg))


def _angle(arcsec: float) -> str:
    if arcsec >= 3600:
        return f"{arcsec / 3600:g}°"
    return f"{arcsec / 60:g}′" if arcsec >= 60 else f"{arcsec:g}″"
