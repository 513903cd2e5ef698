"""What the header of an image in a FITS file says: its name, type, unit and place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What an image HDU holds."""

    LIGHT = "light"
    ERROR = "error"
    VARIANCE = "variance"
    INVERSE_VARIANCE = "inverse variance"
    WEIGHT = "weight"
    MASK = "mask"
    OTHER = "other"
    """Known not to be light: a preview, a guide chip, a model of the sky."""
    UNNAMED = "unnamed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ImageHdu:
    """An image of a FITS file, by its header.

    Attributes
    ----------
    number : int
        Of the HDU; the primary one is 0.
    cards : mapping of str to object
        Values of :data:`KEYS`, as far as the header has them: text, or numbers.
    shape : tuple of int
        Of the pixels: (ny, nx), before it the further axes.
    bits : int
        ``BITPIX``: negative for floating point.
    """

    number: int
    cards: Mapping[str, Any]
    shape: tuple[int, ...]
    bits: int

    @property
    def name(self) -> str:
        """``EXTNAME`` in capitals; empty when there is none, and for the name that fpack makes up."""
        name = self.text("EXTNAME")
        return "" if name in ("COMPRESSED_IMAGE", "PRIMARY") else name

    @property
    def version(self) -> int:
        """``EXTVER``; 0 when there is none."""
        try:
            return int(self.cards.get("EXTVER", 0))
        except (TypeError, ValueError, OverflowError):
            return 0

    @property
    def frame(self) -> tuple[int, int]:
        """(ny, nx) of one plane."""
        return self.shape[-2], self.shape[-1]

    def text(self, key: str) -> str:
        """Return a value as text in capitals; empty when there is none."""
        return str(self.cards.get(key, "")).strip().upper()

    def __str__(self) -> str:
        name = self.name or ("primary" if self.number == 0 else f"HDU {self.number}")
        return f"{name},{self.version}" if self.name and self.version else name


CHIP_KEYS = ("CCDCHIP", "CCDNAME", "CCDNUM", "CCDID", "CHIPID", "CHIPNAME", "CHIPNUM", "DETID")
TIME_KEYS = ("DATE-OBS", "DATE-BEG", "TIME-OBS", "UTSTART", "MJD", "MJD-OBS", "MJD-BEG", "EXPSTART", "ROUTTIME")
USE_KEYS = ("FILTER", "BAND", "IMAGETYP", "OBSTYPE")
SECTION_KEYS = ("DETSEC", "CCDSEC", "DATASEC", "BIASSEC")
PLACE_KEYS = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
AMPLIFIER_KEYS = ("AMPNAME", "AMPID", "AMPNUM", "AMPSEC", "LTV1", "LTV2")
NAME_KEYS = ("EXTNAME", "EXTTYPE", "EXTVER", "HDUCLAS2", "HDUCLAS3", "UTYPE", "BUNIT")
COLOUR_KEYS = ("COLORTYP", "COLORSPC", "BAYERPAT", "XBAYROFF")
"""Keywords that colour cameras and their programs write."""
OTHER_KEYS = ("GAIN", "EGAIN", "TELESCOP", *(f"CTYPE{axis}" for axis in range(3, 8)))
KEYS = frozenset(
    (
        *NAME_KEYS,
        *OTHER_KEYS,
        *COLOUR_KEYS,
        *CHIP_KEYS,
        *AMPLIFIER_KEYS,
        *TIME_KEYS,
        *USE_KEYS,
        *SECTION_KEYS,
        *PLACE_KEYS,
    )
)
"""Header keywords that say what an image is; of masks also those that begin with :data:`MASK_PLANE`."""
MASK_PLANE = "MP_"
"""Prefix of the keywords by which the Rubin pipelines name the bits of a mask."""

