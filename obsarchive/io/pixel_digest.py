"""Fingerprints of the pixels of a file, by which copies of an exposure are found."""

import hashlib
import lzma
import warnings
import zlib
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError


def pixel_digest(path: Path) -> str:
    """Return a fingerprint of the pixels of all images of a FITS file, packed or not.

    Parameters
    ----------
    path : Path
        FITS file, plain or packed as ``.gz``, ``.bz2`` or ``.fz``.

    Returns
    -------
    str
        The same for the same pixels, however they are stored; empty for a file that cannot be read, and for one whose
        images are absent or of a single value, which tell nothing.
    """
    digest, is_empty = hashlib.sha256(), True
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            for image in (hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.size):
                digest.update(repr(image.shape).encode() + np.ascontiguousarray(image, np.float32).tobytes())
                is_empty &= bool(np.all(image == image.flat[0]))
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        VerifyError,
        zlib.error,
        lzma.LZMAError,
    ):
        return ""
    return "" if is_empty else digest.hexdigest()
