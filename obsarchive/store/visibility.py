"""What a user may see, as filters of the database: every query of the portal starts from one of them."""

from collections.abc import Mapping
from typing import Any

from obsarchive.core import document_paths as paths
from obsarchive.store.step_records import Document

_PUBLIC = "sees only"
"""Key of the filter of a visitor without an account; documents of users have none of this name."""


def is_admin(user: Mapping[str, Any]) -> bool:
    """Whether a user may see and do everything."""
    return user.get("programs") == "all"


def programs_of(user: Mapping[str, Any]) -> list[str]:
    """Return the programmes that an ordinary user belongs to."""
    found = user.get("programs")
    return [str(program) for program in found] if isinstance(found, list) else []


def visible_to(user: Mapping[str, Any]) -> Document:
    """Return the filter of the observations that `user` may see: of one of their programmes, or with them as a PI."""
    if _PUBLIC in user:
        allowed: Document = user[_PUBLIC]
        return allowed
    if is_admin(user):
        return {}
    return {
        "$or": [
            {paths.PROGRAM_ID: {"$in": programs_of(user)}},
            naming(user),
        ]
    }


def visitor(allowed: Document) -> Document:
    """Return what stands for the document of a user where a visitor has no account.

    Parameters
    ----------
    allowed : dict
        Filter of the observations that they may see.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        The filter lets everything pass.
    """
    if not allowed:
        raise ValueError("a visitor may not see everything")
    return {_PUBLIC: allowed}


def naming(user: Mapping[str, Any]) -> Document:
    """Return the filter of the observations that name `user` as their PI."""
    found = user.get("left")
    # programmes taken from a user: their observations may still name the user as a PI for a while
    left = [str(program) for program in found] if isinstance(found, list) else []
    return {paths.PROGRAM_PI: str(user["_id"]), paths.PROGRAM_ID: {"$nin": left}}


def visible_where(user: Mapping[str, Any], conditions: list[Document], is_selective: bool = False) -> Document:
    """Return the filter of what `user` may see that fulfils all conditions.

    They are repeated in each of the alternatives of `visible_to`, so that each alternative can use an index of its own;
    not where they find little by themselves.
    """
    allowed = visible_to(user)
    if not allowed:
        return {"$and": conditions} if conditions else {}
    alternatives = allowed.get("$or")
    if is_selective or alternatives is None:
        return {"$and": [*conditions, allowed]}
    return {"$or": [{"$and": [alternative, *conditions]} for alternative in alternatives]}
