"""Where on the sky the guide star of an image lies."""

import math
import warnings
from pathlib import Path

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS

from obsarchive.io.product_entries import UNREADABLE


def read_star_position(path: Path) -> tuple[float, float] | None:
    """Return the sky position of the guide star of an image, by its header.

    Parameters
    ----------
    path : Path
        FITS file: world coordinates, and the place of the star in ``GUIDEX``, ``GUIDEY``.

    Returns
    -------
    (float, float) or None
        Right ascension and declination [deg]; None if the header holds neither.
    """
    with warnings.catch_warnings(action="ignore", category=AstropyWarning):
        try:
            header = fits.getheader(path)
            wcs = WCS(header).celestial
            ra, dec = wcs.all_pix2world(float(header["GUIDEX"]), float(header["GUIDEY"]), 1)
        except UNREADABLE:
            return None
    place = float(ra), float(dec)
    return place if wcs.has_celestial and all(map(math.isfinite, place)) else None