_WORDS: dict[Role, str] = {
    # in this order: SKY_VAR is no variance of the light, DATA_QUALITY is no data
    Role.OTHER: "PREVIEW THUMB THUMBNAIL QUICKLOOK ICON FOCUS GUIDE GUIDER ACQ SKY BACKGROUND BKG BACK MODEL PSF "
    "RESIDUAL RESIDUALS SAMP TIME CON CTX CONTEXT WCSDVARR D2IMARR NPOLFILE AREA OBJMASK SEG SEGM SEGMAP "
    "SEGMENTATION DARK FLAT BIAS OVERSCAN FRINGE CORR CORRELATION CATALOG SOURCES",
    Role.MASK: "BPM BADPIX BADPIXEL BAD MASK DQ DQF QUALITY QUAL FLAG FLAGS DATAQUALITY BITMASK MSK",
    Role.INVERSE_VARIANCE: "IVAR INVVAR IVM",
    Role.VARIANCE: "VAR VARIANCE STAT VARI MSE",
    Role.ERROR: "ERR ERROR ERRORS ERRS SIGMA SIG NOISE RMS STD STDDEV STDEV UNC UNCERT UNCERTAINTY RMSE",
    Role.WEIGHT: "WHT WEIGHT WEIGHTS WGT WT WTMAP WEIGHTMAP EXPMAP COVERAGE",
    Role.LIGHT: "SCI SCIENCE DATA IMAGE IMG FLUX SIGNAL COUNTS INTENSITY LIGHT OBJECT RAW",
}
_ROLES = {word: role for role, words in _WORDS.items() for word in words.split()}
BESIDE = ("weight", "wht", "ivar", "mask", "bpm", "dq", "flag", "flags", "rms", "err", "var", "variance")
"""Last words of the names of files that hold the weight, mask or error of another one."""
_BESIDE = re.compile(rf"(.+)[._-]({'|'.join(BESIDE)})", re.IGNORECASE)
_INVERSE = re.compile(r"INV(ERSE)?[ _.-]*VAR")
_BRIGHTNESS = r"\(?(ADU|ELECTRONS?|E-?|DN|COUNTS?|CTS?|PHOTONS?|[NMU]?JY|MJY/SR|NANOMAGGY|NANOMAGGIES)(/S(EC)?)?\)?"
_SQUARED = re.compile(_BRIGHTNESS + r"(\*\*|\^)?\(?\+?2\)?(/.*)?")
_INVERTED = re.compile(rf"1/\(?{_BRIGHTNESS}(\*\*|\^)?2\)?|{_BRIGHTNESS}(\*\*|\^)?\(?-[24]\)?")
_SPEAKING = ("EXTNAME", "EXTTYPE", "HDUCLAS2", "BUNIT")
_NO_UNIT = ("MASK", "BIT", "BITS", "BITMASK", "FLAG", "FLAGS", "BOOL", "BOOLEAN")
_ESO_ERRORS = {
    "MSE": Role.VARIANCE,
    "RMSE": Role.ERROR,
    "INVMSE": Role.INVERSE_VARIANCE,
    "INVRMSE": Role.WEIGHT,
}


def role_of_name(name: str) -> Role:
    """Return what the name of an extension says, such as ``SCI``, ``ERR``, ``CHIP1.DQ``, ``inverse_variance``."""
    name = name.strip().upper()
    if not name:
        return Role.UNNAMED
    if _INVERSE.search(name):
        return Role.INVERSE_VARIANCE
    words = {re.sub(r"\d+$", "", word) for word in re.split(r"[^A-Z0-9]+", name)}
    found = {_ROLES[word] for word in words if word in _ROLES}
    return next((role for role in _WORDS if role in found), Role.UNKNOWN)


def belongs_to(stem: str) -> str | None:
    """Return the name of the file to which one belongs by its name, such as ``a`` for ``a.weight``; else None."""
    match = _BESIDE.fullmatch(stem)
    return match[1] if match else None


def role_of(image: ImageHdu) -> Role:
    """Return what the header of an image says of it: its name, its type or its unit."""
    if not any(key in image.cards for key in _SPEAKING):
        return Role.UNNAMED
    if image.text("HDUCLAS2") == "ERROR":
        return _ESO_ERRORS.get(image.text("HDUCLAS3"), Role.ERROR)
    spoken = [role_of_name(text) for text in (image.name, image.text("EXTTYPE"), image.text("HDUCLAS2"))]
    role = next((role for role in spoken if role not in (Role.UNNAMED, Role.UNKNOWN)), spoken[0])
    if role is Role.ERROR and "VARIANCE" in image.text("UTYPE"):
        return Role.INVERSE_VARIANCE if "INVERSE" in image.text("UTYPE") else Role.VARIANCE
    return _role_of_unit(image.text("BUNIT").replace(" ", ""), role) if role in (Role.UNNAMED, Role.UNKNOWN) else role


def _role_of_unit(unit: str, otherwise: Role) -> Role:
    """Return what a unit, such as ``ADU**2``, says of an image."""
    if unit in _NO_UNIT:
        return Role.MASK
    if _INVERTED.fullmatch(unit):
        return Role.INVERSE_VARIANCE
    return Role.VARIANCE if _SQUARED.fullmatch(unit) else otherwise
