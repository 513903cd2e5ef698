"""Logging in and out; sessions; forms from elsewhere; guessing."""

from datetime import timedelta

import pytest
from toy_archive import NIGHT
from visitors import PASSWORD, Visitor

from obsarchive.accounts import users as accounts
from obsarchive.core.documents import utc_now
from obsarchive.web.pages.login import TRIES_PER_NAME

NEW = "aphelion in the winter"


def _cookie(visitor: Visitor) -> str:
    cookie = visitor.client.get_cookie("archiver")
    assert cookie is not None
    return cookie.value


def test_a_login_leads_where_one_wanted_to_go(archive, anybody) -> None:
    wanted = f"/observation/{archive.own}?q=lp600"
    answer = anybody.get(wanted)
    page = answer.location
    assert f'value="{wanted}"' in anybody.get(page).text
    answer = anybody.post("/login", page, username="ana", password=PASSWORD, next=wanted)
    assert answer.location == wanted


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "\t//evil.example"]
)
def test_a_login_never_leads_elsewhere(anybody, app, target) -> None:
    assert "evil" not in anybody.get("/login", query_string={"next": target}).text
    answer = anybody.post("/login", "/login", username="ana", password=PASSWORD, next=target)
    assert answer.location == "/"


def test_who_is_logged_in_is_not_asked_again(as_user) -> None:
    ana = as_user("ana")
    assert ana.get("/login").location == "/"
    assert ana.get("/login?next=/search").location == "/search"
    assert ana.get("/login", query_string={"next": "//evil.example"}).location == "/"


@pytest.mark.parametrize(("name", "password"), [("ana", "wrong"), ("nobody", PASSWORD), ("", ""), ("ana", "")])
def test_a_wrong_login_says_nothing_about_which_part_was_wrong(anybody, app, name, password) -> None:
    answer = anybody.log_in(name, password)
    assert answer.status_code == 401
    assert "User name or password is not right" in answer.text
    assert anybody.get("/account").status_code == 302


def test_a_user_without_a_password_cannot_log_in(app, anybody) -> None:
    accounts.add_user(app.store.users, "eve", ["3"])
    assert anybody.log_in("eve", "").status_code == 401


def test_unknown_names_cost_as_much_as_known_ones(app, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(accounts, "verify", lambda stored, password: bool(calls.append(stored)))
    accounts.log_in(app.store.users, "ana", "x")
    accounts.log_in(app.store.users, "nobody", "x")
    assert [stored.split(",")[0] for stored in calls] == [calls[0].split(",")[0]] * 2


def test_guessing_is_slowed_down(app, anybody, as_user) -> None:
    answers = [anybody.log_in("ana", f"guess {n}").status_code for n in range(TRIES_PER_NAME + 2)]
    assert answers == [401] * TRIES_PER_NAME + [429] * 2
    assert anybody.log_in("ana").status_code == 429, "the right password does not help either"
    assert as_user("ben").get("/account").status_code == 200, "others are not in the way"
    actions = [entry["action"] for entry in app.store.audit.recent()]
    assert actions.count("login failed") == TRIES_PER_NAME
    assert "login throttled" in actions


def test_a_form_without_its_token_is_refused(app, anybody) -> None:
    answer = anybody.client.post("/login", data={"username": "ana", "password": PASSWORD})
    assert answer.status_code == 400
    token = anybody.token("/login")
    stranger = Visitor(app.test_client())
    assert (
        stranger.client.post("/login", data={"username": "ana", "password": PASSWORD, "csrf_token": token}).status_code
        == 400
    )


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}]
)
def test_a_form_of_another_site_is_refused_even_with_a_token(as_user, headers) -> None:
    ana = as_user("ana")
    token = ana.token("/account")
    assert ana.client.post("/logout", data={"csrf_token": token}, headers=headers).status_code == 400
    assert (
        ana.client.post("/logout", data={"csrf_token": token}, headers={"Origin": "http://localhost"}).status_code
        == 302
    )


