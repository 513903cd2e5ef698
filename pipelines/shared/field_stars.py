"""The stars of the frames of a sequence: which frames are turned, and which are contradicted by their stars."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array
from obsarchive.science.imaging.resampling import Turn
from obsarchive.science.registration.frame_orientation import LEAST_STARS, Orientation, orient, unknown
from obsarchive.science.registration.frame_ranking import MIN_STEADY_FRAMES
from obsarchive.science.registration.stack_check import check_stack
from obsarchive.science.registration.star_patterns import StarList, star_list

log = logging.getLogger(__name__)

MOST_LONG_EXPOSURES = 60
"""Of longer sequences means of consecutive frames are looked at, not every frame."""
GROUPS, GROUP_FRAMES = 8, 8
"""Parts of a long sequence, and frames of each that are averaged."""
LEAST_FIELD = 3
"""Stars that a frame of a sequence of short exposures must show for each of them to be looked at."""
MOST_IN_STACK = 1000
"""Stars of a stack that are compared: more than of a frame, which they must hold."""

Read = Callable[[int], Float32Array]
Mean = Callable[[Sequence[int]], Float32Array]


def field_orientation(n: int, read: Read, mean: Mean) -> tuple[Orientation, dict[int, StarList]]:
    """Find how the frames of a sequence lie on each other by all their stars.

    Frames of long sequences, in which single ones hardly show stars, are looked at in groups; one by one only if the
    stars of groups disagree.

    Parameters
    ----------
    n : int
        Number of frames.
    read : callable
        Returns a calibrated frame by its number.
    mean : callable
        Returns the mean of frames by their numbers.

    Returns
    -------
    orientation : Orientation
        Of the frames.
    lists : dict of StarList
        Stars by number of the frame, of those that were looked at.

    Raises
    ------
    Unprocessable
        Frames show stars, but no two of them the same.
    """
    lists: dict[int, StarList] = {}
    if n < 2:
        return unknown(n), lists
    if n > MOST_LONG_EXPOSURES:
        return _by_groups(n, read, mean, lists), lists
    if n >= MIN_STEADY_FRAMES:
        lists.update((i, star_list(read(i))) for i in (0, n // 2))
        if max(len(stars) for stars in lists.values()) < LEAST_FIELD:
            return unknown(n), lists
    found = _by_frames(n, read, lists)
    if not found.has_nothing_in_common:
        return found, lists
    text = f"no star in common: none of the {n} frames shows the stars of another"
    if n < MIN_STEADY_FRAMES:
        raise Unprocessable(text, "failed")
    # so many frames may show something else that stays in one place
    log.warning("%s", text)
    return unknown(n), lists


def _by_frames(n: int, read: Read, lists: dict[int, StarList]) -> Orientation:
    for i in range(n):
        if i not in lists:
            lists[i] = star_list(read(i))
    return orient([lists[i] for i in range(n)])


def _by_groups(n: int, read: Read, mean: Mean, lists: dict[int, StarList]) -> Orientation:
    """Orientation by means of consecutive frames: unknown if they agree, as most do, or show too few stars."""
    parts = np.array_split(np.arange(n), GROUPS)
    found = []
    for part in parts:
        found.append(star_list(mean(part[:: max(1, len(part) // GROUP_FRAMES)].tolist())))
        if len(found[0]) < LEAST_STARS:
            return unknown(n)
    groups = orient(found)
    if groups.has_nothing_in_common or not (any(groups.reasons) or groups.turned):
        return unknown(n)
    single = _by_frames(n, read, lists)
    if single.n_agreeing >= n / 2:
        return single
    return _spread(groups, [len(part) for part in parts])


def _spread(groups: Orientation, sizes: Sequence[int]) -> Orientation:
    """Return the orientation of the frames of groups; a group next to one that is turned otherwise is rejected."""
    reasons = list(groups.reasons)
    for k in range(len(sizes) - 1):
        here, there = groups.turns[k], groups.turns[k + 1]
        if here is not None and there is not None and not np.allclose(here.matrix, there.matrix, atol=1e-3):
            for part in (k, k + 1):
                reasons[part] = reasons[part] or "contradicted: the field was turned about this time"
    number = np.repeat(np.arange(len(sizes)), sizes).tolist()
    kept = [k for k in number if not reasons[k]]
    return Orientation(
        number.index(groups.first),
        tuple(groups.turns[k] for k in number),
        tuple(groups.agreements[k] for k in number),
        tuple(reasons[k] for k in number),
        len(kept),
    )


def checked(
    image: Float32Array, scale: int, stars: StarList, turn: Turn, witness: int, *, is_speckled: bool = False
) -> dict[str, Any]:
    """Compare a stack with one of its frames.

    Parameters
    ----------
    image : ndarray (scale * ny, scale * nx)
        The stack [ADU per pixel of the stack].
    scale : int
        Pixels of the stack per raw pixel along each axis.
    stars : StarList
        Stars of the frame.
    turn : Turn
        From the frame to the stack [raw pixel].
    witness : int
        Number of the frame.
    is_speckled : bool
        Whether the exposures are so short that stars are narrower in a frame than in the mean of any.

    Returns
    -------
    dict
        For the results of the step.

    Raises
    ------
    Unprocessable
        The stars of the stack are not those of the frame.
    """
    ny, nx = stars.shape
    native = image.reshape(ny, scale, nx, scale).sum(axis=(1, 3))
    compared = check_stack(star_list(native, MOST_IN_STACK), stars, turn)
    problem = compared.other_stars if is_speckled else compared.problem
    if problem:
        text = f"the stack contradicts frame {witness}: {problem}"
        raise Unprocessable(text, "failed", {"check": compared.numbers})
    return {"check": {"frame": witness, **compared.numbers}}
