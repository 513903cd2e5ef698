"""Concurrent downloads in a sliding window: a slow source does not hold up a whole block."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from obsarchive.errors import ArchiveError

Item = TypeVar("Item")
Made = TypeVar("Made")

AHEAD = 8
"""Number of items per thread that are being processed or wait to be yielded."""


def sliding(
    function: Callable[[Item], Made], items: Iterable[Item], n_threads: int
) -> Iterator[tuple[Item, Made | Exception]]:
    """Call a function for each item in threads and return the results in the order of the items.

    Parameters
    ----------
    function : callable
        Called once for each item.
    items : iterable
        Read as they are needed.
    n_threads : int
        Number of threads; 0 or 1: the calling thread.

    Yields
    ------
    item : object
        The item.
    result : object or Exception
        What the function returned or raised.
    """
    if n_threads < 2:
        for item in items:
            yield item, tried(function, item)
        return
    remaining = iter(items)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="download") as pool:
        window: deque[tuple[Item, Future[Made | Exception]]] = deque()
        try:
            for item in islice(remaining, n_threads * AHEAD):
                window.append((item, pool.submit(tried, function, item)))
            while window:
                item, future = window.popleft()
                yield item, future.result()
                for following in islice(remaining, 1):
                    window.append((following, pool.submit(tried, function, following)))
        finally:
            # a caller that stops early must not wait for downloads that have not begun
            pool.shutdown(wait=False, cancel_futures=True)


def tried(function: Callable[[Item], Made], item: Item) -> Made | Exception:
    """Return the result of a function, or the exception that it raised.

    Parameters
    ----------
    function : callable
        Called with `item`.
    item : object
        Its argument.

    Returns
    -------
    object or Exception
    """
    try:
        return function(item)
    except Exception as err:  # noqa: BLE001 - one source must not stop the others
        return err


def reason_of(err: Exception) -> str:
    """Return the message of an exception; with its type if it is unexpected."""
    return str(err) if isinstance(err, ArchiveError) else f"{type(err).__name__}: {err}"
