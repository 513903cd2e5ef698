"""The second step of the login: codes that count once, and what administrators must set up."""

import time

import pyotp
import pytest
from toy_archive import make_config
from visitors import PASSWORD, Visitor, make_app

from obsarchive.accounts import totp

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code(drift: int = 0) -> str:
    return pyotp.TOTP(SECRET).at(int(time.time()) + 30 * drift)


def test_codes_are_those_of_the_standard() -> None:
    """RFC 6238, appendix B, for SHA-1 and the secret "12345678901234567890"."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for moment, right in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        assert pyotp.TOTP(secret).at(moment) == right


def test_a_code_counts_once_and_for_a_minute(app) -> None:
    users = app.store.users
    assert not totp.switch_on(users, "ana", SECRET, "000000")
    assert totp.switch_on(users, "ana", SECRET, code(-1))
    assert not totp.accepts(users, "ana", code(-1)), "used"
    assert totp.accepts(users, "ana", code())
    assert not totp.accepts(users, "ana", code())
    assert not totp.accepts(users, "ana", code(5))
    assert not totp.accepts(users, "ben", code(1))
    for wrong in ("", "abcdef", "１２３４５６", "1" * 60, "-12345"):
        assert not totp.accepts(users, "ana", wrong)


def test_the_login_takes_both_steps(app, archive, anybody) -> None:
    totp.switch_on(app.store.users, "ana", SECRET, code(-1))
    assert anybody.log_in("ana").location == "/login/code"
    assert anybody.get("/account").status_code == 302, "half a login opens nothing"
    wrong = anybody.post("/login/code", "/login/code", code="123456")
    assert wrong.status_code == 401
    done = anybody.post("/login/code", "/login/code", code=code())
    assert done.location == "/"
    assert anybody.get("/account").status_code == 200


def test_codes_are_throttled(app, archive, anybody) -> None:
    totp.switch_on(app.store.users, "ana", SECRET, code(-1))
    anybody.log_in("ana")
    token = anybody.token("/login/code")
    answers = [
        anybody.client.post("/login/code", data={"csrf_token": token, "code": "000001"}).status_code for _ in range(12)
    ]
    assert 429 in answers


def test_the_second_step_without_the_first_leads_back(anybody) -> None:
    assert anybody.get("/login/code").location == "/login"
    assert anybody.post("/login/code", "/login", code="123456").location == "/login"


def test_setting_up_and_switching_off(app, archive, as_user) -> None:
    ana = as_user("ana")
    assert ana.post("/account/two_step").status_code == 302
    page = ana.get("/account").text
    secret = page.split("or type <code>")[1].split("</code>")[0]
    assert "data:image/svg+xml" in page
    assert ana.post("/account/two_step/confirm", code="000000").status_code == 400
    assert app.store.users.find("ana").get("totp") is None
    assert ana.post("/account/two_step/confirm", code=pyotp.TOTP(secret).now()).status_code == 302
    assert app.store.users.find("ana")["totp"]["secret"] == secret
    assert secret not in ana.get("/account").text
    assert secret not in as_user("admin").get("/users").text
    assert ana.post("/account/two_step/off", current="wrong").status_code == 400
    assert ana.post("/account/two_step/off", current=PASSWORD).status_code == 302
    assert app.store.users.find("ana").get("totp") is None


def test_an_administrator_helps_who_lost_his_authenticator(app, archive, as_user) -> None:
    totp.switch_on(app.store.users, "ana", SECRET, code())
    assert as_user("admin").post("/users/two_step", name="ana").status_code == 302
    assert app.store.users.find("ana").get("totp") is None


@pytest.mark.parametrize("who", ["admin", "ana"])
def test_where_it_is_required_administrators_set_it_up_first(store, tmp_path, who: str) -> None:
    app = make_app(store, make_config(tmp_path, require_totp=True))
    visitor = Visitor(app.test_client())
    visitor.log_in(who)
    answer = visitor.get("/jobs")
    assert (answer.status_code == 200) == (who == "ana")
    assert visitor.get("/account").status_code == 200
