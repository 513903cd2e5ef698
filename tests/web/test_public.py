"""Public observations: exactly those whose proprietary period has passed, to the second, and for everybody."""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_archive import EARLIER, NIGHT, ToyArchive, make_config
from visitors import Visitor, make_app

from obsarchive.store import Store
from obsarchive.store.foreign_names import LABEL
from obsarchive.web import Portal
from obsarchive.web.pages import public

RELEASE = datetime(2017, 9, 25, tzinfo=UTC)
"""When the night of the toy archive becomes public after twelve months."""
SECOND = timedelta(seconds=1)


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Portal:
    config = make_config(tmp_path)
    policy = config.release.model_copy(update={"months": 12, "acknowledgement": "Based on Robo-AO."})
    return make_app(store, config.model_copy(update={"release": policy}))


@pytest.fixture
def night(app: Portal) -> SimpleNamespace:
    """Of programme 3, with the period of the archive, and of programme 4, which stays private."""
    toy = ToyArchive(app.store, app.settings)
    own, before = toy.observation("3", "HD_140283", 0), toy.observation("3", "Vega", 0, night=EARLIER)
    private = toy.observation("4", "351_Yrsa", 2)
    for number, name in enumerate((own, before, private)):
        toy.reduced(name, number)
        toy.raw_file(name, f"{name}.fits.bz2", f"raw frames of {name}".encode())
    toy.step(own, "bright_star", "strehl", state="done", results={"references": [private, before]}, products=[])
    app.store.people.mark()
    app.store.programmes.save("4", {"period": "never"}, "admin")
    app.store.programmes.save("3", {"title": "Subdwarfs", "pi": "Doe, J.", "doi": "10.1234/robo"}, "admin")
    return SimpleNamespace(toy=toy, own=own, before=before, private=private)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[datetime]]:
    """The time of the portal, which a test sets."""
    times = [RELEASE]
    monkeypatch.setattr(public, "clock", lambda: times[0])
    yield times


def addresses(name: str) -> list[str]:
    page = f"/public/observation/{name}"
    files = ("product/bright_star/100p.fits", f"raw/{name}.fits.bz2", "datacite.json", "citation.bib")
    return [page, f"{page}.tar", *(f"{page}/{file}" for file in files)]


def test_the_release_day_begins_at_midnight_utc(app, night, clock, anybody) -> None:
    for moment, status in ((RELEASE - SECOND, 404), (RELEASE, 200)):
        clock[0] = moment
        for address in addresses(night.own):
            assert anybody.get(address).status_code == status, (moment, address)
        assert (night.own in anybody.get("/public").text) == (status == 200)
        assert anybody.get(f"/public/observation/{night.before}").status_code == 200, "two days older"
    clock[0] = RELEASE + timedelta(days=36500)
    for address in addresses(night.private):
        assert anybody.get(address).status_code == 404, address


def test_what_is_not_public_looks_like_nothing(app, night, clock, anybody) -> None:
    pages = [anybody.get(f"/public/observation/{name}") for name in (night.private, "4_none")]
    assert pages[0].text == pages[1].text
    assert not [entry for entry in app.store.audit.recent() if entry["action"] == "denied"]


def test_an_archive_without_a_period_has_nothing_public(store, tmp_path) -> None:
    app = make_app(store, make_config(tmp_path))
    name = ToyArchive(store, app.settings).observation("3", "Vega", 0)
    client = app.test_client()
    assert client.get(f"/public/observation/{name}").status_code == 404
    assert "No observation is public yet" in client.get("/public").text


def test_a_database_that_lost_its_programmes_makes_nothing_public(app, night, clock, anybody) -> None:
    """Were the period of the archive taken for that of programme 4, its data would be public."""
    kept = [
        app.store.database[name].find_one({"_id": key}) for name, key in (("programmes", "4"), ("journal", "people"))
    ]
    for name in ("programmes", "journal"):
        app.store.database.drop_collection(name)
    for name in (night.private, night.own):
        assert anybody.get(f"/public/observation/{name}").status_code == 404
    app.store.database["programmes"].insert_one(kept[0])
    app.store.database["journal"].insert_one(kept[1])
    assert anybody.get(f"/public/observation/{night.own}").status_code == 200
    assert anybody.get(f"/public/observation/{night.private}").status_code == 404


