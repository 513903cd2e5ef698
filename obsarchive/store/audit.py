"""The log of what users did in the portal."""

from pymongo.collection import Collection

from obsarchive.core.documents import utc_now
from obsarchive.store.step_records import Document

TEXT_LIMIT = 500
"""Longest text of a user that an audit entry keeps [characters]."""


class Audit:
    """The collection ``audit``: actions of users in the portal. Entries are only ever added.

    Parameters
    ----------
    collection : Collection
        The collection.
    """

    def __init__(self, collection: Collection[Document]) -> None:
        self.collection = collection

    def record(self, action: str, who: str | None, address: str | None = None, **details: str) -> None:
        """Add an entry; texts are cut and their control characters escaped.

        Parameters
        ----------
        action : str
            What was done.
        who : str or None
            Name of the user.
        address : str, optional
            Network address of the user.
        **details
            Further texts.
        """
        entry = {key: one_line(value) for key, value in details.items()}
        entry |= {"who": one_line(who or "-"), "address": one_line(address or "-")}
        self.collection.insert_one({"when": utc_now(), "action": action, **entry})

    def recent(self, limit: int = 100) -> list[Document]:
        """Return the latest entries, newest first."""
        return list(self.collection.find({}, {"_id": 0}).sort("when", -1).limit(limit).max_time_ms(2000))

    def ensure_indexes(self) -> None:
        """Create the indexes that the queries use."""
        self.collection.create_index("when")


def one_line(text: str) -> str:
    """Return text cut to `TEXT_LIMIT`, with everything escaped that could start a new line or a control sequence."""
    kept = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:TEXT_LIMIT])
    return "".join(kept)
