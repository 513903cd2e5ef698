"""What people type: names in their own spelling, dates with dashes, parameters that there are not."""

from datetime import timedelta
from html import unescape
from itertools import product

import pytest
from toy_archive import NIGHT
from visitors import Visitor

from obsarchive.core.target_names import FOLDING
from obsarchive.instruments.base import coordinates
from obsarchive.web.framework.authorization import digest_of
from obsarchive.web.models.periods import read_period


@pytest.fixture
def ana(app) -> Visitor:
    """Return a program with a token of the scope "read"."""
    app.store.tokens.add(digest_of("read only"), "ana", "script", ["read"], timedelta(days=1))
    visitor = Visitor(app.test_client())
    visitor.client.environ_base["HTTP_AUTHORIZATION"] = "Bearer read only"
    return visitor


def test_names_in_every_spelling(app, archive, ana) -> None:
    archive.toy.observation("3", "KOI-0628", 50)
    archive.toy.observation("3", "GJ_1134+B", 52)
    for asked in ("HD 140283", "hd140283", "KOI 628", "koi_00628", "GJ_1134+B", "gj 1134 b"):
        for more in ("", "&match=exact"):
            found = ana.get(f"/api/v1/observations?name={asked}{more}").json
            assert found["count"] == 1, asked
    assert ana.get("/api/v1/observations?name=140283").json["count"] == 1
    assert ana.get("/api/v1/observations?name=140283&match=exact").json["count"] == 0
    assert ana.get("/api/v1/observations?name=***").json["count"] == 0


def test_other_names_that_people_gave(app, archive, ana) -> None:
    app.store.observations.set_fields(archive.own, {"alternative_names": ["BD-10 4149"]})
    assert ana.get("/api/v1/observations?name=bd -10 4149&match=exact").json["observations"][0]["name"] == "HD_140283"
    app.store.observations.set_fields(archive.own, {"alternative_names": []})
    assert ana.get("/api/v1/observations?name=BD-10 4149").json["count"] == 0


def test_documents_of_an_earlier_version_are_found_after_the_next_start(app, archive, ana) -> None:
    objects = app.store.observations.collection
    objects.update_many({}, {"$unset": {"target": ""}})
    assert ana.get("/api/v1/observations?name=HD 140283").json["count"] == 0
    app.store.ensure_indexes([])
    assert ana.get("/api/v1/observations?name=HD 140283").json["count"] == 1
    assert app.store.observations.fold_names() == 0, "nothing is left to do"
    plan = objects.find({"target.folding": {"$ne": FOLDING}}).explain()["queryPlanner"]["winningPlan"]
    assert "IXSCAN" in str(plan)
    assert "COLLSCAN" not in str(plan)


def test_a_list_says_which_lines_found_nothing(archive, ana, as_user) -> None:
    lines = "HD 140283\nNGC 1\nvega\n351 Yrsa\n10:20:30.5 -00:00:15\n200 10"
    found = ana.get("/api/v1/observations", query_string={"targets": lines, "radius": "30'"}).json
    assert found["targets_without_result"] == ["NGC 1", "351 Yrsa", "200 10"], "Yrsa belongs to another programme"
    page = as_user("ana").get("/search", query_string={"targets": lines}).text
    assert "Nothing found for 3 of 6 lines" in page
    table = "name,ra,dec\nHD 140283,,\nelsewhere,200,10\n"
    found = ana.get("/api/v1/observations", query_string={"targets": table}).json
    assert (found["count"], found["targets_without_result"]) == (1, ["elsewhere,200,10"])


def test_a_night_that_is_no_date_is_told(ana, as_user) -> None:
    assert ana.get("/api/v1/observations?night=20260399").status_code == 400
    assert "a night is a date, YYYY-MM-DD or YYYYMMDD" in as_user("ana").get("/search?night=20260399").text


def test_values_that_nothing_has(archive, ana, as_user) -> None:
    assert ana.get("/api/v1/observations?program=3.0&filter=r").json["remarks"] == [
        "there is no programme 3.0 that you may see; there are 3",
        "there is no filter r that you may see; there are lp600",
    ]
    page = as_user("ana").get("/search?program=4").text
    assert "There is no programme 4 that you may see; there are 3." in page


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/api/v1/observations?programme=3", "programme: there is no such parameter; did you mean program?"),
        ("/api/v1/observations?magnitude_mim=3", "did you mean magnitude_min?"),
        ("/api/v1/sources?sort=name", "sort: there is no such parameter"),
        ("/api/v1/nights?limit=3", "limit: there is no such parameter"),
        ("/search/export/json?programme=3", "did you mean program?"),
        ("/api/v1/observations?cursor=x", "start at the first page"),
    ],
)
def test_parameters_that_there_are_not(archive, ana, address: str, words: str) -> None:
    answer = ana.get(address)
    assert answer.status_code == 400
    assert words in answer.json["error"]


