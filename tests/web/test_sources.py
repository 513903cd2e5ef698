"""Sources of surveys in the portal: what is found, who sees it, what a page shows, what exports hold."""

import io
import json
import re
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import votable
from pyarrow import parquet
from toy_archive import HOSTILE

from obsarchive.remote import gaia
from obsarchive.remote.http import ServiceTimeoutError
from obsarchive.web.surveys import source_view
from obsarchive.web.surveys.finder_chart import chart
from surveys import dataset
from surveys.dataset import Lightcurve


def facts_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def names_in(page: str) -> list[str]:
    return re.findall(r'<td class="subject"><a href="/source/[^"]*">([^<]*)</a>', page)


def listed(person, query: str) -> list[str]:
    """Names that the API finds, which are those of the page."""
    found = [source["name"] for source in person.get(f"/api/v1/sources?{query}").json["sources"]]
    assert names_in(person.get(f"/sources?{query}").text) == found
    return found


def file_of(run: str) -> Path:
    return next((dataset.data_root() / run).glob("DEMO_photometry_RA000_reduced.h5"))


# looking for sources


def test_all_sources_are_listed_by_name(sources, archive, as_user) -> None:
    everything = sorted(vars(sources).values())
    assert listed(as_user("admin"), "") == everything
    assert listed(as_user("ana"), "") == [name for name in everything if name != "BEN 1"]


def test_names_are_found_by_their_beginning_and_by_others(sources, as_user) -> None:
    ana = as_user("ana")
    assert listed(ana, "name=WDJ0") == [sources.event, sources.empty]
    assert listed(ana, "name=Gaia EDR3 77") == [sources.event]
    assert listed(ana, "name=Gaia EDR3 7") == []
    assert listed(ana, "name=.*") == []
    assert ana.get("/api/v1/sources?name[$ne]=x").status_code == 400, "no parameter has this name"


@pytest.mark.parametrize(
    ("cone", "found"),
    [
        ("ra=0&dec=20&radius=5", ["event"]),
        ("ra=0&dec=20&radius=20", ["event", "quiet"]),
        ("ra=359.99&dec=20&radius=1&unit=arcmin", ["quiet", "event"]),
        ("ra=23:59:59.04&dec=20:00:03.6&radius=1", ["quiet"]),
        ("ra=8.5&dec=89.9999&radius=1", ["polar"]),
        ("ra=8.5&dec=90&radius=0.3", []),
        ("ra=0&dec=-89&radius=1&unit=deg", []),
    ],
)
def test_a_cone_holds_across_the_zero_of_right_ascension_and_at_the_pole(sources, as_user, cone, found) -> None:
    assert listed(as_user("ana"), cone) == [getattr(sources, name) for name in found]


def test_a_cone_tells_distances(sources, as_user) -> None:
    found = as_user("ana").get("/api/v1/sources?ra=0&dec=20&radius=20").json["sources"]
    assert found[0]["distance_arcsec"] == pytest.approx(0.0001 * 3600 * np.cos(np.radians(20)), abs=1e-3)
    east, north = 0.004 * 3600 * np.cos(np.radians(20.001)), 0.001 * 3600
    assert found[1]["distance_arcsec"] == pytest.approx(np.hypot(east, north), abs=0.002)


@pytest.mark.parametrize(
    "query", ["ra=x&dec=y", "ra=1", "radius=-1&ra=1&dec=1", "state=odd", "limit=0", "unit=mile&ra=1&dec=1"]
)
def test_what_is_not_understood_is_said(sources, as_user, query) -> None:
    ana = as_user("ana")
    assert "Some parameters were not understood" in ana.get(f"/sources?{query}").text
    assert ana.get(f"/api/v1/sources?{query}").status_code == 400


def test_a_cone_has_a_largest_radius(sources, as_user) -> None:
    assert "at most 30 deg" in as_user("ana").get("/sources?ra=1&dec=1&radius=31&unit=deg").text


