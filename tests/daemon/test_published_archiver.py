"""A database written by the published Robo-AO archiver is taken over: people's words and old numbers stay."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from werkzeug.security import generate_password_hash

from obsarchive.core.documents import Observation
from obsarchive.web import create_app
from tests.daemon.conftest import NIGHT, Site, states

from .test_runs import EVERY_STEP_DONE

LONG_AGO = datetime(2016, 9, 26, 4, 5, 6, 789000, tzinfo=UTC)
GONE = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
PASSWORD = "perihelion of 1801"


def block(**steps: Any) -> dict[str, Any]:
    """What the published archiver keeps of a pipeline."""
    status = {"done": True, "enqueued": False, "force_redo": False, "retries": 1}
    preview = {"status": {**status}, "last_modified": LONG_AGO}
    return {
        "status": status,
        "last_modified": LONG_AGO,
        "preview": preview,
        "location": ["140.252.53.120:22220", "/Data1/archive"],
        "classified_as": "high_flux",
        **steps,
    }


def published(name: str, folder: str, file: str) -> dict[str, Any]:
    """A document of ``objects`` as the published archiver wrote it."""
    program, *words, camera, band, marker, day, clock = name.split("_")
    strehl = {
        "status": {"done": True, "enqueued": False, "force_redo": False, "retries": 1},
        "lock_position": [512, 498],
        "ratio_percent": 12.5,
        "core_arcsec": 0.11,
        "halo_arcsec": 0.9,
        "fwhm_arcsec": 0.12,
        "flag": "OK",
        "last_modified": LONG_AGO,
    }
    pca = {"status": strehl["status"], "contrast_curve": [[0.2, 3.1], [0.5, 5.0]], "last_modified": LONG_AGO}
    return {
        "_id": name,
        "date_added": LONG_AGO,
        "name": "_".join(words),
        "alternative_names": ["the one we wanted"],
        "science_program": {"program_id": program, "program_PI": "asteroids"},
        "date_utc": datetime.strptime(f"{day}{clock}", "%Y%m%d%H%M%S.%f").replace(tzinfo=UTC),
        "telescope": "KPNO_2.1m",
        "camera": camera,
        "filter": band,
        "marker": marker,
        "exposure": 90.0,
        "magnitude": 11.2,
        "coordinates": {
            "epoch": 2000.0,
            "radec": [4.1, 0.3],
            "radec_str": ["15:39:40.1", "17:11:19.0"],
            "radec_geojson": {"type": "Point", "coordinates": [54.9, 17.2]},
            "azel": [1.1, 0.9],
        },
        "fits_header": {"TELRA": ["15:39:40.1", "right ascension"], "EMGAIN": [300, ""]},
        "pipelined": {"bright_star": block(strehl=strehl, pca=pca)},
        "seeing": {"median": 1.2, "mean": 1.3, "nearest": [LONG_AGO, 1.1], "last_modified": LONG_AGO},
        "distributed": {
            "status": True,
            "location": ["140.252.53.120:22220", "/Data1/archive"],
            "last_modified": LONG_AGO,
        },
        "raw_data": {"location": ["140.252.53.120:22220", folder], "data": [file], "last_modified": LONG_AGO},
        "comment": "a double",
    }


def fill(database: Database[dict[str, Any]], site: Site) -> None:
    """Write what the published archiver left."""
    names = [path.name for path in sorted(site.night.iterdir()) if path.name[0].isdigit()]
    objects = [published(name.removesuffix(".fits.bz2"), str(site.night), name) for name in names]
    database["objects"].insert_many([*objects, published(GONE, "/nas_data/VIC_data/20160925", f"{GONE}.fits.bz2")])
    seeing = {"done": True, "frames": [["seeing_VIC_Si_o_x", LONG_AGO, "Si", 10.0, 1.2]], "retries": 1}
    library = {"done": True, "retries": 1, "last_modified": LONG_AGO}
    for night in (NIGHT, "20160925"):
        aux = {"_id": night, "last_modified": LONG_AGO, "seeing": seeing, "psf_lib": library}
        database["aux"].insert_one({**aux, "strehl": library, "contrast_curve": library, "calib": library})
    password = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1000")
    database["users"].insert_one({"_id": "admin", "password": password, "programs": "all", "last_modified": LONG_AGO})
    database["users"].insert_one({"_id": "ana", "password": password, "programs": ["4"], "last_modified": LONG_AGO})


def pages(site: Site) -> dict[str, str]:
    """Log in with a password of the published archiver, and look around."""
    with site.store() as store:
        client = create_app(site.config, store).test_client()
        token = client.get("/login").text.split('name="csrf_token" value="')[1].split('"')[0]
        fields = {"csrf_token": token, "username": "admin", "password": PASSWORD}
        assert client.post("/login", data=fields).status_code == 302
        here = site.observation("HIP_1")
        found = {}
        for page in (
            f"/night/{NIGHT}",
            "/night/20160925",
            f"/observation/{GONE}",
            f"/observation/{here}",
            "/search?name=Yrsa",
        ):
            answer = client.get(page)
            assert answer.status_code == 200, page
            found[page] = answer.text
        return found


def test_it_is_taken_over(site: Site) -> None:
    with site.store() as store:
        fill(store.database, site)
    assert "12.5" in pages(site)[f"/observation/{GONE}"]
    site.run()
    with site.store() as store:
        found = {name: state for name, state in states(store).items() if "Yrsa" not in name}
        assert {**EVERY_STEP_DONE, **found} == found
        for document in store.database["objects"].find():
            observation = Observation(document)
            assert document["science_program"]["program_PI"] == "asteroids"
            assert document["comment"] == "a double"
            assert document["alternative_names"] == ["the one we wanted"]
            assert document["date_added"] == LONG_AGO
            ratio = observation.pipeline("bright_star").step("strehl").results.get("ratio_percent")
            assert (ratio == 12.5) is (observation.id == GONE or "void" in observation.id)
        gone = Observation(store.observations.find(GONE))
        assert not gone.raw_folder.exists()
        assert gone.document["coordinates"]["ra_deg"] == pytest.approx(234.917, abs=1e-3)
        assert gone.document["coordinates"]["geojson"]["coordinates"] == pytest.approx([-125.083, 17.189], abs=1e-3)
        assert {"key": "EMGAIN", "value": 300, "comment": ""} in gone.document["fits_header"]
    assert "12.5" in pages(site)[f"/observation/{GONE}"]
    assert "steps of this run: none" in site.run()
    assert (Path(site.layout.observation(NIGHT, site.observation("HIP_1"))) / "bright_star" / "100p.fits").exists()
