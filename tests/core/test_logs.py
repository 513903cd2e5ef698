"""Log lines: UTC, with their subject, and never a reason to stop."""

import logging
import logging.handlers
import sys
import time
from collections.abc import Iterator

import pytest

from obsarchive.core import logs


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger with nothing attached, put back as it was afterwards."""
    logger = logging.getLogger()
    kept, level, told = logger.handlers[:], logger.level, logging.raiseExceptions
    logger.handlers[:] = []
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:] = kept
    logger.setLevel(level)
    logging.raiseExceptions = told


def test_lines_are_utc_and_carry_their_subject(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "America/Phoenix")
    time.tzset()
    try:
        logs.set_up(tmp_path / "new" / "folder", "archiver", "INFO")
        token = logs.subject.set("obs bright_star.reduce")
        logging.getLogger("obsarchive.test").info("done %d", 3)
        logs.subject.reset(token)
        logging.getLogger("obsarchive.test").debug("not told")
        before = time.strftime("%Y-%m-%dT%H:", time.gmtime())
    finally:
        monkeypatch.undo()
        time.tzset()
    [line] = (tmp_path / "new" / "folder" / "archiver.log").read_text().splitlines()
    assert line.endswith("INFO    obs bright_star.reduce | done 3")
    assert line.startswith(before)


def test_a_message_is_one_line_whatever_is_put_into_it(root, tmp_path):
    logs.set_up(tmp_path, "archiver")
    forged = "a\n2026-01-01T00:00:00Z ERROR   - | all is lost\x1b[2J\u2028é"
    logging.getLogger("obsarchive.test").warning("%s is not understood", forged)
    try:
        int("x")
    except ValueError:
        logging.getLogger("obsarchive.test").exception("unexpected")
    text = (tmp_path / "archiver.log").read_text()
    first, second, *traceback = text.split("\n")
    assert first.endswith(r"| a\n2026-01-01T00:00:00Z ERROR   - | all is lost\x1b[2J\u2028é is not understood")
    assert second.endswith("| unexpected")
    assert traceback[0].startswith("Traceback")


def test_files_roll_over_at_0_h_ut(root, tmp_path):
    logs.set_up(tmp_path, "archiver")
    [rolling] = [h for h in root.handlers if isinstance(h, logging.handlers.TimedRotatingFileHandler)]
    assert rolling.rolloverAt % 86400 == 0
    assert rolling.backupCount == logs.KEEP_DAYS


def test_a_folder_that_cannot_be_written_costs_the_file_only(root, tmp_path, capsys):
    (tmp_path / "file").touch()
    logs.set_up(tmp_path / "file" / "logs", "archiver")
    logging.getLogger("obsarchive.test").warning("still here")
    told = capsys.readouterr().err
    assert "logging to the terminal only" in told
    assert "still here" in told


def test_a_full_disk_does_not_stop_the_daemon(root, monkeypatch):
    monkeypatch.setattr(sys, "stderr", open("/dev/full", "w"))  # noqa: PTH123, SIM115 - closed below
    logs.set_up(None, "archiver")
    logging.getLogger("obsarchive.test").error("no space for this")
    root.handlers.clear()
    with pytest.raises(OSError, match="No space"):
        sys.stderr.close()