def test_those_with_events_come_by_strength_and_simulated_events_do_not_count(app, sources, as_user) -> None:
    ana = as_user("ana")
    simulated = {
        "run": "WHITE_DWARFS",
        "source_name": sources.quiet,
        "simulated": True,
        "strength": 99.0,
        "score": 99.0,
    }
    app.store.surveys.save("detections", [{"_id": "s", **simulated}])
    found = ana.get("/api/v1/sources?state=detected").json["sources"]
    assert {source["name"] for source in found} == {sources.event, sources.ana}
    strengths = [source["strongest_snr"] for source in found]
    assert strengths == sorted(strengths, reverse=True)
    assert listed(ana, "state=detected&project=WHITE_DWARFS") == [sources.event]
    assert listed(ana, "state=detected&ra=120&dec=5") == [sources.ana]
    assert listed(ana, "state=detected&name=WDJ") == [sources.event]
    assert listed(ana, f"state=detected&ra=0&dec=20&radius=20&name={sources.quiet.replace('+', '%2B')}") == []


def test_failures_are_listed_with_their_reasons(sources, as_user) -> None:
    ana = as_user("ana")
    assert listed(ana, "state=failed") == [sources.failed]
    assert listed(ana, "state=failed&project=OURS") == []
    assert listed(ana, "state=failed&ra=180&dec=0") == [sources.failed]
    page = ana.get("/sources?state=failed").text
    assert "raw photometry needs a time" in page
    assert "DEMO answered 500" in page
    assert HOSTILE not in page
    reasons = ana.get("/api/v1/sources?state=failed").json["sources"][0]["failures"]
    assert [reason["where"] for reason in reasons] == ["WHITE_DWARFS", "DEMO"]


@pytest.mark.parametrize("query", ["", "ra=0&dec=20&radius=1&unit=arcmin", "state=detected"])
def test_pages_follow_each_other_and_miss_nothing(sources, as_user, query) -> None:
    ana = as_user("ana")
    everything, found, address = listed(ana, query), [], f"/api/v1/sources?{query}&limit=1"
    while address:
        answer = ana.get(address).json
        assert answer["count"] == len(everything)
        found += [source["name"] for source in answer["sources"]]
        address = answer["next"]
    assert found == everything
    assert "Next page" in ana.get(f"/sources?{query}&limit=1").text


def test_a_made_up_mark_of_a_page_is_refused(sources, as_user) -> None:
    for cursor in ("x", "-1", "99999999", "²"):
        assert as_user("ana").get(f"/sources?state=detected&cursor={cursor}").status_code == 400


# projects


def test_projects_show_their_progress(app, sources, as_user) -> None:
    ana = as_user("ana")
    for address in ("/sources", "/sources/now"):
        page = ana.get(address).text
        assert "white dwarfs within 100 pc" in page
        assert "2 of 5 sources" in page
        assert "40 %" in page
        assert "THEIRS" not in page
    found = {run["project"]: run for run in ana.get("/api/v1/surveys").json["projects"]}
    assert found.keys() == {"WHITE_DWARFS", "OURS"}
    counts = {key: found["WHITE_DWARFS"][key] for key in ("sources", "analysed", "failed", "detections")}
    assert counts == {"sources": 5, "analysed": 5, "failed": 1, "detections": 1}
    assert (found["OURS"]["state"], found["OURS"]["progress"]) == ("running", 0.4)
    assert "THEIRS" in as_user("admin").get("/sources").text


def test_a_project_of_which_little_is_known_is_shown_to_administrators_only(app, archive, as_user) -> None:
    app.store.surveys.runs.insert_one({"_id": "NEW_PROJECT"})
    assert "NEW_PROJECT" in as_user("admin").get("/sources").text
    assert "NEW_PROJECT" not in as_user("ana").get("/sources").text
    assert as_user("admin").get("/api/v1/surveys").json["projects"][0]["sources"] == 0


