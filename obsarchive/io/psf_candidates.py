"""Stars that a night offers to the PSF library: a file of stamps for each, ``summary/psflib/<observation>.fits``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError
from obsarchive.io.psf_library import Entry

_HEADER_TEXTS = {"observation": "OBSERV", "night": "NIGHT", "telescope": "TELESCOP", "filter": "FILTER"}


def header_of(entry: Entry, stacks: Sequence[str], reason: str) -> dict[str, Any]:
    """Return the header of the file of a star, which has one image for each stack.

    Parameters
    ----------
    entry : Entry
        Facts of the star.
    stacks : sequence of str
        Stacks that the images are cut from, in the order of the images.
    reason : str
        Why the star is no good reference; empty for a good one.

    Returns
    -------
    dict
        Keyword: (value, comment).
    """
    return {
        "OBSERV": (entry.observation, "observation"),
        "NIGHT": (entry.night, "night"),
        "TELESCOP": (entry.telescope, "telescope"),
        "FILTER": (entry.filter, "filter"),
        "PIXSCALE": (entry.pixel_arcsec, "[arcsec/pixel] plate scale of this image"),
        "STREHL": (entry.strehl_percent, "[%] Strehl ratio"),
        "FWHM": (entry.fwhm_arcsec, "[arcsec] full width at half maximum"),
        "STACKS": (" ".join(stacks), "stacks that the images are cut from"),
        "OBJECTS": (reason, "what speaks against this reference"),
    }


def offered(path: Path) -> list[tuple[Entry, NDArray[np.float32]]]:
    """Return the entries and stamps of a star as its night offers them, one for each stack.

    Raises
    ------
    ArchiveError
        The file is missing or damaged.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            header = hdus[0].header
            stamps = [hdu.data.astype(np.float32) for hdu in hdus]
            texts = {name: str(header[key]) for name, key in _HEADER_TEXTS.items()}
            facts: dict[str, Any] = {
                **texts,
                "pixel_arcsec": float(header["PIXSCALE"]),
                "strehl_percent": _number(header["STREHL"]),
                "fwhm_arcsec": _number(header["FWHM"]),
            }
            stacks = header["STACKS"].split()
    except FileNotFoundError as err:
        raise ArchiveError(f"{path}: no such file: its night has not offered this star (pipeline psflib)") from err
    except (OSError, ValueError, TypeError, LookupError, AttributeError, fits.VerifyError) as err:
        raise ArchiveError(f"{path} cannot be read: {err}") from err
    return [(Entry(stack=stack, **facts), stamp) for stack, stamp in zip(stacks, stamps, strict=True)]


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
