"""The page of the jobs shows the present by its causes; what attempts once ended with is history, apart from it."""

import re
from datetime import timedelta

from toy_archive import EARLIER, NIGHT

from obsarchive.core.documents import utc_now
from obsarchive.core.processes import start_of, this_process
from obsarchive.daemon.requests import Requests
from obsarchive.io.start_record import noted_start

NO_REFERENCES = "no references: the PSF library holds no other star in Si"
NO_SEEING = "no seeing files in the night: the seeing is not known"
NONE_MISSING = "failed, was rejected, or ended for want of something"


def present(page: str) -> str:
    """Return what the page says of the present."""
    return page.split('id="history"')[0]


def test_a_step_that_failed_and_then_succeeded_is_history(app, archive, as_user) -> None:
    archive.toy.job(archive.own, "failed", message="OSError: the disk was away", finished=utc_now())
    archive.toy.job(archive.own, "done", finished=utc_now())
    page = as_user("admin").get("/jobs/now").text
    assert "the disk was away" in page
    assert "the disk was away" not in present(page)
    assert archive.own not in present(page)


def test_equal_failures_are_one_row_with_one_redo(app, archive, as_user) -> None:
    toy = archive.toy
    names = [toy.observation("3", f"star{number}", 20 + number) for number in range(12)]
    for number, name in enumerate(names):
        message = f"OSError: /raw/{name}.fits.bz2: ends after {number} of 770 frames"
        toy.step(name, "bright_star", "strehl", state="failed", message=message, finished=utc_now())
    admin = as_user("admin")
    page = present(admin.get("/jobs/now").text)
    assert page.count("12 ×") == 1
    assert "12 observations" in page
    assert page.count("Redo all") == 1
    assert "See that the disk is mounted" in page, "what to do about it"
    fields = {"state": "failed", "pipeline": "bright_star", "step": "strehl", "cause": "OSError"}
    answer = admin.post("/jobs/redo", "/jobs", **fields)
    assert answer.location == "/jobs"
    assert "A redo of 12 steps was requested" in admin.get("/jobs").text
    asked = [entry["what"] for entry in app.store.requests.waiting()]
    assert sorted(what["subject"] for what in asked) == sorted(names)
    assert {(what["pipeline"], what["step"]) for what in asked} == {("bright_star", "strehl")}
    assert [entry["count"] for entry in app.store.audit.recent() if entry["action"] == "redo all"] == ["12"]
    Requests(app.store, app.layout, app.chain).apply()
    assert not any(entry.get("problem") for entry in app.store.requests.about("redo"))
    assert admin.post("/jobs/redo", "/jobs", **{**fields, "cause": "another"}).location == "/jobs"
    assert app.store.requests.waiting() == []
    assert as_user("ana").post("/jobs/redo", **fields).status_code == 404


def test_reasons_that_begin_with_the_name_of_a_file_are_told_apart(app, archive, as_user) -> None:
    reasons = ("expected a whole compressed stream, found: end", "expected FITS, found text", "holds no image: 0 HDUs")
    for number, reason in enumerate((*reasons, reasons[0])):
        name = archive.toy.observation("3", f"star{number}", 20 + number)
        archive.toy.step(name, "bright_star", "reduce", state="rejected", message=f"{name}.fits.bz2: {reason}")
    page = present(as_user("admin").get("/jobs/now").text)
    for reason in reasons[1:]:
        assert reason in page
    assert "… expected a whole compressed stream, found: end" in page
    assert page.count("2 ×") == 1


def test_the_numbers_are_those_of_the_night(app, archive, as_user) -> None:
    archive.toy.step(archive.own, "bright_star", "strehl", state="lacking", lacks="references", message=NO_REFERENCES)
    ana = as_user("ana")
    summary, jobs = ana.get(f"/night/{NIGHT}/summary").text, present(ana.get("/jobs/now").text)
    for text in (NO_REFERENCES, "no star brighter than 5 sigma"):
        assert text in summary
        assert text in jobs
    assert '<span class="flag" title="steps that failed or were rejected">2 problems</span>' in summary
    assert "<dt>Problems</dt><dd>2</dd>" in jobs, "what only waits is no problem"
    assert jobs.count("<li>") == 3


