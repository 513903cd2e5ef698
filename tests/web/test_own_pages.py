"""Pages of an adopter: the example of docs/adapting.md is registered, needs a login, and shows users their own."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from toy_archive import NIGHT, make_config
from visitors import Visitor, make_app

from obsarchive.errors import ConfigError
from obsarchive.web import create_app

PAGE = (Path(__file__).parents[2] / "docs" / "adapting.md").read_text()
SECTION = PAGE.split("## A page of your own")[1]


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[1]


def config_with(tmp_path, *pages):
    config = make_config(tmp_path)
    return config.model_copy(update={"server": config.server.model_copy(update={"pages": pages})})


@pytest.fixture
def modules(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    (folder / "templates").mkdir(parents=True)
    (folder / "quality_page.py").write_text(block("python"))
    (folder / "templates" / "image_quality.html").write_text(block("html"))
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    yield folder
    for name in ("quality_page", "other_page"):
        sys.modules.pop(name, None)


@pytest.fixture
def app(store, tmp_path, modules):
    return make_app(store, config_with(tmp_path, "quality_page.bp"))


@pytest.fixture
def measured(archive):
    for obs_id, stars in ((archive.own, 241), (archive.foreign, 997)):
        results = {"stars": stars, "fwhm_arcsec": 1.25}
        archive.toy.step(obs_id, "image_quality", "measure", state="done", results=results)
    return archive


def test_each_user_sees_their_own_observations(measured, as_user) -> None:
    for who, seen, hidden in (("ana", ["241"], ["997"]), ("ben", ["997"], ["241"]), ("admin", ["241", "997"], [])):
        page = as_user(who).get(f"/image_quality/{NIGHT}")
        assert page.status_code == 200
        assert all(f">{number}<" in page.text for number in seen)
        assert not any(f">{number}<" in page.text for number in hidden)
        assert (measured.foreign in page.text) == (who != "ana")


def test_it_needs_a_login_and_is_no_page_for_tokens(app, measured, anybody) -> None:
    for address in ("/image_quality", f"/image_quality/{NIGHT}"):
        answer = anybody.get(address)
        assert (answer.status_code, answer.location.split("?")[0]) == (302, "/login")
    assert not hasattr(app.view_functions["image_quality.image_quality"], "token_scope")


def test_the_navigation_leads_there_from_every_page(measured, as_user) -> None:
    ana: Visitor = as_user("ana")
    assert 'href="/image_quality" >Image quality</a>' in ana.get("/jobs").text
    assert 'aria-current="page">Image quality</a>' in ana.get("/image_quality").text
    assert ana.get("/image_quality/tonight").status_code == 404


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "other_page.bp", "no blueprint 'other_page.bp': AttributeError"),
        ("", "no_such_page.bp", "no blueprint 'no_such_page.bp': No module named 'no_such_page'"),
        ("", "bp", "no blueprint 'bp'"),
        ("bp = 3", "other_page.bp", "'other_page.bp' is not a flask.Blueprint"),
        ("from flask import Blueprint\nbp = Blueprint('jobs', __name__)", "other_page.bp", "has a blueprint 'jobs'"),
        ("from flask import Blueprint\nbp = Blueprint('mine', __name__)", "other_page.bp", "a page called 'mine'"),
    ],
)
def test_what_is_no_page_is_refused_at_the_start(store, tmp_path, modules, text: str, name: str, words: str) -> None:
    (modules / "other_page.py").write_text(text)
    with pytest.raises(ConfigError, match=words):
        create_app(config_with(tmp_path, name), store)