def test_each_login_is_a_new_session_and_a_logout_ends_it(app, anybody) -> None:
    before = anybody.token("/login")
    anybody.log_in("ana")
    old = _cookie(anybody)
    assert anybody.token("/account") != before
    assert anybody.get("/logout").status_code == 405
    answer = anybody.post("/logout")
    assert answer.headers["Clear-Site-Data"] == '"cache"'
    thief = app.test_client()
    thief.set_cookie("archiver", old)
    assert thief.get("/account").status_code == 302


def test_the_cookie_is_out_of_reach(anybody) -> None:
    cookie = anybody.log_in("ana").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert PASSWORD not in cookie


def test_a_forged_cookie_is_nobody(app) -> None:
    client = app.test_client()
    client.set_cookie("archiver", "eyJpZCI6ICJhZG1pbiJ9.aaaaaa.bbbbbb")
    assert client.get("/account").status_code == 302


def test_sessions_end_when_idle_and_when_old(app, as_user) -> None:
    sessions = app.store.sessions.collection
    for field, ago in (("last_seen", timedelta(hours=13)), ("expires", timedelta(seconds=1))):
        ana = as_user("ana")
        sessions.update_many({}, {"$set": {field: utc_now() - ago}})
        assert ana.get("/account").status_code == 302, field


def test_a_used_session_stays(app, as_user) -> None:
    ana = as_user("ana")
    app.store.sessions.collection.update_many({}, {"$set": {"last_seen": utc_now() - timedelta(hours=11)}})
    assert ana.get("/account").status_code == 200
    seen = app.store.sessions.collection.find_one({})["last_seen"]
    assert utc_now() - seen < timedelta(minutes=1)


def test_a_changed_password_ends_all_other_sessions(app, as_user) -> None:
    here, there = as_user("ana"), as_user("ana")
    assert here.post("/account/password", current="wrong", new=NEW).status_code == 400
    assert here.post("/account/password", current=PASSWORD, new="password1").status_code == 400
    assert here.post("/account/password", current=PASSWORD, new=NEW).status_code == 302
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 302
    assert Visitor(app.test_client()).log_in("ana", NEW).status_code == 302


def test_a_password_set_by_a_command_ends_every_session(app, as_user) -> None:
    ana = as_user("ana")
    accounts.set_password(app.store.users, "ana", NEW)
    assert ana.get("/account").status_code == 302


def test_one_can_end_ones_other_sessions(as_user) -> None:
    here, there, ben = as_user("ana"), as_user("ana"), as_user("ben")
    assert here.get("/account").text.count("127.0.0.1") == 2
    here.post("/account/sessions")
    assert [user.get("/account").status_code for user in (here, there, ben)] == [200, 302, 200]


def test_a_removed_user_is_out_at_once(app, as_user) -> None:
    ana = as_user("ana")
    app.store.users.remove("ana")
    assert ana.get(f"/night/{NIGHT}").status_code == 302
    accounts.add_user(app.store.users, "ana", "all")
    assert ana.get(f"/night/{NIGHT}").status_code == 302, "another person of that name is somebody else"


def test_a_used_invitation_is_refused_on_the_page(app, anybody) -> None:
    answer = anybody.post("/welcome", "/welcome", token="x" * 43, password=NEW)
    assert answer.status_code == 400
    assert "used already or is too old" in answer.text


def test_the_login_page_says_when_nobody_can_log_in(app, anybody) -> None:
    assert "set-up link" not in anybody.get("/login").text
    app.store.users.remove("admin")
    assert "set-up link" in anybody.get("/login").text


def test_the_audit_keeps_one_line_an_entry(app, anybody) -> None:
    anybody.log_in("ana\r\n2016-09-25 admin login\x1b[31m" + "x" * 900, "guess")
    entry = app.store.audit.recent()[0]
    assert entry["who"].startswith("ana\\r\\n2016")
    assert "\\x1b" in entry["who"]
    assert len(entry["who"]) < 600
    assert "guess" not in str(entry)