def test_nothing_but_public_pages_is_open(app, night, clock, anybody) -> None:
    page = anybody.get(f"/public/observation/{night.own}").text
    for address in set(re.findall(r'(?:href|src)="(/[^"#]*)"', page)) - {"/"}:
        path = address.partition("?")[0]
        assert path.startswith(("/public", "/static/")), address
        assert anybody.get(address.replace("&amp;", "&")).status_code == 200, address
    for address in (f"/observation/{night.own}", f"/api/v1/observations/{night.own}"):
        assert anybody.get(address).status_code in (302, 401)


def test_a_public_page_names_neither_users_nor_private_observations(app, night, clock, anybody) -> None:
    app.store.observations.set_fields(night.own, {"science_program.program_PI": ["secret_user"], "comment": "internal"})
    texts = [anybody.get(f"/public/observation/{night.own}{more}").text for more in ("", "/datacite.json")]
    texts.append(str(app.store.public.find(public_rule(app), night.own, RELEASE).document["pipelined"]))
    for text in texts:
        assert night.private not in text
    assert not any(word in text for text in texts for word in ("secret_user", "internal"))
    assert LABEL in texts[2]
    assert night.before in texts[2], "a public reference is named"


def public_rule(app):
    return app.store.programmes.release(app.settings.release.months)