def test_why_a_project_failed_is_told(app, archive, as_user) -> None:
    archive.toy.project("BROKEN", [], state="failed", reason=f"gave up {HOSTILE}", description=HOSTILE)
    page = as_user("ana").get("/sources").text
    assert "gave up &lt;img" in page
    assert HOSTILE not in page


def test_versions_of_a_project_are_told_apart(app, archive, as_user) -> None:
    for run in ("WD_1111", "WD_2222"):
        archive.toy.project(run, [])
        app.store.surveys.note_run(run, {"name": "WD"})
    archive.toy.project("OTHER_3333", [])
    app.store.surveys.note_run("OTHER_3333", {"name": "OTHER"})
    page = as_user("ana").get("/sources").text
    assert ">WD_1111</a>" in page
    assert ">OTHER</a>" in page


def test_counts_that_take_long_are_kept_for_a_while(app, sources, as_user, monkeypatch) -> None:
    monkeypatch.setattr("obsarchive.web.surveys.sources.SLOW_S", 0.0)
    monkeypatch.setattr("obsarchive.web.surveys.sources.KEPT_FOR", 1e9)
    ana = as_user("ana")
    before = ana.get("/api/v1/surveys").json["projects"]
    app.store.surveys.forget_results("WHITE_DWARFS")
    assert ana.get("/api/v1/surveys").json["projects"] == before


def test_an_archive_without_surveys_says_so(app, archive, as_user) -> None:
    page = as_user("ana").get("/sources").text
    assert "No project of surveys is known" in page
    assert "No source yet" in page
    assert "Nothing found" in as_user("ana").get("/sources?name=x").text
    assert as_user("ana").get("/sources?ra=1&dec=1").status_code == 200


# who sees what


def test_people_see_the_sources_of_their_projects(sources, as_user) -> None:
    ana, ben, admin = as_user("ana"), as_user("ben"), as_user("admin")
    paths = ("/source/{}", "/source/{}/export/csv", "/api/v1/sources/{}", "/api/v1/sources/{}/lightcurves")
    for path in paths:
        for name, allowed in (
            (sources.event, (ana, ben, admin)),
            (sources.ana, (ana, admin)),
            (sources.ben, (ben, admin)),
        ):
            for person in (ana, ben, admin):
                status = person.get(path.format(name)).status_code
                assert status == (200 if person in allowed else 404), (path, name)
    assert listed(ben, "project=OURS") == []
    assert listed(ben, "ra=120&dec=5") == []
    assert ana.get("/source/no such source").status_code == 404


def test_a_source_of_two_projects_shows_each_the_results_of_its_own(app, sources, archive, as_user) -> None:
    row = {"name": sources.event, "ra": 0.0001, "dec": 20.0, "mag": 16.0}
    archive.toy.source("THEIRS", row)
    ana, ben = as_user("ana"), as_user("ben")
    assert ana.get(f"/api/v1/sources/{sources.event}").json["projects"] == ["WHITE_DWARFS"]
    assert "THEIRS" not in ana.get(f"/source/{sources.event}").text
    assert "THEIRS" not in ana.get("/sources").text
    assert ana.get(f"/source/{sources.event}?project=THEIRS").status_code == 404
    assert ana.get(f"/source/{sources.event}/export/csv?project=THEIRS").status_code == 404
    assert sorted(ben.get(f"/api/v1/sources/{sources.event}").json["projects"]) == ["THEIRS", "WHITE_DWARFS"]
    assert ben.get(f"/api/v1/sources/{sources.event}?project=THEIRS").json["project"] == "THEIRS"
    assert ana.get("/api/v1/sources?name=WDJ0000").json["sources"][0]["n_detections"] == 1


