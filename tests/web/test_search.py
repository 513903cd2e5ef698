"""Searching: what is understood, what is found, pages that follow each other, exports."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from astropy.io.votable import parse_single_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_archive import EARLIER, HOSTILE
from werkzeug.datastructures import MultiDict

from obsarchive.store import Cone, Criteria, Order, portal_queries
from obsarchive.web.models import search_form

STEPS = [("bright_star", "reduce"), ("bright_star", "strehl"), ("faint_star", "reduce")]
ADMIN = {"_id": "admin", "programs": "all"}


def read(**arguments: str) -> search_form.SearchForm:
    return search_form.read(MultiDict(arguments), STEPS)


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        ("155.12708333", "-0.5"),
        ("10:20:30.5", "-00:30:00"),
        ("10 20 30.5", "-0 30 0"),
        ("10h20m30.5s", "-0d30m0s"),
        (" 10:20:30.5 ", "−00:30:00"),
    ],
)
def test_places_in_any_usual_notation(ra: str, dec: str) -> None:
    cone = read(ra=ra, dec=dec, radius="2", unit="arcmin").criteria.cone
    assert cone is not None
    assert (cone.ra_deg, cone.dec_deg, cone.radius_deg) == pytest.approx((155.12708333, -0.5, 2 / 60))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("dec", {"ra": "10:20:30"}),
        ("ra", {"ra": "north", "dec": "10"}),
        ("dec", {"ra": "10", "dec": "91"}),
        ("radius", {"ra": "10", "dec": "10", "radius": "-1"}),
        ("radius", {"ra": "10", "dec": "10", "radius": "nan"}),
        ("unit", {"ra": "10", "dec": "10", "unit": "furlong"}),
        ("date_from", {"date_from": "yesterday"}),
        ("limit", {"limit": "1e9"}),
        ("sort", {"sort": "$where"}),
        ("magnitude_min", {"magnitude_min": "{'$gt': 0}"}),
        ("state", {"state": "asleep"}),
        ("done", {"done": "bright_star.nothing"}),
        ("name", {"name": "x" * 300}),
        ("targets", {"targets": "\n".join(f"HD {i}" for i in range(300))}),
    ],
)
def test_what_is_not_understood_is_told(name: str, arguments: dict[str, str]) -> None:
    assert name in read(**arguments).problems


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"ra": "25h", "dec": "10"}, {"ra": "RA 25h lies beyond 24 hours"}),
        ({"ra": "12:75:00", "dec": "10"}, {"ra": "75 minutes, they go from 0 to 59"}),
        ({"ra": "10", "dec": "10:20:77"}, {"dec": "77 seconds"}),
        ({"ra": "10", "dec": "183.9"}, {"dec": "are RA and Dec exchanged?"}),
        ({"ra": "10:20:30"}, {"dec": "RA alone is no position"}),
        ({"dec": "-5"}, {"ra": "Dec alone is no position"}),
        ({"ra": "l 10 b 95"}, {"dec": "galactic latitude 95"}),
        ({"radius": "30"}, {"radius": "needs a centre"}),
        ({"ra": "10", "dec": "10", "radius": "3 miles"}, {"radius": "'3 miles'"}),
        ({"date_from": "2016-10", "date_to": "2016-09"}, {"date_to": "before the beginning"}),
        ({"date_from": "9999-12-31"}, {"date_from": "a date is needed"}),
        ({"magnitude_min": "12", "magnitude_max": "9"}, {"magnitude_max": "reversed: 12 is more than 9"}),
        ({"programme": "3"}, {"programme": "did you mean program?"}),
        ({"xyzzy": ""}, {"xyzzy": "there is no such parameter"}),
        ({"name": "a\0b"}, {"name": "NUL"}),
    ],
)
def test_messages_say_what_is_wrong_and_why(arguments: dict[str, str], words: dict[str, str]) -> None:
    problems = read(**arguments).problems
    assert set(problems) == set(words)
    for name, part in words.items():
        assert part in problems[name]


@pytest.mark.parametrize(
    "arguments",
    [
        {"ra": "183.9", "dec": "57.0"},
        {"ra": "183,9", "dec": "57,0"},
        {"ra": "183.9, 57.0"},
        {"ra": "183.9 57"},
        {"ra": "12:15:36 +57:00:00"},
        {"ra": "12:15:36+57:00:00"},
        {"ra": "12 15 36 57 00 00"},
        {"dec": "12h15m36s +57d00m00s"},
        {"ra": "J121536+570000"},
        {"ra": "J121536 570000"},
        {"ra": "12.26h", "dec": "57°"},
    ],
)
def test_positions_in_one_field_and_in_every_notation(arguments: dict[str, str]) -> None:
    found = read(**arguments)
    assert found.problems == {}
    assert found.criteria.cone is not None
    assert (found.criteria.cone.ra_deg, found.criteria.cone.dec_deg) == pytest.approx((183.9, 57.0), abs=2e-5)


def test_what_was_read_otherwise_is_said() -> None:
    assert read(ra="-10", dec="0").remarks == ["RA -10 is read as 350°"]
    south = read(ra="J1215–5700").criteria.cone
    assert south is not None
    assert (south.ra_deg, south.dec_deg) == pytest.approx((183.75, -57.0))


@pytest.mark.parametrize("text", ["l 0 b 90", "l=12.5 b=+90", "0 90 galactic", "gal 0, 90"])
def test_galactic_positions(text: str) -> None:
    """The north galactic pole lies at 12h51m26.28s +27°07'41.7", J2000 (Reid & Brunthaler 2004, ApJ 616, 872)."""
    found = read(ra=text)
    assert found.criteria.cone is not None
    assert (found.criteria.cone.ra_deg, found.criteria.cone.dec_deg) == pytest.approx((192.8595, 27.1283), abs=1e-4)
    assert "is RA 192.859" in found.remarks[0]


