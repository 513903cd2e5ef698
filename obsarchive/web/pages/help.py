"""The user guide, the reference of the interface for programs, and how a program gets what a page shows."""

from flask import Blueprint, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue

from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.models import guide, openapi, program_examples
from obsarchive.web.models.columns import columns

bp = Blueprint("help", __name__, url_prefix="/help")

CHAPTERS = (
    ("First steps", ("tutorial", "portal", "products", "glossary")),
    (
        "What was measured",
        tuple(
            f"pipelines/{name}"
            for name in (
                "calibration",
                "bright_star",
                "faint_star",
                "high_contrast",
                "psf_library",
                "extended_object",
                "ccd",
                "astrometry",
                "photometry",
                "seeing",
            )
        ),
    ),
    ("Time series and surveys", ("photometry", "surveys")),
    (
        "Running an archive",
        ("configuration", "operations", "scaling", "performance", "raw_data", "mongo_shell", "security", "reliability"),
    ),
    ("Own cameras and pipelines", ("adapting", "architecture")),
)

WITH_EXAMPLES = frozenset(
    {
        *("nights", "summary", "tonight", "observations", "search", "targets", "programmes", "library", "jobs"),
        *("datasets", "star_comparison", "sources", "triage", "source_comparison"),
    }
)
"""Blueprints whose pages show what programs can get."""


@bp.app_template_global("program_url")
def program_address() -> str:
    """Return the address of the examples for the page that is shown; empty where programs get nothing like it."""
    if request.blueprint not in WITH_EXAMPLES:
        return ""
    return url_for("help.program", of=request.full_path.rstrip("?"))


@bp.app_template_global("help_url")
def page_address(name: str) -> str:
    """Return the address of a page of the guide."""
    folder, _, last = name.rpartition("/")
    return url_for("help.page", folder=folder or None, name=last)


def _picture_address(name: str) -> str:
    return url_for("help.picture", name=name)


@bp.get("")
def contents() -> ResponseReturnValue:
    """Show what there is to read."""
    found = [(title, [(name, guide.title(name)) for name in names]) for title, names in CHAPTERS]
    return render_template("help.html", chapters=found)


@bp.get("/<name>", defaults={"folder": ""})
@bp.get("/<any(pipelines, products):folder>/<name>")
def page(folder: str, name: str) -> ResponseReturnValue:
    """Show a page of the guide."""
    return _shown(f"{folder}/{name}" if folder else name)


@bp.get("/pictures/<name>")
def picture(name: str) -> ResponseReturnValue:
    """Send a picture of the guide."""
    found = guide.picture(name)
    if found is None:
        not_found()
    return send_file(found)


@bp.get("/product")
def product() -> ResponseReturnValue:
    """Show the page that explains a product, by the name of the file."""
    found = guide.product_page(request.args.get("name", ""))
    if found is None:
        not_found()
    return _shown(found)


@bp.get("/api")
def api() -> ResponseReturnValue:
    """Show the reference of the interface for programs."""
    document = openapi.document(portal().settings.server.name, columns(portal().chain))
    return render_template("help_api.html", document=document, operations=openapi.operations(document))


@bp.get("/program")
def program() -> ResponseReturnValue:
    """Show how a program gets what a page shows."""
    about, examples = program_examples.examples(request.args.get("of", ""))
    return render_template("help_program.html", about=about, examples=examples)


def _shown(name: str) -> ResponseReturnValue:
    return render_template("help_page.html", page=_page(name), name=name)


def _page(name: str) -> guide.Page:
    found = guide.page(name, page_address, _picture_address)
    if found is None:
        not_found()
    return found
