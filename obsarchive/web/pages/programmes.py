"""Programmes: what they are, who may see them, what they observed, when their data become public."""

import re

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.documents import utc_now
from obsarchive.core.natural_order import natural
from obsarchive.core.release import MOST_MONTHS, NEVER, Period, Programme
from obsarchive.store import one_line
from obsarchive.web.framework.authorization import admin_only, audit, fresh_login_required, not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.models.citations import release

LONGEST = {"title": 300, "pi": 100, "licence": 100, "acknowledgement": 1000}
"""Most letters of the texts of a programme."""
DOI = re.compile(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9]{1,200}", re.ASCII)

bp = Blueprint("programmes", __name__)


@bp.get("/programmes")
def programmes() -> ResponseReturnValue:
    """List the programmes of which the user may see observations."""
    known = portal().store.programmes.all()
    mine = portal().store.browse.programs(current_user.document)
    listed = sorted({*mine, *known} if current_user.is_admin else mine, key=natural)
    overviews = {program: portal().store.programmes.overview(current_user.document, program) for program in listed}
    return render_template("programmes.html", overviews=overviews, known=known)


@bp.get("/programme/<program>")
def programme(program: str) -> ResponseReturnValue:
    """Show a programme."""
    return _page(_visible(program))


def _visible(program: str) -> str:
    """Return a programme that there is and that the user may see, or abort with 404."""
    mine = portal().store.browse.programs(current_user.document)
    if program not in mine and not (current_user.is_admin and portal().store.programmes.is_known(program)):
        not_found()
    return program


def _page(program: str, problem: str = "") -> ResponseReturnValue:
    """Show a programme; where a form was refused, with what was wrong and what was typed."""
    store, rule = portal().store, release()
    programme = store.programmes.find(program)
    return render_template(
        "programme.html",
        program=program,
        programme=programme,
        typed=request.form if problem else _as_typed(programme),
        members=store.users.members(program),
        months=store.programmes.months(current_user.document, program),
        period=rule.period(program),
        default=rule.default,
        n_public=store.public.count(rule, utc_now(), program),
        policy=portal().settings.release,
        most_months=MOST_MONTHS,
        problem=problem,
    ), 400 if problem else 200


def _as_typed(programme: Programme) -> dict[str, str]:
    """Return the fields of the form of a programme as it is."""
    period = programme.period
    choice = "archive" if period is None else NEVER if period == NEVER else "own"
    texts = {key: str(getattr(programme, key)) for key in (*LONGEST, "doi")}
    return {**texts, "period": choice, "months": str(period) if choice == "own" else ""}


@bp.post("/programme/<program>")
@admin_only
@fresh_login_required
def change(program: str) -> ResponseReturnValue:
    """Change what is said of a programme, and when its data become public.

    Parameters
    ----------
    program : str
        Identifier of the programme.

    Returns
    -------
    response
        Redirection to its page, or the page with what is wrong.
    """
    _visible(program)
    texts = {key: one_line(request.form.get(key, "").strip())[:most] for key, most in LONGEST.items()}
    doi = request.form.get("doi", "").strip().removeprefix("https://doi.org/")
    if doi and DOI.fullmatch(doi) is None:
        return _page(program, "A DOI looks like 10.1234/name.")
    store = portal().store
    before = _as_typed(store.programmes.find(program))["months"]
    period, problem = _period(request.form.get("period", ""), request.form.get("months", "").strip(), before)
    if problem:
        return _page(program, problem)
    store.programmes.save(program, {**texts, "doi": doi, "period": period}, current_user.name)
    audit("programme changed", subject=program, period=str("archive" if period is None else period), **texts, doi=doi)
    flash(f"Programme {program} was changed.")
    return redirect(url_for(".programme", program=program))


def _period(choice: str, months: str, before: str) -> tuple[Period | None, str]:
    """Return the period that a form gives (None: that of the archive), and what is wrong with it.

    Months that somebody wrote without choosing them are not dropped in silence: data could be public too early.
    """
    if choice == "own":
        if months.isascii() and months.isdecimal() and int(months) <= MOST_MONTHS:
            return int(months), ""
        return None, f"The proprietary period is a number of months, {MOST_MONTHS} at most."
    if months not in ("", before):
        return None, f"{months} months were given, but not chosen: choose a period of its own, or empty the field."
    return (NEVER, "") if choice == NEVER else (None, "")
