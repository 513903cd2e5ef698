"""Headers, cookies over https, the secret key, proxies, vendored files, and what happens without a database."""

import hashlib
import logging
import stat
from pathlib import Path

import pytest
from pymongo import MongoClient
from toy_archive import NIGHT, make_config
from visitors import PASSWORD, Visitor

from obsarchive.errors import ConfigError
from obsarchive.store import Store
from obsarchive.web import create_app
from obsarchive.web.framework.context import full_address
from obsarchive.web.framework.security import secret_key

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef" * 4


@pytest.mark.parametrize("address", ["/login", f"/night/{NIGHT}", "/no/such/page", "/static/archiver.css"])
def test_every_answer_is_protected(archive, as_user, address) -> None:
    headers = as_user("ana").get(address).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert address.startswith("/static") or headers["Cache-Control"] == "no-store"


def test_static_files_may_be_kept_and_folders_are_not_listed(app, as_user) -> None:
    anybody = as_user("ana")
    assert "max-age" in anybody.get("/static/archiver.js").headers["Cache-Control"]
    assert anybody.get("/static/").status_code == 404
    assert anybody.get("/static/../config.json").status_code == 404
    assert anybody.client.open("/login", method="TRACE").status_code == 405


def test_https_brings_the_strict_cookie(store: Store, app, tmp_path) -> None:
    secure = create_app(make_config(tmp_path, public_url="https://archive.example", trusted_proxies=1), store)
    client = secure.test_client()
    options = {"base_url": "https://archive.example", "headers": {"X-Forwarded-For": "192.0.2.7"}}
    page = client.get("/login", **options)
    token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
    answer = client.post("/login", data={"csrf_token": token, "username": "ana", "password": PASSWORD}, **options)
    assert answer.status_code == 302
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-archiver=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    assert store.audit.recent()[0]["address"] == "192.0.2.7"


def test_forwarded_headers_of_strangers_mean_nothing(app, anybody) -> None:
    spoofed = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    anybody.client.post("/login", data={"csrf_token": anybody.token("/login"), "username": "x"}, headers=spoofed)
    assert app.store.audit.recent()[0]["address"] == "127.0.0.1"
    assert "evil.example" not in anybody.get("/login", headers=spoofed).text
    assert "evil.example" not in str(anybody.get("/", headers={"Host": "evil.example"}).headers)


@pytest.mark.parametrize("host", ["..", "a..b", "[", "x" * 300, "a b"])
@pytest.mark.parametrize("path", ["/", "/login", "/api/v1/nights", "/health/live", "/no/such/page"])
def test_a_host_that_is_no_name_is_refused(anybody, host, path) -> None:
    answer = anybody.client.get(path, environ_overrides={"HTTP_HOST": host})
    assert answer.status_code in (200, 302, 400, 401), answer.text
    assert host != ".." or answer.status_code == 400


@pytest.mark.parametrize(
    ("host", "shown"),
    [("evil.example", "127.0.0.1:8000"), ("localhost:8321", "localhost:8321"), ("192.0.2.7:80", "192.0.2.7:80")],
)
def test_addresses_begin_with_a_host_of_this_machine(app, host, shown) -> None:
    with app.test_request_context("/", base_url=f"http://{host}/"):
        assert full_address("api.index") == f"http://{shown.removesuffix(':80')}/api/v1"


def test_the_secret_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    key = secret_key(config)
    path = config.database_folder / "portal_secret"
    assert len(key) == 64
    assert secret_key(config) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["portal_secret"]
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read"):
        secret_key(config)


def test_a_configured_key_is_used_unless_it_is_weak(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text(KEY)
    assert secret_key(make_config(tmp_path, secret_key={"file": str(secret)})) == KEY
    for weak in ("changeme", "x" * 64):
        secret.write_text(weak)
        with pytest.raises(ConfigError, match="secret_key"):
            secret_key(make_config(tmp_path, secret_key={"file": str(secret)}))


def test_vendored_files_are_what_they_were() -> None:
    folder = ROOT / "static" / "vendor"
    listed = dict(reversed(line.split("  ")) for line in (folder / "CHECKSUMS").read_text().splitlines())
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"CHECKSUMS"}
    assert present == set(listed)
    for name, checksum in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum, name
    assert {name.split("/")[0] for name in listed if "LICENSE" in name} == {name.split("/")[0] for name in listed}


def test_pages_hold_no_inline_script_style_or_foreign_address() -> None:
    for template in (ROOT / "templates").glob("*.html"):
        text = template.read_text()
        assert "<script>" not in text, template
        assert "style=" not in text, template
        assert "http://" not in text, template
        assert "https://" not in text, template
        assert "|safe" not in text, template


def test_without_a_database_nothing_is_shown(app, as_user, monkeypatch) -> None:
    """Users and sessions are looked for where nobody listens, as when the server died."""
    ana = as_user("ana")
    with MongoClient("mongodb://127.0.0.1:9", serverSelectionTimeoutMS=100) as client:
        monkeypatch.setattr(app.store.users, "collection", client["gone"]["users"])
        monkeypatch.setattr(app.store.sessions, "collection", client["gone"]["sessions"])
        for answer in (ana.get(f"/night/{NIGHT}"), ana.get("/no/such/page"), Visitor(app.test_client()).get("/login")):
            assert answer.status_code == 503
            assert "The database is not reachable" in answer.text
            assert answer.headers["Retry-After"] == "60"


def test_a_bug_shows_a_number_that_is_in_the_log(app, as_user, monkeypatch, caplog) -> None:
    ana = as_user("ana")
    monkeypatch.setattr(app.store.browse, "last_night", lambda user: 1 / 0)
    with caplog.at_level(logging.ERROR):
        answer = ana.get("/")
    assert answer.status_code == 500
    number = answer.text.split("Number: <code>")[1].split("<")[0]
    assert number in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivision" not in answer.text


def test_what_is_too_large_is_refused(anybody) -> None:
    answer = anybody.client.post("/login", data={"username": "x" * 100_000})
    assert answer.status_code == 413
