"""Nothing of another programme is seen: every route, every link, every file and answer is searched for its names.

Routes are taken from the portal's map and links from its pages, so that a new page is covered without a change here.
"""

import bz2
import html
import io
import itertools
import json
import re
import tarfile
import zipfile
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from toy_archive import NIGHT, ToyArchive, make_config
from visitors import Visitor, make_app
from werkzeug.routing import BuildError, Rule

from obsarchive.core.documents import utc_now
from obsarchive.daemon.tarballs import pack
from obsarchive.store import Store
from obsarchive.store.foreign_names import LABEL
from obsarchive.store.notes import Note, subject_of_night
from obsarchive.web import Portal
from obsarchive.web.framework import authorization
from obsarchive.web.framework.authorization import OPEN, PUBLIC, SCOPES, WITHOUT_USER, digest_of
from obsarchive.web.pages import public

TARGET = "Zubenelgenubi"
MINUTE = 2.37
"""When the other programme observes: 03:02:22.2."""
SAME_TARGET_MINUTE = 4.74
"""When it observes a target of ours: 03:04:44.4."""
SECRETS = (
    TARGET,
    "20160925_030222.2",
    "20160925_030444.4",
    "03:04:44",
    "2016-09-25T03:02:22",
    "2016-09-25 03:02:22",
    ">03:02:22<",
    "57656.12664",
    "201.4567",
    "33.1234",
    "47.11",
    "MOA-2024-BLG-0007",
    "BEN 1",
    "THEIRS",
    "confidential remark",
    "a note of theirs",
    "their_filter",
    "THEIR_CAMERA",
)
"""What tells of the other programme's observation: names, times, position, Strehl ratio, dataset, comment, camera."""
QUERIES = (
    *("", "?raw=1", "?state=done&limit=500", "?RA=0&DEC=0&SR=180", "?MAXREC=5000"),
    "?LANG=ADQL&QUERY=SELECT+*+FROM+ivoa.obscore",
)
MOST_LINKS = 15
"""Links that are followed of one endpoint."""
LINK = re.compile(r'(?:href|src|action|hx-get|hx-post|data-[\w-]+)="(/[^"#]*)', re.ASCII)
ADDRESS = re.compile(r'https?://localhost(?::\d+)?(/[^\s"\'<>]*)')
CHANGING = ("tap_add_job", "tap_delete_job", "tap_change_job")
ENDS = ("auth.", "account.")
"""Forms that end the visit."""


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Portal:
    return make_app(store, make_config(tmp_path, "StrehlSummary"))


@pytest.fixture
def night(app: Portal) -> SimpleNamespace:
    """A night of two programmes in which whatever can names the other one's observation."""
    toy = ToyArchive(app.store, app.settings)
    own, other = toy.observation("3", "HD_140283", 0), toy.observation("3", "Vega", 7)
    more = {"comment": "confidential remark", "coordinates": {"ra_deg": 201.4567, "dec_deg": 33.1234}}
    foreign = toy.observation("4", TARGET, MINUTE, pi=["ben"], **more)
    toy.reduced(toy.observation("4", "HD_140283", SAME_TARGET_MINUTE, pi=["ben"]), 5)
    toy.observation("4", "HD_140283", 30, pi=["ben"], filter="their_filter", camera="THEIR_CAMERA")
    for name in (own, other):
        toy.reduced(name, 0)
    toy.reduced(foreign, 3, strehl=47.11)
    for name in (own, foreign):
        toy.raw_file(name, f"{name}.fits.bz2", b"raw")
    _subtraction(toy, app, own, [foreign, other])
    toy.step(
        other, "bright_star", "preview", state="failed", message=f"OSError: {foreign}_0.fits.bz2 is cut", retries=1
    )
    toy.calibration(NIGHT, [own, foreign])
    _summary(toy, own, foreign)
    for subject, message in ((own, f"compared with {foreign}"), (foreign, "no star"), (NIGHT, f"{foreign} is double")):
        for state in ("enqueued", "failed", "done", "rejected"):
            toy.job(subject, state, night=NIGHT, message=message, text=message, finished=utc_now(), duration_s=1.0)
    app.store.requests.ask("library add", "admin", {"observation": foreign})
    app.store.requests.collection.update_many({}, {"$set": {"problem": "it is double", "done": utc_now()}})
    app.store.notes.write(foreign, NIGHT, Note("bad", "a note of theirs", "ben"))
    app.store.notes.write(own, NIGHT, Note("good", f"better than {foreign}", "admin"))
    app.store.notes.write(subject_of_night(NIGHT), NIGHT, Note("good", f"clouds during {foreign}", "admin"))
    datasets = toy.dataset("3", "OGLE-2024-BLG-0034"), toy.dataset("4", "MOA-2024-BLG-0007")
    return SimpleNamespace(toy=toy, own=own, foreign=foreign, datasets=datasets, sources=toy.surveys())


