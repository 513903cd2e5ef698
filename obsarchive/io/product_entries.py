"""What the database keeps of a product: name, size, checksums and, of an image, its outline on the sky."""

import hashlib
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from obsarchive.core.document_types.steps import ImageEntry, ProductEntry
from obsarchive.io import atomic

OF_ONE_RUN = frozenset({"DATE", "SWVERS", "CONFHASH", "RAWSIG", "CHECKSUM", "DATASUM"})
"""Cards that differ when the same content is written once more."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError, fits.VerifyError)


def product_entry(name: str, path: Path) -> ProductEntry:
    """Return the description of a product.

    Parameters
    ----------
    name : str
        Path within the folder of its pipeline.
    path : Path
        The file.

    Returns
    -------
    ProductEntry
    """
    sha256 = atomic.sha256(path)
    entry: ProductEntry = {"name": name, "bytes": path.stat().st_size, "sha256": sha256, "content": sha256[:16]}
    if path.suffix == ".fits":
        entry["content"] = read_content(path) or sha256[:16]
        image = read_image_entry(path)
        if image is not None:
            entry["image"] = image
    return entry


def read_content(path: Path) -> str:
    """Return a checksum of a FITS file, the same for the same content made at another time by another version.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        16 hex digits; empty if the file cannot be read.
    """
    digest = hashlib.sha256()
    with warnings.catch_warnings(action="ignore"):
        try:
            with fits.open(path, memmap=True) as hdus, path.open("rb") as file:
                for hdu in hdus:
                    cards = [card.image for card in hdu.header.cards if card.keyword not in OF_ONE_RUN]
                    digest.update("".join(cards).encode())
                    place = hdu.fileinfo()
                    file.seek(place["datLoc"])
                    digest.update(file.read(place["datSpan"]))
        except UNREADABLE:
            return ""
    return digest.hexdigest()[:16]


def read_image_entry(path: Path) -> ImageEntry | None:
    """Return shape, outline on the sky and scale of the first image of a FITS file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ImageEntry or None
        None if the file holds no image or cannot be read; without corners if its header does not place it on the sky.
    """
    with warnings.catch_warnings(action="ignore", category=AstropyWarning):
        try:
            with fits.open(path, memmap=True, lazy_load_hdus=True) as hdus:
                header = next((hdu.header for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] >= 2), None)
            return None if header is None else _described(header)
        except UNREADABLE:
            return None


def _described(header: fits.Header) -> ImageEntry:
    entry: ImageEntry = {"shape": [int(header[f"NAXIS{axis}"]) for axis in range(header["NAXIS"], 0, -1)]}
    scale = header.get("PIXSCALE")
    if isinstance(scale, int | float) and scale > 0:
        entry["pixel_arcsec"] = float(scale)
    wcs = WCS(header).celestial if "CTYPE1" in header else None
    if wcs is not None and wcs.has_celestial and wcs.wcs.lngtyp == "RA":
        ny, nx = entry["shape"][-2:]
        corners = wcs.calc_footprint(axes=(nx, ny), center=False)
        if np.isfinite(corners).all():
            entry["corners_deg"] = [[round(float(ra), 8) % 360.0, round(float(dec), 8)] for ra, dec in corners]
            entry["pixel_arcsec"] = round(float(np.mean(proj_plane_pixel_scales(wcs))) * 3600.0, 6)
    return entry