NOT_TAKEN = (
    ("/search?columns=foo", "columns: one of id, program, name, state"),
    ("/search?name=HD&columns=name&columns=foo", "not 'foo'"),
    ("/search?view=foo", "view: one of table, thumbnails, not 'foo'"),
    ("/search?name=HD&match=foo", "match: one of exact, not 'foo'"),
    ("/search?unit=foo", "unit: one of arcsec, arcmin, deg"),
    ("/search?sort=foo", "sort: one of"),
    ("/search?state=foo", "state: one of"),
    ("/search?quality=foo", "quality: one of good, doubtful, bad, unmarked"),
    ("/search?done=foo", "done: a step of the configuration"),
    ("/search?foo=1", "foo: there is no such parameter"),
    ("/search/export/csv?columns=foo", "columns: one of"),
    ("/search/export/json?view=foo", "view: one of"),
    ("/download/selection.sh?raw=foo", "raw: one of 1, 0, not 'foo'"),
    ("/download/observation/{own}.sh?raw=yes", "raw: one of 1, 0, not 'yes'"),
    (f"/download/night/{NIGHT}/3.sh?raw=-1", "raw: one of 1, 0"),
    ("/api/v1/observations?columns=foo", "columns: one of"),
    ("/api/v1/observations?view=foo", "view: one of"),
    ("/api/v1/observations?match=foo", "match: one of"),
    ("/api/v1/observations?unit=foo", "unit: one of"),
    ("/api/v1/sources?unit=foo", "unit: one of"),
    ("/api/v1/sources?state=foo", "state: detected or failed"),
    ("/api/v1/events?state=foo", "state: one of"),
    ("/sources?unit=foo", "unit: one of"),
    (f"/night/{NIGHT}?sort=__class__", "sort: one of time, name, filter, strehl, state, not '__class__'"),
    (f"/night/{NIGHT}?order=down", "order: one of asc, desc, not 'down'"),
    ("/observation/{own}?sort=foo", "sort: one of"),
    ("/psflib?state=foo", "state: one of in library, not in library, removed, queued, not 'foo'"),
    ("/target/HD_140283?half=wide", "half: an angle from 0.2 to 60 arcsec is needed, not 'wide'"),
    ("/target/HD_140283?half=1e9", "half: an angle from 0.2 to 60 arcsec"),
    ("/target/HD_140283?epoch=foo", "epoch: one of"),
    ("/lightcurves?model=foo", "model: one of none, not 'foo'"),
    ("/lightcurves/compare?show=foo", "show: one of difference, ratio, not 'foo'"),
    ("/lightcurves/compare?star=x", "star: 'x' is no number of a star"),
    ("/sources/compare?show=foo", "show: one of difference, ratio, not 'foo'"),
)


def test_values_that_a_parameter_does_not_take(archive, sources, ana, as_user) -> None:
    browser = as_user("ana")
    for address, words in NOT_TAKEN:
        asks = ana if "/api/" in address or "/export/" in address else browser
        answer = asks.get(address.format(own=archive.own))
        assert answer.status_code == 400, address
        assert words in unescape(answer.text), address


TAKEN = (
    "/search?name=HD&columns=name&columns=strehl_bright_star&view=thumbnails&match=exact&unit=deg",
    "/search?name=HD&columns=&view=&match=&unit=&raw=",
    "/search?name=HD&view=table",
    f"/night/{NIGHT}?sort=strehl&order=desc",
    f"/night/{NIGHT}?sort=&order=",
    "/psflib?state=in library",
    "/psflib?state=",
    "/target/HD_140283?half=0.5&epoch={own}",
    "/target/HD_140283?half=",
    "/download/observation/{own}.sh?raw=1",
    "/download/observation/{own}.sh?raw=0",
    "/lightcurves?model=none&period=9999",
    "/lightcurves?model=&period=&target=OGLE-2024-BLG-0034",
    "/lightcurves/compare?show=ratio&target=",
    "/sources/compare?show=",
    "/sources?project=",
    "/events?project=&period_min=0",
)


