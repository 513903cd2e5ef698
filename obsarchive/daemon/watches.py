"""Receivers of alerts that users set up in the portal: each is notified of what its user may see, of nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from obsarchive.accounts.users import AccountError
from obsarchive.accounts.watches import folded, way_to
from obsarchive.config.model import Alerts, Recipient
from obsarchive.store import Document, Store
from obsarchive.store.visibility import is_admin

FAILURES = ("failed", "rejected", "not understood")


@dataclass(frozen=True)
class Receiver:
    """Where events are sent, and which.

    Parameters
    ----------
    key : str
        Identifier in the database.
    recipient : Recipient
        The address.
    query : dict
        Filter of the events.
    visible : callable
        Returns those of some events that may be sent.
    note : str
        Why it is notified; the last line of an e-mail.
    """

    key: str
    recipient: Recipient
    query: Document
    visible: Callable[[Sequence[Document]], list[Document]] = list
    note: str = ""


class Watchers:
    """Users who watch something.

    Parameters
    ----------
    alerts : Alerts
        Section of the configuration that says which addresses are allowed.
    store : Store
        The database.
    """

    def __init__(self, alerts: Alerts, store: Store) -> None:
        self.alerts, self.store = alerts, store

    def any(self) -> bool:
        """Whether somebody watches anything."""
        return self.store.watches.any()

    def receivers(self) -> Iterator[Receiver]:
        """Yield the receivers; users who are gone and addresses that are no longer allowed are passed over."""
        for watch in self.store.watches.all():
            user = self.store.users.find(str(watch["user"]))
            try:
                way = way_to(self.alerts, str(watch.get("email") or watch.get("webhook") or ""))
            except AccountError:
                continue
            if user is not None:
                yield self._receiver(watch, user, way)

    def _receiver(self, watch: Document, user: Document, way: dict[str, str]) -> Receiver:
        kind, value = str(watch["kind"]), str(watch["value"])
        query: Document = {"when": {"$gte": watch["created"]}, "event": {"$in": ["new data"]}}
        if kind == "target":
            query["target"] = folded(value)
        elif kind == "program":
            query["program"] = value
        else:
            query["event"] = {"$in": list(FAILURES)}
        address = {"webhook": way["webhook"]} if "webhook" in way else {"email": (way["email"],)}
        note = f"You watch {kind} {value}".strip() + "; /account ends it."
        recipient = Recipient(programs="all", events=(), **address)
        return Receiver(f"watch {watch['_id']}", recipient, query, lambda events: self._visible(user, events), note)

    def _visible(self, user: Document, events: Sequence[Document]) -> list[Document]:
        """Return the events about observations that a user may see; those about nights are for administrators."""
        if is_admin(user):
            return list(events)
        seen = self.store.browse.visible(user, {str(event["subject"]) for event in events})
        return [event for event in events if event["subject"] in seen]
