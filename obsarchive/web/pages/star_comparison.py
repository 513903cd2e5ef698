"""Two stars of the datasets of a target on one page."""

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from obsarchive.web.models.comparison import KINDS, compared
from obsarchive.web.models.dataset_curves import curve_of
from obsarchive.web.models.light_curve_data import BJD
from obsarchive.web.pages.datasets import curves_of_star, listed, requested_period

bp = Blueprint("star_comparison", __name__)

SAME_FRAME_D = 1e-4
"""Largest difference of the times of two stars on one frame, by their directions [d]."""


@bp.get("/lightcurves/compare")
def compare() -> ResponseReturnValue:
    """Show two stars: their light curves, difference or flux ratio, and residuals."""
    known = listed()
    targets = sorted({str(found.get("target")) for found in known})
    target = request.args.get("target") or (targets[0] if targets else "")
    chosen = [found for found in known if str(found.get("target")) == target]
    numbers, problem = _stars()
    stars = tuple(
        [curve_of(found, curve) for found, curve in curves_of_star(chosen, number) if curve is not None]
        for number in numbers
    )
    problem = problem or next(
        (
            f"no dataset of {target} has the star {number}"
            for number, own in zip(numbers, stars, strict=True)
            if not own
        ),
        "",
    )
    kind = request.args.get("show", "")
    names = ("target" if numbers[0] == 0 else f"star {numbers[0]}", f"star {numbers[1]}")
    found = (
        None
        if problem
        else compared((stars[0], stars[1]), names, BJD, SAME_FRAME_D, requested_period(), kind or KINDS[0])
    )
    return render_template(
        "star_comparison.html",
        targets=targets,
        target=target,
        numbers=numbers,
        names=names,
        found=found,
        problem=problem,
    )


def _stars() -> tuple[tuple[int, int], str]:
    texts = request.args.get("star", "0") or "0", request.args.get("other", "1") or "1"
    if request.args.get("show", KINDS[0]) not in ("", *KINDS):
        return (0, 1), f"show: one of {', '.join(KINDS)}"
    wrong = next((text for text in texts if not (text.isascii() and text.isdecimal() and len(text) < 10)), None)
    if wrong is not None:
        return (0, 1), f"{wrong[:20]!r} is no number of a star"
    return (int(texts[0]), int(texts[1])), ""
