"""How the frames of a sequence lie on each other by all their stars, and which of them are contradicted.

The largest group of frames whose stars agree wins, turned or not: all of it can be put onto its first frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import Float64Array
from obsarchive.science.imaging.resampling import Turn, placed
from obsarchive.science.registration.star_patterns import Agreement, StarList, agreement, match

LEAST_STARS = 2
MOST_GROUPS, MOST_LINKS = 5, 8
OUTSHINES = 2.0
"""Flux over that of the second star, of a star that is taken for the same as the brightest of another frame."""
SAME_TURN_PX = 1.0
"""Displacement of the corners of a frame below which two turns are the same."""


@dataclass(frozen=True, eq=False)
class Orientation:
    """How each frame of a sequence lies on the first good one.

    Attributes
    ----------
    first : int
        Frame on which the others are put.
    turns : tuple of n (Turn or None)
        From each frame to the first; None where its stars do not tell.
    agreements : tuple of n (Agreement or None)
        With the richest frame of the sequence; None where there is nothing to compare.
    reasons : tuple of n str
        Why a frame is rejected; empty if the stars agree or do not tell.
    n_agreeing : int
        Frames whose stars agree with each other.
    """

    first: int
    turns: tuple[Turn | None, ...]
    agreements: tuple[Agreement | None, ...]
    reasons: tuple[str, ...]
    n_agreeing: int

    @property
    def has_nothing_in_common(self) -> bool:
        """Whether the stars of each frame contradict those of the others."""
        return self.n_agreeing == 1 and sum(bool(reason) for reason in self.reasons) == len(self.reasons) - 1 > 0

    @property
    def turned(self) -> dict[int, Turn]:
        """Good frames by number that are turned or mirrored, not only shifted."""
        return {
            i: turn
            for i, turn in enumerate(self.turns)
            if turn is not None and not self.reasons[i] and not turn.is_shift
        }

    def shifts(self, shape: tuple[int, int]) -> dict[int, Float64Array]:
        """Return the shift that remains once frames of a shape are turned, by number, where stars tell it [pixel]."""
        middle = (np.array(shape, float) - 1) / 2
        known = {i: turn for i, turn in enumerate(self.turns) if turn is not None and not self.reasons[i]}
        return {
            i: turn.offset if turn.is_shift else turn(middle) - placed(turn, shape)(middle) for i, turn in known.items()
        }


def unknown(n: int) -> Orientation:
    """Return the orientation of `n` frames whose stars do not tell it."""
    return Orientation(0, (None,) * n, (None,) * n, ("",) * n, 0)


def orient(lists: Sequence[StarList]) -> Orientation:
    """Find how the frames of a sequence lie on each other.

    Parameters
    ----------
    lists : sequence of n StarList
        Stars of each frame.

    Returns
    -------
    Orientation
        Turns and reasons of the n frames.
    """
    n = len(lists)
    rich = [i for i in range(n) if len(lists[i]) >= LEAST_STARS]
    shown = [i for i in range(n) if len(lists[i])]
    if len(shown) < 2:
        return unknown(n)
    group: dict[int, Turn]
    agreements: dict[int, Agreement]
    if len(rich) < 2:
        # of a single star nothing is contradicted, but it is where it is
        group, agreements = {max(shown, key=lambda i: (len(lists[i]), -i)): Turn.shift(0, 0)}, {}
    else:
        group, agreements = _largest_group(lists, rich)
    first = min(group)
    back = group[first].inverse
    turns = {i: _direct(back.after(turn), lists[i], lists[first]) for i, turn in group.items()}
    turns[first] = Turn.shift(0, 0)
    reasons = [""] * n
    for i, found in agreements.items():
        if i not in turns and found.is_contradiction:
            reasons[i] = f"contradicted: {found}"
    _add_poor_frames(turns, reasons, lists)
    return Orientation(
        first,
        tuple(turns.get(i) for i in range(n)),
        tuple(agreements.get(i) for i in range(n)),
        tuple(reasons),
        len(group),
    )


def _largest_group(lists: Sequence[StarList], rich: Sequence[int]) -> tuple[dict[int, Turn], dict[int, Agreement]]:
    """Return the turns of the largest group onto its richest frame, and the agreements of all frames with that."""
    remaining = sorted(rich, key=lambda i: (-len(lists[i]), i))
    best: dict[int, Turn] = {}
    best_found: dict[int, Agreement] = {}
    for _ in range(MOST_GROUPS):
        # those that are left could not outnumber the group
        if len(remaining) <= len(best):
            break
        # one of the richest, but not a frame or mean in which every star is double
        reference = remaining[len(remaining) // 4]
        compared = {i: match(lists[i], lists[reference]) for i in rich if i != reference}
        found = {i: agreed for i, agreed in compared.items() if agreed is not None}
        group = {reference: Turn.shift(0, 0), **{i: agreed.turn for i, agreed in found.items() if agreed.is_certain}}
        _add_linked(group, found, lists)
        if len(group) > len(best):
            best, best_found = group, found
        remaining = [i for i in remaining if i not in group]
    return best, best_found


def _add_linked(group: dict[int, Turn], found: dict[int, Agreement], lists: Sequence[StarList]) -> None:
    """Add the frames that agree with others of the group than the reference, which they may not overlap."""
    # the farthest from the reference first
    links = sorted(group, key=lambda i: -float(np.abs(group[i].offset).max()))[:MOST_LINKS]
    for i in [i for i, agreed in found.items() if not agreed.is_certain]:
        for link in links:
            agreed = match(lists[i], lists[link])
            if agreed is not None and agreed.is_certain:
                group[i], found[i] = group[link].after(agreed.turn), agreed
                break


def _direct(turn: Turn, stars: StarList, first: StarList) -> Turn:
    """Return the turn onto the first frame, by their own stars if it is hardly more than a shift.

    The errors of two turns, onto the reference and from there, would make it a small turn.
    """
    if turn.is_shift or turn.displacement_px(np.eye(2), stars.shape) > SAME_TURN_PX:
        return turn
    found = match(stars, first)
    if found is not None and found.is_certain:
        return found.turn
    middle = (np.array(stars.shape, float) - 1) / 2
    return Turn.shift(*(turn(middle) - middle))


def _add_poor_frames(turns: dict[int, Turn], reasons: list[str], lists: Sequence[StarList]) -> None:
    """Find how frames with too few stars lie: by the brightest star of a field that is only shifted, or as neighbours.

    Where frames are turned and the neighbours of a poor frame are not turned alike, it is rejected.
    """
    known = sorted(turns)
    are_shifts = all(turn.is_shift for turn in turns.values())
    witness = max(known, key=lambda i: (len(lists[i]), -i))
    for i, stars in enumerate(lists):
        if i in turns or reasons[i]:
            continue
        if are_shifts:
            shift = _by_brightest(stars, lists[witness])
            if shift is not None:
                turns[i] = turns[witness].after(shift)
            continue
        near = [turns[k] for k in (_last(known, i), _next(known, i)) if k is not None]
        if near[0].displacement_px(near[-1].matrix, stars.shape) < SAME_TURN_PX:
            turns[i] = near[0]
        else:
            reasons[i] = f"contradicted: its stars, {len(stars)}, do not tell whether the frame is turned"


def _by_brightest(stars: StarList, reference: StarList) -> Turn | None:
    """Return the shift by the brightest star of both; None if that is not the same one for certain."""
    if not len(stars) or (len(reference) > 1 and reference.flux[0] < OUTSHINES * reference.flux[1]):
        return None
    shift = Turn.shift(*(reference.positions[0] - stars.positions[0]))
    is_same = 1 / OUTSHINES < stars.flux[0] / reference.flux[0] < OUTSHINES
    return shift if is_same and not agreement(shift, stars, reference).is_contradiction else None


def _last(known: Sequence[int], i: int) -> int | None:
    return max((k for k in known if k < i), default=None)


def _next(known: Sequence[int], i: int) -> int | None:
    return min((k for k in known if k > i), default=None)
