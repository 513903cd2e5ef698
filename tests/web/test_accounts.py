"""Passwords, users, one-time links."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_archive import make_config
from werkzeug.security import generate_password_hash

from obsarchive.accounts import users as accounts
from obsarchive.accounts.users import AccountError
from obsarchive.core.documents import utc_now
from obsarchive.store import Store

GOOD = "perihelion of 1801"


def test_a_hash_is_argon2id_and_never_the_same_twice() -> None:
    one, other = accounts.hash_password(GOOD), accounts.hash_password(GOOD)
    assert one.startswith("$argon2id$")
    assert one != other
    assert accounts.verify(one, GOOD)
    assert not accounts.verify(one, GOOD + " ")


@pytest.mark.parametrize("method", ["pbkdf2:sha256:1000", "scrypt:1024:8:1"])
def test_an_older_hash_is_accepted_once_and_replaced(store: Store, method: str) -> None:
    store.users.save("old", {"password": generate_password_hash(GOOD, method), "programs": ["4"]})
    assert accounts.log_in(store.users, "old", "wrong password") is None
    assert accounts.log_in(store.users, "old", GOOD) is not None
    assert (store.users.find("old") or {})["password"].startswith("$argon2id$")
    assert accounts.log_in(store.users, "old", GOOD) is not None


@pytest.mark.parametrize("stored", ["", "plain text", "pbkdf2:nonsense", "scrypt:1:2", "$argon2id$broken"])
def test_a_broken_hash_opens_nothing(stored: str) -> None:
    assert not accounts.verify(stored, GOOD)
    assert not accounts.verify(stored, stored)


@pytest.mark.parametrize(
    "password",
    ["short", "password", "Password123!", "12345678", "QWERTYUIOP", "telescope2024", "aaaaaaaabbbb", "asteroids"],
)
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(AccountError):
        accounts.check_policy(password, "asteroids")


@settings(deadline=None)
@given(st.text(min_size=64, max_size=200).filter(lambda text: len(set(text.casefold())) > 8))
def test_a_long_password_of_any_characters_is_accepted(password: str) -> None:
    accounts.check_policy(password)


@pytest.mark.parametrize("name", ["", " ana", "a\nb", "$ne", "x" * 65, "a/b", "<b>"])
def test_a_bad_user_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(AccountError):
        accounts.add_user(store.users, name, ["3"])


def test_a_user_is_added_once_and_with_sane_programmes(store: Store) -> None:
    accounts.add_user(store.users, "ana", ["11", "4", "3", "3"])
    assert (store.users.find("ana") or {})["programs"] == ["3", "4", "11"]
    with pytest.raises(AccountError, match="already"):
        accounts.add_user(store.users, "ana", ["5"])
    with pytest.raises(AccountError, match="programme"):
        accounts.add_user(store.users, "ben", [{"$ne": 1}.__str__()])


def test_an_invitation_is_kept_as_a_hash_and_works_once(store: Store) -> None:
    accounts.add_user(store.users, "ana", ["3"])
    token = accounts.invite(store.users, "ana")
    assert token not in str(store.users.find("ana"))
    with pytest.raises(AccountError):
        accounts.accept_invite(store.users, token, "short")
    assert accounts.accept_invite(store.users, token, GOOD) == "ana"
    assert accounts.log_in(store.users, "ana", GOOD) is not None
    with pytest.raises(AccountError, match="used"):
        accounts.accept_invite(store.users, token, GOOD)


def test_an_invitation_ends_with_time_and_with_the_next_one(store: Store) -> None:
    accounts.add_user(store.users, "ana", ["3"])
    first = accounts.invite(store.users, "ana")
    second = accounts.invite(store.users, "ana")
    with pytest.raises(AccountError):
        accounts.accept_invite(store.users, first, GOOD)
    store.users.save("ana", {"invite.expires": utc_now() - timedelta(seconds=1)})
    with pytest.raises(AccountError):
        accounts.accept_invite(store.users, second, GOOD)


def test_the_first_administrator_gets_a_link_whose_token_is_in_the_fragment(store: Store, tmp_path) -> None:
    config = make_config(tmp_path, public_url="https://archive.example/robo/")
    assert accounts.setup_needed(store.users)
    address, _, token = accounts.setup_link(config, store.users).partition("#")
    assert address == "https://archive.example/robo/welcome"
    assert accounts.accept_invite(store.users, token, GOOD) == "admin"
    assert not accounts.setup_needed(store.users)


def test_a_set_up_link_never_raises_an_ordinary_user(store: Store, tmp_path) -> None:
    accounts.add_user(store.users, "admin", ["3"])
    with pytest.raises(AccountError):
        accounts.setup_link(make_config(tmp_path), store.users)