def _subtraction(toy: ToyArchive, app: Portal, own: str, references: list[str]) -> None:
    """Let a star be subtracted with references, as records, manifests and the tarball keep it."""
    results = {"references": references, "n_references": 2, "curve": [[0.5, 4.0, 0.7]], "star": {"name": references[0]}}
    folder = toy.layout.observation(NIGHT, own)
    manifest = {"results": results, "settings": {"but": references[0]}, "log": [f"used {references[0]}.fits"]}
    (folder / "bright_star" / ".strehl.json").write_text(json.dumps(manifest))
    results |= {"ratio_percent": 12.3, "flag": "OK"}
    toy.step(
        own, "bright_star", "strehl", state="done", results=results, inputs={"library": references[0]}, products=[]
    )
    pack(folder, toy.layout.tarball(NIGHT, own))


def _summary(toy: ToyArchive, *observations: str) -> None:
    folder = toy.layout.summary(NIGHT)
    table = toy.product(folder, f"strehl.{NIGHT}.txt", "\n".join(observations).encode())
    ratios = [{"observation": name, "ratio_percent": 47.11} for name in observations]
    step = {"state": "done", "results": {"ratios": ratios}, "products": [table], "message": f"with {observations[-1]}"}
    problem = {"name": f"{observations[-1]}_9.fits", "folder": "/raw", "reason": "not a FITS file"}
    fields = {"strehl.steps.strehl": step, "raw_data.problems": [problem], "raw_data.problems_count": 1}
    toy.store.nights.set_fields(NIGHT, fields)


