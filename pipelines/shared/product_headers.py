"""What products of all imaging pipelines have in common: header, world coordinates, optics, table of the frames."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time

from obsarchive.core.document_paths import DEC_DEG, RA_DEG
from obsarchive.errors import Unprocessable
from obsarchive.instruments import frame_shape
from obsarchive.io import fits_products
from obsarchive.io.raw_frames import Frames
from obsarchive.io.wcs_headers import plate_cards, plate_of_header
from obsarchive.pipeline import Workspace
from obsarchive.science.astrometry.plate_solution import PlateSolution
from obsarchive.science.psf.model import Optics

Position = tuple[float, float]

WCS_KEYS = (
    *("WCSAXES", "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"),
    *("CD1_1", "CD1_2", "CD2_1", "CD2_2", "RADESYS"),
)
"""Cards of the world coordinates of stacks."""
FILLED = "FILLED"
"""Extension of a stack: the table of its filled pixels."""
SCALE_AGREES, POINTING_AGREES_DEG = 0.1, 1.0
"""Relative difference of plate scales, and distance of positions, to which a header's coordinates are believed."""


def optics_of(work: Workspace) -> Optics | None:
    """Return the telescope and filter of an observation; None when the filter is not described."""
    telescope = work.telescope
    passband = telescope.filters.get(work.observation.filter)
    if passband is None:
        return None
    return Optics(
        telescope.primary_m, telescope.secondary_m, passband.wavelength_nm, passband.width_nm, telescope.vane_m
    )


def require_optics(work: Workspace) -> Optics:
    """Return the telescope and filter of an observation.

    Raises
    ------
    Unprocessable
        The configuration does not describe the filter.
    """
    optics = optics_of(work)
    if optics is None:
        name = work.observation.filter
        known = ", ".join(sorted(work.telescope.filters)) or "none"
        raise Unprocessable(
            f"filter {name!r} has no wavelength_nm and width_nm in the section telescope of the configuration "
            f"(known: {known}): without them there is no perfect PSF"
        )
    return optics


def product_header(
    work: Workspace, grid: tuple[int, tuple[int, int]], reference: Position | None = None
) -> fits.Header:
    """Return the header of a stack: what was observed, and world coordinates for its scale.

    The pointing is taken to be that of the middle of the frame, good to the telescope's pointing error.

    Parameters
    ----------
    work : Workspace
        Of the step.
    grid : (int, (ny, nx))
        Pixels of the stack per raw pixel along an axis, and the shape of a raw frame.
    reference : (y, x), optional
        Guide star in the raw frame [pixel]; none for an image of a field.

    Returns
    -------
    Header
        To be completed and given to :meth:`Workspace.publish_fits`.
    """
    per_pixel, shape = grid
    observation, telescope = work.observation, work.telescope
    header = fits.Header()
    header["OBJECT"] = (str(observation.document.get("name", "")), "target")
    header["DATE-OBS"] = (f"{observation.date_utc:%Y-%m-%dT%H:%M:%S.%f}", "[UTC] start of the observation")
    header["MJD-OBS"] = (Time(observation.date_utc).mjd, "[d] modified Julian date of DATE-OBS")
    header["TELESCOP"] = str(observation.document.get("telescope") or "")
    header["INSTRUME"] = observation.camera
    header["FILTER"] = observation.filter
    scale = telescope.plate_scale_arcsec / per_pixel
    header["PIXSCALE"] = (scale, "[arcsec/pixel] plate scale of this image")
    header["BUNIT"] = ("adu", "mean of the frames, per pixel of this image")
    if reference is not None:
        y, x = stack_position(reference, per_pixel)
        header["GUIDEX"] = (x + 1, "[pixel] guide star, from 1")
        header["GUIDEY"] = (y + 1, "[pixel] guide star, from 1")
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    header.update(pointing_wcs(work, stack_position(middle, per_pixel), scale))
    return header


def moved_wcs(header: fits.Header, shift_yx: tuple[float, float]) -> fits.Header:
    """Return scale and world coordinates for a part of an image.

    Parameters
    ----------
    header : Header
        Of the whole image.
    shift_yx : (float, float)
        Pixel of the part less the pixel of the whole at the same place.

    Returns
    -------
    Header
        Cards ``PIXSCALE`` and, if the image has them, of the world coordinate system.
    """
    part = fits.Header([card for card in header.cards if card.keyword in ("PIXSCALE", *WCS_KEYS)])
    for axis, shift in ((1, shift_yx[1]), (2, shift_yx[0])):
        if f"CRPIX{axis}" in part:
            part[f"CRPIX{axis}"] += shift
    return part


def pointing_wcs(work: Workspace, centre: Position, pixel_arcsec: float) -> fits.Header:
    """Return the world coordinates that follow from the telescope's pointing.

    Parameters
    ----------
    work : Workspace
        Of the step.
    centre : (y, x)
        Pixel at which the telescope pointed.
    pixel_arcsec : float
        Plate scale of the image [arcsec/pixel].

    Returns
    -------
    Header
        Without cards when position or orientation are not known.
    """
    observation, telescope = work.observation, work.telescope
    ra, dec = observation.number(RA_DEG), observation.number(DEC_DEG)
    if ra is None or dec is None or telescope.north_angle_deg is None:
        return fits.Header()
    return fits_products.tan_wcs(ra, dec, centre, pixel_arcsec, telescope.north_angle_deg, telescope.east_left)


