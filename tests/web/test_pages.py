"""What pages say: states, order, filters, numbers; and that hostile text stays text."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from toy_archive import EARLIER, HOSTILE, NIGHT

from obsarchive.cli.status import _steps_in_words
from obsarchive.core.documents import Observation, utc_now
from obsarchive.store.portal_queries import Browse
from obsarchive.web.framework import template_filters
from obsarchive.web.models.daemon_status import daemon_state
from obsarchive.web.models.pipeline_views import DisplayState, pipelines_of
from obsarchive.web.models.view_models import Card, Selection


def _card(app, obs_id: str, jobs=None) -> Card:
    found = Observation(app.store.observations.find(obs_id))
    return Card(found, tuple(pipelines_of(found, app.chain, app.layout, jobs or {})))


def _states(app, obs_id: str, jobs=None) -> dict[str, str]:
    return {step.name: str(step.state) for step in _card(app, obs_id, jobs).pipelines[0].steps}


def test_each_state_of_a_step_has_its_word(app, archive) -> None:
    assert _states(app, archive.own) == {"reduce": "done", "strehl": "done", "preview": "done"}
    assert _states(app, archive.failed) == {"reduce": "rejected", "strehl": "not run", "preview": "not run"}
    assert _states(app, archive.earlier) == {"reduce": "waiting", "strehl": "waiting", "preview": "waiting"}
    archive.toy.step(archive.own, "bright_star", "strehl", state="waiting", products=[{"name": "strehl/x.txt"}])
    assert _states(app, archive.own)["strehl"] == "stale"
    archive.toy.step(archive.own, "bright_star", "strehl", state="enqueued")
    assert _states(app, archive.own)["strehl"] == "queued"
    job = {(archive.own, "bright_star", "strehl"): {"fraction": 0.3}}
    assert _states(app, archive.own, job)["strehl"] == "running"
    archive.toy.step(archive.own, "bright_star", "strehl", state="nonsense")
    assert _states(app, archive.own)["strehl"] == "waiting"


def test_one_good_pipeline_makes_an_observation_done(app, archive) -> None:
    assert _card(app, archive.failed).state is DisplayState.REJECTED
    app.store.observations.set_fields(archive.failed, {"pipelined.bright_star.classified_as": "faint"})
    assert _card(app, archive.failed).state is DisplayState.WAITING
    archive.toy.step(archive.failed, "faint_star", "reduce", state="done")
    assert _card(app, archive.failed).state is DisplayState.DONE


def test_a_pipeline_that_is_no_longer_configured_is_shown_all_the_same(app, archive, as_user) -> None:
    record = archive.toy.product(app.layout.observation(NIGHT, archive.own) / "lucky", "sum.fits", b"SIMPLE")
    archive.toy.step(archive.own, "lucky", "reduce", state="done", products=[record])
    ana = as_user("ana")
    assert "Lucky" in ana.get(f"/observation/{archive.own}").text
    assert ana.get(f"/observation/{archive.own}/product/lucky/sum.fits").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        ["name", "filter", "coordinates", "seeing", "raw_data", "fits_header"],
        ["pipelined"],
        ["distributed", "date_utc"],
    ],
)
def test_a_document_with_holes_still_has_its_pages(app, archive, as_user, fields) -> None:
    app.store.observations.collection.update_one({"_id": archive.own}, {"$unset": dict.fromkeys(fields, "")})
    ana = as_user("ana")
    assert ana.get(f"/observation/{archive.own}").status_code == 200
    assert archive.own in ana.get(f"/night/{NIGHT}").text


def test_hostile_text_stays_text(archive, as_user) -> None:
    ana = as_user("ana")
    for address in (f"/night/{NIGHT}", f"/observation/{archive.hostile}", f"/night/{NIGHT}?q=" + HOSTILE):
        page = ana.get(address).text
        assert "<img src=x" not in page
        assert "<script>document" not in page
        assert "&lt;img src=x" in page
    assert ">49<" not in page


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=hd", ["HD_140283"]),
        ("q=rejected", ["GJ_436"]),
        ("q=.*", []),
        ("q=[", []),
        ("q=p3 lp600", ["HD_140283", "GJ_436", HOSTILE]),
        ("sort=name", [HOSTILE, "GJ_436", "HD_140283"]),
        ("sort=strehl&order=desc", ["HD_140283", "GJ_436", HOSTILE]),
        ("sort=time&order=asc", ["HD_140283", "GJ_436", HOSTILE]),
        ("q=hd&q=gj", ["HD_140283"]),
    ],
)
def test_the_address_decides_what_is_shown_and_in_which_order(app, archive, as_user, query, names) -> None:
    page = as_user("ana").get(f"/night/{NIGHT}?{query}").text
    found = [text.split("<")[0] for text in page.split('<span class="name">')[1:]]
    assert found == [_escaped(name) for name in names]


def _escaped(text: str) -> str:
    return str(escape(text)).split("<")[0]


def test_neighbours_follow_the_selection(archive, as_user) -> None:
    ana = as_user("ana")
    page = ana.get(f"/observation/{archive.failed}").text
    assert f'rel="prev" data-keys="ArrowLeft k" href="/observation/{archive.own}"' in page
    assert f'rel="next" data-keys="ArrowRight j" href="/observation/{archive.hostile}"' in page
    page = ana.get(f"/observation/{archive.failed}?q=gj").text
    assert 'rel="prev"' not in page
    assert f'href="/night/{NIGHT}?q=gj"' in page


def test_nights_are_turned_by_what_one_may_see(archive, as_user) -> None:
    assert f'href="/night/{EARLIER}"' in as_user("ana").get(f"/night/{NIGHT}").text
    assert f'href="/night/{EARLIER}"' not in as_user("ben").get(f"/night/{NIGHT}").text
    ana = as_user("ana")
    assert ana.get("/night?date=2016-09-23").location == f"/night/{EARLIER}"
    assert ana.get("/night?date=x").location == "/"
    assert "No data of yours" in ana.get("/night/20160101").text
    assert [ana.get(f"/night/{text}").status_code for text in ("20160231", "2016", "..", "$ne")] == [404] * 4


def test_the_night_tells_its_calibration_and_its_troubles(archive, as_user) -> None:
    page = as_user("ana").get(f"/night/{NIGHT}/summary").text.replace("<wbr>", "")
    assert "copied from 20160920" in page
    assert "no star brighter than 5 sigma" in page
    assert "dark_6_20160925_010203.000000.fits" in page
    assert "3 files of the raw folder ignored" in page


def test_the_night_page_reads_no_contrast_curves(app, archive, as_user, monkeypatch) -> None:
    """They are a quarter of the documents of a night, and it shows none; the summary does."""
    of_night, read = Browse.of_night, []

    def watched(*arguments, **options):
        read.append(of_night(*arguments, **options))
        return read[-1]

    monkeypatch.setattr(Browse, "of_night", watched)
    ana = as_user("ana")
    assert f"card-{archive.own}" in ana.get(f"/night/{NIGHT}").text
    curves = ana.get(f"/api/v1/nights/{NIGHT}/summary").json["contrast_curves"]
    assert [curve["id"] for curve in curves] == [archive.own]
    results = [
        next(found for found in seen if found.id == archive.own).pipeline("bright_star").step("pca").results
        for seen in (read[0], read[-1])
    ]
    assert ["curve" in kept for kept in results] == [False, True]


def test_the_noise_of_a_master_has_its_unit(app, archive, as_user) -> None:
    """That of a flat is relative to its level; of a copy nothing is known."""
    masters = [
        {"kind": "dark", "key": "6", "shape": [4, 4], "origin": "own", "noise_adu": 1.234},
        {"kind": "flat", "key": "lp600", "shape": [4, 4], "origin": "own", "noise_percent": 0.123},
        {"kind": "flat", "key": "Sz", "shape": [4, 4], "origin": "copied from 20160920"},
    ]
    app.store.nights.set_fields(NIGHT, {"calib.steps.darks.results.masters": masters})
    page = as_user("ana").get(f"/night/{NIGHT}/summary").text
    for text in ('1.23 <span class="unit">ADU', '0.12 <span class="unit">%', "not measured"):
        assert text in page


def test_a_night_says_of_what_it_made_no_master_itself(app, archive, as_user) -> None:
    """Its step is done all the same, with a copy of another night's."""
    name = f"dark_6_{NIGHT}_010000.000000.fits"
    reason = f"0 good files, 1 bad (the last: {name}: expected frames, found none)"
    results = {"short": [{"key": "6", "reason": reason}], "excluded": [{"file": name, "reason": "expected frames"}]}
    app.store.nights.set_fields(NIGHT, {"calib.steps.darks": {"state": "done", "results": results}})
    page = as_user("ana").get(f"/night/{NIGHT}/summary").text.replace("<wbr>", "")
    assert f"No master dark of this night's own for 6: {reason}" in page
    said = _steps_in_words(NIGHT, app.store)
    assert f"calib:darks:6\tno own master\t{reason}\n" in said
    assert f"raw files:{name}\tnot used\texpected frames\n" in said


