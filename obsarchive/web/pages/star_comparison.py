"""Two stars of the datasets of a target on one page."""

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from obsarchive.web.framework.parameters import in_one_line, unknown_values
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
    numbers, wrong = _stars()
    period, wrong_period = requested_period()
    wrong |= wrong_period | unknown_values(request.args, {"show": KINDS})
    stars = tuple(
        [curve_of(found, curve) for found, curve in curves_of_star(chosen, number) if curve is not None]
        for number in numbers
    )
    problem = in_one_line(wrong) or next(
        (
            f"no dataset of {target} has the star {number}"
            for number, own in zip(numbers, stars, strict=True)
            if not own
        ),
        "",
    )
    kind = request.args.get("show", "")
    names = ("target" if numbers[0] == 0 else f"star {numbers[0]}", f"star {numbers[1]}")
    found = None if problem else compared((stars[0], stars[1]), names, BJD, SAME_FRAME_D, period, kind or KINDS[0])
    return render_template(
        "star_comparison.html",
        targets=targets,
        target=target,
        numbers=numbers,
        names=names,
        found=found,
        problem=problem,
    ), 400 if wrong else 200


def _stars() -> tuple[tuple[int, int], dict[str, str]]:
    texts = {"star": request.args.get("star") or "0", "other": request.args.get("other") or "1"}
    wrong = {
        name: f"{text[:20]!r} is no number of a star"
        for name, text in texts.items()
        if not (text.isascii() and text.isdecimal() and len(text) < 10)
    }
    return (0, 1) if wrong else (int(texts["star"]), int(texts["other"])), wrong