def test_neighbours_are_those_that_one_may_see(app, sources, archive, as_user) -> None:
    archive.toy.source("THEIRS", {"name": "secret", "ra": 0.001, "dec": 20.001, "mag": 15.0})
    assert "secret" not in as_user("ana").get(f"/source/{sources.event}").text
    assert "secret" in as_user("ben").get(f"/source/{sources.event}").text


# a source


def test_the_page_of_a_source_shows_all_there_is(sources, as_user) -> None:
    page = as_user("ana").get(f"/source/{sources.event}").text
    for text in (
        "Gaia EDR3 77",
        "00:00:00.02 +20:00:00.0",
        "3.250000",
        "Stetson J",
        "mag/d",
        "Finder chart",
        "simulated",
    ):
        assert text.lower() in page.lower(), text
    assert page.count('aria-current="page"') == 1
    facts = facts_of(page)
    assert facts["axis"] == "MJD [d]"
    assert (facts["drawn"], facts["every"], facts["period"]) == (100, 1, None)
    curve, event = facts["curves"][0], facts["events"][0]
    assert (curve["instrument"], curve["filter"], len(curve["time"])) == ("DEMO", "R", 100)
    assert event["start"] <= event["peak"] <= event["stop"]
    brightest = curve["time"][int(np.argmin(curve["mag"]))]
    assert event["peak"] == pytest.approx(brightest, abs=1e-5)
    assert sources.quiet in page


def test_flagged_epochs_are_marked(app, sources, as_user) -> None:
    found = next(app.store.surveys.find("lightcurves", {"source_name": sources.event}))
    flags = Lightcurve.from_document(found).columns["qflag"]
    drawn = facts_of(as_user("ana").get(f"/source/{sources.event}").text)["curves"][0]
    assert drawn["flagged"] == flags.astype(int).tolist()


def test_a_light_curve_is_folded(sources, as_user) -> None:
    ana = as_user("ana")
    own = facts_of(ana.get(f"/source/{sources.event}?period=3.25").text)
    assert (own["period"], own["epoch"]) == (3.25, 58001.5)
    other = facts_of(ana.get(f"/source/{sources.event}?period=2").text)
    assert (other["period"], other["epoch"]) == (2.0, 0.0)
    page = ana.get(f"/source/{sources.event}?period=-2").text
    assert "positive number of days" in page
    assert facts_of(page)["period"] is None


def test_many_epochs_are_thinned(sources, as_user, monkeypatch) -> None:
    monkeypatch.setattr("obsarchive.web.models.light_curve_data.MOST_POINTS", 40)
    page = as_user("ana").get(f"/source/{sources.event}").text
    assert len(facts_of(page)["curves"][0]["time"]) == 34
    assert "Of 3 epochs one is drawn" in page


def test_simulated_events_are_kept_apart(app, sources, as_user) -> None:
    event = {"run": "WHITE_DWARFS", "source_name": sources.event, "filter": "R", "observatory": "DEMO"}
    times = {"mjd_start": 58010.0, "mjd_peak": 58011.125, "mjd_stop": 58012.0}
    app.store.surveys.save(
        "detections", [{"_id": "s", **event, **times, "simulated": True, "strength": 50.0, "score": 50.0}]
    )
    page = as_user("ana").get(f"/source/{sources.event}").text
    real, _, simulated = page.partition("Simulated events")
    assert "58011.125" in simulated
    assert "58011.125" not in real
    assert "21.5" in simulated
    assert len(facts_of(page)["events"]) == 1
    found = as_user("ana").get(f"/api/v1/sources/{sources.event}").json
    assert (len(found["detections"]), len(found["simulated_detections"])) == (1, 1)


