"""What the daemon says when it cannot start: one clear message and the exit code of the contract."""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from obsarchive.cli import status
from obsarchive.errors import ArchiveError

from .conftest import CONFIG, wait_for

Change = Callable[[dict[str, Any]], Any]


def misspelt(raw: dict[str, Any]) -> None:
    raw["parallel"]["n_worker"] = raw["parallel"].pop("n_workers")


def rule_of_wrong_type(raw: dict[str, Any]) -> None:
    raw["pipelines"][1]["when"] = "science_program.program_id in [24]"


def unknown_setting(raw: dict[str, Any]) -> None:
    raw["pipelines"][1]["settings"] = {"best_fracton": 0.1}


def unreachable_database(raw: dict[str, Any]) -> None:
    raw["database"] = {"mode": "external", "uri": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=500"}


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (misspelt, 2, ["config.json", "parallel.n_worker", "n_workers"]),
        (rule_of_wrong_type, 2, ["pipelines.1.when", "program_id", "24"]),
        (unknown_setting, 2, ["pipelines.1", "best_fracton", "best_fraction"]),
        (unreachable_database, 3, ["127.0.0.1:9"]),
    ],
)
def test_wrong_configuration(new_site: Callable, change: Change, code: int, words: list[str]) -> None:
    site = new_site(None)
    raw = json.loads(json.dumps(CONFIG))
    change(raw)
    site.config_file.write_text(json.dumps(raw))
    said = site.run("--once", expect=code)
    assert all(word in said for word in words), said
    assert "Traceback" not in said


def test_status_says_why_the_daemon_did_not_start(new_site: Callable) -> None:
    site = new_site(None)
    (site.folder / "mine.py").write_text("import json\nimport absent_package\n")
    site.change(pipelines=[{"class": "mine.Mine"}])
    place = f"No module named 'absent_package' ({site.folder}/mine.py, line 2)"
    assert place in site.run_script("--once", expect=2)
    with pytest.raises(ArchiveError, match="no status: the daemon did not start at 2") as failure:
        status.run(Namespace(config=site.config_file, subject=None, uri=False, json=False))
    assert place in str(failure.value)


def test_the_start_is_reported_from_its_begin(new_site: Callable) -> None:
    site = new_site(None)
    (site.folder / "raw").mkdir(exist_ok=True)
    daemon = site.start()
    try:
        wait_for((site.folder / "logs" / "status.json").exists)
        report = json.loads((site.folder / "logs" / "status.json").read_text())
        assert (report["state"], report["last_cycle"]) == ("starting", None)
        wait_for(lambda: site.daemon_state == "idle")
    finally:
        daemon.kill()


def test_a_start_is_seen_before_its_first_report(new_site: Callable) -> None:
    """Which may take a minute: modules are imported, and a database is started."""
    site = new_site(None)
    site.change(database={"mode": "external", "uri": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=3000"})
    daemon = site.start()
    try:
        wait_for(site.layout.start_record.exists)
        options = Namespace(config=site.config_file, subject=None, uri=False, json=False)
        with pytest.raises(ArchiveError, match=r"no status yet: the daemon is starting, since \d\d:\d\d:\d\d UTC"):
            status.run(options)
        wait_for(lambda: daemon.poll() is not None)
        with pytest.raises(ArchiveError, match="the daemon did not start at 2"):
            status.run(options)
    finally:
        daemon.kill()


def test_missing_file(new_site: Callable) -> None:
    site = new_site(None)
    site.config_file.unlink()
    assert "no such file" in site.run("--once", expect=2)


def test_broken_json_names_the_place(new_site: Callable) -> None:
    site = new_site(None)
    site.config_file.write_text('{"paths": {\n  "raw": [}')
    assert "line 2, column 11" in site.run("--once", expect=2)


def test_an_archive_that_cannot_be_written(new_site: Callable) -> None:
    site = new_site(None)
    (site.folder / "file").write_text("")
    site.change(paths={"archive": "file/archive"})
    said = site.run("--once", expect=2)
    assert "paths.archive" in said
    assert "file/archive" in said
    assert "Traceback" not in said


def test_help_names_options_and_exit_codes() -> None:
    project = Path(__file__).resolve().parents[2]
    said = subprocess.run(
        [sys.executable, str(project / "archiver.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(word in said for word in ("--once", "--night", "--check", "Exit codes"))
