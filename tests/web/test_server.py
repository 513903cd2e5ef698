"""The script that serves the portal: under gunicorn, and what it says when it cannot."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from obsarchive.database.embedded_mongod import Server

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "server_data_archive.py"


def _config_file(folder: Path, **database: str) -> Path:
    places = {name: str(folder / name) for name in ("archive", "tmp", "logs")}
    path = folder / "config.json"
    raw = {"paths": {"raw": [str(folder / "raw")], **places}, "pipelines": [], "database": database}
    path.write_text(json.dumps(raw))
    return path


def test_gunicorn_serves_the_portal(mongo_server: Server, database_name: str, tmp_path: Path) -> None:
    config = _config_file(tmp_path, mode="external", uri=mongo_server.uri, db=database_name)
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "server_data_archive:app"]
    environment = {**os.environ, "ARCHIVER_CONFIG": str(config)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        address = next(m[1] for line in server.stderr if (m := re.search(r"Listening at: (\S+)", line)))
        with urllib.request.urlopen(f"{address}/login", timeout=60) as page:  # noqa: S310 - our own server
            assert "set-up link" in page.read().decode()
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert (tmp_path / "archive" / ".db" / "portal_secret").exists()


@pytest.mark.parametrize(
    ("database", "code", "message"),
    [
        ({"mongod": "no/such/mongod"}, 3, "no/such/mongod"),
        ({"mode": "sideways"}, 2, "database.mode"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, database: dict[str, str], code: int, message: str) -> None:
    ended = subprocess.run(
        [sys.executable, SCRIPT, _config_file(tmp_path, **database)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == code
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