def header_wcs(work: Workspace, frames: Frames, shift: Position) -> fits.Header:
    """Return the world coordinates that the header of the first exposure gives for a stack of the same pixel size.

    Parameters
    ----------
    work : Workspace
        Of the step.
    frames : Frames
        Raw frames.
    shift : (dy, dx)
        By which the first exposure was moved [pixel].

    Returns
    -------
    Header
        Without cards where the header has none, or such as contradict the pointing or the plate scale.
    """
    header = frames.header()
    shape = frame_shape(header)
    plate = plate_of_header(header, tuple(shape)) if shape else None
    if plate is None or not _is_believed(work, plate):
        return fits.Header()
    (y, x), (dy, dx) = plate.reference, shift
    trim = frames.sections.trim or (0, 0, 0, 0)
    # without distortion: astrometry replaces these cards, and removes none
    return plate_cards(replace(plate, reference=(y - trim[0] + dy, x - trim[2] + dx), distortion={}))


def _is_believed(work: Workspace, plate: PlateSolution) -> bool:
    """Whether world coordinates agree with the configured plate scale, and with the pointing if it is known."""
    ratio = plate.scale_arcsec / work.telescope.plate_scale_arcsec
    ra, dec = work.observation.number(RA_DEG), work.observation.number(DEC_DEG)
    if ra is None or dec is None:
        return abs(ratio - 1) < SCALE_AGREES
    here, there = (SkyCoord(*place, unit="deg") for place in (plate.centre, (ra, dec)))
    return abs(ratio - 1) < SCALE_AGREES and here.separation(there).deg < POINTING_AGREES_DEG


def stack_position(position: Position, scale: int) -> Position:
    """Return where a point of the raw frame lies in a stack.

    Parameters
    ----------
    position : (y, x)
        In the raw frame, 0 at the centre of the first pixel [raw pixel].
    scale : int
        Pixels of the stack per raw pixel along each axis.

    Returns
    -------
    (y, x)
        In the stack, 0 at the centre of the first pixel [pixel].
    """
    y, x = (scale * (coordinate + 0.5) - 0.5 for coordinate in position)
    return y, x


def reasons_counted(reasons: Sequence[str]) -> dict[str, int]:
    """Return how many frames were rejected for which kind of reason: the words before the colon."""
    kinds = [reason.partition(":")[0] for reason in reasons if reason]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def reasons_text(reasons: Sequence[str]) -> str:
    """Return the counts of :func:`reasons_counted` for a message: ``3 black (no star, S/N 0.4), 1 slipped (…)``.

    In brackets stands what is said of the first frame of each kind.
    """
    texts = []
    for kind, count in reasons_counted(reasons).items():
        detail = next(reason for reason in reasons if reason.partition(":")[0] == kind).partition(": ")[2]
        texts.append(f"{count} {kind} ({detail})" if detail else f"{count} {kind}")
    return ", ".join(texts)


def reasons_listed(reasons: Sequence[str]) -> dict[str, Any]:
    """Return what the database keeps of the rejected frames."""
    rejected = [{"frame": i, "reason": reason} for i, reason in enumerate(reasons) if reason]
    return {
        "frames_total": len(reasons),
        "frames_used": len(reasons) - len(rejected),
        "left_out": rejected[:1000],  # a long sequence of clouds must not fill the document
        "left_out_by_reason": [{"reason": kind, "frames": n} for kind, n in reasons_counted(reasons).items()],
    }


def frame_table(
    comments: Iterable[str], order: Iterable[int], columns: Callable[[int], str], reasons: Sequence[str]
) -> bytes:
    """Return the table of an observation's frames as text, one line a frame.

    Parameters
    ----------
    comments : iterable of str
        Lines that explain the columns, without their ``#``.
    order : iterable of int
        Numbers of the frames, in the order of the lines.
    columns : callable
        Gives the measured values of a frame, by its number.
    reasons : sequence of n str
        Why a frame is rejected, the last column; ``-`` stands for a good frame.

    Returns
    -------
    bytes
        For a product that :func:`read_frame_table` reads.
    """
    lines = [f"# {comment}" for comment in comments]
    lines += [f"{i:7d} {columns(i)}  {reasons[i].replace(' ', '_') or '-'}" for i in order]
    return ("\n".join(lines) + "\n").encode()


def read_frame_table(text: str) -> tuple[list[list[str]], list[str]]:
    """Return the rows of a :func:`frame_table` by frame number, and the kind of reason of each rejected frame."""
    rows = [line.split() for line in text.splitlines() if not line.startswith("#")]
    rows.sort(key=lambda row: int(row[0]))
    return rows, ["" if row[-1] == "-" else row[-1].partition(":")[0] for row in rows]