@pytest.mark.parametrize(
    ("radius", "arcsec"),
    [("1'", 60), ("30 arcsec", 30), ('30"', 30), ("2″", 2), ("0.5 deg", 1800), ("1°", 3600), ("1,5", 1.5)],
)
def test_a_radius_with_its_unit(radius: str, arcsec: float) -> None:
    cone = read(ra="10", dec="10", radius=radius).criteria.cone
    assert cone is not None
    assert cone.radius_deg * 3600 == pytest.approx(arcsec)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2016-09", (2016, 9, 1), (2016, 9, 30, 23, 59, 59, 999000)),
        ("2016-12", (2016, 12, 1), (2016, 12, 31, 23, 59, 59, 999000)),
        ("2016", (2016, 1, 1), (2016, 12, 31, 23, 59, 59, 999000)),
        ("57656", (2016, 9, 25), (2016, 9, 25, 23, 59, 59, 999000)),
        ("57656.25", (2016, 9, 25, 6), (2016, 9, 25, 6)),
        ("2457656.75", (2016, 9, 25, 6), (2016, 9, 25, 6)),
    ],
)
def test_months_years_and_julian_dates(text: str, first: tuple[int, ...], last: tuple[int, ...]) -> None:
    found = read(date_from=text, date_to=text)
    assert found.problems == {}
    assert (found.criteria.since, found.criteria.until) == (datetime(*first, tzinfo=UTC), datetime(*last, tzinfo=UTC))


def test_a_table_of_targets() -> None:
    lines = read(targets='Name,RAJ2000,DEJ2000\nHD 1,10:20:30,-0:30:00\n"Vega",,\n', radius="10").lines
    assert [line.targets[0] for line in lines] == ["HD 1", "Vega"]
    assert isinstance(lines[0].targets[1], Cone)
    assert read(targets="HD 1, 155.1, -0.5").lines[0].targets == ("HD 1", Cone(155.1, -0.5, 30 / 3600))
    assert [type(target) for target in read(targets="J121536+570000").criteria.targets] == [str, Cone]


