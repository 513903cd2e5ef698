"""Frames that cannot show anything, whatever is looked for in them: without values, or saturated all over."""

from collections.abc import Iterable

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import FloatArray
from pipelines.shared.calibrator import SATURATED
from pipelines.shared.product_headers import reasons_counted, reasons_text

SATURATED_PIXELS = 0.5
"""Share of the pixels of a frame: no star or planet fills so much."""
BLACK = "black"
"""What the reasons of frames begin with that show no star."""
WITHOUT_VALUES, FULL = "without values", "saturated"


def pixel_fault(pixels: FloatArray, limit_adu: float | None) -> str:
    """Return why a raw frame cannot show anything; empty if it can.

    Parameters
    ----------
    pixels : ndarray (ny, nx)
        The frame as it was read [ADU].
    limit_adu : float or None
        Saturation level [ADU]; None if it is not known.
    """
    if not np.isfinite(pixels).any():
        return f"{WITHOUT_VALUES}: no pixel is finite"
    share = np.count_nonzero(pixels >= SATURATED * limit_adu) / pixels.size if limit_adu else 0.0
    if share <= SATURATED_PIXELS:
        return ""
    return f"{FULL}: {100 * share:.0f} % of the pixels at the limit of {limit_adu:.0f} ADU"


def with_faults(err: Unprocessable, faults: Iterable[str]) -> Unprocessable:
    """Return why nothing was found in frames, with how many of them could not show anything.

    Parameters
    ----------
    err : Unprocessable
        Why, as the search says.
    faults : iterable of str
        What `pixel_fault` says of each frame.

    Returns
    -------
    Unprocessable
        `err` itself if no frame has a fault; with the verdict ``failed`` if all have and some are saturated.
    """
    all_faults = list(faults)
    found = [fault for fault in all_faults if fault]
    if not found:
        return err
    n, kinds, text = len(all_faults), reasons_counted(found), reasons_text(found)
    if len(found) < n:
        return Unprocessable(f"{err}; of {n} frames, {text}", err.classified_as)
    verdict = "failed" if FULL in kinds else err.classified_as
    if len(kinds) == 1:
        return Unprocessable(f"{n} of {n} frames {found[0]}", verdict)
    return Unprocessable(f"no usable frame of {n}: {text}", verdict)
