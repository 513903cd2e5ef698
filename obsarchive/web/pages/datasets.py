"""Time-series photometry: datasets and their light curves."""

import csv
from pathlib import Path
from typing import Any

from astropy import units as u
from flask import Blueprint, flash, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from obsarchive.core.documents import utc_now
from obsarchive.core.logs import last_lines
from obsarchive.errors import ArchiveError
from obsarchive.instruments.base import degrees
from obsarchive.store import Document
from obsarchive.timeseries.light_curve_reader import Stored, StoredCurve
from obsarchive.timeseries.names import FRAMES, LIGHT_CURVE, LOG, PLOTS, SUMMARY, TABLE
from obsarchive.web.framework import requests
from obsarchive.web.framework.authorization import admin_only, audit, for_tokens, not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import FILE_POLICY, csv_attachment
from obsarchive.web.framework.parameters import in_one_line, refuse, unknown_values
from obsarchive.web.models.dataset_curves import modelled
from obsarchive.web.models.periods import read_period

bp = Blueprint("datasets", __name__)

DOWNLOADS = {
    TABLE: "all stars on all frames (HDF5, path photometry)",
    LIGHT_CURVE: "light curve of the target with units (ECSV)",
    FRAMES: "quality of every frame (ECSV)",
    SUMMARY: "what the headers say (text)",
}
MOST_FRAMES = 2000
MODELS = ("none",)
"""What may be wanted instead of the model that fits."""


def listed() -> list[Document]:
    """Return the datasets that the user may see."""
    return portal().store.datasets.visible("all" if current_user.is_admin else current_user.programs)


def find(key: str) -> Document:
    """Return a dataset that the user may see; 404 for others."""
    found = portal().store.datasets.find(key)
    own = found is not None and (
        current_user.is_admin or not set(current_user.programs).isdisjoint(found.get("proposals", ()))
    )
    if found is None or not own:
        not_found()
    return found


@bp.get("/datasets")
def datasets() -> ResponseReturnValue:
    """Show all datasets; the page reloads its inner part every few seconds."""
    return render_template("datasets.html", **_overview())


@bp.get("/datasets/now")
def now() -> ResponseReturnValue:
    """Return the part of the page that changes."""
    return render_template("_datasets.html", **_overview())


def _overview() -> dict[str, Any]:
    return {"datasets": listed(), "intake": portal().store.frames.last_run(), "now": utc_now()}


@bp.get("/dataset/<key>")
def dataset(key: str) -> ResponseReturnValue:
    """Show one dataset: its light curve, its plots, its frames, its log."""
    found = find(key)
    folder = Path(found["folder"])
    of_target = curves_of_star([one for one in listed() if one.get("target") == found["target"]], 0)
    shown = modelled(curves_of_star([found], 0), of=of_target)
    return render_template(
        "dataset.html",
        dataset=found,
        facts=shown.facts,
        lens=shown.lens,
        frames=_frames(folder),
        plots={name: text for name, text in PLOTS.items() if (folder / name).is_file()},
        downloads=_downloads(folder),
        log_lines=_log_of(folder),
        now=utc_now(),
    )


@bp.get("/dataset/<key>/file/<name>")
@for_tokens("download")
def product(key: str, name: str) -> ResponseReturnValue:
    """Send a product of a dataset.

    Parameters
    ----------
    key : str
        Key of the dataset.
    name : str
        Name of the file.

    Returns
    -------
    response
        The file; 404 when there is none.
    """
    folder = Path(find(key)["folder"])
    if name not in PLOTS and name not in _downloads(folder):
        not_found()
    path = folder / name
    if not path.is_file() or path.is_symlink():
        not_found()
    is_picture = path.suffix == ".png"
    response = send_file(path, as_attachment=not is_picture, download_name=name, conditional=True, max_age=0)
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = FILE_POLICY
    if not is_picture:
        audit("download", path=request.path)
    return response


@bp.post("/dataset/<key>/redo")
@admin_only
def redo(key: str) -> ResponseReturnValue:
    """Request a redo of a dataset: every frame is measured again."""
    find(key)
    requests.submit("redo dataset", dataset=key)
    flash("A redo of the dataset was requested.")
    return redirect(url_for(".dataset", key=key))


