"""Login state by Flask-Login: revoked sessions, giving the password again, tokens without sessions, no other cookie."""

import time
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from toy_archive import make_config
from visitors import PASSWORD, Visitor, make_app

from obsarchive.accounts import totp
from obsarchive.core.documents import utc_now
from obsarchive.web.framework.authorization import REAUTH, digest_of
from obsarchive.web.pages.login import TRIES_PER_NAME

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def age(app, ago: timedelta = REAUTH) -> None:
    """Let every password have been given that long ago."""
    app.store.sessions.collection.update_many({}, {"$set": {"confirmed": utc_now() - ago}})


def make_token(visitor: Visitor) -> Any:
    return visitor.post("/account/tokens", label="notebook", scope="read")


def with_token(app, who: str) -> dict[str, str]:
    app.store.tokens.add(digest_of("arc_x"), who, "test", ["read"], timedelta(days=1))
    return {"Authorization": "Bearer arc_x"}


def test_a_session_revoked_in_the_store_is_logged_out_at_the_next_request(app, as_user) -> None:
    ana, ben = as_user("ana"), as_user("ben")
    app.store.sessions.close_all("ana")
    assert ana.get("/account").location.startswith("/login?")
    assert ana.client.post("/account/tokens").status_code == 401
    assert ben.get("/account").status_code == 200


def test_a_view_without_any_decorator_demands_a_login(app, as_user, anybody) -> None:
    app.add_url_rule("/plain", "plain", lambda: "secret", methods=["GET", "POST"])
    assert anybody.get("/plain").location == "/login?next=/plain"
    assert anybody.post("/plain", "/login").status_code == 401
    htmx = anybody.get("/plain", headers={"HX-Request": "true"})
    assert (htmx.status_code, htmx.headers["HX-Redirect"]) == (401, "/login")
    assert as_user("ana").get("/plain").text == "secret"


def test_the_way_back_keeps_the_prefix_of_the_portal(app, anybody) -> None:
    answer = anybody.get("/account", environ_overrides={"SCRIPT_NAME": "/archive"})
    assert answer.location == "/archive/login?next=/archive/account"


def test_every_change_of_accounts_needs_a_fresh_login(app, archive, as_user) -> None:
    admin, ana = as_user("admin"), as_user("ana")
    age(app)
    before = list(app.store.users.everything()), list(app.store.sessions.collection.find({"user": "ana"}))
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith(("account.", "users."))]
    changes = [rule for rule in rules if "POST" in rule.methods]
    assert len(changes) == 15
    for rule in changes:
        answer = admin.post(rule.rule, name="ana", current=PASSWORD, new="aphelion in the winter")
        assert answer.location == f"/login/confirm?next=/{rule.endpoint.split('.')[0]}", rule
        if rule.endpoint.startswith("users."):
            assert ana.post(rule.rule, name="ben").status_code == 404, "this does not exist for others"
    assert before == (
        list(app.store.users.everything()),
        list(app.store.sessions.collection.find({"user": "ana"})),
    )
    assert [admin.get(page).status_code for page in ("/account", "/users", "/jobs", "/search")] == [200] * 4


def test_the_right_password_continues(app, as_user) -> None:
    ana = as_user("ana")
    age(app, REAUTH - timedelta(minutes=1))
    assert make_token(ana).status_code == 200
    age(app)
    page = make_token(ana).location
    assert "Confirm your password" in ana.get(page).text
    assert ana.post("/login/confirm", page, password=PASSWORD, next="/account").location == "/account"
    assert "send the form again" in ana.get("/account").text
    assert make_token(ana).status_code == 200
    assert ana.get("/login/confirm?next=/jobs").location == "/jobs", "nothing is left to confirm"
    assert "login confirmed" in [entry["action"] for entry in app.store.audit.recent()]
    assert len(app.store.tokens.of_user("ana")) == 2


def test_a_wrong_password_counts_and_is_noted(app, as_user) -> None:
    ana = as_user("ana")
    age(app)
    token = ana.token("/login/confirm")
    guess = {"csrf_token": token, "password": "guess", "next": "/account"}
    answers = [ana.client.post("/login/confirm", data=guess) for _ in range(TRIES_PER_NAME + 1)]
    assert [answer.status_code for answer in answers] == [401] * TRIES_PER_NAME + [429]
    assert "The password is not right" in answers[0].text
    assert 'value="/account"' in answers[0].text
    assert ana.post("/login/confirm", "/login/confirm", password=PASSWORD).status_code == 429
    assert make_token(ana).status_code == 302
    noted = [(entry["action"], entry["who"]) for entry in app.store.audit.recent()]
    assert noted.count(("confirmation refused", "ana")) == TRIES_PER_NAME
    assert ("login throttled", "ana") in noted


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_confirming_never_leads_elsewhere(app, as_user, target: str) -> None:
    ana = as_user("ana")
    assert ana.get("/login/confirm", query_string={"next": target}).location == "/"
    age(app)
    assert "evil" not in ana.get("/login/confirm", query_string={"next": target}).text
    assert ana.post("/login/confirm", "/login/confirm", password=PASSWORD, next=target).location == "/"