@given(
    st.dictionaries(
        st.sampled_from(
            [
                *search_form.sort_fields(STEPS),
                "ra",
                "dec",
                "radius",
                "unit",
                "targets",
                "name",
                "date_from",
                "date_to",
                "limit",
                "sort",
                "done",
                "state",
            ]
        ),
        st.text(max_size=30),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_nothing_that_people_send_breaks_it(arguments: dict[str, str]) -> None:
    asked = search_form.read(MultiDict(arguments), STEPS)
    assert isinstance(asked.criteria.query(), list)


def test_days_are_whole_days() -> None:
    found = read(date_from="2016-09-25", date_to="20160925").criteria
    assert found.since == datetime(2016, 9, 25, tzinfo=UTC)
    assert found.until == datetime(2016, 9, 25, 23, 59, 59, 999000, tzinfo=UTC)
    assert read(date_to="2016-09-25T03:30").criteria.until == datetime(2016, 9, 25, 3, 30, 59, 999000, tzinfo=UTC)


def test_a_list_holds_names_and_places() -> None:
    found = read(
        targets="HD 140283\n10:20:30.5 -00:30:00\n155.1, -0.5 \n# note\n10 20 30 -0 30 0", radius="10"
    ).criteria
    assert found.targets[0] == "HD 140283"
    assert [type(target) for target in found.targets] == [str, Cone, Cone, Cone]


def names(app, **wanted) -> set[str]:
    page = app.store.browse.search(ADMIN, Criteria(known_steps=STEPS, **wanted), Order(), 100)
    return {found.document["name"] for found in page.observations}


def test_what_is_found(app, archive) -> None:
    assert names(app, name="hd_1402") == {"HD_140283"}
    assert names(app, name="hd_1402", exact=True) == set()
    assert names(app, name=".*") == set(), "a text is no pattern"
    assert names(app, targets=["Vega", "GJ_436"]) == {"Vega", "GJ_436"}
    assert names(app, program="4") == {"351_Yrsa"}
    assert names(app, night=EARLIER) == {"Vega"}
    strehl = "pipelined.bright_star.steps.strehl.results.ratio_percent"
    assert names(app, ranges={strehl: (10, None)}) == {"HD_140283", "351_Yrsa"}
    assert names(app, steps=[("bright_star", "strehl")]) == {"HD_140283", "351_Yrsa"}
    from obsarchive.core.step_state import State

    assert names(app, state=State.REJECTED) == {"GJ_436"}
    assert names(app, flag="OK") == {"HD_140283", "351_Yrsa"}


def test_frequent_names_are_found_like_rare_ones(app, archive, monkeypatch) -> None:
    """Both ways, for an administrator and for a PI, page by page."""
    app.store.observations.set_fields(archive.own, {"alternative_names": ["a very long name of a star, 12345"]})
    ana = {"_id": "ana", "programs": ["3"]}

    def found(user: dict, name: str) -> list[str]:
        browse, seen, cursor = app.store.browse, [], ""
        while True:
            page = browse.search(user, Criteria(name=name), Order(), 2, cursor)
            seen += [each.id for each in page.observations]
            cursor = page.following
            if not cursor:
                assert page.count == len(seen)
                return seen

    asked = [(user, name) for user in (ADMIN, ana) for name in ("a", "hd 14", "vega", "none", "long name of a star 12")]
    rare = [found(*each) for each in asked]
    assert [len(each) for each in rare] == [3, 1, 1, 0, 1, 2, 1, 1, 0, 1]
    monkeypatch.setattr(portal_queries, "RARE", 0)
    assert [found(*each) for each in asked] == rare


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.001, 10.0), (359.999, 10.0), (123.0, 89.9995), (40.0, -89.9995), (180.0, 0.0)]
)
def test_cones_are_right_at_the_edges_of_the_sky(app, archive, ra: float, dec: float) -> None:
    from obsarchive.instruments.base import coordinates

    archive.toy.observation("3", "edge", 30, coordinates=coordinates(ra % 360, dec, {}))
    shifted = (ra + 0.002) % 360 if abs(dec) < 80 else (ra + 180) % 360
    assert "edge" in names(app, cone=Cone(shifted, dec, 0.003))
    assert "edge" not in names(app, cone=Cone(shifted, dec, 0.0005))


@given(
    sort=st.sampled_from(["date", "-date", "name", "-magnitude", "magnitude", "id", "-id", "strehl_bright_star"]),
    limit=st.integers(1, 4),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_pages_follow_each_other_without_gap_or_repetition(app, archive, sort: str, limit: int) -> None:
    """Also where values are missing or equal."""
    everything = app.store.observations.collection
    everything.update_one({"_id": archive.failed}, {"$unset": {"magnitude": ""}})
    asked = read(sort=sort, limit=str(limit))
    seen: list[str] = []
    cursor = ""
    while True:
        page = app.store.browse.search(ADMIN, asked.criteria, asked.order, limit, cursor)
        seen += [found.id for found in page.observations]
        cursor = page.following
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == everything.count_documents({})
    assert page.count == len(seen)


@pytest.mark.parametrize("cursor", ["x", "W10", "bnVsbA", "WzEseyIkbmUiOjF9XQ", "eyIkbmUiOjF9"])
def test_marks_of_pages_are_checked(as_user, archive, cursor: str) -> None:
    assert as_user("ana").get(f"/search?name=a&cursor={cursor}").status_code == 400


def test_the_page_shows_what_one_may_see(archive, as_user) -> None:
    page = as_user("ana").get("/search?program=4").text
    assert "Nothing found" in page
    page = as_user("ana").get("/search?name=HD").text
    assert "HD_140283" in page
    assert "1 observation" in page
    assert "351_Yrsa" not in as_user("ana").get("/search?date_from=2016-01-01").text


def test_problems_are_shown_where_they_are(archive, as_user) -> None:
    page = as_user("ana").get("/search?ra=here&dec=there").text
    assert "Some parameters were not understood" in page
    assert 'aria-invalid="true"' in page


def test_exports_agree(archive, as_user) -> None:
    ana = as_user("ana")
    address = "/search/export/{}?date_from=2016-01-01"
    rows = list(csv.DictReader(io.StringIO(ana.get(address.format("csv")).text)))
    found = json.loads(ana.get(address.format("json")).text)
    table = parse_single_table(io.BytesIO(ana.get(address.format("votable")).data)).to_table()
    assert len(rows) == found["count"] == len(table) == 4
    assert [row["id"] for row in rows] == [row["id"] for row in found["observations"]] == list(table["id"])
    assert float(rows[0]["ra [deg]"]) == pytest.approx(155.1271)
    assert str(table["ra"].unit) == "deg"


def test_a_table_is_no_spreadsheet_program(archive, as_user) -> None:
    archive.toy.observation("3", "evil2", 40, name="=cmd|' /C calc'!A0")
    text = as_user("ana").get("/search/export/csv?name=cmd").text
    assert "'=cmd|" in text
    assert HOSTILE not in as_user("ana").get("/search?name=img").text
