"""Events of surveys, decided one by one: who may, what is kept, what others see; and by keyboard in a real browser."""

import csv
import io
import re
from datetime import timedelta
from html import unescape
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, expect
from test_browser import CHROMIUM, Watched, _log_in, browser, visit  # noqa: F401
from test_tasks import violations
from toy_archive import HOSTILE, ZTF
from visitors import Visitor

from obsarchive.store import Decision
from obsarchive.web.framework.authorization import digest_of
from obsarchive.web.surveys import thumbnails


@pytest.fixture
def events(archive: SimpleNamespace, sources: SimpleNamespace) -> SimpleNamespace:
    """Sources with events of a project of everybody, one of each programme, and one in two filters with a period."""
    for number in range(4):
        archive.toy.source("WHITE_DWARFS", {"name": f"WD {number}", "ra": 10.0 + number, "dec": 1.0, "mag": 17.0})
    period = {"period_d": 12.345678, "period_error_d": 0.0021, "method": "lomb-scargle", "power": 0.5}
    row = {"name": "WD two", "ra": 20.0, "dec": 1.0, "mag": 17.0}
    archive.toy.source("WHITE_DWARFS", row, ZTF(event_fraction=1.0), extra={"period": period})
    return sources


def names(person: Visitor, query: str = "") -> list[str]:
    found = [one["name"] for one in person.get(f"/api/v1/events?{query}").json["events"]]
    page = person.get(f"/events?{query}").text
    assert re.findall(r'<p class="name"><a href="[^"]*">([^<]*)</a>', page) == found
    return found


def decide(person: Visitor, name: str, verdict: str, text: str = "", version: int = 0, **more: str):
    fields = {"verdict": verdict, "text": text, "version": str(version), **more}
    return person.post(f"/source/{name}/decision", "/events", **fields)


def test_events_are_listed_by_strength_to_those_who_may_see_them(app, events, as_user) -> None:
    ana, ben, admin = as_user("ana"), as_user("ben"), as_user("admin")
    found = ana.get("/api/v1/events").json["events"]
    scores = [abs(one["score"]) for one in found]
    assert scores == sorted(scores, reverse=True)
    assert {"ANA 1"} < set(names(ana))
    assert "BEN 1" not in names(ana)
    assert "ANA 1" not in names(ben)
    assert {"ANA 1", "BEN 1"} < set(names(admin))
    assert ana.get("/events?project=THEIRS").text.count("data-event>") == 0
    assert ana.get("/source/BEN 1/thumbnail.svg").status_code == 404
    assert decide(ana, "BEN 1", "keep").status_code == 404
    assert app.store.decisions.find("THEIRS", "BEN 1").version == 0


def test_a_peak_has_its_error_on_every_page(events, as_user) -> None:
    ana = as_user("ana")
    cards = ana.get("/events").text.split("data-event>")[1:]
    assert cards
    for card in cards:
        page = unescape(re.search(r'href="([^"]+)"', card)[1])
        peak = re.search(r"· ([\d.]+ ± [\d.]+) <span class=\"unit\">mag", card)[1]
        assert f'<td class="n">{peak}</td>' in ana.get(page).text


def test_searches_and_pages(events, as_user) -> None:
    ana = as_user("ana")
    everything = names(ana)
    first = ana.get("/api/v1/events").json["events"][2]["score"]
    assert names(ana, f"score_min={abs(first)}") == everything[:3]
    assert names(ana, "period_min=12&period_max=13") == ["WD two"]
    assert names(ana, "period_max=12") == [events.event]
    assert names(ana, "period_min=20") == []
    assert set(names(ana, "name=WD t")) == {"WD two"}
    found, address = [], "/api/v1/events?limit=2"
    while address:
        answer = ana.get(address).json
        found += [one["name"] for one in answer["events"]]
        address = answer["next"]
    assert found == everything
    assert "period 12.3457 ± 0.0021 d" in ana.get("/events").text
    for query in ("state=odd", "score_min=x", "score_min=5&score_max=1", "sort=name"):
        assert ana.get(f"/api/v1/events?{query}").status_code == 400
        assert "Some parameters were not understood" in ana.get(f"/events?{query}").text
    assert ana.get("/events?cursor=x").status_code == 400