@given(st.text("ab_./- <&", max_size=60))
def test_long_words_may_be_broken_behind_marks_alone(text: str) -> None:
    shown = str(template_filters.breakable(text))
    assert shown.replace("<wbr>", "") == escape(text)
    assert all(part[-1] in "_./-" for part in shown.split("<wbr>")[:-1])
    assert all(re.search(r"\S{16}", word) for word in shown.split() if "<wbr>" in word)


def test_names_of_files_are_broken_between_their_parts(app, archive, as_user) -> None:
    name = f"{archive.failed}.fits.bz2"
    broken = name.replace("_", "_<wbr>").replace(".", ".<wbr>")
    assert str(template_filters.breakable(f"{name}: S/N 4.1")) == f"{broken}: S/N 4.1"
    step = "pipelined.bright_star.steps.reduce"
    app.store.observations.set_fields(archive.failed, {f"{step}.message": f"{name}: cut", f"{step}.state": "rejected"})
    for address in (f"/night/{NIGHT}", f"/night/{NIGHT}/summary", f"/observation/{archive.failed}", "/jobs"):
        assert f"{broken}: cut" in as_user("ana").get(address).text, address


def test_plots_are_told_from_pictures(archive, as_user) -> None:
    """Those on white paper are turned over on dark pages, pictures of stars are not."""
    page = as_user("ana").get(f"/observation/{archive.own}").text
    pictures = re.findall(r'<a class="picture picture-(\w+)"[^>]*><img ([^>]*)', page)
    assert {kind for kind, image in pictures if 'class="drawn"' in image} == {"quality"}
    assert {kind for kind, _ in pictures} == {"cropped", "full", "quality"}


