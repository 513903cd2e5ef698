"""The shipped files for production, started for real: gunicorn, nginx, supervisord, systemd, roles."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from argon2 import PasswordHasher
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from obsarchive.accounts import users as accounts
from obsarchive.config.model import Config
from obsarchive.database.embedded_mongod import Server
from obsarchive.store import Store
from obsarchive.web import create_app

DEPLOY = Path(__file__).parents[2] / "deploy"
PROJECT = DEPLOY.parent
PASSWORD = "perihelion of 1801"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
SUPERVISORD = shutil.which("supervisord")

Start = Callable[..., subprocess.Popen]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(address: str, **options: Any) -> requests.Response:
    for _ in range(150):
        try:
            return requests.get(address, timeout=5, **options)
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.2)
    raise AssertionError(f"nobody answers at {address}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that are stopped in the end."""
    programs: list[subprocess.Popen] = []

    def begin(*command: str, **environment: str) -> subprocess.Popen:
        log = (tmp_path / f"{Path(command[0]).name}.log").open("w")
        program = subprocess.Popen(
            command, cwd=PROJECT, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
        programs.append(program)
        return program

    yield begin
    for program in reversed(programs):
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGTERM)
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()


@pytest.fixture
def config_file(tmp_path: Path, mongo_server: Server, database_name: str) -> Path:
    """A configuration for production, with one administrator in its database."""
    raw = {
        "server": {"public_url": "https://archive.example.org", "trusted_proxies": 1},
        "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
        "database": {"mode": "external", "uri": mongo_server.uri, "db": database_name},
        "pipelines": [{"class": "pipelines.bright_star.BrightStar"}],
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(raw))
    store = Store(mongo_server.uri, database_name)
    store.users.save(
        "grace",
        {"password": PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD), "programs": "all"},
    )
    store.close()
    return path


def gunicorn(start: Start, config_file: Path) -> int:
    port = free_port()
    start(
        str(Path(sys.executable).with_name("gunicorn")),
        "--config",
        str(DEPLOY / "gunicorn.conf.py"),
        "server_data_archive:app",
        ARCHIVER_CONFIG=str(config_file),
        ARCHIVER_BIND=f"127.0.0.1:{port}",
        ARCHIVER_WORKERS="1",
    )
    wait_for(f"http://127.0.0.1:{port}/login")
    return port


def nginx(start: Start, folder: Path, name: str, portal: int) -> int:
    """Start nginx with a shipped site, whose names and ports alone are replaced."""
    port, plain = free_port(), free_port()
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=archive.example.org",
            ),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    site = (DEPLOY / "nginx" / name).read_text()
    for old, new in {
        "127.0.0.1:8000": f"127.0.0.1:{portal}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "listen 80": f"listen 127.0.0.1:{plain}",
        "/etc/ssl/archive.pem": str(folder / "cert.pem"),
        "/etc/ssl/archive.key": str(folder / "key.pem"),
        "include proxy.conf": f"include {DEPLOY}/nginx/proxy.conf",
    }.items():
        assert old in site or old == "listen 80"
        site = site.replace(old, new)
    user = "user root;" if os.getuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"{user} pid {folder}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; {temporary}\n{site} }}"
    )
    (folder / "nginx.conf").write_text(whole)
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t"], check=True, capture_output=True, cwd=folder)
    start(*command, "-g", "daemon off;")
    wait_for(f"https://127.0.0.1:{port}/", verify=False)
    return port


@pytest.mark.skipif(NGINX is None, reason="needs the program nginx")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(
    ("site", "host", "prefix"),
    [("archiver.conf", "archive.example.org", ""), ("archiver-prefix.conf", "www.example.org", "/archive")],
)
def test_gunicorn_behind_nginx(
    start: Start, config_file: Path, tmp_path: Path, site: str, host: str, prefix: str
) -> None:
    raw = json.loads(config_file.read_text())
    raw["server"]["public_url"] = f"https://{host}{prefix}"
    config_file.write_text(json.dumps(raw))
    port = nginx(start, tmp_path, site, gunicorn(start, config_file))
    session = requests.Session()
    session.verify = session.trust_env = False
    session.headers["Host"] = host
    base = f"https://127.0.0.1:{port}{prefix}"
    login = session.get(f"{base}/login", timeout=20)
    assert login.status_code == 200
    assert f'href="{prefix}/static/archiver.css' in login.text
    style = re.search(r'href="([^"]+archiver\.css[^"]*)"', login.text)
    assert style is not None
    assert session.get(f"https://127.0.0.1:{port}{style[1]}", timeout=20).status_code == 200
    (cookie,) = [c for c in login.headers["Set-Cookie"].split(", ") if "archiver" in c]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert login.headers["Strict-Transport-Security"]
    token = re.search(r'name="csrf_token" value="([^"]+)"', login.text)
    assert token is not None
    fields = {"csrf_token": token[1], "username": "grace", "password": PASSWORD}
    jar = {"Cookie": cookie.split(";")[0]}
    done = session.post(f"{base}/login", data=fields, headers=jar, allow_redirects=False, timeout=20)
    assert done.status_code == 302, done.text
    assert done.headers["Location"] == f"{prefix}/"
    claimed = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"}
    spoofed = session.get(f"{base}/login", headers=claimed, timeout=20)
    assert "evil" not in spoofed.text
    audit = Store(raw["database"]["uri"], raw["database"]["db"])
    (entry,) = [entry for entry in audit.audit.recent() if entry["action"] == "login"]
    audit.close()
    assert entry["address"] == "127.0.0.1"


