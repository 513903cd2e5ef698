"""What docs/security.md promises and no other test holds."""

from datetime import timedelta

import pytest
from toy_archive import NIGHT

from obsarchive.web.framework.authorization import digest_of


def test_tokens_are_kept_as_hashes_and_end(app, archive, as_user) -> None:
    page = as_user("ana").post("/account/tokens", label="notebook", scope="read", days="1").text
    token = page.split('aria-label="Token"')[0].split('value="')[-1].split('"')[0]
    assert token.startswith("arc_")
    assert len(token) > 40
    assert token not in str(list(app.store.tokens.collection.find()))
    assert token not in str(app.store.audit.recent())
    client, headers = app.test_client(), {"Authorization": f"Bearer {token}"}
    assert client.get("/api/v1", headers=headers).status_code == 200
    app.store.tokens.collection.update_one({}, {"$set": {"expires": archive.toy.now() - timedelta(seconds=1)}})
    assert client.get("/api/v1", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"label": "", "scope": "read"},
        {"label": "x", "scope": "change"},
        {"label": "x", "scope": "everything"},
        {"label": "x", "scope": "read", "days": "9999"},
        {"label": "x", "scope": "read", "days": "-1"},
    ],
)
def test_a_token_that_may_not_be_is_not_made(app, archive, as_user, fields: dict[str, str]) -> None:
    assert as_user("ana").post("/account/tokens", **fields).status_code == 400
    assert app.store.tokens.of_user("ana") == []


def test_nobody_gives_himself_rights(app, archive, as_user) -> None:
    ana = as_user("ana")
    more = {"programs": "all", "admin": "1", "user[programs]": "all", "name": "ana"}
    ana.post("/account/password", current="wrong", new="something else entirely", **more)
    ana.post("/account/tokens", label="x", scope="read", **more)
    ana.post("/account/sessions", **more)
    assert ana.post("/users/programs", **more).status_code == 404
    assert app.store.users.find("ana")["programs"] == ["3"]
    assert app.store.tokens.of_user("ana")[0]["scopes"] == ["read"]


def test_the_first_of_two_counts(archive, as_user) -> None:
    ana = as_user("ana")
    assert "HD_140283" in ana.get("/search?name=HD&name=none").text
    assert "Nothing found" in ana.get("/search?name=none&name=HD").text
    assert "HD_140283" in ana.get("/search?filter=none&filter=lp600&name=HD").text


def test_an_administrator_ends_sessions_and_tokens(app, archive, as_user) -> None:
    ana, admin = as_user("ana"), as_user("admin")
    app.store.tokens.add(digest_of("t"), "ana", "x", ["read"], timedelta(days=1))
    assert admin.post("/users/sessions", name="ana").status_code == 302
    assert ana.get("/account").status_code == 302
    assert app.test_client().get("/api/v1", headers={"Authorization": "Bearer t"}).status_code == 401
    assert admin.get("/account").status_code == 200


def test_one_ends_only_ones_own_sessions(app, archive, as_user) -> None:
    ana, ben = as_user("ana"), as_user("ben")
    (other,) = app.store.sessions.collection.find({"user": "ben"})
    ana.post("/account/sessions", session=other["_id"])
    assert ben.get("/account").status_code == 200


@pytest.mark.parametrize("method", ["TRACE", "PUT", "DELETE", "PATCH", "CONNECT", "NONSENSE"])
def test_only_the_methods_that_are_meant(archive, as_user, method: str) -> None:
    answer = as_user("admin").client.open(f"/night/{NIGHT}", method=method)
    assert answer.status_code in (400, 405)


def test_a_logout_clears_the_cache(archive, as_user) -> None:
    answer = as_user("ana").post("/logout")
    assert answer.headers["Clear-Site-Data"] == '"cache"'
    assert answer.headers["Cache-Control"] == "no-store"