@bp.get("/lightcurves")
def lightcurves() -> ResponseReturnValue:
    """Show the light curve of a star in all datasets of a target, folded if a period is given."""
    known = listed()
    targets = sorted({str(found.get("target")) for found in known})
    target = request.args.get("target") or (targets[0] if targets else "")
    chosen = [found for found in known if str(found.get("target")) == target]
    curves, problem = requested_curves(chosen)
    if targets and not chosen:
        problem = "there is no dataset of this target that you may see"
    period, wrong = requested_period()
    wrong |= unknown_values(request.args, {"model": MODELS})
    shown = modelled(curves, period, has_model=request.args.get("model") != "none")
    return render_template(
        "lightcurves.html",
        targets=targets,
        target=target,
        shown=shown,
        curves=[(found, curve) for found, curve in curves if curve is not None],
        problem=in_one_line(wrong) or problem,
        parameters=request.args,
    ), 400 if wrong else 200


@bp.get("/lightcurves/export/<any(csv, json):form>")
@for_tokens("read")
def export(form: str) -> ResponseReturnValue:
    """Return the points of what the page shows."""
    refuse(requested_period()[1] | unknown_values(request.args, {"model": MODELS}))
    chosen = [found for found in listed() if str(found.get("target")) == request.args.get("target", "")]
    curves, _ = requested_curves(chosen)
    rows = [
        {"target": found.get("target"), "instrument": found.get("instrument"), "filter": found.get("filter"), **row}
        for found, curve in curves
        if curve is not None
        for row in ({"star_id": curve.star_id, **point} for point in curve.rows())
    ]
    audit("export", path=request.full_path)
    if form == "json":
        return {"points": rows}
    header = list(dict.fromkeys(name for row in rows for name in row)) or ["target"]
    return csv_attachment(header, ([row.get(name) for name in header] for row in rows), "lightcurves.csv")


def requested_curves(chosen: list[Document]) -> tuple[list[tuple[Document, StoredCurve | None]], str]:
    """Return the light curves of the star or position that the parameters name, and problems with them."""
    star, position, problem = 0, None, ""
    if request.args.get("star"):
        try:
            star = int(request.args["star"])
        except ValueError:
            problem = f"{request.args['star'][:20]!r} is no number of a star"
    if request.args.get("ra") or request.args.get("dec"):
        ra, dec = degrees(request.args.get("ra"), u.hourangle), degrees(request.args.get("dec"), u.deg)
        position = (ra, dec) if ra is not None and dec is not None else None
        problem = "" if position else "a position needs a right ascension such as 17:30:25.5 and a declination"
    if problem:
        return [], problem
    curves = [(found, _curve(Path(str(found.get("folder"))), star, position)) for found in chosen]
    if chosen and all(curve is None for _, curve in curves):
        problem = "no star of a reduced dataset is there"
    return curves, problem


def curves_of_star(chosen: list[Document], star: int) -> list[tuple[Document, StoredCurve | None]]:
    """Return the light curve of a star in each of some datasets; None where there is none."""
    return [(found, _curve(Path(str(found.get("folder"))), star, None)) for found in chosen]


def _curve(folder: Path, star: int, position: tuple[float, float] | None) -> StoredCurve | None:
    try:
        with Stored(folder) as stored:
            return stored.star(star) if position is None else stored.near(*position)
    except ArchiveError:
        return None


def requested_period() -> tuple[float | None, dict[str, str]]:
    """Return the period of the request [d], None without one, and what is wrong with it, by parameter."""
    period, problem = read_period(request.args.get("period", ""))
    return period, {"period": problem} if problem else {}


def _downloads(folder: Path) -> dict[str, str]:
    """Files of a dataset that may be fetched, and what they hold."""
    own = {path.name: f"light curve of the target ({path.suffix[1:]})" for path in sorted(folder.glob("*_lc.*"))}
    return {name: text for name, text in {**DOWNLOADS, **own}.items() if (folder / name).is_file()}


def _frames(folder: Path) -> list[dict[str, str]]:
    """Quality of the frames, as it was written."""
    try:
        lines = [line for line in (folder / FRAMES).read_text().splitlines() if not line.startswith("#")]
    except OSError:
        return []
    return list(csv.DictReader(lines, delimiter=" "))[:MOST_FRAMES]


def _log_of(folder: Path) -> list[str]:
    try:
        return last_lines(folder / LOG)
    except OSError:
        return []
