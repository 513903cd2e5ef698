"""The pixels of a dataset's frame: its image, what is bad in it, its variance and its level of saturation."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from obsarchive.errors import BadRawData, Unprocessable
from obsarchive.instruments.base import number
from obsarchive.io.bad_pixels import bad_pixels
from obsarchive.io.image_headers import BESIDE, KEYS, MASK_PLANE, ImageHdu, Role, role_of_name
from obsarchive.io.image_roles import assign_roles
from obsarchive.science.statistics import MAD_TO_SIGMA

GAINS = 0.01, 50.0
"""Least and greatest ``GAIN`` that is believed [electron/ADU]: cameras write the number of a setting under it, too."""
STRAY_ZEROS = 1e-3
"""Share of pixels that may be zero inside an image whose zeros at the border are without data."""
SWARP_SATURATION = 50000.0
"""Level that SWarp writes when the frames it adds have none."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Pixels of a frame (ny, nx): the image, NaN where it is bad, and its variance if the file has it."""

    image: NDArray[np.float32]
    variance: NDArray[np.float32] | None


def light_of(hdus: fits.HDUList) -> tuple[Any, dict[Role, tuple[ImageHdu, Any]]]:
    """Return the HDU of the light of a frame, and those that belong to it by their role.

    Raises
    ------
    BadRawData
        It is not known which image is the light, or there are several.
    ValueError
        There is no image.
    """
    name = Path(hdus.filename() or "the file").name
    images = {image.number: image for image in _images(hdus)}
    if not images:
        raise ValueError("there is no image in it")
    roles = assign_roles(name, list(images.values()), lambda number: hdus[number].data)
    if len(roles.lights) != 1:
        what = f"amplifiers of a detector ({len(roles.amplifiers)})" if roles.amplifiers else "exposures"
        listed = ", ".join(str(images[number]) for number in (roles.lights or roles.amplifiers)[:8])
        raise BadRawData(
            f"{name}: expected one image, found {what}: {listed}: a frame of a dataset is one reduced exposure; "
            "split the file, or reduce it as raw data"
        )
    light = roles.lights[0]
    if math.prod(images[light].shape[:-2]) != 1:
        raise BadRawData(
            f"{name}: expected one image, found a cube of {images[light].shape}: write each plane into its own file"
        )
    beside = {role: (images[at], hdus[at]) for role, at in roles.companions.get(light, {}).items()}
    return hdus[light], beside


def _images(hdus: fits.HDUList) -> Iterator[ImageHdu]:
    for at, hdu in enumerate(hdus):
        header = hdu.header
        axes = [int(header[f"NAXIS{i}"]) for i in range(int(header.get("NAXIS", 0)), 0, -1)]
        if getattr(hdu, "is_image", False) and len(axes) >= 2 and math.prod(axes):
            cards = {key: header[key] for key in header if key in KEYS or key.startswith(MASK_PLANE)}
            cards.setdefault("TELESCOP", hdus[0].header.get("TELESCOP", ""))
            yield ImageHdu(at, cards, tuple(axes), int(header["BITPIX"]))


def read_pixels(path: Path) -> Pixels:
    """Read the image of a frame, with what stands beside it in its file, and in files of its name.

    Bad are pixels that a mask marks, without weight or variance, without data (``BLANK``, or the zeros around an image
    that was moved onto others).

    Raises
    ------
    Unprocessable
        It is not known which image is the light, or what belongs to it does not fit.
    OSError, ValueError
        The file is damaged.
    """
    with fits.open(path, memmap=False, uint=False) as hdus:
        light, beside = light_of(hdus)
        shape = light.shape[-2:]
        image = np.array(light.data.reshape(shape), np.float32)
        planes = {role: (facts, hdu.data.reshape(shape)) for role, (facts, hdu) in beside.items() if _fits(hdu, shape)}
    for role, other in files_beside(path).items():
        planes.setdefault(role, _plane(other, path, shape))
    bad = uncovered(image) if Role.WEIGHT not in planes else np.zeros(shape, bool)
    for role in (Role.MASK, Role.WEIGHT, Role.INVERSE_VARIANCE):
        if role in planes:
            facts, values = planes[role]
            bad |= bad_pixels(path.name, facts, role, values)
    image[bad] = np.nan
    variance = _variance({role: values for role, (_, values) in planes.items()})
    if variance is not None:
        unknown = ~(np.isfinite(variance) & (variance > 0))
        if unknown.mean() > 0.5:
            return Pixels(image, None)
        image[unknown] = np.nan
    return Pixels(image, variance)


def _fits(hdu: Any, shape: tuple[int, ...]) -> bool:
    return bool(np.prod(hdu.shape) == np.prod(shape))