def test_a_public_archive_file_can_be_checked_and_cited(app, night, clock, anybody) -> None:
    data = anybody.get(f"/public/observation/{night.own}.tar?raw=1").data
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name.partition("/")[2]: tar.extractfile(member).read() for member in tar}
    assert found[f"raw/{night.own}.fits.bz2"] == f"raw frames of {night.own}".encode()
    sums = dict(line.split("  ")[::-1] for line in found["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(text).hexdigest() for name, text in found.items() if name != "SHA256SUMS"}
    cited = found["CITATION.txt"].decode()
    for part in ("Doe, J. (2017): HD_140283", "https://doi.org/10.1234/robo", "CC BY 4.0", "Based on Robo-AO."):
        assert part in cited


def test_the_page_describes_itself_to_search_engines(app, night, clock, anybody) -> None:
    answer = anybody.get(f"/public/observation/{night.own}")
    text = re.search(r'<script type="application/ld\+json">(.*?)</script>', answer.text, re.DOTALL)[1]
    found = json.loads(text)
    assert (found["@context"], found["@type"]) == ("https://schema.org", "Dataset")
    assert {"name", "description", "license", "creator", "identifier", "url", "distribution"} <= found.keys()
    assert found["datePublished"] == "2017-09-25"
    download = found["distribution"][0]["contentUrl"]
    assert anybody.get(download.partition("localhost")[2] or download).status_code == 200
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


DATACITE_NEEDS = {"url", "creators", "titles", "publisher", "publicationYear", "types", "schemaVersion"}


def test_metadata_are_those_that_datacite_needs(app, night, clock, anybody) -> None:
    found = anybody.get(f"/public/observation/{night.own}/datacite.json").json
    assert found.keys() >= DATACITE_NEEDS
    assert found["creators"] == [{"name": "Doe, J.", "nameType": "Personal"}]
    assert found["types"]["resourceTypeGeneral"] == "Dataset"
    assert {entry["dateType"] for entry in found["dates"]} == {"Collected", "Available"}
    assert "doi" not in found, "that is of all data of the programme"
    (whole,) = found["relatedIdentifiers"]
    assert (whole["relatedIdentifier"], whole["relationType"]) == ("10.1234/robo", "IsPartOf")
    (size,) = found["sizes"]
    assert int(size.removesuffix(" bytes")) > 0
    assert "geoLocations" not in found, "the place of the telescope is not configured"
    config = app.settings.model_dump(by_alias=True)
    telescope = {"primary_m": 2.1, "plate_scale_arcsec": 0.03, "detector_px": [256, 256]}
    config["telescope"] = {"KPNO_2.1m": {**telescope, "latitude_deg": 31.96, "longitude_deg": -111.6}}
    app.settings = type(app.settings).model_validate(config)
    found = anybody.get(f"/public/observation/{night.own}/datacite.json").json
    assert found["geoLocations"] == [{"geoLocationPoint": {"pointLatitude": 31.96, "pointLongitude": -111.6}}]


def test_observations_of_a_programme_are_described_as_different_parts_of_it(app, night, clock, anybody) -> None:
    text = anybody.get(f"/public/observation/{night.own}").text
    found = json.loads(re.search(r'<script type="application/ld\+json">(.*?)</script>', text, re.DOTALL)[1])
    assert found["@id"].endswith(f"/public/observation/{night.own}")
    assert found["isPartOf"]["@id"] == "https://doi.org/10.1234/robo"
    archive, *files = found["distribution"]
    assert archive["encodingFormat"] == "application/x-tar"
    assert files
    for file in files:
        content = anybody.get(file["contentUrl"].partition("localhost")[2]).data
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
        assert file["contentSize"] == f"{len(content)} B"


def test_a_public_observation_is_cited_by_bibtex(app, night, clock, anybody) -> None:
    assert f"/public/observation/{night.own}/citation.bib" in anybody.get(f"/public/observation/{night.own}").text
    answer = anybody.get(f"/public/observation/{night.own}/citation.bib")
    assert answer.mimetype == "application/x-bibtex"
    assert answer.text.startswith(f"@misc{{{night.own},\n  author = {{Doe, J.}},\n  title = {{{{HD\\_140283, observed ")
    for line in ("  year = {2017},", "  doi = {10.1234/robo},", "  url = {"):
        assert f"\n{line}" in answer.text
    app.store.programmes.save("3", {"title": "Dwarfs {100 %} & \\input{x}", "pi": "", "doi": ""}, "admin")
    hostile = anybody.get(f"/public/observation/{night.own}/citation.bib").text
    assert r"Dwarfs \{100 \%\} \& \textbackslash{}input\{x\}" in hostile
    assert "author = {{Programme 3}}" in hostile
    assert hostile.replace(r"\{", "").replace(r"\}", "").count("{") == hostile.replace(r"\{", "").replace(
        r"\}", ""
    ).count("}")


def test_hostile_names_stay_text(app, night, clock, anybody) -> None:
    hostile = "</script><script>alert(1)</script>"
    app.store.observations.set_fields(night.own, {"name": hostile})
    page = anybody.get(f"/public/observation/{night.own}").text
    assert hostile not in page
    assert "alert(1)</script>" not in page


def test_programs_that_ask_too_often_wait(app, night, clock, anybody, monkeypatch) -> None:
    monkeypatch.setattr(public, "MOST_REQUESTS", 5)
    last = [anybody.get("/public") for _ in range(7)][-1]
    assert (last.status_code, last.headers["Retry-After"]) == (429, "60")
    assert "wait a minute" in last.text
    assert "password" not in last.text, "a visitor has none"
    app.store.slots.take("tar public 127.0.0.1", 1, timedelta(minutes=1))
    monkeypatch.setattr(public, "MOST_REQUESTS", 500)
    answer = anybody.get(f"/public/observation/{night.own}.tar")
    assert answer.status_code == 429
    assert "Too many downloads are running already" in answer.text


def test_a_public_page_has_the_companions_of_that_of_the_users(app, night, clock, anybody, as_user) -> None:
    seen = {
        "separation_arcsec": 0.7943,
        "separation_error_arcsec": 0.0013,
        "delta_mag": 2.022,
        "delta_mag_error": 0.035,
    }
    results = {"n_references": 3, "detections": [seen]}
    for key, value in results.items():
        app.store.observations.set_fields(night.own, {f"pipelined.bright_star.steps.pca.results.{key}": value})
    companion = '<th scope="row">Companion</th><td>0.7943 ± 0.0013″<br>Δ 2.022 ± 0.035 mag</td>'
    for page in (anybody.get(f"/public/observation/{night.own}"), as_user("ana").get(f"/observation/{night.own}")):
        assert companion in page.text


def test_the_list_comes_in_pages(app, night, clock, anybody, monkeypatch) -> None:
    monkeypatch.setattr(public, "ON_A_PAGE", 1)
    first = anybody.get("/public").text
    assert night.own in first
    assert night.before not in first
    following = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")
    second = anybody.get(following).text
    assert night.before in second
    assert 'rel="next"' not in second
    assert anybody.get("/public?cursor=x").status_code == 400
    assert night.own not in anybody.get("/public?program=4").text


def test_search_engines_are_told_what_they_may_read(anybody) -> None:
    lines = anybody.get("/robots.txt").text.splitlines()
    assert "Disallow: /" in lines
    assert "Allow: /public/observation/" in lines


# ------------------------------------------------------------------------------------- programmes


def test_a_programme_shows_what_was_observed(app, night, as_user) -> None:
    ana = as_user("ana")
    page = ana.get("/programme/3").text
    for part in ("Subdwarfs", "Doe, J.", "ana", "2016-09", "12 months", "CC BY 4.0"):
        assert part in page
    assert "351_Yrsa" not in page
    assert '<th scope="row">Exposure</th><td class="n">3 min 0 s</td>' in page, (
        "short exposures are not rounded to 0.00 h"
    )
    assert [as_user(who).get("/programme/4").status_code for who in ("ana", "ben", "admin")] == [404, 200, 200]
    assert as_user("admin").get("/programme/99x").status_code == 404
    assert "/programme/4" not in ana.get("/programmes").text
    assert "/programme/4" in as_user("admin").get("/programmes").text


def test_the_pi_stands_apart_from_people_with_access(app, night, as_user) -> None:
    app.store.observations.set_fields(night.own, {"science_program.program_PI": ["ana", "student"]})
    page = as_user("ana").get(f"/observation/{night.own}").text
    assert "PI Doe, J." in page
    assert "PI ana" not in page
    assert re.search(r"Access</th><td>ana, student<", page)
    assert "from 2017-09-25" in page


def test_programs_learn_when_data_become_public(app, night, as_user) -> None:
    admin = as_user("admin")
    answers = [admin.get(f"/api/v1/observations/{name}").json for name in (night.own, night.private)]
    assert [answer["public_from"] for answer in answers] == ["2017-09-25", None]
    assert answers[0]["citation"].startswith("Doe, J. (2017): HD_140283")


def test_administrators_change_a_programme(app, night, as_user, anybody, clock) -> None:
    admin = as_user("admin")
    fields = {"title": "New", "pi": "Roe, R.", "doi": "https://doi.org/10.5555/x", "licence": "CC0", "period": "own"}
    assert admin.post("/programme/3", months="24", **fields).status_code == 302
    found = app.store.programmes.find("3")
    assert (found.title, found.pi, found.doi, found.licence, found.period) == ("New", "Roe, R.", "10.5555/x", "CC0", 24)
    assert anybody.get(f"/public/observation/{night.own}").status_code == 404, "a longer period hides it again"
    assert app.store.audit.recent()[0]["action"] == "programme changed"
    admin.post("/programme/3", period="archive", months="24")  # which the form still shows
    assert app.store.programmes.find("3").period is None


@pytest.mark.parametrize(
    "fields",
    [
        {"doi": "javascript:alert(1)"},
        {"period": "own", "months": "-1"},
        {"period": "own", "months": "9" * 9},
        {"period": "archive", "months": "36"},  # months that were not chosen: data could be public too early
    ],
)
def test_what_a_programme_cannot_be_is_refused(app, night, as_user, fields) -> None:
    before = app.store.programmes.find("3")
    answer = as_user("admin").post("/programme/3", title="Newer", **fields)
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert '<input name="title" maxlength="300" value="Newer">' in answer.text, "what was typed is not lost"
    assert app.store.programmes.find("3") == before


def test_members_change_nothing(app, night, as_user) -> None:
    ana = as_user("ana")
    assert '<form method="post" action="/programme/3"' not in ana.get("/programme/3").text
    assert ana.post("/programme/3", period="own", months="0").status_code == 404


def test_the_counts_of_a_night_stay_those_of_the_user(app, night, as_user) -> None:
    assert night.private not in as_user("ana").get(f"/night/{NIGHT}").text
    months = {entry["month"]: entry for entry in app.store.programmes.months({"_id": "ana", "programs": ["3"]}, "3")}
    assert (months["201609"]["observations"], months["201609"]["nights"]) == (2, 2)
    assert months["201609"]["exposure_s"] == 180.0
    assert app.store.programmes.months({"_id": "ben", "programs": ["4"]}, "3") == []


def test_a_visitor_of_the_portal_is_led_to_public_data(app, anybody: Visitor) -> None:
    assert 'href="/public"' in anybody.get("/login").text
