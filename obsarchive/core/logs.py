"""Set-up of logging: UTC, a new file at 0 h UT, with subject and step in every record."""

import logging
import sys
import time
from contextvars import ContextVar
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

subject: ContextVar[str] = ContextVar("subject", default="-")
"""What the code that logs is working on, such as ``<observation id> bright_star.reduce``."""

FORMAT = "%(asctime)s %(levelname)-7s %(subject)s | %(message)s"
TAIL_BYTES, TAIL_LINES = 65536, 300
KEEP_DAYS = 60


class _Subject(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.subject = subject.get()
        return True


class _OneLine(logging.Formatter):
    """Escapes what could begin a new line or steer a terminal: names of files and headers are put into messages."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        line = super().formatMessage(record)
        if line.isprintable():
            return line
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def formatter() -> logging.Formatter:
    """Return the formatter of every log line: UTC times, the subject before the message."""
    lines = _OneLine(FORMAT, datefmt="%Y-%m-%dT%H:%M:%SZ")
    lines.converter = time.gmtime
    return lines


def attach(handler: logging.Handler, logger: logging.Logger | None = None) -> None:
    """Give a handler the format of the log and add it to a logger.

    Parameters
    ----------
    handler : logging.Handler
        The handler.
    logger : logging.Logger, optional
        By default the root logger.
    """
    handler.setFormatter(formatter())
    handler.addFilter(_Subject())
    (logger or logging.getLogger()).addHandler(handler)


_NOISY = (
    *("distributed", "matplotlib", "bokeh", "asyncio", "tornado", "pymongo", "numba", "werkzeug"),
    *("httpx", "httpcore"),  # they write addresses, which may be signed
)


def set_up(folder: Path | None, name: str, level: str = "INFO") -> None:
    """Log to the terminal and to ``<folder>/<name>.log``.

    If the folder cannot be written, a warning is logged, and the terminal alone is used.

    Parameters
    ----------
    folder : Path or None
        Folder of the log files; None: terminal only.
    name : str
        Name of the file without its ending.
    level : str
        Lowest level that is logged.
    """
    logging.raiseExceptions = False  # a full disk must not stop the daemon
    root = logging.getLogger()
    root.setLevel(level)
    attach(logging.StreamHandler(sys.stderr))
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rolling = TimedRotatingFileHandler(
            folder / f"{name}.log",
            when="midnight",
            utc=True,
            backupCount=KEEP_DAYS,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError as err:
        logging.getLogger(__name__).warning("no log file in %s (%s): logging to the terminal only", folder, err)
        return
    attach(rolling)


def last_lines(path: Path) -> list[str]:
    """Return the last lines of a file, at most `TAIL_LINES` and `TAIL_BYTES`; OSError when it cannot be read."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
