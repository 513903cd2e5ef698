"""What the images of a FITS file are: light, its error or mask, an amplifier of one detector, or nothing to be used.

Decided once for each file, from names, units, sections and sizes; where these are silent, from the pixels.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import BadRawData
from obsarchive.io.image_headers import (
    AMPLIFIER_KEYS,
    CHIP_KEYS,
    COLOUR_KEYS,
    PLACE_KEYS,
    TIME_KEYS,
    USE_KEYS,
    ImageHdu,
    Role,
    role_of,
)

ReadPixels = Callable[[int], NDArray[Any]]
"""Returns the pixels of the image in the HDU of a number; the primary HDU is 0."""
_COMPANIONS = (Role.ERROR, Role.VARIANCE, Role.INVERSE_VARIANCE, Role.WEIGHT, Role.MASK)
_EXPOSURES = re.compile(r"(FRAME|EXP|EXPOSURE|INTEGRATION|SUBEXP|SHOT|READ|COADD|PLANE)S?[ _.-]*\d*")
_NO_TIME = (
    *("RGB", "COLOR", "WAVE", "AWAV", "LAMBDA", "FREQ", "ENER"),
    *("VELO", "VRAD", "VOPT", "ZOPT", "STOKES", "FILTER"),
)
"""Third axes of a cube whose planes are no exposures, by the first word of ``CTYPE3``."""
N_COLOURS, _COLOUR_FILTERS = 3, ("RGB", "LRGB", "OSC", "COLOR", "COLOUR")
"""Planes of the image of a colour camera, and its filters."""
MOST_FLAGS = 64
"""Values of a mask."""
DERIVED = 0.98
"""Correlation of the noise of two planes above which one was computed from the other."""
MOST_COMPANIONS, MOST_ALIKE = 12, 4
"""Of more images than this without names, all are exposures; so are more than the latter, of one type of integers."""


@dataclass(frozen=True)
class Roles:
    """The images of a file that are used, by the numbers of their HDUs.

    Attributes
    ----------
    lights : tuple of int
        Exposures, in their order.
    amplifiers : tuple of int
        Parts of one detector, which must be put together; then there are no `lights`.
    companions : mapping of int to mapping of Role to int
        Of each light or amplifier the images that belong to it: its error, its mask.
    """

    lights: tuple[int, ...] = ()
    amplifiers: tuple[int, ...] = ()
    companions: Mapping[int, Mapping[Role, int]] = field(default_factory=dict)


def assign_roles(file: str, images: Sequence[ImageHdu], pixels: ReadPixels) -> Roles:
    """Decide what each image of a file is.

    Parameters
    ----------
    file : str
        Name of the file, for messages.
    images : sequence of ImageHdu
        All images of the file with two axes or more, in their order.
    pixels : callable
        Reads the pixels of an image; called only for a few images that have no names.

    Raises
    ------
    BadRawData
        It is not known what the images are, or they are several detectors.
    """
    if len(images) < 2:
        return Roles(lights=tuple(image.number for image in images))
    roles = {image.number: role_of(image) for image in images}
    _look_at_unnamed(images, roles, pixels)
    usable = [image for image in images if roles[image.number] in (Role.LIGHT, Role.UNNAMED, Role.UNKNOWN)]
    if not usable:
        raise BadRawData(f"{file}: expected an image of the sky, found only {_listed(images)}: name one SCI")
    parts = _amplifiers(file, usable)
    lights = parts or _lights(file, usable, roles)
    planes = [image for image in images if roles[image.number] in _COMPANIONS]
    companions = {light.number: _companions(file, light, lights, planes, roles) for light in lights if planes}
    numbers = tuple(light.number for light in lights)
    return Roles(() if parts else numbers, numbers if parts else (), companions)


def _listed(images: Sequence[ImageHdu]) -> str:
    text = ", ".join(map(str, images[:8]))
    return text if len(images) <= 8 else f"{text} and {len(images) - 8} more"


def sections_of(images: Sequence[ImageHdu]) -> str | None:
    """Return the keyword that says where on the detector images lie: different places, else None."""
    for key in ("DETSEC", "CCDSEC"):
        places = [image.text(key).replace(" ", "") for image in images]
        if sum(place.startswith("[") for place in places) >= 2 and len(set(places)) > 1:
            return key
    return None


def _amplifiers(file: str, usable: Sequence[ImageHdu]) -> list[ImageHdu]:
    """Parts of one detector; none when the images are whole exposures."""
    key = sections_of(usable)
    if key is None:
        return []
    lost = [image for image in usable if not image.text(key).startswith("[")]
    if lost:
        raise BadRawData(
            f"{file}: parts of a detector ({key}), but {_listed(lost)} without {key}: remove what is no part, "
            "or write the section into its header"
        )
    _refuse_chips(file, usable)
    return list(usable)


def _lights(file: str, usable: Sequence[ImageHdu], roles: Mapping[int, Role]) -> list[ImageHdu]:
    """Whole exposures among images that may be such."""
    named = [image for image in usable if roles[image.number] is Role.LIGHT]
    unnamed = [image for image in usable if roles[image.number] is Role.UNNAMED]
    unknown = [image for image in usable if roles[image.number] is Role.UNKNOWN]
    if named:
        lost = [image for image in unnamed if image.frame == named[0].frame]
        if lost:
            raise BadRawData(
                f"{file}: {_listed(named)} beside {_listed(lost)} of the same size without a name: "
                "expected a name (EXTNAME) of each image, such as SCI, ERR or BPM"
            )
        lights = _without_little(named)
    else:
        large = {image.number for image in _without_little(usable)}
        unknown = [image for image in unknown if image.number in large]
        lights = [image for image in usable if roles[image.number] is Role.UNNAMED or image.number in large]
        _refuse_unknown(file, lights, unknown)
    _refuse_mixed(file, lights)
    _refuse_chips(file, lights)
    _refuse_versions(file, lights)
    return lights


def _without_little(images: Sequence[ImageHdu]) -> list[ImageHdu]:
    """Images that are not far smaller than the largest: those are pictures for the eye, or of a slit."""
    largest = max(image.frame[0] * image.frame[1] for image in images)
    return [image for image in images if 4 * image.frame[0] * image.frame[1] >= largest]


def refuse_colours(file: str, image: ImageHdu) -> None:
    """Raise BadRawData when the planes of a cube are colours or wavelengths, or of more than one kind."""
    long = [axis for axis in range(3, len(image.shape) + 1) if image.shape[-axis] > 1]
    kinds = [(re.split(r"[^A-Z]", image.text(f"CTYPE{axis}"))[0], f"CTYPE{axis}") for axis in long]
    if len(kinds) == 1 and not kinds[0][0] and image.shape[-long[0]] == N_COLOURS:
        kinds = [("RGB", card) for card in _colour_cards(image)]
    for kind, card in kinds:
        if kind in _NO_TIME:
            raise BadRawData(
                f"{file}: {image}: expected a cube of exposures, found one of {kind} ({card}): write each plane into a "
                "file of its own, with its FILTER"
            )
    if len(long) > 1:
        sides = " x ".join(str(side) for side in image.shape)
        raise BadRawData(
            f"{file}: {image}: expected a cube of exposures, found {sides} pixels: it is not known what axes "
            f"{' and '.join(map(str, long))} are (colours, reads); write each exposure into a plane of one cube"
        )


def _colour_cards(image: ImageHdu) -> list[str]:
    """Return the keywords that say that three planes are colours."""
    found = [key for key in COLOUR_KEYS if image.text(key)]
    return [*found, "FILTER"] if image.text("FILTER") in _COLOUR_FILTERS else found


def _refuse_unknown(file: str, lights: Sequence[ImageHdu], unknown: Sequence[ImageHdu]) -> None:
    """Different names that mean nothing to us could be bands, chips or planes."""
    names = {image.name for image in unknown if not _EXPOSURES.fullmatch(image.name)}
    if len(lights) > 1 and (len(names) > 1 or len(unknown) == 1):
        raise BadRawData(
            f"{file}: {len(lights)} images of unknown meaning: {_listed(lights)}: expected names (EXTNAME) such as "
            "SCI, ERR, BPM, or DETSEC for the amplifiers of one detector; split the file, or name its images"
        )


def _refuse_mixed(file: str, lights: Sequence[ImageHdu]) -> None:
    """What differs in filter, use or type of number is no series of exposures."""
    key = next((key for key in USE_KEYS if len({image.text(key) for image in lights} - {""}) > 1), None)
    if key is None and len({image.bits for image in lights}) > 1:
        key = "BITPIX"
    if key is not None:
        raise BadRawData(
            f"{file}: images that are no exposures of one kind ({key} differs): {_listed(lights)}: "
            "expected names (EXTNAME) such as SCI, ERR, BPM; split the file, or name its images"
        )


def _refuse_chips(file: str, lights: Sequence[ImageHdu]) -> None:
    """Several detectors look at different parts of the sky."""
    is_whole = sections_of(lights) is None
    keys = (*CHIP_KEYS, *AMPLIFIER_KEYS) if is_whole else CHIP_KEYS
    key = next((key for key in keys if len({image.text(key) for image in lights} - {""}) > 1), None)
    corners = [[image.cards.get(key) for key in PLACE_KEYS[2:]] for image in lights if "CRPIX1" in image.cards]
    known = np.array([corner for corner in corners if all(isinstance(x, int | float) for x in corner)], float)
    apart = len(known) > 1 and bool((np.ptp(known, axis=0) > 0.5 * np.array(lights[0].frame[::-1])).any())
    if key is None and is_whole and apart:
        key = "CRPIX1, CRPIX2"
    if key is not None:
        raise BadRawData(
            f"{file}: images of different {'amplifiers' if key in AMPLIFIER_KEYS else 'detectors'} ({key} differs): "
            f"{_listed(lights)}: expected one detector, its amplifiers with DETSEC; write each into a file of its own"
        )


def _refuse_versions(file: str, lights: Sequence[ImageHdu]) -> None:
    """Versions of one name are detectors as often as exposures: something must tell."""
    names = {image.name for image in lights if not _EXPOSURES.fullmatch(image.name)} - {""}
    versioned = len({image.version for image in lights}) > 1
    doubtful = len(names) > 1 or (names and versioned) or bool(names & {"SCI", "SCIENCE"})
    if len(lights) < 2 or not doubtful or _are_exposures(lights):
        return
    raise BadRawData(
        f"{file}: {_listed(lights)} may be detectors or exposures: expected DETSEC in each (amplifiers of one "
        "detector), or DATE-OBS in each (exposures); else split the file"
    )


def _are_exposures(lights: Sequence[ImageHdu]) -> bool:
    """Whether images have times of their own, or the same place on the sky or the detector."""
    for key in TIME_KEYS:
        if len({image.text(key) for image in lights} - {""}) == len(lights):
            return True
    for keys in (PLACE_KEYS, ("DETSEC",), ("CCDSEC",)):
        places = {tuple(image.text(key) for key in keys) for image in lights}
        if len(places) == 1 and all(places.pop()):
            return True
    return False


def _companions(
    file: str, light: ImageHdu, lights: Sequence[ImageHdu], planes: Sequence[ImageHdu], roles: Mapping[int, Role]
) -> dict[Role, int]:
    """Images that belong to a light: of its version, in its place, or the only ones."""
    found: dict[Role, int] = {}
    for role in _COMPANIONS:
        ours = [image for image in planes if roles[image.number] is role and image.frame == light.frame]
        versions = [image for image in ours if image.version and image.version == light.version]
        if len(ours) == 1 and not lights[1:]:
            mine = ours
        elif len(versions) == 1:
            mine = versions
        elif len(ours) == len(lights):
            mine = [ours[[other.number for other in lights].index(light.number)]]
        elif role is Role.MASK and len(ours) > 1 and lights[1:]:
            raise BadRawData(
                f"{file}: {len(ours)} masks ({_listed(ours)}) of {len(lights)} images: "
                "expected one mask for all, or one for each with its EXTVER"
            )
        else:
            mine = _plainest(ours) if role is Role.MASK or not lights[1:] else []
        if mine:
            found[role] = mine[0].number
    return found


def _plainest(images: Sequence[ImageHdu]) -> list[ImageHdu]:
    """Of several planes of one kind the one with the shortest name: VAR, and not VAR_POISSON."""
    return sorted(images, key=lambda image: len(image.name))[:1]


def _look_at_unnamed(images: Sequence[ImageHdu], roles: dict[int, Role], pixels: ReadPixels) -> None:
    """Find masks and errors among a few images without names: their pixels tell."""
    unnamed = [image for image in images if roles[image.number] is Role.UNNAMED]
    kinds = {image.bits for image in unnamed}
    most = MOST_ALIKE if len(kinds) == 1 and min(kinds) > 0 else MOST_COMPANIONS
    if not 2 <= len(unnamed) <= most:
        return
    first = unnamed[0]
    light = np.squeeze(pixels(first.number))
    for image in unnamed[1:]:
        if image.frame != first.frame:
            continue
        plane = np.squeeze(pixels(image.number))
        if image.bits > 0 and _is_mask(plane) and not _is_mask(light):
            roles[image.number] = Role.MASK
        elif image.bits < 0 and plane.shape == light.shape and light.ndim == 2:
            of_first = _before_light(light, plane)
            if of_first is not None:
                roles[first.number], first, light = of_first, image, plane
            else:
                roles[image.number] = _derived(light, plane) or Role.UNNAMED


def _is_mask(plane: NDArray[Any]) -> bool:
    """Whether integers are flags: most of them zero, all of them small sums of bits."""
    if np.count_nonzero(plane) > 0.5 * plane.size or plane.min() < 0:
        return False
    return len(np.unique(plane[plane != 0])) <= MOST_FLAGS


def _derived(light: NDArray[Any], plane: NDArray[Any]) -> Role | None:
    """Return what a plane is whose noise is that of the light: two exposures differ in their noise, a copy does not."""
    light, plane = (np.where(np.isfinite(values), values, np.nan).astype(np.float64) for values in (light, plane))
    good = np.isfinite(light) & np.isfinite(plane)
    if good.sum() < 100 or not (plane[good] >= 0).all() or np.array_equal(light, plane, equal_nan=True):
        return None
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        first, second = np.diff(light, axis=1), np.diff(plane, axis=1)
        faint = np.isfinite(first) & np.isfinite(second)
        if faint.sum() < 100:
            return None
        faint &= np.abs(first) <= 5 * np.median(np.abs(first[faint]))
        correlation = float(np.corrcoef(first[faint], second[faint])[0, 1])
        if not abs(correlation) >= DERIVED:
            return None
        if correlation < 0:
            return Role.INVERSE_VARIANCE
        straight, squared = (float(np.corrcoef(light[good], plane[good] ** power)[0, 1]) for power in (1, 2))
    return Role.VARIANCE if straight > squared else Role.ERROR


def _before_light(plane: NDArray[Any], light: NDArray[Any]) -> Role | None:
    """Return what the first of two planes with one noise is, if it was computed from the second; else None.

    Only light is negative; it is its error squared; its inverse variance is below 1 where counts are above.
    """
    role = _derived(light, plane)
    good = np.isfinite(light) & np.isfinite(plane)
    first, second = plane[good].astype(np.float64), light[good].astype(np.float64)
    if role is None or (second < 0).any():
        return role
    if role is Role.INVERSE_VARIANCE and np.median(first) < 1 < np.median(second):
        return role
    if role is not Role.ERROR:
        return None
    squared, *others = (float(np.corrcoef(first**a, second**b)[0, 1]) for a, b in ((2, 1), (1, 1), (1, 2)))
    return role if squared > max(others) else None
