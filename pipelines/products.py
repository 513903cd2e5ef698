"""What products of all imaging pipelines have in common: header, world coordinates, optics."""

from astropy.io import fits

from obsarchive import fitsio
from obsarchive.errors import Unprocessable
from obsarchive.pipeline import Workspace
from obsarchive.science.drizzle import Drizzle
from obsarchive.science.psf import Optics


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


def product_header(work: Workspace, stack: Drizzle, reference: tuple[float, float]) -> fits.Header:
    """Header of a stack: what was observed, and world coordinates right for the drizzled scale.

    The pointing is taken to be that of the middle of the frame, good to the telescope's pointing error.
    """
    observation, telescope = work.observation, work.telescope
    header = fits.Header()
    header["OBJECT"] = (str(observation.document.get("name", "")), "target")
    header["DATE-OBS"] = (f"{observation.date_utc:%Y-%m-%dT%H:%M:%S.%f}", "[UTC] start of the observation")
    header["TELESCOP"] = str(observation.document.get("telescope") or "")
    header["INSTRUME"] = observation.camera
    header["FILTER"] = observation.filter
    scale = telescope.plate_scale_arcsec / stack.scale
    header["PIXSCALE"] = (scale, "[arcsec/pixel] plate scale of this image")
    header["BUNIT"] = ("adu", "mean of the frames, per pixel of this image")
    y, x = stack.output_position(*reference)
    header["GUIDEX"] = (x + 1, "[pixel] guide star, from 1")
    header["GUIDEY"] = (y + 1, "[pixel] guide star, from 1")
    ra, dec = observation.number("coordinates.ra_deg"), observation.number("coordinates.dec_deg")
    if ra is not None and dec is not None and telescope.north_angle_deg is not None:
        ny, nx = stack.shape
        centre = stack.output_position((ny - 1) / 2, (nx - 1) / 2)
        header.update(fitsio.tan_wcs(ra, dec, centre, scale, telescope.north_angle_deg, telescope.east_left))
    return header
