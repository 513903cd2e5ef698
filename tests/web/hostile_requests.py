"""Hostile requests to a portal: no 500, nothing that hangs, nothing from outside of the archive."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from toy_archive import NIGHT, ToyArchive, make_config
from visitors import CHEAP, Visitor, make_app

from obsarchive.accounts import users as accounts
from obsarchive.core.documents import utc_now
from obsarchive.database.embedded_mongod import EmbeddedMongod
from obsarchive.store import Store
from obsarchive.web import Portal
from obsarchive.web.framework import authorization
from obsarchive.web.models.openapi_parts import PARAMETERS
from obsarchive.web.models.openapi_surveys import OF_CURVES, OF_SOURCES
from tests.fuzz.kinds import Kind
from tests.fuzz.strategies import as_json, texts, values

SECRET = "what lies beside the archive 7d1f"
FAREWELLS = {"auth.logout", "account.end_sessions", "account.change_password", "users.remove", "users.end_sessions"}
"""Requests after which a visitor is a stranger; `test_permissions` sends them."""
METHODS = ("GET", "GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
HEADERS = (
    "Host",
    "Origin",
    "Referer",
    "X-Forwarded-For",
    "Accept",
    "Range",
    "If-None-Match",
    "Cookie",
    "Authorization",
)
FIELDS = (*PARAMETERS, *OF_SOURCES, *OF_CURVES, "RA", "DEC", "SR", "POS", "MAXREC", "TIME", "star", "next", "page")
FORMS = (
    "observation",
    "pipeline",
    "step",
    "programs",
    "name",
    "username",
    "password",
    "code",
    "token",
    "night",
    "label",
)


class Attack:
    """Browsers and a program of people who mean harm, and a stranger's."""

    def __init__(self, app: Portal) -> None:
        self.app = app
        self.rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint not in FAREWELLS]
        toy = ToyArchive(app.store, app.settings)
        own, foreign = toy.observation("3", "HD_140283", 0), toy.observation("4", "351_Yrsa", 2)
        toy.reduced(own, 0)
        toy.reduced(foreign, 3)
        toy.calibration(NIGHT, [own, foreign])
        toy.surveys()
        app.store.jobs.report({"updated": utc_now() + timedelta(days=1), "state": "idle"})  # else its health is a 503
        key = toy.dataset("3", "OGLE-2024-BLG-0034")
        self.known = (own, foreign, NIGHT, key, "ANA 1", "bright_star", "reduce", "100p.fits", "calib", "csv", "3")
        (app.settings.paths.archive.parent / "secret.txt").write_text(SECRET)
        self.browsers, self.tokens = {}, {}
        for name in ("", "ana", "admin"):
            visitor = Visitor(app.test_client())
            if name:
                visitor.log_in(name)
                self.tokens[name] = visitor.token("/account")
            self.browsers[name] = visitor.client
        scopes = list(authorization.SCOPES)
        token = "t" * 43
        app.store.tokens.add(authorization.digest_of(token), "admin", "fuzz", scopes, timedelta(days=1))
        self.program = {"Authorization": f"Bearer {token}"}

    @property
    def requests(self) -> st.SearchStrategy[dict[str, Any]]:
        """How a request is made."""
        words = st.one_of(st.sampled_from(self.known), texts)
        filled = st.sampled_from(self.rules).flatmap(
            lambda rule: st.fixed_dictionaries(dict.fromkeys(sorted(rule.arguments), words)).map(
                lambda given: _address(rule.rule, given)
            )
        )
        path = st.one_of(
            filled, filled, st.lists(words, max_size=4).map(lambda parts: "/" + "/".join(map(_quoted, parts)))
        )
        fields = st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), words, max_size=3)
        form = st.dictionaries(st.one_of(st.sampled_from(FORMS), texts), words, max_size=4)
        body = st.one_of(st.just(b""), values.map(as_json), st.binary(max_size=20))
        return st.fixed_dictionaries(
            {
                "method": st.sampled_from(METHODS),
                "path": path,
                "query": fields,
                "form": st.one_of(st.none(), form),
                "body": body,
                "headers": st.dictionaries(st.sampled_from(HEADERS), words.map(_printable), max_size=2),
                "who": st.sampled_from(["", "ana", "admin", "program", "program"]),
            }
        )

    def send(self, asked: dict[str, Any], _: Path | None = None) -> None:
        """Send one request; AssertionError if the answer is not one of the portal's own."""
        who, is_form = asked["who"], asked["form"] is not None
        headers = {**asked["headers"], **(self.program if who == "program" else {})}
        token = {"csrf_token": self.tokens[who]} if who in self.tokens else {}
        data = "&".join(f"{_quoted(k)}={_quoted(v)}" for k, v in {**(asked["form"] or {}), **token}.items()).encode()
        kind = "application/x-www-form-urlencoded" if is_form else "application/json"
        client = self.browsers.get(who) or self.app.test_client()
        answer = client.open(
            "/" + asked["path"][1:].replace("/", "%2F", 1) if asked["path"].startswith("//") else asked["path"],
            method=asked["method"],
            query_string="&".join(f"{_quoted(key)}={_quoted(value)}" for key, value in asked["query"].items()),
            headers=headers,
            data=data if is_form else asked["body"],
            content_type=kind,
        )
        text = answer.get_data()
        answer.close()
        assert answer.status_code < 500, f"{answer.status_code}: {text[:200]!r}"
        assert SECRET.encode() not in text
        if answer.mimetype == "application/json" and text:
            json.loads(text, parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _printable(text: str) -> str:
    return "".join(c for c in text if 32 <= ord(c) < 127)


def _address(rule: str, given: dict[str, str]) -> str:
    """Fill the parameters of a route, which stand as ``<name>`` or ``<converter:name>``."""
    parts = rule.replace(">", "<").split("<")
    return "".join(_quoted(given[part.rpartition(":")[2]]) if i % 2 else part for i, part in enumerate(parts))


@contextmanager
def portal_kind() -> Iterator[Kind]:
    """Start a database and a portal, and give the kind of inputs that attacks it."""
    accounts._HASHER, authorization.MOST_REQUESTS = CHEAP, 10**9
    with tempfile.TemporaryDirectory() as name, EmbeddedMongod(Path(name) / "mongod") as server:
        store = Store(server.admin_uri, "archiver")
        attack = Attack(make_app(store, make_config(Path(name) / "site")))
        yield Kind("HTTP", attack.requests, attack.send)
        store.close()