def test_the_audit_log_says_what_its_number_means(app, as_user) -> None:
    app.store.audit.collection.delete_many({})
    admin = as_user("admin")
    assert "the latest entry" in admin.get("/users").text
    admin.get("/observation/none")
    assert "the latest 2 entries" in admin.get("/users").text


def test_the_library_tells_who_decided_on_a_star_and_why(app, archive, as_user) -> None:
    star = {"observation": archive.own, "filter": "lp600", "file": "", "added": "2016-09-26T01:02:03Z"}
    listed = [
        {**star, "state": "removed", "added_by": "administrator"},
        {**star, "state": "in library", "added_by": "auto", "reason": "a companion of 3 mag"},
    ]
    app.store.nights.set_fields(NIGHT, {"psf_lib": listed})
    page = as_user("admin").get("/psflib").text
    for words in ("removed by an administrator, 2016-09-26", "added automatically, 2016-09-26", "a companion of 3 mag"):
        assert f'<span class="why">{words}</span>' in page


def test_files_that_are_not_understood_are_shown_with_their_reason(app, archive, as_user) -> None:
    reason = "DATE-OBS is 'yesterday', expected a date such as 2026-03-14T21:30:00"
    found = [{"name": f"4_secret_{number}.fits", "folder": "/raw", "reason": reason} for number in (1, 2)]
    app.store.nights.set_fields(NIGHT, {"raw_data.problems": [*found, {"name": 3}], "raw_data.problems_count": 2})
    for address in (f"/night/{NIGHT}/summary", "/jobs/now"):
        page = as_user("admin").get(address).text.replace("<wbr>", "")
        assert "4_secret_1.fits, 4_secret_2.fits" in page
        assert str(escape(reason)) in page
        page = as_user("ana").get(address).text.replace("<wbr>", "")
        assert str(escape(reason)) in page
        assert "secret" not in page, "names of files tell what others observe"
    assert "1 file of the raw folder ignored: of no known kind" in as_user("ana").get(f"/night/{NIGHT}/summary").text
    app.store.nights.set_fields(NIGHT, {"raw_data.problems": [], "raw_data.problems_count": 0})
    assert "not understood" not in as_user("admin").get("/jobs/now").text