class Trespasser:
    """Opens everything that there is, with the names of one's own things and of those of others."""

    def __init__(self, app: Portal, night: SimpleNamespace, client: FlaskClient, **options: object) -> None:
        self.app, self.night, self.client, self.options = app, night, client, options
        self.leaks: list[str] = []
        self.opened: Counter[str] = Counter()
        self.statuses: dict[tuple[str, str], set[int]] = {}
        query = {"LANG": "ADQL", "QUERY": "SELECT * FROM ivoa.obscore"}
        self.job = app.store.query_jobs.add("ana", query, "")
        app.store.query_jobs.set_fields("ana", self.job, {"phase": "COMPLETED"})

    def values(self, whose: str) -> dict[str, str]:
        """Values of the parameters of addresses."""
        is_own, night = whose == "own", self.night
        return {
            "obs_id": night.own if is_own else night.foreign,
            "night": NIGHT,
            "program": "3" if is_own else "4",
            "key": night.datasets[0 if is_own else 1],
            "pipeline": "bright_star",
            "step": "strehl",
            "what": "add",
            "filename": "archiver.css",
            "folder": "pipelines",
            "service": "tap",
            "job": self.job if is_own else "none",
            "part": "parameters",
            "table": "ivoa.obscore",
        }

    def choices(self, rule: Rule, whose: str) -> Iterator[dict[str, str]]:
        """Yield the parameters of a route: all that can be meant by a name, and by a parameter that is new here."""
        known = self.values(whose)
        obs_id, target = known["obs_id"], "HD_140283" if whose == "own" else TARGET
        files = ("100p.fits", f"{obs_id}.fits.bz2", f"psflib/{obs_id}.png", f"strehl.{NIGHT}.txt", "rms.png")
        meanings = {
            "name": [*files, target, "ANA 1" if whose == "own" else "BEN 1"],
            "pipeline": ["bright_star", "psflib", "strehl"],
        }
        arguments = sorted(rule.arguments - (rule.defaults or {}).keys())
        tried = [
            getattr(rule._converters.get(key), "items", None)  # those of a route that allows some words only
            or meanings.get(key)
            or ([known[key]] if key in known else [obs_id, target])
            for key in arguments
        ]
        for values in itertools.product(*tried):
            yield dict(zip(arguments, values, strict=True))

    def addresses(self, whose: str, method: str) -> Iterator[tuple[str, str]]:
        """Yield endpoint and address of every route."""
        for rule in self.app.url_map.iter_rules():
            if method not in (rule.methods or ()) or rule.endpoint == "static":
                continue
            for values in self.choices(rule, whose):
                with self.app.test_request_context(), suppress(BuildError):  # a choice that the route does not have
                    yield rule.endpoint, self.app.url_for(rule.endpoint, **values)

    def open(self, address: str, endpoint: str, whose: str = "own", method: str = "GET", **more: object) -> str:
        """Open an address and look for what must not be there."""
        answer = self.client.open(address, method=method, **self.options, **more)
        body = answer.get_data()
        self.opened[endpoint] += 1
        self.statuses.setdefault((endpoint, whose), set()).add(answer.status_code)
        assert answer.status_code != 500, address
        if (answer.location or "").startswith("/login?next="):
            return ""  # which names what was asked for
        for where, content in (("headers", str(answer.headers).encode()), *_contents(address, body)):
            self.leaks += [
                f"{method} {address}: {secret} in {where}" for secret in SECRETS if secret.encode() in content
            ]
        return "" if b"\0" in body[:1000] else body.decode(errors="replace")

    def everywhere(self) -> None:
        """Open every route, then every link that leads further."""
        waiting = deque[str]()
        seen: set[str] = set()
        for whose in ("own", "foreign"):
            for endpoint, address in self.addresses(whose, "GET"):
                for query in QUERIES if whose == "own" and "product" not in address else QUERIES[:1]:
                    seen.add(address + query)
                    waiting.extend(_links(self.open(address + query, endpoint, whose)))
        while waiting:
            address = waiting.popleft()
            endpoint = self._endpoint(address)
            if address in seen or endpoint == "static" or self.opened[f"link {endpoint}"] >= MOST_LINKS:
                continue
            seen.add(address)
            self.opened[f"link {endpoint}"] += 1
            waiting.extend(_links(self.open(address, endpoint)))

    def _endpoint(self, address: str) -> str:
        with suppress(Exception):  # no such page, or only for a form
            return str(self.app.url_map.bind("localhost").match(urlsplit(address).path)[0])
        return ""


def _links(text: str) -> list[str]:
    return [html.unescape(found) for found in (*LINK.findall(text), *ADDRESS.findall(text)) if "logout" not in found]


