"""Pixels that are not to be used, by the mask or the weight of an image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import BadRawData
from obsarchive.io.image_headers import MASK_PLANE, ImageHdu, Role

MOST_BAD = 0.8
"""Share of bad pixels above which a mask is not understood: its meaning may be the opposite."""
_BAD_BITS = ("BAD", "SAT", "CR", "INTRP", "NO_DATA", "UNMASKEDNAN")


def bad_pixels(file: str, image: ImageHdu, role: Role, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Find the pixels that a mask or a weight excludes.

    Parameters
    ----------
    file : str
        Name of the file, for messages.
    image : ImageHdu
        The mask, or the weight.
    role : Role
        ``MASK``: what is not zero is bad; of masks that name their bits only those of bad pixels.  ``WEIGHT`` and
        ``INVERSE_VARIANCE``: what is not positive is bad.
    values : ndarray
        Its pixels.

    Raises
    ------
    BadRawData
        Nearly all pixels are bad: the mask may mean the opposite.
    """
    if role is not Role.MASK:
        return np.asarray(~(values > 0))
    bits = _bad_bits(image)
    bad = (np.nan_to_num(values).astype(np.int64) & bits) != 0 if bits else values != 0
    share = float(bad.mean())
    if share > MOST_BAD:
        raise BadRawData(
            f"{file}: {image} marks {100 * share:.0f} % of the pixels as bad: expected zero at good pixels; "
            "invert it, or remove it from the file"
        )
    return np.asarray(bad)


def _bad_bits(image: ImageHdu) -> int:
    """Bits of a mask that make a pixel bad; 0 when all do.  Rubin's masks mark the pixels of stars, too."""
    if image.text("TELESCOP") == "JWST":
        return 1
    named = {key[len(MASK_PLANE) :]: value for key, value in image.cards.items() if key.startswith(MASK_PLANE)}
    return sum(1 << int(named[name]) for name in _BAD_BITS if isinstance(named.get(name), int | float))