def listening(pid: int) -> set[str]:
    """Addresses at which a program and all that it started listen."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = [connection for process in family for connection in process.net_connections("inet")]
    return {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}


@pytest.mark.skipif(SUPERVISORD is None, reason="needs the program supervisord")
def test_supervisord_runs_daemon_and_portal(start: Start, config_file: Path, tmp_path: Path) -> None:
    raw = json.loads(config_file.read_text())
    (tmp_path / "raw").mkdir()
    raw["parallel"] = {"n_workers": 1}
    config_file.write_text(json.dumps(raw))
    port = free_port()
    programs = (DEPLOY / "supervisord" / "archiver.conf").read_text()
    programs = programs.replace("/srv/archiver/.venv/bin", str(Path(sys.executable).parent))
    programs = programs.replace("archiver.py config.json", f"archiver.py {config_file}").replace(
        "/srv/archiver/config.json", str(config_file)
    )
    programs = programs.replace("/srv/archiver", str(PROJECT)).replace("user=archiver\n", "")
    programs = programs.replace("environment=", f'environment=ARCHIVER_BIND="127.0.0.1:{port}",ARCHIVER_WORKERS="1",')
    files = f"logfile={tmp_path}/supervisord.log\npidfile={tmp_path}/supervisord.pid\nchildlogdir={tmp_path}\n"
    own = f"[supervisord]\nnodaemon=true\n{files}"
    (tmp_path / "supervisord.conf").write_text(own + programs)
    supervisor = start(str(SUPERVISORD), "-c", str(tmp_path / "supervisord.conf"))
    assert wait_for(f"http://127.0.0.1:{port}/login").status_code == 200
    status = tmp_path / "logs" / "status.json"
    for _ in range(200):
        if status.exists() and json.loads(status.read_text())["state"] in ("idle", "working"):
            break
        time.sleep(0.2)
    assert json.loads(status.read_text())["state"] in ("idle", "working")
    assert listening(supervisor.pid) <= {"127.0.0.1", "::1"}
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(60)
    assert json.loads(status.read_text())["state"] == "stopped", "the daemon said goodbye"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs the program systemd-analyze")
@pytest.mark.parametrize("unit", ["archiver.service", "archiver-portal.service"])
def test_systemd_understands_the_units(unit: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / unit).read_text().replace("/srv/archiver/.venv/bin/python", sys.executable)
    text = text.replace("/srv/archiver/.venv/bin/gunicorn", str(Path(sys.executable).with_name("gunicorn")))
    (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / unit)], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if unit in line]
    assert complaints == []


@pytest.fixture
def portal_store(mongo_server: Server, database_name: str) -> Iterator[Store]:
    """The database as the portal's own user sees it."""
    user = f"portal_{database_name}"
    with MongoClient(mongo_server.uri) as client:
        database = client[database_name]
        text = (DEPLOY / "mongo" / "roles.json").read_text().replace("DATABASE", database_name)
        for role in json.loads(text):
            database.command(role)
        client["admin"].command(
            "createUser", user, pwd="secret", roles=[{"role": "archiverPortal", "db": database_name}]
        )
        address = re.sub(r"//[^@]*@", f"//{user}:secret@", mongo_server.uri)
        store = Store(address, database_name)
        yield store
        store.close()
        client["admin"].command("dropUser", user)
        database.command("dropRole", "archiverPortal")


def test_the_portals_role_is_enough_and_no_more(
    portal_store: Store, mongo_server: Server, database_name: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(accounts, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    whole = Store(mongo_server.uri, database_name)
    obs = "3_HD_1_VIC_Si_o_20260314_030000.000000"
    whole.observations.insert(
        {"_id": obs, "night": "20260314", "name": "HD_1", "science_program": {"program_id": "3"}, "pipelined": {}}
    )
    whole.nights.touch("20260314")
    raw = {"paths": {"raw": ["raw"], "archive": str(tmp_path / "a"), "tmp": "t", "logs": "l"}}
    raw["pipelines"] = [{"class": "pipelines.bright_star.BrightStar"}]
    app = create_app(Config.model_validate(raw, context={"folder": tmp_path}), portal_store)
    accounts.add_user(portal_store.users, "grace", "all")
    accounts.set_password(portal_store.users, "grace", PASSWORD)
    client = app.test_client()

    def post(address: str, page: str = "/account", **fields: str) -> int:
        form = client.get(page).text.split('name="csrf_token" value="')[1].split('"')[0]
        return client.post(address, data={"csrf_token": form, **fields}).status_code

    assert post("/login", "/login", username="grace", password=PASSWORD) == 302
    for page in (
        "/night/20260314",
        "/night/20260314/summary",
        f"/observation/{obs}",
        "/search?name=HD",
        "/target/hd 1",
        "/jobs",
        "/users",
        "/psflib",
        "/nights",
    ):
        assert client.get(page).status_code == 200, page
    assert post(f"/observation/{obs}/redo/bright_star") == 302
    for version in ("0", "1"):
        assert post(f"/observation/{obs}/note", quality="bad", text="clouds", version=version) == 302
    assert post("/search/note?name=HD", quality="good") == 302
    assert post("/users", name="kim", programs="3") == 200
    assert post("/account/tokens", label="x", scope="read") == 200
    assert client.get("/download/night/20260314/3.sh").status_code == 200
    assert post("/users/remove", name="kim") == 302
    assert post("/logout") == 302
    for change in (
        lambda: portal_store.observations.request_redo(obs, "bright_star"),
        lambda: portal_store.nights.set_fields("20260314", {"x": 1}),
        lambda: portal_store.jobs.start({"_id": "x"}),
        lambda: portal_store.audit.collection.delete_many({}),
        lambda: portal_store.audit.collection.update_many({}, {"$set": {"who": "nobody"}}),
    ):
        with pytest.raises(OperationFailure, match="not authorized"):
            change()
    whole.close()
