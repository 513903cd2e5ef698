"""Progress of long work: a bar on a terminal, a line in the log from time to time elsewhere."""

import logging
import math
import sys
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

ProgressCallback = Callable[[float, str], None]
"""Function that receives the fraction done (0 to 1) and a description of what is being done."""

WIDTH = 30
LINE_S = 30.0
"""Time between two lines of the log [s]."""


def no_progress(fraction: float, text: str) -> None:
    """Log progress at debug level; the callback of callers that show none.

    Parameters
    ----------
    fraction : float
        Fraction done, 0 to 1.
    text : str
        What is being done.
    """
    log.debug("%.0f %% %s", 100 * fraction, text)


def at_intervals(report: ProgressCallback, seconds: float) -> ProgressCallback:
    """Return a callback that passes on the first progress, and later at most one in some time.

    Parameters
    ----------
    report : ProgressCallback
        What it is passed on to.
    seconds : float
        The time [s].

    Returns
    -------
    ProgressCallback
    """
    due_s = -math.inf

    def pass_on(fraction: float, text: str) -> None:
        nonlocal due_s
        if time.monotonic() >= due_s:
            due_s = time.monotonic() + seconds
            report(fraction, text)

    return pass_on


class Bar:
    """Display of the progress of one piece of work; may be used from any thread.

    Parameters
    ----------
    what : str
        Name of the work.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._lock = threading.Lock()
        self._next_line = 0.0
        self._is_terminal = sys.stderr.isatty()

    def show(self, fraction: float, text: str = "") -> None:
        """Show the progress.

        Parameters
        ----------
        fraction : float
            Fraction done, 0 to 1.
        text : str
            What is being done.
        """
        with self._lock:
            if self._is_terminal:
                done = round(WIDTH * min(max(fraction, 0.0), 1.0))
                line = f"{self.what} [{'#' * done}{'.' * (WIDTH - done)}] {fraction:4.0%} {text}"
                sys.stderr.write(f"\r{line[:110]:110s}{chr(10) if fraction >= 1 else ''}")
                sys.stderr.flush()
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_S
                log.info("%s: %.0f %% %s", self.what, 100 * fraction, text)