def test_old_rejections_are_no_news(app, archive, as_user) -> None:
    long_ago = utc_now() - timedelta(days=40)
    for name, state in ((archive.failed, "rejected"), (archive.hostile, "failed")):
        archive.toy.step(name, "bright_star", "reduce", state=state, message=f"{state} once", finished=long_ago)
    page = present(as_user("admin").get("/jobs/now").text)
    assert "rejected once" not in page
    assert "failed once" in page, "what failed stays until somebody mends it"


def test_problems_of_others_do_not_exist(app, archive, as_user) -> None:
    for name in (archive.own, archive.foreign):
        archive.toy.step(name, "bright_star", "strehl", state="failed", message="RuntimeError: broken")
    app.store.nights.touch("20160920")
    app.store.nights.set_fields("20160920", {"calib.steps.darks": {"state": "failed", "message": "no dark"}})
    page = as_user("ben").get("/jobs/now").text
    assert "351_Yrsa" in page
    assert "HD_140283" not in page
    assert "no dark" not in page, "ben has nothing on this night"
    assert "12 ×" not in page
    assert "no dark" in as_user("admin").get("/jobs/now").text
    (failed,) = as_user("ben").get("/api/v1/jobs").json["failed"]
    assert (failed["subject"], failed["state"], failed["step"]) == (archive.foreign, "failed", "strehl")


def test_a_dead_daemon_leaves_no_figures(app, archive, as_user) -> None:
    figures = {"workers": [{}, {}], "cpu_percent": 97.0, "memory_mb": 284, "queue": 7, "state": "working"}
    app.store.jobs.report({"updated": utc_now(), **figures})
    admin = as_user("admin")
    page = admin.get("/jobs/now").text
    assert ">97 <" in page
    assert "Waiting to be queued" in page
    assert "data-alarm hidden" in admin.get("/search").text
    for last, state in ((utc_now() - timedelta(seconds=61), "working"), (utc_now(), "stopped")):
        app.store.jobs.report({"updated": last, **figures, "state": state})
        page = admin.get("/jobs/now").text
        assert ">97 <" not in page
        assert "Workers" not in page
        assert "last sign of life" in page
        for address in ("/jobs", "/search", f"/night/{NIGHT}", "/account", "/psflib"):
            assert "data-alarm >The daemon does not run" in admin.get(address).text


def test_a_daemon_that_starts_is_not_called_down(app, archive, as_user) -> None:
    admin, note = as_user("admin"), app.layout.start_record
    began = f"{start_of(this_process()):%H:%M:%S}"
    for before in ({}, {"updated": utc_now() - timedelta(seconds=5), "state": "stopped"}):
        if before:
            app.store.jobs.report(before)
        assert "data-starting hidden" in admin.get("/search").text
        with noted_start(note):
            page = admin.get("/search").text
            assert "data-alarm hidden" in page
            assert f"data-starting >The daemon is starting, since <span data-since>{began}</span> UTC" in page
            assert f"since {began} UTC" in admin.get("/jobs/now").text
            found = admin.get("/pulse").json
            assert (found["daemon"], found["started"]) == ("starting", began)
            assert found["silent_s"] < found["limit_s"]
            app.store.jobs.report({"updated": utc_now(), "state": "stopped"})
            assert admin.get("/pulse").json["daemon"] == "stopped", "it has started since, and ended"
            assert "data-alarm >" in admin.get("/search").text


def test_an_open_page_does_not_keep_a_session_alive(app, archive, as_user) -> None:
    ana = as_user("ana")
    then = utc_now() - timedelta(hours=1)
    app.store.sessions.collection.update_many({}, {"$set": {"last_seen": then}})
    found = ana.get("/pulse").json
    assert (found["daemon"], found["silent_s"], found["limit_s"]) == ("not running", None, 60)
    assert [entry["last_seen"] for entry in app.store.sessions.collection.find()] == [then]
    ana.get("/account")
    assert [entry["last_seen"] for entry in app.store.sessions.collection.find()] != [then]


