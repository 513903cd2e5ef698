"""Notes and quality: for those who may see, never lost, never over another user's words unseen."""

import csv
import io
import json
from datetime import timedelta

import pytest
from toy_archive import HOSTILE, NIGHT
from visitors import Visitor

from obsarchive.web.framework.authorization import digest_of

EVERYTHING = "date_from=2010"


def note(person: Visitor, obs_id: str, quality: str, text: str = "", version: int = 0):
    page = f"/observation/{obs_id}"
    return person.post(f"{page}/note", page, quality=quality, text=text, version=str(version))


def names(person: Visitor, query: str) -> set[str]:
    return {row["id"] for row in csv.DictReader(io.StringIO(person.get(f"/search/export/csv?{query}").text))}


def program(app, who: str, *scopes: str) -> Visitor:
    token = f"{who} {' '.join(scopes)}"
    app.store.tokens.add(digest_of(token), who, "script", list(scopes), timedelta(days=1))
    visitor = Visitor(app.test_client())
    visitor.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return visitor


def test_a_note_is_shown_found_and_exported(app, archive, as_user) -> None:
    ana = as_user("ana")
    before = app.store.observations.find(archive.own)
    assert note(ana, archive.own, "bad", f"clouds {HOSTILE}").status_code == 302
    page = ana.get(f"/observation/{archive.own}").text
    assert "quality-bad" in page
    assert "clouds &lt;img" in page
    assert HOSTILE not in page
    assert 'quality-bad" title="clouds &lt;img' in ana.get(f"/night/{NIGHT}").text
    assert names(ana, "quality=bad") == {archive.own}
    assert archive.own not in names(ana, "quality=unmarked")
    rows = json.loads(ana.get("/search/export/json?quality=bad").text)["observations"]
    assert (rows[0]["quality"], rows[0]["note"]) == ("bad", f"clouds {HOSTILE}")
    assert "quality-bad" in ana.get(f"/search?{EVERYTHING}").text
    assert app.store.observations.find(archive.own) == before, "no product and no document changes"
    assert ("note", "ana") in {(entry["action"], entry["who"]) for entry in app.store.audit.recent(20)}


def test_others_know_nothing_of_it(archive, as_user) -> None:
    note(as_user("ana"), archive.own, "bad", "clouds")
    assert names(as_user("ben"), "quality=bad") == set()
    assert as_user("ben").post(f"/observation/{archive.own}/note", quality="good").status_code == 404
    assert names(as_user("admin"), "quality=bad") == {archive.own}


def test_an_edit_keeps_the_old_text(archive, as_user) -> None:
    ana = as_user("ana")
    note(ana, archive.own, "bad", "clouds")
    note(ana, archive.own, "doubtful", "thin clouds", 1)
    page = ana.get(f"/observation/{archive.own}").text
    assert "1 earlier version" in page
    assert page.index("thin clouds") < page.index('class="earlier"') < page.rindex("clouds")


def test_of_two_tabs_the_second_is_told(archive, as_user) -> None:
    ana, admin = as_user("ana"), as_user("admin")
    note(ana, archive.own, "bad", "clouds")
    answer = note(admin, archive.own, "good", "what I saw")
    assert answer.status_code == 409
    assert "Another user wrote this note meanwhile" in answer.text
    assert "You changed this note meanwhile, elsewhere" in note(ana, archive.own, "good", "once more").text
    assert "clouds" in answer.text
    assert "what I saw" in answer.text, "nothing that was typed is lost"
    assert 'name="version" value="1"' in answer.text
    assert names(ana, "quality=bad") == {archive.own}
    assert note(admin, archive.own, "good", "what I saw", 1).status_code == 302
    assert names(ana, "quality=good") == {archive.own}