def _contents(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield what is within a file, with names, down to the files of archive files."""
    yield name, data
    if data.startswith(b"BZh"):
        with suppress(OSError, ValueError):
            yield from _contents(f"{name} unpacked", bz2.decompress(data))
    elif data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield from _contents(member, archive.read(member))
    elif data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                yield member.name, member.name.encode()
                yield from _contents(member.name, content.read() if content else b"")


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "MOST_REQUESTS", 10**9)
    monkeypatch.setattr(authorization, "MOST_BAD_TOKENS", 10**9)
    monkeypatch.setattr(public, "MOST_REQUESTS", 10**9)


def trespass(app: Portal, night: SimpleNamespace, who: str) -> Trespasser:
    visitor = Visitor(app.test_client())
    assert visitor.log_in(who).status_code == 302
    return Trespasser(app, night, visitor.client)


def test_no_page_tells_of_another_programme(app: Portal, night: SimpleNamespace, unhurried: None) -> None:
    ana = trespass(app, night, "ana")
    ana.everywhere()
    assert ana.leaks == []
    pages = {rule.endpoint for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ())} - {"static"}
    assert pages <= ana.opened.keys()
    assert ana.statuses["observations.observation", "own"] == {200}
    assert ana.statuses["observations.observation", "foreign"] == {404}
    assert {200} < ana.statuses["observations.product", "own"] | {200, 404}
    assert {200} < ana.statuses["vo.tap_result", "own"] | {200, 404}
    assert 200 in ana.statuses["vo.tap_sync", "own"]
    assert sum(ana.opened.values()) > 500


def test_no_form_tells_of_another_programme(app: Portal, night: SimpleNamespace, unhurried: None) -> None:
    ana = trespass(app, night, "ana")
    token = Visitor(ana.client).token("/account")
    for endpoint, address in ana.addresses("foreign", "POST"):
        if not endpoint.startswith(ENDS):
            fields = {"csrf_token": token, "observation": night.foreign, "name": "ben", "programs": "4"}
            ana.open(address, endpoint, "foreign", "POST", data=fields, follow_redirects=True)
    assert ana.leaks == []
    assert len(ana.opened) > 5


def test_no_answer_to_a_program_tells_of_another_programme(
    app: Portal, night: SimpleNamespace, unhurried: None
) -> None:
    app.store.tokens.add(digest_of("arc_ana"), "ana", "test", list(SCOPES), timedelta(days=1))
    program = Trespasser(app, night, app.test_client(), headers={"Authorization": "Bearer arc_ana"})
    program.everywhere()
    assert program.leaks == []
    assert program.statuses["api.observation", "own"] >= {200}
    assert program.statuses["api.observation", "foreign"] == {404}


def test_nothing_private_is_seen_without_an_account(app: Portal, night: SimpleNamespace, unhurried: None) -> None:
    """Programme 3 is public, 4 is not: every public page, file and service, and every link that leads further."""
    app.settings = app.settings.model_copy(update={"release": app.settings.release.model_copy(update={"months": 12})})
    app.store.people.mark()
    app.store.programmes.save("4", {"period": "never"}, "admin")
    query = {"LANG": "ADQL", "QUERY": "SELECT * FROM ivoa.obscore"}
    theirs = app.store.query_jobs.add("public:127.0.0.9", {**query, "RUNID": TARGET}, TARGET)
    stranger = Trespasser(app, night, app.test_client())
    stranger.job = app.store.query_jobs.add("public:127.0.0.1", query, "")
    app.store.query_jobs.set_fields("public:127.0.0.1", stranger.job, {"phase": "COMPLETED"})
    stranger.everywhere()
    assert stranger.leaks == []
    answering = {endpoint for (endpoint, _), codes in stranger.statuses.items() if 200 in codes}
    assert answering - {""} <= PUBLIC | OPEN | WITHOUT_USER
    assert stranger.opened.keys() | {endpoint for endpoint in PUBLIC if endpoint.endswith(CHANGING)} >= PUBLIC
    assert stranger.statuses["public.observation", "own"] >= {200}
    assert stranger.statuses["public.observation", "foreign"] == {404}
    assert 200 in stranger.statuses["public_vo.tap_result", "own"]
    rows = stranger.client.get("/public/vo/tap/sync", query_string=query).text
    assert rows.count(night.own) > 2
    assert "ana" not in re.findall(r">([^<]*)<", rows)
    for part in ("", "/parameters", "/results/result"):
        assert stranger.client.get(f"/public/vo/tap/async/{theirs}{part}").status_code == 404
    for word in ("confidential remark", "a note of theirs", "better than"):
        assert word not in stranger.client.get("/public/vo/scs?RA=0&DEC=0&SR=180").text


def test_an_administrator_sees_what_this_file_looks_for(app: Portal, night: SimpleNamespace, unhurried: None) -> None:
    """Were nothing there to be found, the tests above could not fail."""
    admin = trespass(app, night, "admin")
    for address in (f"/observation/{night.own}", "/jobs", f"/night/{NIGHT}/summary", "/psflib", "/search?state=done"):
        before = len(admin.leaks)
        admin.open(address, "")
        assert len(admin.leaks) > before, address
    admin.open(f"/api/v1/observations/{night.own}", "")
    admin.open(f"/observation/{night.own}/step/bright_star/strehl", "")
    admin.open(f"/night/{NIGHT}/product/strehl/strehl.{NIGHT}.txt", "")
    admin.open("/download/selection.tar?done=bright_star.strehl", "")
    for where in ("/api/", "/step/", f"strehl.{NIGHT}.txt", "selection.tar"):
        assert any(where in leak for leak in admin.leaks), where


def test_references_of_others_have_no_name(app: Portal, night: SimpleNamespace) -> None:
    ana = trespass(app, night, "ana")
    page = ana.client.get(f"/observation/{night.own}").text
    assert LABEL in page
    assert "3_Vega_VIC" in page, "one's own references are named"
    results = ana.client.get(f"/api/v1/observations/{night.own}").json["pipelines"]["bright_star"]["steps"]["strehl"]
    assert results["results"]["references"][0] == LABEL
    assert results["results"]["n_references"] == 2
    assert app.store.observations.find(night.own)["pipelined"]["bright_star"]["steps"]["strehl"]["results"][
        "references"
    ]


def test_a_night_changes_for_those_alone_whose_data_do(app: Portal, night: SimpleNamespace) -> None:
    ana, ben = trespass(app, night, "ana").client, trespass(app, night, "ben").client
    address = f"/night/{NIGHT}/pulse"
    before = [client.get(address).json["pulse"] for client in (ana, ben)]
    night.toy.job(night.foreign, "done", night=NIGHT, finished=utc_now())
    after = [client.get(address).json["pulse"] for client in (ana, ben)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_lists_of_the_search_hold_what_one_may_see(app: Portal, night: SimpleNamespace) -> None:
    night.toy.observation("5", "Vega", 40, pi=["ana"], filter="Sg", camera="IR")
    ana, admin = trespass(app, night, "ana").client, trespass(app, night, "admin").client
    offered = {name: re.findall(r"<option[^>]*>([^<]*)", _field(ana.get("/search").text, name)) for name in LISTS}
    assert {name: [value for value in values if value not in ("any", "")] for name, values in offered.items()} == {
        "filter": ["Sg", "lp600"],
        "camera": ["IR", "VIC"],
        "program": ["3", "5"],
    }
    assert "there are Sg, lp600" in ana.get("/search?filter=nothing").text
    assert "THEIR_CAMERA" in _field(admin.get("/search").text, "camera")


LISTS = ("filter", "camera", "program")


def _field(page: str, name: str) -> str:
    return re.search(rf'<select name="{name}".*?</select>', page, re.DOTALL)[0]


def test_programmes_count_what_one_may_see(app: Portal, night: SimpleNamespace) -> None:
    night.toy.observation("4", "Vega", 40, pi=["ana"], night="20160923")
    rows = {}
    for who in ("ana", "admin"):
        page = trespass(app, night, who).client.get("/programmes").text
        found = re.findall(r'/programme/(\d+)">.*?<td class="n">(\d+)<.*?<td class="t">.*?>([\d-]+)<', page, re.DOTALL)
        rows[who] = {program: (int(count), last) for program, count, last in found}
    assert rows["ana"] == {"3": (2, "2016-09-25"), "4": (1, "2016-09-23")}
    assert rows["admin"] == {"3": (2, "2016-09-25"), "4": (4, "2016-09-25")}


def test_the_costs_of_a_night_are_those_of_ones_own_data(app: Portal, night: SimpleNamespace) -> None:
    counted = {}
    for who in ("ana", "admin"):
        page = trespass(app, night, who).client.get(f"/night/{NIGHT}/summary").text
        counted[who] = int(re.search(r"bright star · reduce</td><td class=\"n\">(\d+)<", page)[1])
    assert counted["ana"] == 8, "four of the observation, four of the night"
    assert counted["admin"] == 12
