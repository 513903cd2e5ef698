"""The frames of a dataset: what their headers say, tolerant of what is missing; the table ``data_summary.txt``."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from obsarchive.errors import Unprocessable
from obsarchive.instruments.base import SUFFIXES, degrees, number
from obsarchive.instruments.dates import DateError, exposure_start
from obsarchive.io.atomic import atomic_write
from obsarchive.io.image_headers import belongs_to
from obsarchive.io.wcs_headers import plate_of_header
from obsarchive.science.astrometry.plate_solution import PlateSolution
from obsarchive.timeseries.frame_pixels import (
    first_positive,
    light_of,
    modelled_variance,
    read_pixels,
    saturation_of,
)
from obsarchive.timeseries.names import STAR_CATALOGUE

ENDINGS = SUFFIXES
OWN_FILES = (STAR_CATALOGUE,)
WCS_KEYS = (
    *("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CUNIT1", "CUNIT2"),
    *("CD1_1", "CD1_2", "CD2_1", "CD2_2"),
)
WCS_KEY = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CUNIT|CDELT|CROTA|CD|PC|PV|[AB]P?_)[\d_A-Z]+|LONPOLE|LATPOLE|RADE(C)?SYS|EQUINOX|EPOCH"
    r"|WCSAXES|WAT\d_\d+|(CP|CQ|D2IM)DIS\d|PLT[A-Z]+|[XY]PIXELSZ|PPO\d|AMD[XY]\d+|CNPIX\d"
)
FITS_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, fits.VerifyError)


@dataclass(frozen=True)
class Info:
    """Facts of the header of a frame.

    Parameters
    ----------
    path : Path
        The file.
    start_mjd, exposure_s : float
        Start of the exposure [d, UTC] and its duration [s].
    header : dict
        All cards that are read, by keyword; None where one is missing.
    """

    path: Path
    start_mjd: float
    exposure_s: float
    header: Mapping[str, Any] = field(repr=False)

    @property
    def mjd_middle(self) -> float:
        """Middle of the exposure [d, UTC]."""
        return self.start_mjd + self.exposure_s / 2 / 86400

    @property
    def fwhm_arcsec(self) -> float:
        """Seeing as the archive measured it; NaN if it did not [arcsec]."""
        return _float(self.header.get("L1FWHM"))

    @property
    def stem(self) -> str:
        """Name without suffixes."""
        return stem_of(self.path)


def stem_of(path: Path) -> str:
    """Return a frame's name without its ending."""
    ending = next(end for end in sorted(ENDINGS, key=len, reverse=True) if path.name.lower().endswith(end))
    return path.name[: -len(ending)]


