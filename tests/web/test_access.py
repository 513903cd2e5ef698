"""Who sees what: files, nights, named owners; what administrators do."""

import re
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from toy_archive import EARLIER, NIGHT

from obsarchive.daemon.requests import Requests
from obsarchive.store.visibility import visible_to

OBJECTS = (
    "/observation/{id}",
    "/observation/{id}/tarball",
    "/observation/{id}/step/bright_star/reduce",
    "/observation/{id}/product/bright_star/100p.fits",
    "/observation/{id}/product/bright_star/preview/{id}_thumb.png",
)


@pytest.mark.parametrize("pattern", OBJECTS)
def test_each_programme_sees_its_own(archive, as_user, pattern) -> None:
    own, foreign = pattern.format(id=archive.own), pattern.format(id=archive.foreign)
    ana, ben, admin = as_user("ana"), as_user("ben"), as_user("admin")
    assert [user.get(own).status_code for user in (ana, ben, admin)] == [200, 404, 200]
    assert [user.get(foreign).status_code for user in (ana, ben, admin)] == [404, 200, 200]
    unknown = pattern.format(id=archive.own.replace("HD", "HR"))
    pages = [re.sub(r'value="[^"]{60,}"', "", ana.get(address).text) for address in (unknown, foreign)]  # its own token
    assert pages[0] == pages[1], "a foreign observation looks like none"


def test_a_pi_sees_what_names_him(archive, as_user) -> None:
    pia = as_user("pia")
    assert pia.get(f"/observation/{archive.named}").status_code == 200
    assert pia.get(f"/observation/{archive.own}").status_code == 404
    assert archive.named in pia.get(f"/night/{NIGHT}").text


def test_a_page_of_a_night_holds_nothing_of_others(archive, as_user) -> None:
    page = as_user("ana").get(f"/night/{NIGHT}").text
    assert archive.own in page
    assert archive.foreign not in page
    assert "351_Yrsa" not in page


def test_products_of_a_night_are_for_those_with_data_in_it(app, archive, as_user) -> None:
    dark = f"/night/{NIGHT}/product/calib/preview/dark_6.png"
    app.store.users.save("eve", {"password": app.store.users.find("ana")["password"], "programs": ["9"]})
    assert [as_user(name).get(dark).status_code for name in ("ana", "ben", "eve", "admin")] == [200, 200, 404, 200]


def test_a_picture_of_the_psf_library_follows_its_observation(archive, as_user) -> None:
    address = f"/night/{NIGHT}/product/psflib/psflib/{archive.foreign}.png"
    assert [as_user(name).get(address).status_code for name in ("ana", "ben", "admin")] == [404, 200, 200]


def test_home_is_the_last_night_that_one_may_see(archive, as_user, app) -> None:
    assert as_user("ana").get("/").location == f"/night/{NIGHT}"
    app.store.observations.collection.delete_many({"night": NIGHT})
    assert as_user("ana").get("/").location == f"/night/{EARLIER}"
    assert "No observations yet" in as_user("ben").get("/").text


@pytest.mark.parametrize("programs", [None, [], "4", {"$ne": "3"}, [{"$ne": 1}]])
def test_strange_programmes_show_nothing(app, archive, programs) -> None:
    query = visible_to({"_id": "x", "programs": programs})
    assert app.store.observations.collection.count_documents(query) == 0


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "100p.fits%00.png",
        ".reduce.json",
        "",
        ".",
        "preview",
    ],
)
def test_only_known_products_are_sent(app, archive, as_user, name) -> None:
    (app.layout.root / "secret.txt").write_text("secret")
    assert as_user("ana").get(f"/observation/{archive.own}/product/bright_star/{name}").status_code == 404


@pytest.mark.parametrize("name", ["../../../secret.txt", "/etc/passwd", "link.txt", "folder"])
def test_a_product_record_cannot_lead_out_of_its_folder(app, archive, as_user, name) -> None:
    """Even a database or a tree that was tampered with gives nothing else away."""
    (app.layout.root / "secret.txt").write_text("secret")
    folder = app.layout.observation(NIGHT, archive.own) / "bright_star"
    (folder / "link.txt").symlink_to(app.layout.root / "secret.txt")
    (folder / "folder").mkdir()
    archive.toy.step(archive.own, "bright_star", "reduce", state="done", products=[{"name": name}])
    answer = as_user("ana").get(f"/observation/{archive.own}/product/bright_star/{quote(name, safe='')}")
    assert answer.status_code == 404
    app.store.observations.set_fields(archive.own, {"night": "../.."})
    assert as_user("ana").get(f"/observation/{archive.own}/product/bright_star/100p.fits").status_code == 404


