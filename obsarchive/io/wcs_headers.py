"""Plate solutions in FITS headers."""

import warnings

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from obsarchive.science.astrometry.plate_solution import PlateSolution, fit_wcs, project

GRID = 9
"""Places per side at which a header's coordinates are read."""


def plate_cards(solution: PlateSolution) -> fits.Header:
    """Return a plate solution as header cards, distortion as SIP (Shupe et al. 2005, ASPC 347, 491)."""
    sip = bool(solution.distortion)
    header = fits.Header()
    for axis, name in ((1, "RA---TAN"), (2, "DEC--TAN")):
        header[f"CTYPE{axis}"] = name + ("-SIP" if sip else "")
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRVAL{axis}"] = (solution.centre[axis - 1], "[deg] at the reference pixel")
        header[f"CRPIX{axis}"] = (solution.reference[2 - axis] + 1, "[pixel] from 1")
        for j in (1, 2):
            header[f"CD{axis}_{j}"] = (solution.matrix[axis - 1, j - 1] / 3600, "[deg/pixel]")
    if sip:
        order = max(i + j for i, j in solution.distortion)
        header["A_ORDER"], header["B_ORDER"] = order, order
        for (i, j), (a, b) in solution.distortion.items():
            header[f"A_{i}_{j}"], header[f"B_{i}_{j}"] = a, b
    header["RADESYS"] = "ICRS"
    return header


def plate_of_cards(header: fits.Header) -> PlateSolution:
    """Read a plate solution that :func:`plate_cards` wrote."""
    matrix = 3600 * np.array([[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
    powers = [(i, n - i) for n in range(2, header.get("A_ORDER", 0) + 1) for i in range(n + 1)]
    terms = {(i, j): (header.get(f"A_{i}_{j}", 0.0), header.get(f"B_{i}_{j}", 0.0)) for i, j in powers}
    centre, reference = (header["CRVAL1"], header["CRVAL2"]), (header["CRPIX2"] - 1, header["CRPIX1"] - 1)
    return PlateSolution(centre, reference, matrix, terms)


def plate_of_header(header: fits.Header, shape: tuple[int, ...]) -> PlateSolution | None:
    """Return the plate solution of a header with celestial coordinates of any kind.

    Parameters
    ----------
    header : Header
        Header of an image.
    shape : (ny, nx)
        Shape of the image; the solution refers to its middle.

    Returns
    -------
    PlateSolution or None
        None when the header has no celestial coordinates that can be read.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            wcs = WCS(header, naxis=2)
            return _plate_of(wcs, shape) if wcs.has_celestial else None
    except (ValueError, TypeError, LookupError, MemoryError):
        return None


def _plate_of(wcs: WCS, shape: tuple[int, ...]) -> PlateSolution | None:
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, side - 1, GRID) for side in shape), indexing="ij"))
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    ra, dec = wcs.all_pix2world(x, y, 0)
    centre_ra, centre_dec = (float(value) for value in wcs.all_pix2world(middle[1], middle[0], 0))
    standard = project(ra, dec, (centre_ra, centre_dec))
    if not np.isfinite(standard).all():
        return None
    start = PlateSolution((centre_ra, centre_dec), middle, np.eye(2))
    return fit_wcs((y, x), standard, start, 3 if wcs.sip is not None else 1)
