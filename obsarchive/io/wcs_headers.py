"""Plate solutions in FITS headers."""

import logging
import re
import warnings
from collections.abc import Callable

import numpy as np
from astropy.coordinates import FK5, ICRS, BaseCoordinateFrame, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from obsarchive.io.iraf_wcs import is_iraf, without_iraf
from obsarchive.science.arrays import Float64Array
from obsarchive.science.astrometry.plate_solution import PlateSolution, fit_wcs, project

log = logging.getLogger(__name__)

Sky = Callable[[Float64Array, Float64Array], tuple[Float64Array, Float64Array]]

GRID = 13
"""Places per side at which a header's coordinates are read."""
TOLERANCE_PX, LINEAR_PX = 0.1, 0.01
"""Largest error of a plate solution with and without distortion [pixel]."""
MOST_DEG, MOST_STRETCHED = 1.0, 20.0
"""Largest plate scale [deg/pixel], and largest ratio of those of two directions."""
_NUMBER = re.compile(
    r"CR(VAL|PIX|OTA)\d|CDELT\d|(CD|PC|PV)\d_\d+|PC\d{6}|[AB]P?_(\d_\d|ORDER)|L(ON|AT)POLE|EQUINOX|WCSAXES"
)
"""Keywords of coordinates that have numbers."""
_WORD = re.compile(r"C(TYPE|UNIT)\d")
_DEGREES = re.compile(r"(?i)^(degrees?|degs?)$")


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
        Header of an image; numbers may be given as text.
    shape : (ny, nx)
        Shape of the image; the solution refers to its middle.

    Returns
    -------
    PlateSolution or None
        The header's own coordinates to `TOLERANCE_PX`, in ICRS; None when it has no celestial coordinates that can be
        read, or such as no plate solution reproduces.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _plate_of(_sky_of(_with_usual_words(_with_numbers(header))), shape)
    except (ValueError, TypeError, LookupError, MemoryError, AssertionError, np.linalg.LinAlgError) as err:
        if "CTYPE1" in header:
            log.warning("the coordinates of the header are not used: %s", err)
        return None


def _with_numbers(header: fits.Header) -> fits.Header:
    """Return a header with numbers where they are given as text, as some cameras do."""
    wrong = {key: header[key] for key in header if _NUMBER.fullmatch(key) and not isinstance(header[key], int | float)}
    if not wrong:
        return header
    header = header.copy()
    for key, value in wrong.items():
        text = str(value).strip().strip("'").strip()
        if isinstance(value, fits.card.Undefined) or not text:
            del header[key]
        else:
            text = text.upper().lstrip("JB") if key == "EQUINOX" else text
            number = float(text.upper().replace("D", "E"))
            header[key] = int(number) if key.endswith(("ORDER", "AXES")) else number
    return header


def _with_usual_words(header: fits.Header) -> fits.Header:
    """Return a header with types of axes in capitals, and degrees called ``deg``."""
    header = header.copy()
    for key in [key for key in header if _WORD.fullmatch(key) and isinstance(header[key], str)]:
        text = header[key].strip()
        header[key] = text.upper() if key.startswith("CTYPE") else _DEGREES.sub("deg", text)
    return header


