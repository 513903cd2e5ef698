"""Downloads side by side: a window that slides over the sources, not blocks that wait for their slowest."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

AHEAD = 8
"""So many items per thread are under way or waiting to be handed on."""


def sliding(
    function: Callable[[Item], Made], items: Iterable[Item], n_threads: int
) -> Iterator[tuple[Item, Made | Exception]]:
    """Yield items with what a function makes of them, or the exception that it raised, in the order of the items.

    Parameters
    ----------
    function : callable
        Called once for each item.
    items : iterable
        Taken as they are needed.
    n_threads : int
        Threads; 0 or 1: the caller's own.
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
            # whoever stops listening does not wait for what has not begun
            pool.shutdown(wait=False, cancel_futures=True)


def tried(function: Callable[[Item], Made], item: Item) -> Made | Exception:
    """Return what a function makes of an item, or the exception that it raised."""
    try:
        return function(item)
    except Exception as err:  # noqa: BLE001 - one source must not stop the others
        return err
