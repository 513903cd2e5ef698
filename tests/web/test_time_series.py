"""Datasets and light curves in the portal."""

import csv
import io

from obsarchive.daemon.requests import Requests
from obsarchive.pipeline.chain import decision_chain


def test_a_dataset_shows_what_is_known(archive, as_user) -> None:
    page = as_user("ana").get(f"/dataset/{archive.datasets[0]}").text
    assert "OGLE-2024-BLG-0034" in page
    assert "no plate solution" in page
    assert "23.700" in page
    assert 'data-plot="lightcurve"' in page
    assert "photometry.h5" in page
    assert "INFO done" in page
    assert ">Redo<" not in page


def test_people_see_their_own_only(archive, as_user) -> None:
    ana, admin = as_user("ana"), as_user("admin")
    listed = ana.get("/datasets").text
    assert "OGLE-2024-BLG-0034" in listed
    assert 'Zero point <span class="unit">[mag]</span>' in listed
    assert "MOA-2024-BLG-0007" not in listed
    assert "MOA-2024-BLG-0007" in admin.get("/datasets/now").text
    for address in (f"/dataset/{archive.datasets[1]}", f"/dataset/{archive.datasets[1]}/file/photometry.h5"):
        assert ana.get(address).status_code == 404
        assert admin.get(address).status_code == 200
    shown = ana.get("/lightcurves?target=MOA-2024-BLG-0007").text.split("<main")[1].split("</main>")[0]
    assert "MOA-2024" not in shown.replace('value="MOA', "")
    assert "there is no dataset of this target that you may see" in shown


def test_only_products_are_sent(archive, as_user) -> None:
    ana, own = as_user("ana"), archive.datasets[0]
    for name in ("photometry.h5", "rms.png", "OGLE-2024-BLG-0034_ip_lc.csv", "frames.ecsv"):
        answer = ana.get(f"/dataset/{own}/file/{name}")
        assert answer.status_code == 200, name
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        answer.close()
    for name in (
        "reduction.json",
        "aperture_pipeline.log",
        "..%2F..%2Fsecret",
        "residuals.png",
        "reduction_config.yaml",
    ):
        assert ana.get(f"/dataset/{own}/file/{name}").status_code == 404, name


def test_any_star_and_place_has_a_light_curve(archive, as_user) -> None:
    ana, target = as_user("ana"), "OGLE-2024-BLG-0034"
    assert "star 1" in ana.get(f"/lightcurves?target={target}&star=1").text
    assert "star 2" in ana.get(f"/lightcurves?target={target}&ra=268.502&dec=-29.5").text
    assert "the target" in ana.get(f"/lightcurves?target={target}&ra=17:54:00&dec=-29:30:00").text
    assert "no star of a reduced dataset" in ana.get(f"/lightcurves?target={target}&ra=10&dec=0").text
    assert "is no number of a star" in ana.get(f"/lightcurves?target={target}&star=x").text
    assert "a position needs" in ana.get(f"/lightcurves?target={target}&ra=x&dec=1").text


def test_points_are_exported(archive, as_user) -> None:
    ana = as_user("ana")
    text = ana.get("/lightcurves/export/csv?target=OGLE-2024-BLG-0034&star=1").text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 12
    assert rows[0]["star_id"] == "1"
    assert float(rows[0]["time_bjd_tdb"]) == 2460500.0
    points = ana.get("/lightcurves/export/json?target=OGLE-2024-BLG-0034").json["points"]
    assert len(points) == 12
    assert points[3]["frame"] == "frame-03.fits"
    assert ana.get("/lightcurves/export/json?target=MOA-2024-BLG-0007").json["points"] == []


def test_the_interface_for_programs(archive, as_user) -> None:
    ana, own = as_user("ana"), archive.datasets[0]
    assert [found["key"] for found in ana.get("/api/v1/datasets").json["datasets"]] == [own]
    found = ana.get(f"/api/v1/datasets/{own}").json
    assert found["n_stars"] == 3
    assert "folder" not in found
    assert len(ana.get(f"/api/v1/datasets/{own}/lightcurve?star=2").json["points"]) == 12
    assert ana.get(f"/api/v1/datasets/{own}/lightcurve?star=99").status_code == 404
    assert ana.get(f"/api/v1/datasets/{archive.datasets[1]}").status_code == 404


def test_an_administrator_has_it_done_again(app, archive, as_user) -> None:
    key = archive.datasets[0]
    as_user("admin").post(f"/dataset/{key}/redo")
    assert not app.store.datasets.find(key).get("force_redo"), "the portal itself changes nothing"
    Requests(app.store, archive.toy.layout, decision_chain(app.settings)).apply()
    assert app.store.datasets.find(key)["force_redo"] is True
    assert [found["_id"] for found in app.store.datasets.due()] == [key]


def test_a_dataset_that_was_not_reduced_is_shown_all_the_same(app, archive, as_user, tmp_path) -> None:
    folder = tmp_path / "datasets" / "new" / "qhy" / "w"
    app.store.datasets.set_due(folder, "3")
    key = app.store.datasets.key(folder)
    page = as_user("ana").get(f"/dataset/{key}")
    assert page.status_code == 200
    assert "was not reduced yet" in page.text
    app.store.datasets.note(folder, {"state": "failed", "reason": "<script>alert(1)</script>"})
    assert "<script>alert" not in as_user("ana").get("/datasets").text


def test_administrators_see_what_went_wrong_with_the_archives(app, archive, as_user) -> None:
    app.store.frames.note_run("3 fetched; 1 problem(s)", ["LCO refuses the token (LCO_TOKEN): 401"])
    assert "LCO refuses the token" in as_user("admin").get("/datasets").text
    assert "LCO refuses the token" not in as_user("ana").get("/datasets").text
    assert "The archives were queried" in as_user("ana").get("/datasets").text