def _sky_of(header: fits.Header) -> Sky:
    """Return the function from pixels (x, y), from 0, to right ascension and declination [deg, ICRS].

    Raises
    ------
    ValueError
        No celestial coordinates, or such as cannot be evaluated.
    """
    corrections = None
    if is_iraf(header):
        header, corrections = without_iraf(header)
    wcs = WCS(_without_scamp(header), naxis=2)
    if not wcs.has_celestial:
        raise ValueError("they are no celestial ones")
    _check_scale(header, wcs)
    frame = _frame_of(wcs)

    def sky(x: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
        if corrections is not None:
            matrix, reference = wcs.pixel_scale_matrix, wcs.wcs.crpix - 1
            plane = matrix @ np.stack([x - reference[0], y - reference[1]])
            dx, dy = np.linalg.solve(matrix, np.stack([correction(*plane) for correction in corrections]))
            x, y = x + dx, y + dy
        axes = wcs.all_pix2world(x, y, 0)
        ra, dec = axes[wcs.wcs.lng], axes[wcs.wcs.lat]
        if frame is None:
            return ra, dec
        place = SkyCoord(ra, dec, unit="deg", frame=frame).icrs
        return place.ra.deg, place.dec.deg

    return sky


def _frame_of(wcs: WCS) -> BaseCoordinateFrame | None:
    """Return the frame of coordinates, if they must be converted."""
    try:
        frame = wcs_to_celestial_frame(wcs)
    except ValueError:
        return None  # of an apparent place, such as RADESYS = GAPPT: near enough to begin with
    is_equatorial = isinstance(frame, ICRS) or (isinstance(frame, FK5) and frame.equinox == Time("J2000"))
    return None if is_equatorial else frame


def _check_scale(header: fits.Header, wcs: WCS) -> None:
    """Refuse coordinates without a plate scale, for which one degree per pixel would be taken."""
    for axis in (1, 2):
        names = [f"CDELT{axis}", *(f"{kind}{axis}_{j}" for kind in ("CD", "PC") for j in (1, 2))]
        old = f"PC00{axis}00{axis}"
        if not any(name in header for name in (*names, old)) and "PLTRAH" not in header:
            raise ValueError(f"expected {', '.join(names[:3])}, found none of them")
    scales = np.linalg.svd(wcs.pixel_scale_matrix, compute_uv=False)
    if not (0 < scales[0] < MOST_DEG and scales[0] < MOST_STRETCHED * scales[1]):
        raise ValueError(f"no plate scale: {scales[0]:g} and {scales[1]:g} deg per pixel")


def _without_scamp(header: fits.Header) -> fits.Header:
    """Return a header whose distortion by SCAMP is called TPV, as it was called TAN until 2012, with its defaults.

    In the standard such keywords of TAN have another meaning, which is hardly used; astropy takes few terms for those,
    and the field is then anywhere on the sky.
    """
    names = [str(header.get(f"CTYPE{axis}", "")).strip().upper() for axis in (1, 2)]
    scamp = {axis: [key for key in header if re.fullmatch(rf"PV{axis}_\d+", key)] for axis in (1, 2)}
    if not all(name.endswith(("-TAN", "-TPV")) for name in names) or not any(scamp.values()):
        return header
    if not any(header[key] for keys in scamp.values() for key in keys):  # no distortion at all
        return _as_tan(header, scamp)
    if (header.get("PV1_1"), header.get("PV1_2")) == (0, 90):
        return header  # the native pole of the standard
    header = header.copy()
    for axis, name in zip((1, 2), names, strict=True):
        header[f"CTYPE{axis}"] = name[:-3] + "TPV"
        if f"PV{axis}_1" not in header:
            header[f"PV{axis}_1"] = 1.0  # the default of the convention, not that of astropy
    return header


def _as_tan(header: fits.Header, distortion: dict[int, list[str]]) -> fits.Header:
    """Return a header of the plain projection, without some keywords of distortion."""
    header = header.copy()
    for axis, keys in distortion.items():
        header[f"CTYPE{axis}"] = str(header[f"CTYPE{axis}"]).strip()[:-3] + "TAN"
        for key in keys:
            del header[key]
    return header


def _plate_of(sky: Sky, shape: tuple[int, ...]) -> PlateSolution:
    """Return the plate solution of the lowest order that reproduces coordinates.

    Raises
    ------
    ValueError
        None does.
    """
    y, x = _grid(shape, GRID)
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    centre_ra, centre_dec = (float(value[0]) for value in sky(np.array([middle[1]]), np.array([middle[0]])))
    standard = project(*sky(x, y), (centre_ra, centre_dec))
    if not np.isfinite(standard).all():
        raise ValueError("not all of the image is on the sky")
    start = PlateSolution((centre_ra, centre_dec), middle, np.eye(2))
    between = _grid(shape, GRID + 4)
    truth = sky(between[1], between[0])
    residual = np.inf
    for order, tolerance in ((1, LINEAR_PX), (3, TOLERANCE_PX), (5, TOLERANCE_PX), (7, TOLERANCE_PX)):
        plate = fit_wcs((y, x), standard, start, order)
        found = plate.pixels(*truth)
        residual = float(np.hypot(found[0] - between[0], found[1] - between[1]).max())
        if residual < tolerance:
            return plate
    raise ValueError(f"no plate solution reproduces them: that of order {order} is off by {residual:.2g} pixels")


def _grid(shape: tuple[int, ...], n: int) -> tuple[Float64Array, Float64Array]:
    y, x = np.meshgrid(*(np.linspace(0, side - 1, n) for side in shape), indexing="ij")
    return y.ravel(), x.ravel()