def frames_of(folder: Path) -> list[Path]:
    """Return the frames of a dataset, each once, by name; weights and masks of frames are none."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (len(path.name), path.name)):
        known = path.name.lower().endswith(ENDINGS) and path.name not in OWN_FILES and not path.name.startswith(".")
        if known and path.is_file():
            found.setdefault(stem_of(path), path)
    return [found[stem] for stem in sorted(found) if belongs_to(stem) not in found]


def read_info(path: Path) -> Info:
    """Read the header of a frame.

    Raises
    ------
    Unprocessable
        The file is damaged, holds no image, or does not say when it was taken.
    """
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
            header = merged_header(hdus)
    except FITS_ERRORS as err:
        raise Unprocessable(f"{path.name} cannot be read: {err}") from err
    try:
        start = exposure_start(header).mjd
    except DateError as err:
        raise Unprocessable(f"{path.name}: {err}") from err
    exposure = _float(header.get("EXPTIME", header.get("EXPOSURE")))
    if not exposure > 0:
        raise Unprocessable(f"{path.name}: EXPTIME is {header.get('EXPTIME')!r}, a positive number is needed")
    return Info(path, start, exposure, header)


def merged_header(hdus: fits.HDUList) -> dict[str, Any]:
    """Return the cards of the image, and of the primary header where the image lacks them."""
    image = light_of(hdus)[0]
    found: dict[str, Any] = {}
    for header in (image.header, hdus[0].header):
        for card in header.cards:
            if card.keyword not in ("COMMENT", "HISTORY", "") and not isinstance(card.value, fits.card.Undefined):
                found.setdefault(card.keyword, card.value)
    return found


def _float(value: Any) -> float:
    found = number(value)
    return math.nan if found is None else found


def header_wcs(info: Info, shape: tuple[int, int]) -> PlateSolution:
    """Return the plate solution of a header: its world coordinates, or else from the pointing of the telescope.

    Parameters
    ----------
    info : Info
        Header of the frame.
    shape : (ny, nx)
        Shape of its image [pixel].

    Returns
    -------
    PlateSolution
        Approximate when it comes from ``RA``, ``DEC`` and ``PIXSCALE``: north up, east left.

    Raises
    ------
    Unprocessable
        The header does not say where the frame is on the sky.
    """
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    header = fits.Header()
    for key, value in info.header.items():
        if WCS_KEY.fullmatch(key) and isinstance(value, str | int | float):
            with suppress(ValueError):  # what FITS cannot hold is no coordinate
                header[key] = value
    plate = plate_of_header(header, shape)
    if plate is not None:
        return plate
    ra, dec = degrees(info.header.get("RA"), u.hourangle), degrees(info.header.get("DEC"), u.deg)
    scale = first_positive(info.header, ("PIXSCALE", "SECPIX"), 0.0)
    if ra is None or dec is None or not scale:
        raise Unprocessable(f"{info.path.name}: the header has no world coordinates, nor RA, DEC and PIXSCALE")
    return PlateSolution((ra, dec), middle, scale * np.array([[-1.0, 0.0], [0.0, 1.0]]))


def write_summary(path: Path, infos: Iterable[Info], hjd: Mapping[str, float], done: Mapping[str, bool]) -> None:
    """Write ``data_summary.txt``: one line for each frame, as astropy's ``ascii.basic`` reads it.

    Parameters
    ----------
    path : Path
        File to write.
    infos : iterable of Info
        Headers of the frames; ``-`` stands for what they lack.
    hjd : mapping of str to float
        Heliocentric Julian date of mid-exposure [d, UTC] by the stem of the file.
    done : mapping of str to bool
        Whether a frame is measured, by the stem of the file.
    """
    lines = [" ".join(_COLUMNS)]
    for info in infos:
        known = {**info.header, "hjd": hjd.get(info.stem), "processed": int(done.get(info.stem, False))}
        values = [_column(info, known, source) for source in _COLUMNS.values()]
        lines.append(" ".join(values))
    atomic_write(path, ("\n".join(lines) + "\n").encode())


_COLUMNS: dict[str, str] = {
    "file": "*file",
    "facility_code": "*facility",
    "proposal_id": "PROPID",
    "object": "OBJECT",
    "reqnum": "REQNUM",
    "filter": "FILTER",
    "dateobs": "DATE-OBS",
    "exptime": "EXPTIME",
    "RA": "RA",
    "Dec": "DEC",
    "airmass": "AIRMASS",
    "pixscale": "PIXSCALE",
    "fwhm": "L1FWHM",
    "moon_fraction": "MOONFRAC",
    "moon_separation": "MOONDIST",
    "sky_bkgd": "L1MEAN",
    "HJD": "hjd",
    **{key: key for key in WCS_KEYS},
    "WCSERR": "WCSERR",
    "NAXIS1": "NAXIS1",
    "NAXIS2": "NAXIS2",
    "WMSCLOUD": "WMSCLOUD",
    "processed": "processed",
}


def facility_code(header: Mapping[str, Any]) -> str:
    """Return site, enclosure, telescope and camera as one word, the two names of a Sinistro as one."""
    camera = str(header.get("INSTRUME") or "unknown").lower().replace("fl", "fa", 1)
    places = [str(header[key]).lower() for key in ("SITEID", "ENCID", "TELID") if header.get(key)]
    return "-".join([*places, camera])


def _column(info: Info, known: Mapping[str, Any], source: str) -> str:
    match source:
        case "*file":
            value: Any = info.path.name
        case "*facility":
            value = facility_code(info.header)
        case _:
            value = known.get(source)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "-"
    text = "-" if value is None or isinstance(value, fits.card.Undefined) else str(value).strip() or "-"
    return f'"{text}"' if any(c.isspace() for c in text) else text


def read_planes(info: Info, saturation: float | None) -> "Planes":
    """Read the pixels of a frame.

    An error or variance plane gives the variance, else gain and read-out noise do; masks, weights and inverse variances
    mark bad pixels, in the file or in one beside it (``a.weight.fits`` of ``a.fits``).

    Parameters
    ----------
    info : Info
        Header of the frame.
    saturation : float, optional
        Saturation level [count]; 98 % of the header's when not given.

    Returns
    -------
    Planes
        Image (ny, nx) with NaN at bad pixels, its variance, and the saturation level.

    Raises
    ------
    Unprocessable
        The file is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            pixels = read_pixels(info.path)
    except FITS_ERRORS as err:
        raise Unprocessable(f"{info.path.name} cannot be read: {err}") from err
    image, variance = pixels.image, pixels.variance
    if min(image.shape) < 16:
        raise Unprocessable(f"{info.path.name}: the image is {image.shape}, too small for photometry")
    if not np.isfinite(image).any():
        raise Unprocessable(f"{info.path.name}: no pixel is good")
    if variance is None:
        variance = modelled_variance(image, info.header)
    return Planes(image, np.maximum(variance, 1e-6), saturation or saturation_of(image, info.header))


@dataclass(frozen=True, eq=False)
class Planes:
    """Pixels of a frame: image, NaN where it is bad, its variance, and the level of saturation."""

    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    saturation: float
