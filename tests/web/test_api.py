"""The interface for programs: what its description promises, and the virtual observatory through pyvo."""

from datetime import timedelta

import pytest
import pyvo
import requests
from toy_archive import NIGHT

from obsarchive.web.framework.authorization import digest_of

TOKEN = "arc_of_ana"


@pytest.fixture
def ana(app, archive):
    """Ask with a token of Ana's."""
    app.store.tokens.add(digest_of(TOKEN), "ana", "notebook", ["read", "download"], timedelta(days=1))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
    return client


def test_every_route_is_described_and_every_description_is_a_route(app, ana) -> None:
    described = ana.get("/api/v1/openapi.json").json
    told = {(path, method) for path, methods in described["paths"].items() for method in methods}
    rules = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("api.")]
    real = {
        (rule.rule.removeprefix("/api/v1").replace("path:", "").replace("<", "{").replace(">", "}"), method.lower())
        for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert told == real
    assert described["openapi"].startswith("3.1")
    for methods in described["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                assert response.get("$ref", "#/components/responses/Problem") == "#/components/responses/Problem"


def test_answers_hold_what_is_described(ana, archive) -> None:
    schemas = ana.get("/api/v1/openapi.json").json["components"]["schemas"]
    (row,) = ana.get("/api/v1/observations?name=HD").json["observations"]
    assert row.keys() == schemas["Row"]["properties"].keys()
    assert (row["strehl_bright_star"], row["strehl_error_bright_star"]) == (12.3, 0.4)
    assert row["date"] == "2016-09-25T03:00:00.000Z"
    found = ana.get(f"/api/v1/observations/{archive.own}").json
    assert found["pipelines"]["bright_star"]["steps"]["reduce"]["results"]["frames_used"] == 768
    products = ana.get(f"/api/v1/observations/{archive.own}/products").json["products"]
    assert {product["name"] for product in products} >= {"100p.fits", "frames.txt"}
    assert all(
        product.keys() == schemas["Products"]["properties"]["products"]["items"]["properties"].keys()
        for product in products
    )
    curve = ana.get(f"/api/v1/observations/{archive.own}/contrast_curve/bright_star").json
    assert len(curve["separation_arcsec"]) == len(curve["contrast_mag"]) == 4
    assert ana.get(f"/api/v1/observations/{archive.own}/header").json["header"][0]["key"] == "OBJECT"
    assert ana.get("/api/v1/account").json == {
        "name": "ana",
        "administrator": False,
        "programs": ["3"],
        "scopes": ["download", "read"],
    }


def test_nights_and_their_summaries(ana, archive) -> None:
    assert ana.get("/api/v1/nights").json["nights"][0] == {"night": NIGHT, "observations": 3}
    night = ana.get(f"/api/v1/nights/{NIGHT}").json
    assert [row["name"] for row in night["observations"]][:2] == ["HD_140283", "GJ_436"]
    facts = ana.get(f"/api/v1/nights/{NIGHT}/summary").json
    assert [point["id"] for point in facts["strehl"]] == [archive.own], "nothing of others"
    assert len(facts["contrast_curves"]) == 1


def test_pages_are_followed_by_their_address(ana, archive, app) -> None:
    seen, address = [], "/api/v1/observations?limit=1&sort=name"
    while address:
        answer = ana.get(address).json
        seen += [row["name"] for row in answer["observations"]]
        address = answer["next"]
    assert seen == sorted(seen)
    assert len(seen) == answer["count"] == 4


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/api/v1/observations?ra=x&dec=y", 400),
        ("/api/v1/observations?cursor=x", 400),
        ("/api/v1/observations/none", 404),
        ("/api/v1/nights/20991231", 404),
        ("/api/v1/nights/x", 404),
        ("/api/v1/nothing", 404),
    ],
)
def test_problems_are_told_as_json(ana, archive, address: str, status: int) -> None:
    answer = ana.get(address)
    assert answer.status_code == status
    assert answer.json["status"] == status
    assert answer.json["error"]