def test_twenty_results_are_marked_at_once(app, archive, as_user) -> None:
    archive.toy.busy_night(45)
    ana = as_user("ana")
    query = "program=3&date_from=2016-09-25T03:20"
    found = names(ana, query)
    assert len(found) >= 20
    answer = ana.post(f"/search/note?{query}", f"/search?{query}", quality="doubtful", text="wind")
    assert answer.status_code == 302
    assert answer.location.startswith("/search?program=3&date_from=")
    assert f"The note was written on {len(found)} observations." in ana.get(answer.location).text
    assert names(ana, "quality=doubtful") == found
    assert names(as_user("ben"), "quality=doubtful") == set()
    assert len(names(as_user("admin"), "quality=doubtful")) == len(found)
    assert ana.post(f"/search/note?{query}", quality="").status_code == 400
    assert ana.post("/search/note?programme=3", quality="bad").status_code == 400


def test_the_note_on_a_night(archive, as_user) -> None:
    admin, ana, ben = as_user("admin"), as_user("ana"), as_user("ben")
    note(ana, archive.own, "good")
    admin.post(f"/night/{NIGHT}/note", f"/night/{NIGHT}", quality="bad", text="dome closed", version="0")
    assert "dome closed" in ben.get(f"/night/{NIGHT}").text
    assert names(ben, "quality=bad") == {archive.foreign}
    assert names(ana, "quality=bad") == {archive.failed, archive.hostile}, "one has a quality of its own"
    assert "dome closed" in ana.get(f"/observation/{archive.failed}").text
    again = admin.post(f"/night/{NIGHT}/note", f"/night/{NIGHT}", quality="good", text="", version="0")
    assert again.status_code == 409
    ben.post(f"/night/{NIGHT}/note", f"/night/{NIGHT}", quality="doubtful", text="wind")
    assert names(admin, "quality=doubtful") == {archive.foreign}, "others write on their own observations"
    assert "dome closed" in ana.get(f"/night/{NIGHT}").text


@pytest.mark.parametrize(
    "fields", [{"quality": "awful"}, {"quality": "bad", "text": "x" * 2001}, {"quality": "bad", "version": "-1"}]
)
def test_what_is_no_note_is_refused(archive, as_user, fields: dict[str, str]) -> None:
    assert as_user("ana").post(f"/observation/{archive.own}/note", **fields).status_code == 400


def test_programs_write_notes_with_the_scope(app, archive) -> None:
    script, reader = program(app, "ana", "note", "read"), program(app, "ana", "read")
    address = f"/api/v1/observations/{archive.own}/note"
    assert reader.client.post(address, json={"quality": "bad"}).status_code == 403
    first = script.client.post(address, json={"quality": "bad", "text": "clouds"})
    assert (first.status_code, first.json["version"], first.json["author"]) == (200, 1, "ana")
    second = script.client.post(address, json={"quality": "good"})
    assert (second.status_code, second.json["note"]["text"]) == (409, "clouds")
    assert second.json["error"] == "you changed this note meanwhile, elsewhere"
    other = program(app, "admin", "note").client.post(address, json={"quality": "good"})
    assert (other.status_code, other.json["error"]) == (409, "another user wrote this note meanwhile")
    ids = [archive.own, archive.failed, archive.foreign, "nothing"]
    marked = script.client.post("/api/v1/notes", json={"ids": ids, "quality": "doubtful"}).json
    assert marked == {"marked": 2, "unknown": [archive.foreign, "nothing"]}
    described = reader.get(f"/api/v1/observations/{archive.own}").json
    assert (described["quality"], described["note"], described["own_note"]["version"]) == ("doubtful", "clouds", 2)
    assert reader.get("/api/v1/observations?quality=doubtful").json["count"] == 2
    assert reader.get("/api/v1/observations?quality=awful").status_code == 400
    for wrong in ({"quality": 3}, {}, [], {"quality": "bad", "version": "1"}, {"quality": "bad", "text": 5}):
        assert script.client.post(address, json=wrong).status_code == 400
    assert script.client.post("/api/v1/notes", json={"ids": "x", "quality": "bad"}).status_code == 400
