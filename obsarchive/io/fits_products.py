"""FITS products in and out: whole or absent, with their provenance; 1-based pixels only here."""

import io
import math
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError
from obsarchive.io.atomic import atomic_write

# Keys that describe the raw file's data, not the product's.
_NOT_OURS = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS.*|EXTEND|[PG]COUNT|GROUPS|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM"
    r"|NEXTEND|NFRAMES|NUMFRAME|DATAMIN|DATAMAX"
)


@dataclass(frozen=True)
class Provenance:
    """Provenance of a product; written into its header.

    Attributes
    ----------
    version, pipeline, step, config_hash : str
        The software, what it ran, and the fingerprint of its settings.
    raw_files : tuple of str
        Names of the raw files, and in `raw_signature` their fingerprint.
    calibration : dict
        Kind of a calibration file (``dark``, ``flat``) to its path in the archive.
    date : datetime
        Aware time of creation; now when not given.
    """

    version: str
    pipeline: str
    step: str
    config_hash: str
    raw_files: tuple[str, ...] = ()
    raw_signature: str = ""
    calibration: Mapping[str, str] = field(default_factory=dict)
    date: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def date_text(self) -> str:
        """Date in FITS form, UTC, whole seconds."""
        return self.date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")

    def cards(self) -> list[tuple[str, str, str]]:
        """Return the (key, value, comment) cards of a header."""
        cards = [
            ("DATE", self.date_text, "[UTC] date of this file"),
            ("SWVERS", self.version, "version of the archive software"),
            ("PIPELINE", self.pipeline, "pipeline that made this file"),
            ("PIPESTEP", self.step, "step of the pipeline"),
            ("CONFHASH", self.config_hash, "fingerprint of the settings"),
            ("RAWSIG", self.raw_signature, "fingerprint of the raw files"),
        ]
        cards += [(f"RAW{i:03d}", name, "raw file") for i, name in enumerate(self.raw_files, start=1)]
        calibration = sorted(self.calibration.items())
        cards += [(f"CAL{i:03d}", f"{kind}: {name}", "calibration") for i, (kind, name) in enumerate(calibration, 1)]
        return cards

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "Provenance":
        """Read what `cards` wrote.

        Raises
        ------
        ArchiveError
            The header carries no or damaged provenance.
        """

        def numbered(prefix: str) -> list[str]:
            return [str(header[key]) for key in header if key.startswith(prefix) and key[3:].isdigit()]

        try:
            return cls(
                version=str(header["SWVERS"]),
                pipeline=str(header["PIPELINE"]),
                step=str(header["PIPESTEP"]),
                config_hash=str(header["CONFHASH"]),
                raw_files=tuple(numbered("RAW")),
                raw_signature=str(header["RAWSIG"]),
                calibration=dict(text.split(": ", 1) for text in numbered("CAL")),
                date=datetime.fromisoformat(header["DATE"]).replace(tzinfo=UTC),
            )
        except (KeyError, TypeError, ValueError) as err:
            raise ArchiveError(f"header without provenance: {err}") from err


def write_fits(
    path: Path,
    images: NDArray[Any] | Mapping[str, NDArray[Any] | None],
    header: fits.Header | Mapping[str, Any] | None,
    provenance: Provenance,
    permit: Path | None = None,
) -> None:
    """Write a product: float32, checksums, provenance; the same bytes for the same input and date.

    Parameters
    ----------
    path : Path
        Where the product goes; replaced as a whole.
    images : ndarray or mapping of ndarray
        Image (ny, nx) or cube (n, ny, nx), or several by name: the first is the primary image, None if there is none;
        structured arrays become tables.
    header : Header or mapping, optional
        Cards of the primary header, values or (value, comment).  Numbers that are not finite become undefined.
    provenance : Provenance
        Where the product comes from.
    permit : Path, optional
        Folder without which nothing may be written: see `atomic_path`.

    Raises
    ------
    ArchiveError
        No space left.
    """
    first, *others = images.items() if isinstance(images, Mapping) else [("", images)]
    # In memory first: astropy would leave a partial file and an error without errno on a full disk.
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # of comments that are cut
        primary = fits.PrimaryHDU(None if first[1] is None else _float32(first[1]), _clean_header(header))
        for key, value, comment in provenance.cards():
            primary.header[key] = (_ascii(value), comment)
        hdus = fits.HDUList([primary, *(_extension(name, array) for name, array in others if array is not None)])
        hdus.update_extend()
        for hdu in hdus:
            hdu.add_datasum(when="data unit checksum")
            hdu.add_checksum(when="HDU checksum")
        hdus.writeto(buffer, output_verify="ignore")  # cards are checked one by one
    atomic_write(path, buffer.getbuffer(), permit)