def test_where_a_login_takes_a_code_so_does_confirming_it(app, as_user) -> None:
    ana = as_user("ana")
    totp.switch_on(app.store.users, "ana", SECRET, pyotp.TOTP(SECRET).at(int(time.time()) - 30))
    age(app)
    for fields in ({"password": PASSWORD}, {"password": PASSWORD, "code": "000000"}, {"password": "guess"}):
        answer = ana.post("/login/confirm", "/login/confirm", **fields)
        assert answer.status_code == 401
        assert "Password or code is not right" in answer.text
    code = pyotp.TOTP(SECRET).now()
    assert ana.post("/login/confirm", "/login/confirm", password=PASSWORD, code=code).status_code == 302
    assert make_token(ana).status_code == 200


def test_administrators_can_confirm_before_they_set_up_the_second_step(store, tmp_path) -> None:
    app = make_app(store, make_config(tmp_path, require_totp=True))
    admin = Visitor(app.test_client())
    admin.log_in("admin")
    age(app)
    page = admin.post("/account/two_step").location
    assert admin.post("/login/confirm", page, password=PASSWORD, next="/account").location == "/account"
    assert admin.post("/account/two_step").location == "/account#two-step"


def test_an_older_cookie_does_not_make_a_session_fresh(app, as_user) -> None:
    """The cookie says that the login is fresh; the database knows better."""
    ana = as_user("ana")
    token, cookie = ana.token("/account"), ana.client.get_cookie("archiver").value
    age(app)
    client = app.test_client()
    client.set_cookie("archiver", cookie)
    answer = client.post("/account/tokens", data={"csrf_token": token, "label": "x", "scope": "read"})
    assert answer.location == "/login/confirm?next=/account"


def test_another_address_or_browser_is_the_same_session(app, as_user) -> None:
    elsewhere = {"User-Agent": "another", "X-Forwarded-For": "192.0.2.7"}
    ana = as_user("ana")
    form = {"csrf_token": ana.token("/account"), "label": "x", "scope": "read"}
    assert ana.client.post("/account/tokens", data=form, headers=elsewhere).status_code == 200


def test_a_token_never_gets_a_session_and_is_never_fresh(app, archive, as_user) -> None:
    """Neither alone nor beside the cookie of a fresh session, which does not count then."""
    for client in (app.test_client(), as_user("admin").client):
        headers = with_token(app, "ana")
        before = list(app.store.sessions.collection.find())
        for address in ("/api/v1/account", "/api/v1/observations"):
            answer = client.get(address, headers=headers)
            assert answer.status_code == 200
            assert "Set-Cookie" not in answer.headers
        assert client.get("/api/v1/account", headers=headers).json["name"] == "ana"
        for address in ("/account/tokens", "/account/sessions", "/users/remove", "/login/confirm", "/logout"):
            answer = client.post(address, data={"name": "ben", "password": PASSWORD}, headers=headers)
            assert answer.status_code == 403, address
            assert "Set-Cookie" not in answer.headers
        assert list(app.store.sessions.collection.find()) == before
        app.store.tokens.revoke_all("ana")


def test_a_wrong_token_beside_a_cookie_opens_nothing_and_ends_nothing(app, as_user) -> None:
    ana = as_user("ana")
    assert ana.get("/api/v1/account", headers={"Authorization": "Bearer arc_wrong"}).status_code == 401
    assert ana.get("/account").status_code == 200


def test_no_cookie_remembers_a_login(app, as_user, anybody) -> None:
    """Only the session's cookie is ever sent, also to a browser that has one of another program of that name."""
    anybody.client.set_cookie("remember_token", "ana|0123")
    answers = [anybody.get("/account"), anybody.log_in("ana"), anybody.get("/account")]
    age(app)
    answers += [make_token(anybody), anybody.post("/login/confirm", "/login/confirm", password=PASSWORD)]
    answers += [anybody.post("/logout"), anybody.get("/account")]
    assert [answer.status_code for answer in answers] == [302, 302, 200, 302, 302, 302, 302]
    sent = [cookie for answer in answers for cookie in answer.headers.getlist("Set-Cookie")]
    assert sent
    assert all(cookie.startswith("archiver=") for cookie in sent)


def test_files_are_the_same_for_everybody(app, as_user) -> None:
    """No cookie is read or written for them, so that any cache may keep them."""
    answer = as_user("ana").get("/static/archiver.css")
    assert "Vary" not in answer.headers
    assert "Set-Cookie" not in answer.headers
