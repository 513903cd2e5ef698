"""Limits of streams that run at the same time."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from flask import abort

from obsarchive.web.framework.context import portal

KEPT_EVERY = 64
"""Chunks of a stream after which its slots are kept."""


def slotted(stream: Iterator[bytes], limits: Mapping[str, int], life: timedelta) -> Iterator[bytes]:
    """Count a stream among others until it ends or the client disconnects; 429 where there are as many as allowed.

    Parameters
    ----------
    stream : iterator of bytes
        What is sent.
    limits : mapping
        Number of streams by what they count for, such as a user.
    life : timedelta
        Time after which a stream that sends nothing does not count any more.

    Returns
    -------
    iterator of bytes
        The same.
    """
    slots = portal().store.slots
    taken = _taken(limits, life)

    def sent() -> Iterator[bytes]:
        try:
            for number, chunk in enumerate(stream):
                if number % KEPT_EVERY == 0:
                    for slot in taken:
                        slots.keep(slot, life)
                yield chunk
        finally:
            for slot in taken:
                slots.give_back(slot)

    return sent()


def _taken(limits: Mapping[str, int], life: timedelta) -> list[str]:
    """Take a slot of each kind; 429 where one is not free."""
    taken = portal().store.slots.take_each({f"tar {key}": most for key, most in limits.items()}, life)
    return taken or abort(429, "Too many downloads are running already; wait until one has ended.")