def test_a_night_may_lie_on_another_disk(app, archive, as_user, tmp_path) -> None:
    (app.layout.night(NIGHT)).rename(tmp_path / "disk2")
    app.layout.night(NIGHT).symlink_to(tmp_path / "disk2")
    assert as_user("ana").get(f"/observation/{archive.own}/product/bright_star/100p.fits").status_code == 200


def test_the_jobs_page_hides_work_for_others(app, archive, as_user) -> None:
    for subject in (archive.own, archive.foreign):
        archive.toy.job(subject, "enqueued", fraction=0.5)
        archive.toy.job(subject, "failed", message=f"{subject} broke")
    app.store.jobs.report({"host": "machine7", "disks": [{"path": "/data/x", "free_gb": 1.0, "total_gb": 2.0}]})
    page = as_user("ana").get("/jobs/now").text
    assert archive.own in page
    assert archive.foreign not in page
    assert "machine7" not in page
    assert "/data/x" not in page
    page = as_user("admin").get("/jobs/now").text
    assert archive.foreign in page
    assert "machine7" in page


def test_a_redo_is_an_administrators_wish(app, archive, as_user) -> None:
    admin = as_user("admin")
    address = f"/observation/{archive.own}/redo/bright_star"
    assert admin.get(address).status_code == 405
    assert admin.client.post(address).status_code == 400
    assert admin.post(address).status_code == 302
    assert "redo requested" in admin.get(f"/observation/{archive.own}").text
    assert admin.post(f"/observation/{archive.own}/redo/no_such.status").status_code == 404
    assert admin.post(f"/observation/{archive.own}x/redo/bright_star").status_code == 404
    assert admin.post(f"/night/{NIGHT}/redo/calib").status_code == 302
    wishes = [asked["what"] for asked in app.store.requests.waiting()]
    assert wishes == [{"subject": archive.own, "pipeline": "bright_star"}, {"subject": NIGHT, "pipeline": "calib"}]
    assert [entry["subject"] for entry in _audit(app, "redo")] == [NIGHT, archive.own]


def test_one_step_can_be_done_again(app, archive, as_user) -> None:
    admin = as_user("admin")
    address = f"/observation/{archive.own}/redo/bright_star"
    assert admin.post(f"{address}/strehl?q=hd").location == f"/observation/{archive.own}?q=hd"
    (asked,) = app.store.requests.waiting()
    assert asked["what"] == {"subject": archive.own, "pipeline": "bright_star", "step": "strehl"}
    assert admin.post(f"{address}/nothing").status_code == 404


def test_files_have_safe_headers_and_downloads_are_noted(app, archive, as_user) -> None:
    ana = as_user("ana")
    fits = ana.get(f"/observation/{archive.own}/product/bright_star/100p.fits")
    assert fits.headers["Content-Disposition"] == "attachment; filename=HD_140283_20160925_030000_bright_star_100p.fits"
    assert fits.mimetype == "application/fits"
    picture = ana.get(f"/observation/{archive.own}/product/bright_star/preview/{archive.own}_thumb.png")
    assert picture.mimetype == "image/png"
    assert picture.headers["Cache-Control"] == "private, no-cache"
    assert "sandbox" in picture.headers["Content-Security-Policy"]
    again = ana.get(picture.request.path, headers={"If-None-Match": picture.headers["ETag"]})
    assert again.status_code == 304
    assert [entry["path"] for entry in _audit(app, "download")] == [fits.request.path]


def _audit(app, action) -> list[dict]:
    return [entry for entry in app.store.audit.recent() if entry["action"] == action]


def grant(app) -> None:
    """Do what the daemon does with requests."""
    Requests(app.store, app.layout, app.chain).apply()


def test_administrators_manage_users(app, archive: SimpleNamespace, as_user, anybody) -> None:
    admin = as_user("admin")
    page = admin.post("/users", name="eve", programs="4, 7")
    token = page.text.split("/welcome#")[1].split('"')[0]
    assert app.store.users.find("eve")["programs"] == ["4", "7"]
    grant(app)
    assert app.store.observations.find(archive.foreign)["science_program"]["program_PI"] == ["ben", "eve"]
    answer = anybody.post("/welcome", "/welcome", token=token, password="a quiet night in june")
    assert answer.status_code == 302
    assert anybody.get(f"/observation/{archive.foreign}").status_code == 200
    assert "<td>active</td>" in admin.get("/users").text
    assert admin.post("/users/programs", name="eve", programs="3").status_code == 302
    assert anybody.get(f"/observation/{archive.foreign}").status_code == 404
    assert admin.post("/users/remove", name="eve").status_code == 302
    assert anybody.get("/account").status_code == 302, "his session ended with him"
    assert admin.post("/users/remove", name="admin").status_code == 400
    assert admin.post("/users/programs", name="admin", programs="3").status_code == 400
    assert admin.post("/users", name="<b>", programs="3").status_code == 400
    assert "password" not in str(app.store.audit.recent())