def _float32(image: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(image, dtype=np.float32)


def _extension(name: str, array: NDArray[Any]) -> fits.ImageHDU | fits.BinTableHDU:
    if array.dtype.names:
        return fits.BinTableHDU(array, name=name)
    return fits.ImageHDU(_float32(array), name=name)


def _clean_header(header: fits.Header | Mapping[str, Any] | None) -> fits.Header:
    """Copy what says something about the product; values FITS cannot hold become undefined or ASCII."""
    if isinstance(header, fits.Header):
        cards = [(card.keyword, card.value, card.comment) for card in header.cards]
    else:
        cards = [(key, *(value if isinstance(value, tuple) else (value, ""))) for key, value in (header or {}).items()]
    clean = fits.Header()
    for key, value, comment in cards:
        card = fits.Card(key, _card_value(value), _ascii(comment))
        with suppress(ValueError, fits.VerifyError):  # what does not fit into a card is no loss
            if not _NOT_OURS.fullmatch(key) and str(card):
                clean.append(card, end=True)
    return clean


def _card_value(value: Any) -> Any:
    if isinstance(value, str):
        return _ascii(value)
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return None
    return value


def _ascii(text: str) -> str:
    """Printable ASCII, which is all FITS allows in a header."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def read_fits(path: Path, extension: str = "") -> tuple[NDArray[np.float32], fits.Header]:
    """Return an image of a product and its header.

    Parameters
    ----------
    path : Path
        FITS file.
    extension : str, optional
        Name of the extension; the primary image when not given.

    Returns
    -------
    data : (ny, nx) ndarray of float32
        The image, in native byte order; a cube (n, ny, nx) stays a cube.
    header : Header
        The cards of its HDU.

    Raises
    ------
    ArchiveError
        The file is missing, damaged, or holds no image.
    """
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            hdu = hdus[extension or 0]
            data, header = hdu.data, hdu.header.copy()
    # Filters of warnings are shared by all threads: another one may have ended ours where a warning is an error.
    except (OSError, ValueError, TypeError, LookupError, AttributeError, fits.VerifyError, VerifyWarning) as err:
        raise ArchiveError(f"{path} cannot be read: {err}") from err
    if data is None:
        raise ArchiveError(f"{path}: expected an image, found none")
    return data.astype(np.float32), header


def read_table(path: Path, extension: str) -> NDArray[np.void] | None:
    """Return a table of a product; None if it has none of this name.

    Parameters
    ----------
    path : Path
        FITS file.
    extension : str
        Name of the extension.

    Returns
    -------
    structured ndarray or None
        In native byte order.

    Raises
    ------
    ArchiveError
        The file is missing or damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            if extension not in hdus:
                return None
            table = np.asarray(hdus[extension].data)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, fits.VerifyError, VerifyWarning) as err:
        raise ArchiveError(f"{path} cannot be read: {err}") from err
    return table.astype(table.dtype.newbyteorder("="))


def amend_header(path: Path, cards: fits.Header, permit: Path | None = None) -> None:
    """Set cards in the primary header of a product, which is replaced as a whole; its pixels stay.

    Parameters
    ----------
    path : Path
        FITS file.
    cards : Header
        Cards to set; the others stay.
    permit : Path, optional
        Folder without which nothing may be written: see `atomic_path`.

    Raises
    ------
    ArchiveError
        The file is missing or damaged, or there is no space left.
    """
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            hdus[0].header.update(cards)
            hdus[0].add_checksum(when="HDU checksum")
            hdus.writeto(buffer, output_verify="ignore")
    except (OSError, ValueError, TypeError, fits.VerifyError) as err:
        raise ArchiveError(f"{path} cannot be amended: {err}") from err
    atomic_write(path, buffer.getbuffer(), permit)


def tan_wcs(
    ra_deg: float,
    dec_deg: float,
    crpix_yx: tuple[float, float],
    plate_scale_arcsec: float,
    north_angle_deg: float = 0.0,
    east_left: bool = True,
) -> fits.Header:
    """Return the cards of a gnomonic (TAN) world coordinate system (Calabretta & Greisen 2002, A&A 395, 1077).

    For an image drizzled by a factor s the plate scale is that of the detector over s, and a detector
    position p (0-based) lies at s (p + 0.5) - 0.5.

    Parameters
    ----------
    ra_deg, dec_deg : float
        ICRS position of the reference pixel [deg].
    crpix_yx : tuple of float
        Reference pixel (y, x), 0-based.
    plate_scale_arcsec : float
        Plate scale of this image [arcsec/pixel].
    north_angle_deg : float
        Direction of north, counterclockwise from +y [deg].
    east_left : bool
        East is counterclockwise of north, as on the sky; False for a mirrored image.

    Returns
    -------
    Header
        ``CTYPE``, ``CRVAL``, ``CRPIX``, ``CD`` and what belongs to them.
    """
    scale_deg = plate_scale_arcsec / 3600.0
    sin, cos = math.sin(math.radians(north_angle_deg)), math.cos(math.radians(north_angle_deg))
    parity = 1.0 if east_left else -1.0
    header = fits.Header()
    header.update(
        {
            "WCSAXES": (2, "axes of the coordinate system"),
            "CTYPE1": ("RA---TAN", "right ascension, gnomonic"),
            "CTYPE2": ("DEC--TAN", "declination, gnomonic"),
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": (ra_deg, "[deg] right ascension of the reference pixel"),
            "CRVAL2": (dec_deg, "[deg] declination of the reference pixel"),
            "CRPIX1": (crpix_yx[1] + 1.0, "[pixel] reference pixel, x from 1"),
            "CRPIX2": (crpix_yx[0] + 1.0, "[pixel] reference pixel, y from 1"),
            "CD1_1": (-parity * scale_deg * cos, "[deg/pixel]"),
            "CD1_2": (-parity * scale_deg * sin, "[deg/pixel]"),
            "CD2_1": (-scale_deg * sin, "[deg/pixel]"),
            "CD2_2": (scale_deg * cos, "[deg/pixel]"),
            "RADESYS": "ICRS",
        }
    )
    return header