def test_of_light_curves_with_and_without_scores_those_with_are_shown(app, sources, as_user) -> None:
    found = next(app.store.surveys.find("lightcurves", {"source_name": sources.event}))
    curve = Lightcurve.from_document(found)
    reduced = curve.with_columns(
        {name: curve.columns[name] for name in ("mjd", "flux", "flux_err", "mag", "mag_err", "flag")}
    )
    reduced.altdata["was_processed"] = False
    reduced.save()
    app.store.surveys.save("lightcurves", [reduced.document()])
    shown = as_user("ana").get(f"/api/v1/sources/{sources.event}/lightcurves").json["lightcurves"]
    assert len(shown) == 1
    assert "snr" in shown[0]["columns"]


def test_sources_without_data_and_failed_ones_say_why(sources, as_user) -> None:
    ana = as_user("ana")
    empty = ana.get(f"/source/{sources.empty}").text
    assert "No survey has photometry of this source" in empty
    assert "The survey has nothing of it" in empty
    failed = ana.get(f"/source/{sources.failed}").text
    assert "The analysis failed: raw photometry needs a time" in failed
    assert "DEMO answered 500 &lt;img" in failed
    assert HOSTILE not in failed + ana.get(f"/source/{sources.quiet}").text
    assert "&lt;img" in ana.get(f"/source/{sources.quiet}").text


def test_damaged_and_missing_files_are_told(app, sources, as_user) -> None:
    ana, path = as_user("ana"), file_of("WHITE_DWARFS")
    path.write_bytes(path.read_bytes()[:300])
    page = ana.get(f"/source/{sources.event}")
    assert page.status_code == 200
    assert (
        "A light curve cannot be read: WHITE_DWARFS/DEMO_photometry_RA000_reduced.h5 is no readable HDF5" in page.text
    )
    assert str(dataset.data_root()) not in page.text
    assert "No light curve can be read" in page.text
    path.unlink()
    assert "no such file" in ana.get(f"/source/{sources.event}").text
    found = ana.get(f"/api/v1/sources/{sources.event}/lightcurves").json
    assert found["lightcurves"] == []
    assert "no such file" in found["problems"][0]
    answer = ana.get(f"/source/{sources.event}/export/csv")
    assert answer.status_code == 400
    assert "no such file" in answer.text


def test_any_damage_is_told_and_breaks_no_page(sources, as_user) -> None:
    ana, path = as_user("ana"), file_of("WHITE_DWARFS")
    whole, rng = path.read_bytes(), np.random.default_rng(4)
    assert b"_processed_" in whole
    damaged = [whole.replace(b"_processed_", b"_procexxed_")]  # a name that its own checksum does not fit
    for _ in range(40):
        start = int(rng.integers(len(whole)))
        noise = rng.integers(0, 256, 8, np.uint8).tobytes()
        damaged.append(whole[:start] + noise + whole[start + 8 :])
    for content in damaged:
        path.write_bytes(content)
        page = ana.get(f"/source/{sources.event}")
        assert page.status_code == 200
        assert ("cannot be read" in page.text) != ('data-plot="lightcurve"' in page.text)


def test_the_finder_chart_has_north_up_and_east_left() -> None:
    middle = {"_id": "m", "ra_deg": 359.999, "dec_deg": 60.0, "mag": 15.0}
    east = {"_id": "e", "ra_deg": (359.999 + 20 / 3600) % 360, "dec_deg": 60.0, "mag": 17.0}
    north = {"_id": "n", "ra_deg": 359.999, "dec_deg": 60.0 + 15 / 3600}
    made = chart(middle, [east, middle, north])
    assert [star.name for star in made.others] == ["e", "n"]
    assert (made.others[0].x, made.others[0].y) == pytest.approx((-10.0, 0.0), abs=0.02)
    assert (made.others[1].x, made.others[1].y) == pytest.approx((0.0, -15.0), abs=0.02)
    assert made.middle.dot > made.others[0].dot > made.others[1].dot
    assert made.others[1].distance_arcsec == pytest.approx(15.0, abs=0.02)