def test_a_decision_is_shown_found_and_exported(app, events, as_user) -> None:
    ana, ben = as_user("ana"), as_user("ben")
    assert decide(ana, "WD 1", "keep", f"a  lens\n{HOSTILE}").status_code == 302
    decide(ben, "WD 2", "reject", "artefact")
    assert (names(ben, "state=keep"), names(ben, "state=reject")) == (["WD 1"], ["WD 2"])
    assert {"WD 1", "WD 2"}.isdisjoint(names(ben, "state=undecided"))
    page = ben.get("/events?state=keep").text
    assert "a lens &lt;img" in page
    assert HOSTILE not in page
    assert "1 kept" in page
    rows = list(csv.DictReader(io.StringIO(ana.get("/events/export/csv?state=reject").text)))
    assert [(row["name"], row["verdict"], row["note"], row["decided_by"]) for row in rows] == [
        ("WD 2", "reject", "artefact", "ben")
    ]
    (row,) = ana.get("/events/export/json?state=keep").json["events"]
    assert (row["verdict"], row["note"], row["is_new_event"]) == ("keep", f"a lens {HOSTILE}", False)
    assert ana.get("/api/v1/sources/WD 1").json["decision"]["verdict"] == "keep"
    assert "a lens &lt;img" in ana.get("/source/WD 1").text
    assert ("decision", "ana") in {(entry["action"], entry["who"]) for entry in app.store.audit.recent(20)}


def test_nobody_decides_over_words_that_were_not_seen(events, as_user) -> None:
    ana, ben = as_user("ana"), as_user("ben")
    decide(ana, "WD 1", "keep", "a lens")
    assert decide(ben, "WD 1", "reject").status_code == 409
    fields = {"verdict": "reject", "text": "", "version": "0", "csrf_token": ben.token("/events")}
    card = ben.client.post("/source/WD 1/decision", data=fields, headers={"HX-Request": "true"})
    assert card.status_code == 200
    assert "Another user decided meanwhile" in card.text
    assert 'value="a lens"' in card.text
    assert decide(ben, "WD 1", "undecided", "no", 1).status_code == 302
    decision = ana.get("/api/v1/sources/WD 1").json["decision"]
    assert (decision["verdict"], decision["author"], decision["version"]) == ("undecided", "ben", 2)
    assert [one["text"] for one in decision["earlier"]] == ["a lens"]
    for wrong in ({"verdict": "maybe"}, {"version": "-1"}, {"version": "x"}, {"text": "x" * 1001}):
        sent = {"verdict": "keep", "text": "", "version": "2", **wrong}
        assert ben.post("/source/WD 1/decision", "/events", **sent).status_code == 400


def test_a_project_that_runs_again_finds_the_decisions_and_new_events_are_told(app, events, archive, as_user) -> None:
    ana = as_user("ana")
    decide(ana, "WD 1", "reject", "noise")
    before = [one for one in app.store.surveys.find("detections", {"source_name": "WD 1"})]
    app.store.surveys.forget_results("WHITE_DWARFS", ["WD 1"])
    assert names(ana, "state=reject") == []
    archive.toy.source("WHITE_DWARFS", {"name": "WD 1", "ra": 11.0, "dec": 1.0, "mag": 17.0})
    assert names(ana, "state=reject") == ["WD 1"]
    assert "new event since" not in ana.get("/events?state=reject").text
    late = {"_id": "late", "mjd_start": 59000.0, "mjd_peak": 59001.0, "mjd_stop": 59002.0, "strength": 999.0}
    app.store.surveys.save("detections", [{**before[0], **late, "score": 999.0}])
    assert "new event since" in ana.get("/events?state=reject").text
    assert ana.get("/api/v1/events?state=reject").json["events"][0]["is_new_event"] is True


def test_words_do_not_name_observations_of_others(app, events, archive, as_user) -> None:
    text = f"as bright as {archive.foreign}"
    app.store.decisions.write("WHITE_DWARFS", "WD 1", Decision("keep", text, "admin"))
    for path in ("/events", "/source/WD 1", "/api/v1/events", "/api/v1/sources/WD 1", "/events/export/csv"):
        assert archive.foreign in as_user("admin").get(path).text
        assert archive.foreign not in as_user("ana").get(path).text
        assert "as bright as" in as_user("ana").get(path).text


