"""Progress of long work: a bar on a terminal, now and then a line in the log elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

ProgressCallback = Callable[[float, str], None]
"""Is called with the fraction that is done (0 to 1), and a word on what is being done."""

WIDTH = 30
LINE_S = 30.0
"""Longest silence in a log."""


def no_progress(fraction: float, text: str) -> None:
    """Take note of progress that nobody asked for.

    Parameters
    ----------
    fraction : float
        What is done, 0 to 1.
    text : str
        What is being done.
    """
    log.debug("%.0f %% %s", 100 * fraction, text)


class Bar:
    """Shows how far something is; may be called in any thread.

    Parameters
    ----------
    what : str
        What is done.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._lock = threading.Lock()
        self._next_line = 0.0
        self._is_terminal = sys.stderr.isatty()

    def show(self, fraction: float, text: str = "") -> None:
        """Show the fraction that is done (0 to 1), and what is being done."""
        with self._lock:
            if self._is_terminal:
                done = round(WIDTH * min(max(fraction, 0.0), 1.0))
                line = f"{self.what} [{'#' * done}{'.' * (WIDTH - done)}] {fraction:4.0%} {text}"
                sys.stderr.write(f"\r{line[:110]:110s}{chr(10) if fraction >= 1 else ''}")
                sys.stderr.flush()
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_S
                log.info("%s: %.0f %% %s", self.what, 100 * fraction, text)
