"""What the page of users says and refuses: programmes that nothing has, names that are alike, links and sessions."""

import pytest

from obsarchive.accounts import users as accounts
from obsarchive.accounts.users import AccountError


def test_an_unknown_programme_is_accepted_with_a_warning(app, archive, as_user) -> None:
    admin = as_user("admin")
    page = admin.client.post("/users/programs", data=_form(admin, name="pia", programs="3, 99x"), follow_redirects=True)
    assert "Nothing is known of 99x yet" in page.text
    assert app.store.users.find("pia")["programs"] == ["3", "99x"]
    page = admin.post("/users", name="kim", programs="98x")
    assert "Nothing is known of 98x yet" in page.text
    app.store.programmes.save("98x", {"title": "Planned"}, "admin")
    page = admin.client.post("/users/programs", data=_form(admin, name="kim", programs="98x"), follow_redirects=True)
    assert "Nothing is known" not in page.text


def _form(visitor, **fields: str) -> dict[str, str]:
    return {"csrf_token": visitor.token("/account"), **fields}


@pytest.mark.parametrize("name", ["Ana", "ANA"])
def test_names_that_differ_in_case_only_are_refused(app, as_user, name: str) -> None:
    answer = as_user("admin").post("/users", name=name, programs="3")
    assert answer.status_code == 400
    assert "There is a user &#39;ana&#39; already" in answer.text
    with pytest.raises(AccountError, match="differ in case only"):
        accounts.add_user(app.store.users, name, ["3"])
    assert app.store.users.find(name) is None
    accounts.add_user(app.store.users, "anna", ["3"])


def test_a_new_link_ends_open_sessions_and_says_so(app, archive, as_user) -> None:
    ana, admin = as_user("ana"), as_user("admin")
    as_user("ana")
    page = admin.post("/users/invite", name="ana").text
    assert "2 open sessions were ended" in page
    assert ana.get("/account").status_code == 302
    assert "0 open sessions were ended" in admin.post("/users/invite", name="admin").text
    assert admin.get("/account").status_code == 200, "one's own stays open"