def test_programs_decide_with_the_scope_for_notes(app, events) -> None:
    for scopes, status in ((["read"], 403), (["read", "note"], 200)):
        token = " ".join(scopes)
        app.store.tokens.add(digest_of(token), "ana", "script", scopes, timedelta(days=1))
        client, header = app.test_client(), {"Authorization": f"Bearer {token}"}
        body = {"verdict": "keep", "text": "a lens", "version": 0}
        answer = client.post("/api/v1/sources/WD 1/decision", json=body, headers=header)
        assert answer.status_code == status
    assert answer.json["version"] == 1
    again = client.post("/api/v1/sources/WD 1/decision", json=body, headers=header)
    assert (again.status_code, again.json["decision"]["text"]) == (409, "a lens")
    assert client.post("/api/v1/sources/BEN 1/decision", json=body, headers=header).status_code == 404
    assert client.post("/api/v1/sources/WD 1/decision", json=[], headers=header).status_code == 400


def test_a_thumbnail_shows_the_curve_and_is_sent_once(app, events, as_user) -> None:
    ana = as_user("ana")
    answer = ana.get("/source/WD two/thumbnail.svg")
    assert answer.mimetype == "image/svg+xml"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    paths = re.findall(r'<path fill="([^"]*)" d="([^"]*)"/>', answer.text)
    marks = [(colour, d) for colour, d in paths if d.count("M") > 10]
    assert len(paths) == len(marks) + 2, "the event in each filter"
    assert [colour for colour, _ in marks] == [thumbnails.COLOURS["g"], thumbnails.COLOURS["r"]]
    assert len({d.partition("m")[2][:14] for _, d in marks}) == 2, "two shapes"
    assert sum(d.count("M") for _, d in marks) == 100
    again = ana.get("/source/WD two/thumbnail.svg", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert as_user("ana").get(f"/source/{events.empty}/thumbnail.svg").data.count(b"<path") == 0


def shown(page: Page) -> str:
    return page.evaluate("document.activeElement.closest('[data-event]')?.querySelector('.name a').textContent")


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
def test_events_are_decided_by_keyboard(visit: Watched, app, events) -> None:  # noqa: F811
    _log_in(visit, "ana")
    visit.open("/events")
    page = visit.page
    order = page.locator("[data-event] .name a").all_inner_texts()
    page.keyboard.press("j")
    assert shown(page) == order[0]
    page.keyboard.press("y")
    expect(page.locator("[data-event]").nth(0).locator(".verdict")).to_have_text("keep")
    assert shown(page) == order[1]
    page.keyboard.press("n")
    expect(page.locator("[data-event]").nth(1).locator(".verdict")).to_have_text("reject")
    page.keyboard.press("k")
    page.keyboard.press("t")
    page.keyboard.type("jynk: an artefact")
    page.keyboard.press("Enter")
    expect(page.locator("[data-event]").nth(1).locator("[name=version]")).to_have_value("2")
    project = app.store.decisions.decided(None, "reject", 9)[0][0]
    kept = app.store.decisions.find(project, order[1])
    assert (kept.verdict, kept.text, kept.author) == ("reject", "jynk: an artefact", "ana")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")  # as where an answer replaces the card
    page.keyboard.press("u")
    expect(page.locator("[data-event]").nth(1).locator(".verdict")).to_have_text("undecided")
    page.get_by_role("link", name="1 kept").click()
    expect(page.locator("[data-event]")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("o")
    expect(page.locator("h1")).to_have_text(order[0])
    page.locator("#decision").get_by_role("button", name="Reject").click()
    expect(page.locator("#decision h2")).to_contain_text("reject")
    for path in ("/events", "/events?score_min=x", page.url.removeprefix(visit.address)):
        visit.open(path)
        page.wait_for_load_state("networkidle")
        assert violations(page) == []
    visit.complaints = [text for text in visit.complaints if "400" not in text]  # of the search that is wrong