def test_a_step_shows_settings_and_log_of_its_manifest(app, archive, as_user) -> None:
    ana = as_user("ana")
    address = f"/observation/{archive.own}/step/bright_star/reduce"
    assert "guide star found" in ana.get(address).text
    (app.layout.observation(NIGHT, archive.own) / "bright_star" / ".reduce.json").write_text("{broken")
    assert "No manifest" in ana.get(address).text
    assert ana.get(address.replace("reduce", "nothing")).status_code == 404


@pytest.mark.parametrize(
    ("telemetry", "word"),
    [
        (None, "not running"),
        ({}, "not running"),
        ({"updated": "yesterday"}, "not running"),
    ],
)
def test_a_daemon_that_tells_nothing_does_not_run(telemetry, word) -> None:
    assert daemon_state(telemetry) == word


@pytest.mark.parametrize(("age_s", "word"), [(61, "not running"), (0, "napping"), (-600, "napping")])
def test_the_daemon_is_believed_for_a_minute(age_s, word) -> None:
    assert daemon_state({"updated": utc_now() - timedelta(seconds=age_s), "state": "napping"}) == word


def test_the_jobs_page_bears_half_a_job(app, archive, as_user) -> None:
    app.store.jobs.collection.insert_one({"_id": "odd", "state": "enqueued", "queued": utc_now()})
    app.store.jobs.collection.insert_one({"_id": "odd2", "state": "failed", "subject": archive.own})
    app.store.jobs.report({"updated": utc_now(), "workers": 2, "queue": None, "disks": [{}]})
    assert as_user("admin").get("/jobs").status_code == 200


def test_numbers_are_written_as_astronomers_read_them() -> None:
    assert template_filters.right_ascension(155.127083) == "10:20:30.50"
    assert template_filters.right_ascension(359.99999999) == "00:00:00.00"
    assert template_filters.declination(-0.0042) == "−00:00:15.1"
    assert template_filters.number(-1.005, 1) == "−1.0"
    assert template_filters.number(True) == template_filters.number(float("nan")) == template_filters.number("x") == "–"
    assert template_filters.size(1536) == "1.5 kB"
    assert template_filters.duration(3725) == "1 h 2 min"
    assert template_filters.utc(datetime(2016, 9, 25, 3, tzinfo=UTC)) == "2016-09-25 03:00:00"


@given(st.floats(-90, 90))
def test_a_declination_reads_back(degrees: float) -> None:
    """To half a unit of the last digit, 0.05 arcsec."""
    text = template_filters.declination(degrees)
    hours, minutes, seconds = text[1:].split(":")
    value = int(hours) + int(minutes) / 60 + float(seconds) / 3600
    assert abs((-value if text[0] == "−" else value) - degrees) * 3600 < 0.0501
    assert int(minutes) < 60
    assert float(seconds) < 60


@given(st.dictionaries(st.sampled_from(["q", "sort", "order", "x"]), st.text(max_size=200)))
def test_any_address_is_a_selection_that_reproduces_itself(arguments: dict[str, str]) -> None:
    selection = Selection.of(arguments)
    assert Selection.of(selection.parameters) == selection


def test_pictures_of_any_name_are_shown_with_their_file_names(archive, as_user) -> None:
    products = [{"name": f"{archive.own}_{end}.png"} for end in ("sky", "cropped", "thumb")]
    archive.toy.step(archive.own, "background", "measure", state="done", products=products)
    page = as_user("ana").get(f"/observation/{archive.own}").text
    assert f"<figcaption>{archive.own}_sky.png</figcaption>" in page
    assert not any(f"{end}.png</figcaption>" in page for end in ("cropped", "thumb", "full", "quality"))
