"""Who asks a service of the virtual observatory: a user, or at the public addresses anybody."""

from collections.abc import Mapping
from typing import Any

from flask import request
from flask_login import current_user

from obsarchive.store.programmes import public
from obsarchive.store.visibility import visitor
from obsarchive.web.framework.authorization import PUBLIC_VO, address
from obsarchive.web.framework.context import full_address
from obsarchive.web.models.citations import release
from obsarchive.web.pages import public as public_pages


def is_public() -> bool:
    """Whether the request came to a public address, where nobody is asked who they are."""
    return request.blueprint == PUBLIC_VO


def viewer() -> Mapping[str, Any]:
    """Return the document of the user; at a public address what stands for it, of whoever asks."""
    if is_public():
        return visitor(public(release(), public_pages.clock()))
    document: Mapping[str, Any] = current_user.document
    return document


def owner() -> str:
    """Return under which name jobs and running queries count: of the user, or of the address of a visitor."""
    return f"public:{address()}" if is_public() else str(current_user.name)  # no name of a user has a colon


def service_address(view: str, **values: Any) -> str:
    """Return the whole address of a service, of the same kind as the one that was asked.

    Parameters
    ----------
    view : str
        Name of its view.
    **values
        Its parameters.

    Returns
    -------
    str
    """
    return full_address(f"{request.blueprint}.{view}", **values)
