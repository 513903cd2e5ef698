"""The script that serves the portal: under gunicorn, and what it says when it cannot."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
import psutil
import pytest

from obsarchive.cli.portal import address
from obsarchive.config.loading import load
from obsarchive.config.model import Server as ServerSettings
from obsarchive.database.connect import open_store
from obsarchive.database.embedded_mongod import Server
from obsarchive.store import Store
from tests.daemon.conftest import wait_for

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "server_data_archive.py"


def _config_file(folder: Path, port: int = 8000, **database: str) -> Path:
    places = {name: str(folder / name) for name in ("archive", "tmp", "logs")}
    path = folder / "config.json"
    raw = {"paths": {"raw": [str(folder / "raw")], **places}, "pipelines": [], "database": database}
    raw["server"] = {"port": port}
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


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _status(port: int) -> int:
    return httpx.get(f"http://127.0.0.1:{port}/login", timeout=60).status_code


def test_a_portal_without_a_daemon_survives_its_database(tmp_path: Path) -> None:
    """A database that is frozen costs a page five seconds; one that was killed is started again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = _config_file(tmp_path, port)
    lock = tmp_path / "archive" / ".db" / "data" / "mongod.lock"
    server = subprocess.Popen([sys.executable, SCRIPT, config], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(port))
        assert _status(port) == 200
        frozen = psutil.Process(int(lock.read_text()))
        frozen.suspend()
        started = time.monotonic()
        assert _status(port) == 503
        assert time.monotonic() - started < 9
        frozen.resume()
        wait_for(lambda: _status(port) == 200)
        frozen.kill()
        assert _status(port) == 503
        wait_for(lambda: _status(port) == 200)
        assert int(lock.read_text()) != frozen.pid
    finally:
        server.terminate()
        server.wait(timeout=60)
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        assert not psutil.Process(int(lock.read_text())).is_running()


def test_the_development_server_says_where_it_is(
    store: Store, mongo_server: Server, database_name: str, tmp_path: Path
) -> None:
    """Also on a port that the system chooses, and where there is nothing else to say as an administrator exists."""
    config = _config_file(tmp_path, 0, mode="external", uri=mongo_server.uri, db=database_name)
    store.users.save("admin", {"password": "x", "programs": "all"})
    server = subprocess.Popen([sys.executable, SCRIPT, config], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = next(line for line in server.stderr if "portal is at" in line)
        found = re.fullmatch(r"the portal is at (http://127\.0\.0\.1:\d+) \(Ctrl-C stops it\)\n", line)
        assert found, line
        assert httpx.get(f"{found[1]}/login", timeout=60).status_code == 200
        server.terminate()
        assert "Traceback" not in server.communicate(timeout=60)[1]
        assert server.returncode == 0
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "http://127.0.0.1:8123"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8123, and by the names of this machine"),  # noqa: S104
        ({"host": "::"}, "http://[::1]:8123, and by the names of this machine"),
        ({"host": "dome.example.org"}, "http://dome.example.org:8123"),
        ({"host": "0.0.0.0", "public_url": "https://archive.example.org/"}, "https://archive.example.org"),  # noqa: S104
    ],
)
def test_the_address_that_a_browser_can_open(given: dict[str, str], said: str) -> None:
    assert address(ServerSettings(**given), 8123) == said


@pytest.mark.parametrize("in_background", [False, True])
def test_the_embedded_database_ends_with_a_portal_that_is_terminated(tmp_path: Path, in_background: bool) -> None:
    """A shell without job control starts what runs in the background with SIGINT ignored."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = _config_file(tmp_path, port)
    ignored = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if in_background else None
    server = subprocess.Popen([sys.executable, SCRIPT, config], preexec_fn=ignored)
    try:
        wait_for(lambda: _answers(port))
        database = psutil.Process(int((tmp_path / "archive" / ".db" / "data" / "mongod.lock").read_text()))
        assert database.is_running()
        server.terminate()
        assert server.wait(timeout=60) == 0
        assert not database.is_running() or database.status() == psutil.STATUS_ZOMBIE
    finally:
        server.kill()
        with open_store(load(config)):
            pass  # the last user stops the database, if it still runs


def test_a_command_that_is_terminated_closes_what_it_opened() -> None:
    code = """
import sys, time
from obsarchive.cli import main, portal
def wait(options):
    try:
        print("open", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)
portal.run = wait
sys.exit(main.main(["serve", "config.json"]))
"""
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert command.stdout is not None
    assert command.stdout.readline() == "open\n"
    command.terminate()
    assert command.communicate(timeout=30)[0] == "closed\n"
    assert command.returncode == 128 + signal.SIGTERM


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