def test_features_of_any_shape_make_a_table() -> None:
    made = source_view.Features.of({"ZTF r": {"n": 5, "scatter_mag": 0.1}, "ZTF g": {"n": 4}, "odd": 7})
    assert made.columns == ["ZTF r", "ZTF g", ""]
    assert made.rows == [
        ("epochs", "", [5, 4, None]),
        ("scatter", "mag", [0.1, None, None]),
        ("odd", "", [None, None, 7]),
    ]


def test_a_name_may_hold_anything(app, archive, as_user) -> None:
    archive.toy.project("ODD", [])
    for name in ("J1/x y", "a/export/csv/z", 'q"<b>&?#%', "β Cet"):
        document = {
            "_id": name,
            "ra_deg": 10.0,
            "dec_deg": 1.0,
            "geojson": {"type": "Point", "coordinates": [10.0, 1.0]},
        }
        app.store.surveys.register([document], "ODD")
        with app.test_request_context():
            address = app.url_for("sources.source", name=name)
        page = as_user("ana").get(address)
        assert page.status_code == 200, name
        assert "<b>" not in page.text
    assert as_user("ana").get("/sources?project=ODD").text.count("/source/") >= 4


# exports


def test_exports_are_read_by_others(app, sources, as_user) -> None:
    ana, address = as_user("ana"), f"/source/{sources.event}/export/"
    found = next(app.store.surveys.find("lightcurves", {"source_name": sources.event}))
    columns = Lightcurve.from_document(found).columns
    csv = pd.read_csv(io.BytesIO(ana.get(address + "csv").data))
    table = parquet.read_table(io.BytesIO(ana.get(address + "parquet").data)).to_pandas()
    with warnings.catch_warnings(action="ignore"):
        first = votable.parse_single_table(io.BytesIO(ana.get(address + "votable").data))
    given = {name: first.array[name].data for name in ("mjd", "flux", "mag")}
    for name in ("mjd", "flux", "mag"):
        for read in (csv[name], table[name], given[name]):
            np.testing.assert_array_equal(np.asarray(read, columns[name].dtype), columns[name])
    assert first.get_field_by_id_or_name("flux").unit == "uJy"
    assert set(csv["source"]) == {sources.event}
    plain = json.loads(ana.get(address + "json").data)["lightcurves"][0]
    np.testing.assert_allclose(plain["columns"]["mag"], columns["mag"], rtol=1e-7)
    with h5py.File(io.BytesIO(ana.get(address + "skyportal").data)) as file:
        series = file["photometry/table"][:]
    np.testing.assert_array_equal(series["mjd"], columns["mjd"])
    assert set(series["filter"]) == {b"bessellr"}


def test_exports_are_attachments_and_noted(app, sources, as_user) -> None:
    answer = as_user("ana").get(f"/source/{sources.event}/export/parquet")
    assert answer.headers["Content-Disposition"] == "attachment; filename=WDJ0000+2000.parquet"
    newest = max(app.store.database["audit"].find({"action": "export"}), key=lambda entry: entry["when"])
    assert (newest["who"], "export/parquet" in newest["path"]) == ("ana", True)
    assert as_user("ana").get(f"/source/{sources.event}/export/xlsx").status_code == 404


def test_an_export_may_be_of_some_light_curves(archive, sources, as_user) -> None:
    ana, address = as_user("ana"), f"/source/{sources.event}/export/"
    assert ana.get(address + "csv?observatory=DEMO&filter=R&series=1").status_code == 200
    for nothing in ("filter=g", "observatory=ZTF", "series=2"):
        answer = ana.get(f"{address}csv?{nothing}")
        assert answer.status_code == 400
        assert "no light curve" in answer.text
    assert ana.get(f"/source/{sources.empty}/export/skyportal").status_code == 400


