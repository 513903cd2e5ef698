"""What products of all imaging pipelines have in common: header, world coordinates, optics."""

from collections.abc import Sequence
from typing import Any

from astropy.io import fits
from astropy.time import Time

from obsarchive.errors import Unprocessable
from obsarchive.io import fits_products
from obsarchive.pipeline import Workspace
from obsarchive.science.psf.model import Optics


def optics_of(work: Workspace) -> Optics | None:
    """Return the telescope and filter of an observation; None when the filter is not described."""
    telescope = work.telescope
    passband = telescope.filters.get(work.observation.filter)
    if passband is None:
        return None
    return Optics(telescope.primary_m, telescope.secondary_m, passband.wavelength_nm, passband.width_nm)


def require_optics(work: Workspace) -> Optics:
    """Return the telescope and filter of an observation; Unprocessable when the filter is not described."""
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
    work: Workspace, grid: tuple[int, tuple[int, int]], reference: tuple[float, float] | None = None
) -> fits.Header:
    """Header of a stack: what was observed, and world coordinates right for its scale.

    The pointing is taken to be that of the middle of the frame, good to the telescope's pointing error.

    Parameters
    ----------
    work : Workspace
        Of the step.
    grid : (int, (ny, nx))
        Pixels of the stack per raw pixel along an axis, and the shape of a raw frame.
    reference : (y, x), optional
        Guide star in the raw frame [pixel]; none for an image of a field.
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
        y, x = _in_stack(reference, per_pixel)
        header["GUIDEX"] = (x + 1, "[pixel] guide star, from 1")
        header["GUIDEY"] = (y + 1, "[pixel] guide star, from 1")
    header.update(pointing_wcs(work, _in_stack(((shape[0] - 1) / 2, (shape[1] - 1) / 2), per_pixel), scale))
    return header


def pointing_wcs(work: Workspace, centre: tuple[float, float], pixel_arcsec: float) -> fits.Header:
    """World coordinates that the telescope claims: `centre` (y, x) [pixel] is where it pointed.

    Without cards when position or orientation are not known.
    """
    observation, telescope = work.observation, work.telescope
    ra, dec = observation.number("coordinates.ra_deg"), observation.number("coordinates.dec_deg")
    if ra is None or dec is None or telescope.north_angle_deg is None:
        return fits.Header()
    return fits_products.tan_wcs(ra, dec, centre, pixel_arcsec, telescope.north_angle_deg, telescope.east_left)


def _in_stack(position: tuple[float, float], per_pixel: int) -> tuple[float, float]:
    """Position (y, x) in a stack of a point of the raw frame."""
    y, x = (per_pixel * (coordinate + 0.5) - 0.5 for coordinate in position)
    return y, x


def reasons_counted(reasons: Sequence[str]) -> dict[str, int]:
    """How many frames were left out for which kind of reason: the words before the colon."""
    kinds = [reason.partition(":")[0] for reason in reasons if reason]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def reasons_listed(reasons: Sequence[str]) -> dict[str, Any]:
    """What the database keeps of the frames that were left out."""
    left_out = [{"frame": i, "reason": reason} for i, reason in enumerate(reasons) if reason]
    return {
        "frames_total": len(reasons),
        "frames_used": len(reasons) - len(left_out),
        "left_out": left_out[:1000],
        "left_out_by_reason": [{"reason": kind, "frames": n} for kind, n in reasons_counted(reasons).items()],
    }
