"""Where the real data are, and how they are read."""

import os
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

from tests.real.pack_nights import read_source

FOLDER = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
LOWELL = FOLDER / "calib" / "lowell_20190326"
LOWELL_GAIN = 4.95
"""Gain in the headers of the Lowell frames [e-/ADU]."""
SCIENCE = slice(17, 1382)
"""Columns of the Lowell frames that are lit; those from 1387 on are the overscan."""


def pixels_of(path: Path) -> np.ndarray:
    """Return the pixels of a file as the instrument wrote it."""
    return read_source(path)[1].astype(float)


def plain_pixels(path: Path) -> np.ndarray:
    """Return the pixels of a standard file, contiguous, in single precision."""
    with warnings.catch_warnings(action="ignore"):  # of old headers
        return np.ascontiguousarray(fits.getdata(path).astype(np.float32))


def lowell_frame(number: int) -> np.ndarray:
    """Return a frame of the asteroid field, calibrated the simplest way [ADU].

    The corners are dark, where a flat would divide by little.
    """
    return ((pixels_of(LOWELL / "5945" / f"20190326.{number:04d}.fits.gz")[:, SCIENCE] - _bias()) / _flat()).astype(
        np.float32
    )


def _bias() -> np.ndarray:
    return np.median([pixels_of(path)[:, SCIENCE] for path in sorted(LOWELL.glob("zero/*.gz"))], axis=0)


def _flat() -> np.ndarray:
    flats = [pixels_of(path)[:, SCIENCE] - _bias() for path in sorted(LOWELL.glob("flat/*.gz"))]
    flat = np.median([flat / np.median(flat) for flat in flats], axis=0)
    return np.maximum(flat, 0.1)