def _variance(planes: Mapping[Role, NDArray[Any]]) -> NDArray[np.float32] | None:
    if Role.ERROR in planes:
        return np.asarray(np.square(planes[Role.ERROR], dtype=np.float32))
    if Role.VARIANCE in planes:
        return planes[Role.VARIANCE].astype(np.float32)
    if Role.INVERSE_VARIANCE in planes:
        inverse = planes[Role.INVERSE_VARIANCE].astype(np.float32)
        return np.divide(1.0, inverse, out=np.full_like(inverse, np.nan), where=inverse > 0)
    return None


def files_beside(path: Path) -> dict[Role, Path]:
    """Return the files with the weight, mask or error of a frame, by their role: ``a.weight.fits`` of ``a.fits``."""
    stem, *_ = re.split(r"\.(?:fits|fit|fts)(?:\.fz|\.gz|\.bz2)?$", path.name, flags=re.IGNORECASE)
    ending = path.name[len(stem) :]
    found: dict[Role, Path] = {}
    for word in BESIDE:
        for other in (path.with_name(f"{stem}{sign}{word}{ending}") for sign in "._-"):
            if other.is_file():
                found.setdefault(role_of_name(word), other)
    return found


def _plane(other: Path, path: Path, shape: tuple[int, ...]) -> tuple[ImageHdu, NDArray[Any]]:
    """Read the only image of a file that belongs to a frame."""
    with fits.open(other, memmap=False, uint=False) as hdus:
        facts = next(_images(hdus), None)
        plane = None if facts is None else np.squeeze(hdus[facts.number].data)
    if facts is None or plane is None or plane.shape != shape:
        found = "none" if plane is None else plane.shape
        raise Unprocessable(f"{other.name}: expected an image of {shape} pixels (y, x) as {path.name}, found {found}")
    return facts, plane


def uncovered(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find pixels without data: exact zeros from the border on, where an image has none inside."""
    zero = image == 0
    edges = [zero[0], zero[-1], zero[:, 0], zero[:, -1]]
    if not any(edge.any() for edge in edges):
        return np.zeros(image.shape, bool)
    labels, n = ndimage.label(zero)
    is_outside = np.zeros(n + 1, bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        is_outside[edge] = True
    is_outside[0] = False
    outside = is_outside[labels]
    if (zero & ~outside).sum() > STRAY_ZEROS * max((~outside).sum(), 1):
        return np.zeros(image.shape, bool)  # counts of few photons
    return np.asarray(outside)


def modelled_variance(image: NDArray[np.float32], header: Mapping[str, Any]) -> NDArray[np.float32]:
    """Photon and read-out noise; where the sky was subtracted or the noise is unknown, that of the sky is measured."""
    gain, noise = gain_of(header), first_positive(header, ("RDNOISE", "READNOIS", "RON"), 0.0)
    some = image[:: max(1, image.shape[0] // 500), :: max(1, image.shape[1] // 500)]
    sky = float(np.nanmedian(some)) if np.isfinite(some).any() else float(np.nanmedian(image))
    below = some[some < sky]
    measured = float((MAD_TO_SIGMA * np.nanmedian(sky - below)) ** 2) if below.size else 0.0
    expected = max(sky, 0.0) / gain + (noise / gain) ** 2
    if expected < 0.5 * measured:
        return np.asarray(np.maximum(image - sky, 0) / gain + measured, np.float32)
    return np.asarray(np.maximum(image, 0) / gain + (noise / gain) ** 2, np.float32)


def gain_of(header: Mapping[str, Any]) -> float:
    """Return electrons per ADU: ``EGAIN``, or a ``GAIN`` that is no number of a setting; 1 when neither is known."""
    gain = first_positive(header, ("EGAIN",), 0.0)
    if gain:
        return gain
    gain = first_positive(header, ("GAIN",), 1.0)
    return gain if GAINS[0] <= gain <= GAINS[1] else 1.0


def saturation_of(image: NDArray[np.float32], header: Mapping[str, Any]) -> float:
    """Return the level above which pixels are saturated: 98 % of the header's; infinite when it is not known."""
    level = first_positive(header, ("SATURATE", "SATURATION", "MAXLIN"), math.inf)
    if str(header.get("SOFTNAME", "")).strip().lower() == "swarp" and float(np.nanmax(image)) > level:
        is_invented = abs(level / SWARP_SATURATION - 1) < 1e-3 or float(np.nanmax(image)) > 2 * level
        level = math.inf if is_invented else level
    return 0.98 * level


def first_positive(header: Mapping[str, Any], keys: Sequence[str], otherwise: float) -> float:
    """Return the first of some positive numbers of a header."""
    values = (number(header.get(key)) for key in keys)
    return next((value for value in values if value is not None and value > 0), otherwise)
