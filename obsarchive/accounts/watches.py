"""Watches of users: what they may be about, and the addresses that administrators allow."""

from typing import Literal
from urllib.parse import urlsplit

from obsarchive.accounts.users import AccountError
from obsarchive.config.model import Alerts
from obsarchive.store import Watches

Kind = Literal["target", "program", "failure"]
KINDS: dict[str, str] = {
    "target": "new data of a target",
    "program": "new data of a programme",
    "failure": "steps that fail or are rejected",
}
MOST_WATCHES = 20
LONGEST = 200


def folded(name: str) -> str:
    """Return the name of a target as it is compared: letters, digits and signs, in one case."""
    return "".join(letter for letter in name.casefold() if letter.isalnum() or letter == "+")


def are_allowed(alerts: Alerts) -> bool:
    """Whether there is any address that a watch may be sent to."""
    return bool(alerts.watch_hosts or alerts.watch_domains)


def way_to(alerts: Alerts, address: str) -> dict[str, str]:
    """Return the field of a watch that holds its address.

    Parameters
    ----------
    alerts : Alerts
        Section of the configuration that says which addresses are allowed.
    address : str
        An e-mail address or the URL of a webhook.

    Returns
    -------
    dict
        ``email`` or ``webhook``.

    Raises
    ------
    AccountError
        The address is none, or is not allowed.
    """
    if len(address) > LONGEST or not address.isascii() or not address.isprintable() or " " in address:
        raise AccountError("this is neither an e-mail address nor the address of a webhook")
    if address.startswith(("http://", "https://")):
        return {"webhook": _webhook(alerts, address)}
    name, at, domain = address.rpartition("@")
    if not (name and at) or any(letter in name for letter in '@,;:<>()[]\\"'):
        raise AccountError("this is neither an e-mail address nor the address of a webhook")
    if domain.lower() not in {allowed.lower() for allowed in alerts.watch_domains}:
        raise AccountError(f"no message may be sent to {domain}: an administrator can allow it (alerts.watch_domains)")
    return {"email": address}


def _webhook(alerts: Alerts, address: str) -> str:
    parts = urlsplit(address)
    if parts.username is not None or parts.fragment:
        raise AccountError("the address of a webhook holds no user and no fragment")
    if parts.netloc.lower() not in {allowed.lower() for allowed in alerts.watch_hosts}:
        raise AccountError(
            f"no message may be sent to {parts.netloc}: an administrator can allow it (alerts.watch_hosts)"
        )
    return address


def add_watch(watches: Watches, alerts: Alerts, user: str, kind: str, value: str, address: str) -> bool:
    """Add a watch of a user.

    Parameters
    ----------
    watches : Watches
        The collection.
    alerts : Alerts
        Section of the configuration that says which addresses are allowed.
    user : str
        Name of the user.
    kind : {"target", "program", "failure"}
        What it is about.
    value : str
        Name of the target or the programme; empty for failures.
    address : str
        Where messages are sent.

    Returns
    -------
    bool
        False if the user has the same watch.

    Raises
    ------
    AccountError
        It cannot be added, for the reason given.
    """
    if kind not in KINDS:
        raise AccountError("choose what to watch")
    value = "" if kind == "failure" else value.strip()
    if kind != "failure" and not folded(value):
        raise AccountError(f"name the {'target' if kind == 'target' else 'programme'} to watch")
    if len(value) > LONGEST:
        raise AccountError("this name is too long")
    if len(watches.of_user(user)) >= MOST_WATCHES:
        raise AccountError(f"{MOST_WATCHES} watches are enough; remove one first")
    return watches.add(user, kind=kind, value=value, **way_to(alerts, address.strip()))