def test_values_that_a_parameter_takes(archive, sources, as_user) -> None:
    browser = as_user("ana")
    for address in TAKEN:
        assert browser.get(address.format(own=archive.own)).status_code == 200, address


def test_a_period_is_a_sensible_number_of_days(archive, sources, as_user) -> None:
    ana, star = as_user("ana"), sources.event
    pages = (
        "/lightcurves?star=1",
        "/lightcurves/compare?star=1&other=2",
        f"/source/{star}?project=",
        f"/sources/compare?first={sources.ana}&second={sources.ana}",
        "/lightcurves/export/json?target=OGLE-2024-BLG-0034&star=1",
    )
    for page, period in product(pages, ("0", "-0", "nan", "inf", "1e-300", "0.00009", "-2", "100001", "a day")):
        answer = ana.get(f"{page}&period={period}")
        assert answer.status_code == 400, (page, period)
        text = f"period: a positive number of days from 0.0001 to 100000 is needed, not '{period}'"
        assert text in unescape(answer.text), (page, period)


@pytest.mark.parametrize(("text", "period"), [("0.0001", 1e-4), ("100000", 1e5), (" 3,25 ", 3.25), ("9999", 9999.0)])
def test_periods_as_they_are_written(text: str, period: float) -> None:
    assert read_period(text) == (period, "")


def test_periods_of_events_are_not_negative(archive, sources, ana) -> None:
    answer = ana.get("/api/v1/events?period_min=-1")
    assert answer.status_code == 400
    assert "period_min: a number from 0 is needed" in answer.json["error"]
    assert ana.get("/api/v1/events?score_min=-1").status_code == 200


def test_an_unknown_address_is_404_with_a_token_too(app, archive, ana) -> None:
    assert ana.get("/api/v1/nothing").status_code == 404
    assert ana.get("/nothing/at/all").status_code == 404
    assert "token refused" not in {entry["action"] for entry in app.store.audit.recent(50)}
    assert ana.get(f"/download/night/{NIGHT}/3.tar").status_code == 403, "this one takes another scope"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/night/2016-09-25", f"/night/{NIGHT}"),
        ("/night/2016-09-25/summary", f"/night/{NIGHT}/summary"),
        (f"/night/{NIGHT}/", f"/night/{NIGHT}"),
        (f"/Night/{NIGHT}/?q=lp", f"/night/{NIGHT}?q=lp"),
        ("/search/", "/search"),
        ("/night?date=2016-09-25", f"/night/{NIGHT}"),
    ],
)
def test_addresses_lead_to_the_page_that_is_meant(archive, as_user, typed: str, meant: str) -> None:
    answer = as_user("ana").get(typed)
    assert (answer.status_code, answer.location) == (302, meant)


@pytest.mark.parametrize("typed", ["//evil.org/", "/night/2016-02-31", "//evil.org/search/", "/nothing/"])
def test_no_address_leads_elsewhere(archive, as_user, typed: str) -> None:
    answer = as_user("ana").client.get("/", environ_overrides={"PATH_INFO": typed})
    assert answer.status_code in (404, 400)
    assert answer.location is None


def test_exports_have_the_digits_that_mean_something(app, archive, ana) -> None:
    noisy = {"coordinates.ra_deg": 194.89999999999995, "exposure_s": 10.465116279069766}
    app.store.observations.set_fields(archive.own, noisy)
    row = ana.get("/api/v1/observations?name=HD 140283").json["observations"][0]
    assert (row["ra"], row["exposure"], row["seeing_nearest"]) == (194.9, 10.465, 1.22)
    table = ana.get("/search/export/csv?name=HD 140283")
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "194.9,-0.0042," in table.text


def test_names_that_surveys_know(app, archive, sources, as_user) -> None:
    """A survey calls a star otherwise than its observers; names of the surveys of others say nothing."""
    place = coordinates(0.0003, 20.0003, {})
    seen = archive.toy.observation("3", "star 5", 55, coordinates=place)
    ana = as_user("ana")
    for name in ("Gaia EDR3 77", "WDJ0000+2000"):
        page = ana.get("/search", query_string={"name": name}).text
        assert seen in page
        assert "No observation has this name, but a source of surveys at RA 0.00010°, Dec +20.00000°" in page
        assert seen in ana.get(f"/target/{name}").text
    app.store.observations.set_fields(seen, {"coordinates": coordinates(121.0, 5.0, {})})
    assert seen not in ana.get("/search?name=BEN 1").text
    assert ana.get("/target/BEN 1").status_code == 404