def test_nothing_is_wrong_with_files_that_are_gone(app, archive, as_user) -> None:
    """A damaged file was rejected and then removed: its observation says so, and asks nobody for anything."""
    ana, reason = as_user("ana"), "no star brighter than 5 sigma"
    pages = ("/jobs/now", f"/night/{NIGHT}", f"/night/{NIGHT}/summary", f"/observation/{archive.failed}")
    for page in pages:
        assert reason in ana.get(page).text, page
    for name in (archive.failed, archive.own):
        app.store.observations.set_fields(name, {"raw_data.missing": True})
    for page in pages[:3]:
        assert reason not in ana.get(page).text, page
    assert ana.get(f"/night/{NIGHT}").text.count(">raw files gone<") == 2, "as picture and as state of its card"
    page = ana.get(f"/observation/{archive.failed}").text
    assert "No picture: raw files gone." in page
    assert "The raw files are gone from disk, and nothing was made of them." in page
    page = ana.get(f"/observation/{archive.own}").text
    assert "The raw files are gone from disk; the products stay." in page
    assert "raw files gone" not in page
    app.store.observations.set_fields(archive.failed, {"raw_data.missing": False})
    assert reason in ana.get("/jobs/now").text, "as before, when they are back"


def test_steps_of_the_night_itself_are_problems_of_the_night(app, archive, as_user) -> None:
    ana = as_user("ana")
    app.store.nights.touch(EARLIER)
    summary, tonight = f"/night/{EARLIER}/summary", f"/tonight?night={EARLIER}"
    for page in (summary, tonight):
        assert f"No step of your data {NONE_MISSING}." in ana.get(page).text, page
        assert f"No step {NONE_MISSING}." in as_user("admin").get(page).text, page
    for state, lacks in (("rejected", ""), ("failed", ""), ("lacking", "frames")):
        step = {"state": state, "lacks": lacks, "message": NO_SEEING, "finished": utc_now()}
        app.store.nights.set_fields(EARLIER, {"seeing.steps.measure": step})
        trouble = state != "lacking"
        for page in (summary, tonight):
            text = ana.get(page).text
            assert NONE_MISSING not in text, (page, state)
            cause = re.search(r'(?s)class="long">([^<]*)</td>|class="cause">([^<]*)<', text)
            assert cause is not None, (page, state)
            assert NO_SEEING in cause[0], (page, state)
            assert f'href="/observation/{EARLIER}' not in text
        assert f"<dt>Problems</dt><dd>{int(trouble)}</dd>" in ana.get(tonight).text
        for page in (f"/night/{EARLIER}", summary, f"/night/{EARLIER}/downloads"):
            counted = 'title="steps that failed or were rejected">1 problem<' in ana.get(page).text
            assert counted == trouble, (page, state)
    assert as_user("ben").get(summary).status_code == 404, "nothing of his on this night"


def test_what_does_not_count_is_told(app, archive, as_user) -> None:
    ana, gone = as_user("ana"), "the raw files are gone, and nothing was made of them"
    archive.toy.step(archive.earlier, "bright_star", "reduce", state="rejected", message="no star", finished=utc_now())
    for page in (f"/night/{EARLIER}/summary", f"/tonight?night={EARLIER}"):
        app.store.nights.touch(EARLIER)
        app.store.observations.set_fields(archive.earlier, {"raw_data.missing": False})
        assert NONE_MISSING not in ana.get(page).text
        app.store.observations.set_fields(archive.earlier, {"raw_data.missing": True})
        assert f"{NONE_MISSING}. 1 observation does not count: {gone}." in ana.get(page).text
    for name in (archive.failed, archive.hostile):
        long_ago = utc_now() - timedelta(days=40)
        archive.toy.step(name, "bright_star", "reduce", state="rejected", message="no star", finished=long_ago)
    page = present(ana.get("/jobs/now").text)
    assert f"No step of your data {NONE_MISSING} in the last 30 days; observations do not count if {gone}." in page