def test_several_light_curves_are_several_series_of_skyportal(app, sources, as_user) -> None:
    found = next(app.store.surveys.find("lightcurves", {"source_name": sources.event}))
    curve = Lightcurve.from_document(found)
    second = curve.with_columns(curve.columns, series_number=2, series_total=2)
    second.save()
    app.store.surveys.save("lightcurves", [second.document()])
    answer = as_user("ana").get(f"/source/{sources.event}/export/skyportal")
    assert answer.mimetype == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert len(archive.namelist()) == 2
        for name in archive.namelist():
            with h5py.File(io.BytesIO(archive.read(name))) as file:
                assert len(file["photometry/table"]) == 100


# the interface for programs


def test_the_interface_for_programs(sources, as_user) -> None:
    ana = as_user("ana")
    found = ana.get(f"/api/v1/sources/{sources.event}").json
    assert (found["name"], found["project"], found["mag"]) == (sources.event, "WHITE_DWARFS", 16.0)
    assert found["raw_photometry"][0]["state"] == "good"
    assert found["lightcurves"][0]["number"] == 100
    assert found["detections"][0]["score"] > 5
    assert found["properties"]["extra"]["period"]["period_d"] == 3.25
    assert "filename" not in json.dumps(found)
    points = ana.get(found["points"].partition("localhost")[2]).json
    columns = points["lightcurves"][0]["columns"]
    assert len(columns["mjd"]) == len(columns["mag"]) == 100
    assert ana.get(f"/api/v1/sources/{sources.event}/lightcurves?filter=g").json["lightcurves"] == []
    assert ana.get("/api/v1").json["sources"].endswith("/api/v1/sources")
    empty = ana.get(f"/api/v1/sources/{sources.empty}").json
    assert (empty["raw_photometry"][0]["state"], empty["lightcurves"]) == ("empty", [])


# services outside


def test_without_services_nothing_outside_is_asked(sources, as_user) -> None:
    page = as_user("ana").get(f"/source/{sources.event}").text
    assert "No catalogue service is configured" in page
    assert "hx-get" not in page
    assert "data-sky" not in page
    assert as_user("ana").get(f"/source/{sources.event}/matches").status_code == 404


@pytest.fixture
def served(app) -> None:
    server = app.settings.server.model_copy(update={"vizier": "http://127.0.0.1:9/asu-tsv"})
    app.settings = app.settings.model_copy(update={"server": server})


def test_gaia_is_asked_when_the_page_is_there(app, sources, served, as_user, monkeypatch) -> None:
    asked = []
    found = [gaia.Match("Gaia DR3 1", 0.12, 16.1, 0.4, 12.5, 0.05, -3.0, 4.0), gaia.Match("Gaia DR3 2", 4.2)]
    monkeypatch.setattr("obsarchive.web.surveys.sources.gaia_near", lambda *given: asked.append(given) or found)
    ana = as_user("ana")
    assert f'hx-get="/source/{sources.event}/matches"' in ana.get(f"/source/{sources.event}").text
    assert asked == []
    part = ana.get(f"/source/{sources.event}/matches").text
    assert "12.500 ± 0.050" in part
    assert "Gaia DR3 2" in part
    assert asked[0][0] == (0.0001, 20.0)
    assert ana.get(f"/source/{sources.ben}/matches").status_code == 404
    assert len(asked) == 1


def test_a_service_that_is_away_breaks_nothing(app, sources, served, as_user, monkeypatch) -> None:
    part = as_user("ana").get(f"/source/{sources.event}/matches")
    assert part.status_code == 200
    assert "cannot be reached" in part.text

    def slow(*_: object) -> None:
        raise ServiceTimeoutError("the catalogue service is too slow")

    monkeypatch.setattr("obsarchive.web.surveys.sources.gaia_near", slow)
    assert "too slow" in as_user("ana").get(f"/source/{sources.event}/matches").text
    monkeypatch.setattr("obsarchive.web.surveys.sources.gaia_near", lambda *_: [])
    assert "nothing within 5″" in as_user("ana").get(f"/source/{sources.event}/matches").text
