"""What the daemon is doing now, as far as the user may see it."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.causes import SILENCE
from obsarchive.core.documents import utc_now
from obsarchive.core.logs import last_lines
from obsarchive.core.raw_problems import ProblemGroup, by_kind
from obsarchive.names import is_night
from obsarchive.pipeline.chain import steps_of
from obsarchive.store import Document
from obsarchive.store.jobs import JOBS_KEPT_DAYS
from obsarchive.web.framework.authorization import admin_only, audit
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.template_filters import utc
from obsarchive.web.models.daemon_status import DOWN, STARTING, daemon_report, daemon_state
from obsarchive.web.models.pipeline_views import has_begun
from obsarchive.web.models.problems import ProblemsOfCause, by_cause

MAX_UNDER_WAY = 200
MAX_ENDED = 60
MAX_ACTIVE = 60
MAX_REDONE = 1000
"""Steps of which one request asks for a redo."""
MAX_NIGHTS = 10
ENDED = ("done", "failed", "rejected", "lacking")
RECENT = timedelta(days=JOBS_KEPT_DAYS)
"""Rejected steps, and those that lack something, are listed for so long; failed ones for as long as they are failed."""

bp = Blueprint("jobs", __name__)


@bp.get("/jobs")
def jobs() -> ResponseReturnValue:
    """Show the page, which then reloads its inner part every few seconds."""
    return render_template("jobs.html", **under_observation())


@bp.get("/jobs/now")
def now() -> ResponseReturnValue:
    """Return the part of the page that changes."""
    return render_template("_jobs.html", **under_observation())


@bp.get("/jobs/log")
@admin_only
def log() -> ResponseReturnValue:
    """Return the last lines of the daemon's log."""
    path = portal().settings.paths.logs / "archiver.log"
    try:
        lines = last_lines(path)
    except OSError as err:
        lines = [f"{path} cannot be read: {err.strerror}"]
    return render_template("_log.html", lines=lines)


def under_observation() -> dict[str, Any]:
    """Return what runs, waits, is missing now, and ended, as far as the user may see it."""
    under_way = _recent("enqueued", MAX_UNDER_WAY)
    ended = [job for state in ENDED for job in _recent(state, MAX_ENDED)]
    mine = _visible(subject_of(job) for job in (*under_way, *ended))
    shown = [job for job in under_way if subject_of(job) in mine]
    running = [("running", job) for job in shown if has_begun(job)]
    queued = [("queued", job) for job in shown if not has_begun(job)]
    daemon = daemon_report()
    return {
        "daemon": daemon,
        "state": daemon_state(daemon),
        "is_at_work": daemon_state(daemon) not in (*DOWN, STARTING),
        "running": running,
        "queued": queued,
        "active": (running + queued)[:MAX_ACTIVE],
        "missing": missing_now(),
        "days_kept": RECENT.days,
        "history": _newest(job for job in ended if subject_of(job) in mine),
        "problems": _problems(),
        "is_night": is_night,
        "now": utc_now(),
    }


def _recent(state: str, limit: int) -> list[Document]:
    """Return the latest attempts in a state: neither those at observations of others, nor names of these."""
    found = portal().store.jobs.recent(state, limit)
    return list(portal().store.browse.without_others(current_user.document, found))


def missing_now() -> list[ProblemsOfCause]:
    """Return the steps that have no products now, of what the user may see, by cause."""
    store, chain, since = portal().store, portal().chain, utc_now() - RECENT
    of_observations = store.problems.of_observations(current_user.document, steps_of(chain), since)
    of_nights = store.problems.of_nights(current_user.document, steps_of(chain, "night"), since)
    return by_cause([*of_nights, *of_observations])


@bp.post("/jobs/redo")
@admin_only
def redo_all() -> ResponseReturnValue:
    """Request a redo of all steps that have no products for the same cause."""
    wanted = tuple(request.form.get(key, "") for key in ("state", "pipeline", "step", "cause"))
    group = next((group for group in missing_now() if group.key == wanted), None)
    if group is None:
        flash("None of them has this problem any more.")
        return redirect(url_for(".jobs"))
    chosen = group.found[:MAX_REDONE]
    audit("redo all", pipeline=group.pipeline, step=group.step, cause=group.cause, count=str(len(chosen)))
    for problem in chosen:
        what = {"subject": problem.subject, "pipeline": group.pipeline, "step": group.step}
        portal().store.requests.ask("redo", current_user.name, what)
    more = len(group.found) - len(chosen)
    flash(
        f"A redo of {len(chosen)} steps was requested." + (f" {more} more remain: request them again." if more else "")
    )
    return redirect(url_for(".jobs"))


@bp.get("/pulse")
def pulse() -> ResponseReturnValue:
    """Return the state of the daemon, for pages that show nothing else that changes."""
    return poll("")


def poll(pulse: str) -> ResponseReturnValue:
    """Answer whether a page is out of date, what the daemon does, and when it was heard of."""
    daemon = daemon_report()
    updated = daemon.get("updated")
    silent_s = max(0.0, (utc_now() - updated).total_seconds()) if isinstance(updated, datetime) else None
    return {
        "pulse": pulse,
        "daemon": daemon_state(daemon),
        "started": utc(daemon.get("started"), "%H:%M:%S"),
        "silent_s": silent_s,
        "limit_s": SILENCE.total_seconds(),
    }


def _problems() -> list[tuple[str, int, list[ProblemGroup]]]:
    """Return the newest nights with raw files that are not understood, their number, and the reasons."""
    nights = portal().store.nights.with_problems(MAX_NIGHTS)
    if not current_user.is_admin:
        mine = portal().store.browse.nights_of(current_user.document, [night.id for night in nights])
        nights = [night for night in nights if night.id in mine]
    return [(night.id, night.problems_count, by_kind(night.problems())) for night in nights]


def subject_of(job: Mapping[str, Any]) -> str:
    """Observation or night that a job works on."""
    return str(job.get("subject") or "")


def _visible(subjects: Iterable[str]) -> set[str]:
    browse, named = portal().store.browse, set(subjects)
    if current_user.is_admin:
        return named
    nights = {subject for subject in named if is_night(subject)}
    return browse.visible(current_user.document, named - nights) | browse.nights_of(current_user.document, nights)


def _newest(jobs: Iterable[Document]) -> list[Document]:
    epoch = datetime.min.replace(tzinfo=utc_now().tzinfo)
    ordered = sorted(jobs, key=lambda job: job.get("finished") or job.get("queued") or epoch, reverse=True)
    return ordered[:MAX_ENDED]
