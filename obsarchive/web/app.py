"""The portal shows products to their owners. It reads the database, and writes only requests of users."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from flask import Blueprint, g, url_for
from flask_login import AnonymousUserMixin, current_user

from obsarchive import __version__
from obsarchive.config.field_types import import_object
from obsarchive.config.model import Config
from obsarchive.core.shipped import shipped
from obsarchive.errors import ConfigError
from obsarchive.store import Store
from obsarchive.store.notes import QUALITIES
from obsarchive.web.api import monitoring, v1
from obsarchive.web.framework.authorization import PUBLIC_VO, require_login
from obsarchive.web.framework.context import Portal, portal
from obsarchive.web.framework.error_pages import register_error_handlers
from obsarchive.web.framework.security import configure_security
from obsarchive.web.framework.template_filters import FILTERS
from obsarchive.web.models import guide, measurements, wording
from obsarchive.web.models.daemon_status import DOWN, STARTING, daemon_report, daemon_state
from obsarchive.web.pages import (
    account,
    datasets,
    downloads,
    help,
    jobs,
    login,
    nights,
    notes,
    observations,
    programmes,
    psf_library,
    public,
    search,
    sky_view,
    star_comparison,
    summary,
    targets,
    tonight,
    users,
    viewer,
)
from obsarchive.web.surveys import source_comparison, sources, triage
from obsarchive.web.surveys.source_urls import SourceName
from obsarchive.web.vo import tap, views
from surveys import dataset
from surveys.database import root_of

__all__ = ["Portal", "create_app"]

BLUEPRINTS = (
    login,
    account,
    nights,
    summary,
    tonight,
    observations,
    search,
    notes,
    targets,
    downloads,
    viewer,
    sky_view,
    programmes,
    public,
    psf_library,
    datasets,
    star_comparison,
    sources,
    triage,
    source_comparison,
    jobs,
    users,
    help,
    v1,
    tap,
    monitoring,
)


def create_app(config: Config, store: Store, revive: Callable[[], object] = lambda: None) -> Portal:
    """Return the portal of one archive.

    Parameters
    ----------
    config : Config
        The archive's configuration.
    store : Store
        Its database; the caller closes it.
    revive : callable, optional
        Starts the database again if it has ended.

    Returns
    -------
    Portal
        The Flask application.

    Raises
    ------
    ConfigError
        The secret key is unsafe, or a pipeline or page of the configuration is wrong.
    """
    app = Portal(config, store, revive, template_folder=shipped("templates"), static_folder=shipped("static"))
    app.url_map.merge_slashes = False  # its redirects would name whatever host the request named
    app.url_map.converters["path"] = SourceName
    configure_security(app)
    require_login(app)
    register_error_handlers(app)
    app.jinja_env.filters.update({**FILTERS, **measurements.FILTERS, **wording.FILTERS})
    app.jinja_env.filters["explained"] = guide.product_page
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals |= {"asset": _asset, "QUALITIES": QUALITIES}
    app.context_processor(template_context)
    for module in BLUEPRINTS:
        app.register_blueprint(module.bp)
    app.register_blueprint(views.bp, name=PUBLIC_VO, url_prefix="/public/vo")
    app.jinja_env.globals["own_pages"] = [_add_page(app, name) for name in config.server.pages]
    store.ensure_portal_indexes()
    dataset.DATA_ROOT = root_of(config)
    return app


def _add_page(app: Portal, name: str) -> tuple[str, str]:
    """Register a blueprint of ``server.pages`` and return the endpoint and the text of its entry in the navigation."""
    try:
        bp = import_object(name, "blueprint")
    except ValueError as err:
        raise ConfigError(f"server.pages: {err}") from err
    if not isinstance(bp, Blueprint):
        raise ConfigError(f"server.pages: {name!r} is not a flask.Blueprint")
    if bp.name in app.blueprints:
        raise ConfigError(f"server.pages: {name!r}: the portal has a blueprint {bp.name!r} already: rename yours")
    app.register_blueprint(bp)
    endpoint = f"{bp.name}.{bp.name}"
    if endpoint not in app.view_functions:
        raise ConfigError(f"server.pages: {name!r} needs a page called {bp.name!r}, for the navigation")
    return endpoint, bp.name.replace("_", " ").capitalize()


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def _asset(name: str) -> str:
    """Return the address of a static file, which changes when the file does."""
    return url_for("static", filename=name, v=_digest(shipped("static") / name))


def template_context() -> dict[str, Any]:
    """Return what every page shows; of the user, nothing before the login was checked or without the database."""
    app, known = portal(), g.get("logged_in", False)
    daemon = daemon_report() if known else {}
    word = daemon_state(daemon) if known else ""
    return {
        "current_user": current_user if known else AnonymousUserMixin(),
        "archive_name": app.settings.server.name,
        "version": __version__,
        "daemon_word": word,
        "daemon_is_down": word in DOWN,
        "daemon_starting": daemon.get("started") if word == STARTING else None,
    }
