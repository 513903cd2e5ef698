"""The page of the night: gaps, problems, requests that wait, days that the disks last."""

import json
import re
from datetime import timedelta

import pytest
from toy_archive import NIGHT

from obsarchive.core.documents import utc_now
from obsarchive.web.models.disk_space import disk_space


def course(page: str) -> dict:
    """Return what the plot of the night is drawn from."""
    return json.loads(page.split('id="night-facts">')[1].split("</script>")[0])


def test_a_gap_of_the_night_is_shown(app, archive, as_user) -> None:
    archive.toy.observation("3", "late", 60)
    admin = as_user("admin")
    page = admin.get("/tonight").text
    (gap,) = course(page)["gaps"]
    # the last one before began at 03:08 and took 90 s
    assert gap["text"] == "03:09 to 04:00: no exposure for 50 min"
    assert "50 min</li>" in page
    archive.toy.seeing(NIGHT, 3)  # 03:00, 03:20, 03:40
    texts = [gap["text"] for gap in course(admin.get("/tonight").text)["gaps"]]
    assert texts == [
        "03:09 to 03:20: no exposure for 10 min",
        "03:20 to 03:40: no exposure for 20 min",
        "03:40 to 04:00: no exposure for 20 min",
    ]
    ana = as_user("ana").get("/tonight").text
    assert course(ana)["gaps"] == [], "a user does not see what fills the pauses"
    assert course(ana)["programs"] == ["3"]
    assert "351_Yrsa" not in ana


def test_programmes_are_lanes_in_the_order_of_their_numbers(archive, as_user) -> None:
    for minute, program in enumerate(("24", "4.1", "11", "commissioning")):
        archive.toy.observation(program, "star", minute)
    admin = as_user("admin")
    wanted = ["3", "4.1", "11", "24", "commissioning"]
    assert [one for one in course(admin.get("/tonight").text)["programs"] if one in wanted] == wanted
    listed = re.findall(r'href="/programme/([^"]+)"', admin.get("/programmes").text)
    assert [one for one in listed if one in wanted] == wanted
    options = admin.get("/search").text.split('name="program"')[1].split("</select>")[0]
    assert [one for one in re.findall(r"<option[^>]*>([^<]+)", options) if one in wanted] == wanted


def test_the_night_knows_when_it_was_dark(app, archive, as_user) -> None:
    telescope = {"primary_m": 2.1, "plate_scale_arcsec": 0.03, "detector_px": [256, 256]}
    admin = as_user("admin")
    assert course(admin.get("/tonight").text)["dark"] is None
    config = app.settings.model_dump(by_alias=True)
    config["telescope"] = {"KPNO_2.1m": {**telescope, "latitude_deg": 31.96, "longitude_deg": -111.6}}
    app.settings = type(app.settings).model_validate(config)
    found = course(admin.get("/tonight").text)
    assert found["night"][0] < found["dark"][0] < found["exposures"][-1]["stop"] < found["dark"][1] < found["night"][1]
    assert found["window"] == found["night"]
    (evening, morning) = course(admin.get("/tonight").text)["gaps"]
    assert evening["stop"] == found["exposures"][0]["start"] or morning["start"] == found["exposures"][-1]["stop"]


def test_a_night_without_new_files_says_so(app, archive, as_user) -> None:
    admin = as_user("admin")
    over = admin.get("/tonight").text
    assert "No file" not in over, "that night is long over"
    assert "<h1>Last night with data, " in over
    assert "<title>Last night with data, " in over
    assert re.search(r"Last exposure ended</dt><dd>\d\d:\d\d ", over), "too long ago to count minutes"
    then = utc_now() - timedelta(minutes=47, seconds=90)
    night = f"{then:%Y%m%d}"
    archive.toy.observation("3", "last", 0, night=night, date_utc=then)
    running = admin.get("/tonight").text
    assert "No file for 47 min" in running
    assert "<h1>Tonight " in running
    assert "<title>Tonight " in running
    before = admin.get(f"/tonight?night={NIGHT}").text
    assert "<h1>Night 2" in before
    assert "<title>Night 2" in before
    assert "No file of yours for 47 min" in as_user("ana").get("/tonight").text
    assert "No file" not in as_user("ben").get("/tonight").text, "not of his"