def test_a_redo_needs_an_administrator_and_the_scope(app, ana, archive) -> None:
    address = f"/api/v1/observations/{archive.own}/redo"
    assert ana.post(address, json={"pipeline": "bright_star"}).status_code == 403
    app.store.tokens.add(digest_of("of admin"), "admin", "script", ["change"], timedelta(days=1))
    headers = {"Authorization": "Bearer of admin"}
    client = app.test_client()
    assert client.post(address, json={"pipeline": "bright_star", "step": "strehl"}, headers=headers).status_code == 202
    assert client.post(address, json={"pipeline": {"$ne": 1}}, headers=headers).status_code == 400
    assert client.post(address, json={"pipeline": "bright_star", "step": "none"}, headers=headers).status_code == 400
    for body in ("no json", "[" * 30_000, "[" * 30_000 + "]" * 30_000, '{"pipeline": ' + "1" * 5000 + "}"):
        sent = client.post(address, data=body, headers={**headers, "Content-Type": "application/json"})
        assert sent.status_code == 400
    (asked,) = app.store.requests.waiting()
    assert (asked["who"], asked["what"]["step"]) == ("admin", "strehl")


def test_a_browser_changes_nothing_without_the_token_of_a_form(as_user, archive) -> None:
    admin = as_user("admin")
    answer = admin.client.post(f"/api/v1/observations/{archive.own}/redo", json={"pipeline": "bright_star"})
    assert answer.status_code == 400


def _session() -> requests.Session:
    found = requests.Session()
    found.headers["Authorization"] = f"Bearer {TOKEN}"
    return found


def test_pyvo_searches_a_cone(ana, address, archive) -> None:
    service = pyvo.dal.SCSService(f"{address}/vo/scs", session=_session())
    found = service.search(pos=(155.127, -0.004), radius=0.01)
    assert set(found["id"]) == {archive.own, archive.failed, archive.hostile, archive.earlier}
    assert len(service.search(pos=(20, 20), radius=0.01)) == 0
    with pytest.raises(pyvo.dal.DALQueryError):
        service.search(pos=(20, 20), radius=500)


def test_pyvo_finds_images_and_their_bytes(ana, address, archive) -> None:
    service = pyvo.dal.SIA2Service(f"{address}/vo/sia2", session=_session())
    found = service.search(pos=(155.127, -0.004, 0.01), calib_level=2)
    assert [row["obs_id"] for row in found] == [archive.own]
    row = found[0]
    assert row["obs_title"].startswith("HD_140283")
    assert row["t_min"] == pytest.approx(57656.125)
    content = _session().get(row["access_url"]).content
    assert content.startswith(b"SIMPLE  =")
    assert len(service.search(pos=(20, 20, 0.01))) == 0


@pytest.mark.parametrize(
    "query", ["POS=RANGE 0 1 0", "POS=CIRCLE x 1 1", "POS=CIRCLE 0 99 1", "MAXREC=x", "TIME=now", "BAND=a b"]
)
def test_what_sia_does_not_understand_is_an_error(ana, query: str) -> None:
    answer = ana.get(f"/vo/sia2?{query}")
    assert answer.status_code == 400
    assert b'value="ERROR"' in answer.data


def test_too_many_rows_overflow(ana, archive) -> None:
    assert b'value="OVERFLOW"' in ana.get("/vo/sia2?MAXREC=0").data


def test_basic_authentication_takes_a_token(app, ana, archive) -> None:
    client = app.test_client()
    assert client.get("/vo/scs?RA=1&DEC=1&SR=1", auth=("anything", TOKEN)).status_code == 200
    assert client.get("/vo/scs?RA=1&DEC=1&SR=1", auth=("ana", "perihelion of 1801")).status_code == 401


def test_programs_that_ask_too_often_are_told_to_wait(app, ana, monkeypatch) -> None:
    monkeypatch.setattr("obsarchive.web.framework.authorization.MOST_REQUESTS", 5)
    answer = [ana.get("/api/v1") for _ in range(7)][-1]
    assert (answer.status_code, answer.json["status"]) == (429, 429)
    assert "wait a minute" in answer.json["error"]
    assert "password" not in answer.text