def test_problems_and_requests_of_the_night(app, archive, as_user) -> None:
    admin = as_user("admin")
    admin.post(f"/observation/{archive.own}/redo/bright_star/strehl")
    page = admin.get(f"/tonight?night={NIGHT}").text
    assert "no star brighter than 5 sigma" in page
    assert "redo bright star · strehl" in page
    assert "redo bright star" not in as_user("ana").get("/tonight").text, "others' requests are theirs"
    assert admin.get("/tonight?night=2016").status_code == 404
    assert "HD_140283" not in as_user("pia").get("/tonight").text


def test_disks_last_as_long_as_their_pace_allows(app, archive, as_user) -> None:
    now = utc_now()
    samples = [{"when": now - timedelta(hours=24 - i), "free_gb": {"/disk7": 124.0 - i}} for i in range(25)]
    disks = [
        {"path": "/disk7", "free_gb": 100.0, "total_gb": 1000.0},
        {"path": "/disk7/b", "free_gb": 100.0, "total_gb": 1000.0},
    ]
    (disk,) = disk_space(disks, samples)
    assert disk.days_left == pytest.approx(100 / 24)
    (new,) = disk_space(disks, samples[:10])
    assert (new.days_left, new.why_no_days) == (None, "known after half a day")
    flat = [{**sample, "free_gb": {"/disk7": 100.0}} for sample in samples]
    (unused,) = disk_space(disks, flat)
    assert (unused.days_left, unused.why_no_days) == (None, "nothing was added in a week")
    app.store.jobs.report({"updated": now, "disks": disks})
    app.store.jobs.telemetry.update_one(
        {"_id": "space"},
        {"$set": {"samples": [{**s, "free_gb": [*s["free_gb"].items()]} for s in samples]}},
        upsert=True,
    )
    page = as_user("admin").get("/tonight").text
    assert "Disk, days left</dt><dd>4 " in page
    assert "/disk7" not in as_user("ana").get("/tonight").text


def test_the_daemon_records_the_space_once_an_hour(app, tmp_path) -> None:
    from obsarchive.daemon.status_report import StatusReport

    report = StatusReport(app.settings, app.store.jobs, "r1")
    for _ in range(3):
        report.report("idle", [], {})
    (sample,) = app.store.jobs.space()
    assert all(free > 0 for free in sample["free_gb"].values())
    assert app.store.jobs.daemon()["state"] == "idle"


def test_a_watch_is_set_on_the_page_of_the_account(app, archive, as_user) -> None:
    ana, ben = as_user("ana"), as_user("ben")
    fields = {"kind": "target", "value": "HD 140283", "to": "ana@example.org"}
    assert "has allowed no address" in ana.get("/account").text
    assert ana.post("/account/watches", **fields).status_code == 400
    alerts = app.settings.alerts.model_copy(update={"watch_domains": ("example.org",)})
    app.settings = app.settings.model_copy(update={"alerts": alerts})
    assert ana.post("/account/watches", **fields).status_code == 302
    page = ana.get("/account").text
    assert "new data of a target: HD 140283" in page
    assert "ana@example.org" in page
    assert "HD 140283" not in ben.get("/account").text
    (watch,) = app.store.watches.of_user("ana")
    assert ben.post("/account/watches/remove", watch=watch["_id"]).status_code == 302
    assert app.store.watches.any(), "not his"
    assert ana.post("/account/watches/remove", watch=watch["_id"]).status_code == 302
    assert not app.store.watches.any()
    ana.post("/account/watches", **fields)
    as_user("admin").post("/users/remove", name="ana")
    assert not app.store.watches.any(), "watches end with their user"
    ana = as_user("ben")
    assert "No message may be sent to evil.org" in ana.post("/account/watches", **{**fields, "to": "a@evil.org"}).text


@pytest.mark.parametrize(
    ("step", "lacks", "word"), [("reduce", "calibration", "waits"), ("pca", "references", "reduced")]
)
def test_only_what_lacks_calibration_waits_in_the_plot(archive, as_user, step: str, lacks: str, word: str) -> None:
    name = archive.toy.observation("3", "late", 60, date_added=utc_now() - timedelta(minutes=90))
    if lacks == "references":
        archive.toy.reduced(name)
    archive.toy.step(name, "bright_star", step, state="lacking", lacks=lacks, finished=utc_now())
    (lag,) = [each for each in course(as_user("admin").get("/tonight").text)["lags"] if each["id"] == name]
    assert (lag["open"], word in lag["text"]) == (lacks == "calibration", True)
