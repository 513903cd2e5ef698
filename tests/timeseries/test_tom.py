"""Upload of light curves to a real TOM Toolkit server."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from astropy.table import Table
from playwright.sync_api import sync_playwright
from real_tom import SECRET, TomServer
from simulated import reduce

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.execution.work import run_locally
from obsarchive.remote import http
from obsarchive.simulation import field as demo_field
from obsarchive.timeseries import tom_upload
from obsarchive.timeseries.batch import Reductions
from obsarchive.timeseries.products import read_light_curve


@pytest.fixture
def curve(small: Path) -> Table:
    """A light curve with a point where the star was not seen."""
    found = read_light_curve(small / "lightcurve.ecsv")
    found["limit"][1] = 19.5
    return found


@pytest.fixture
def config_file(tom_server: TomServer, tmp_path: Path) -> Path:
    path = tmp_path / "tom_config.yaml"
    path.write_text(f"url: {tom_server.url}/\ntom_user_id: archiver\ntom_password_envvar: TOM_SECRET\n")
    return path


@pytest.fixture
def upload(config_file: Path) -> Callable[[str, str, Table], int]:
    def uploaded(target: str, label: str, table: Table) -> int:
        with tom_upload.Tom(tom_upload.load(config_file), {"TOM_SECRET": SECRET}) as connection:
            return connection.upload(target, label, table)

    return uploaded


def labels(server: TomServer) -> set[str]:
    return {entry["product_id"].rpartition(" ")[0] for entry in server.asked("/api/dataproducts/")["results"]}


def data(server: TomServer, label: str) -> list[dict]:
    found = server.asked("/api/reduceddatums/?data_type=photometry&limit=1000")["results"]
    return sorted(
        (entry for entry in found if entry["value"]["bandpass"] == label), key=lambda entry: entry["timestamp"]
    )


def moment(mjd: float) -> datetime:
    return datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=mjd)


def test_the_light_curve_is_read_back(upload: Callable, curve: Table, tom_server: TomServer) -> None:
    assert upload("EVT", "back_ip", curve) == 4
    found = data(tom_server, "back_ip")
    assert len(found) == 4
    for entry, row in zip(found, curve, strict=True):
        when = datetime.fromisoformat(entry["timestamp"])
        assert abs(when - moment(row["time_mjd_utc"])) < timedelta(seconds=1)
        seen = not math.isfinite(row["limit"])
        brightness = entry["value"]["brightness"]
        assert brightness == (pytest.approx(row["mag"], abs=1e-4) if seen else None)


def test_a_new_light_curve_takes_the_place_of_the_old(upload: Callable, curve: Table, tom_server: TomServer) -> None:
    for label in ("EVT_ip", "EVT_ip2", "EVT2_ip"):
        upload("EVT", label, curve)
    upload("EVT2", "EVT_ip", curve)
    before = len(tom_server.asked("/api/dataproducts/")["results"])
    curve["mag"][0] += 0.05
    upload("EVT", "EVT_ip", curve)
    upload("EVT", "EVT_ip", curve)
    assert len(tom_server.asked("/api/dataproducts/")["results"]) == before
    assert {"archiver 2 EVT_ip2", "archiver 2 EVT_ip", "archiver 2 EVT2_ip", "archiver 3 EVT_ip"} <= labels(tom_server)
    assert len(data(tom_server, "EVT_ip")) == 8, "points that did not change are still there: of both targets"
    assert data(tom_server, "EVT_ip")[0]["value"]["brightness"] == pytest.approx(curve["mag"][0], abs=1e-4)


def test_an_unknown_target_uploads_nothing(upload: Callable, curve: Table, tom_server: TomServer) -> None:
    before = labels(tom_server)
    with pytest.raises(tom_upload.TomError, match="knows 0 targets called 'EVT3'"):
        upload("EVT3", "x_ip", curve)
    assert labels(tom_server) == before


def test_the_token_does_as_well(curve: Table, tom_server: TomServer, tmp_path: Path) -> None:
    path = tmp_path / "tom_config.yaml"
    path.write_text(f"url: {tom_server.url}\ntom_token_envvar: TOM_TOKEN\n")
    with tom_upload.Tom(tom_upload.load(path), {"TOM_TOKEN": tom_server.token}) as connection:
        assert connection.upload("EVT", "token_ip", curve) == 4
    with (
        tom_upload.Tom(tom_upload.load(path), {"TOM_TOKEN": "0" * 40}) as connection,
        pytest.raises(tom_upload.TomError, match="check the token"),
    ):
        connection.upload("EVT", "token_ip", curve)


def test_the_tom_shows_it(upload: Callable, curve: Table, tom_server: TomServer) -> None:
    upload("EVT2", "shown_ip", curve)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        # the TOM's pages ask for scripts on the internet
        page.route(lambda url: not url.startswith(tom_server.url), lambda route: route.abort())
        page.goto(f"{tom_server.url}/accounts/login/")
        page.fill("input[name=username], input[name=login]", "archiver")
        page.fill("input[name=password]", SECRET)
        page.click("form button[type=submit], form input[type=submit]")
        page.goto(f"{tom_server.url}/targets/3/?tab=photometry")
        assert "shown_ip" in page.content()
        browser.close()


def test_a_reduction_uploads_its_light_curve(
    dataset: Path, config_file: Path, tom_server: TomServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOM_SECRET", SECRET)
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text() + f"tom:\n  upload: True\n  config_file: {config_file}\n  data_label: 'SIM'\n")
    (outcome,) = Reductions(run_locally, None, dataset / "cache").reduce([dataset])
    assert outcome.record["tom"] == "4 points uploaded as SIM_ip"
    assert len(data(tom_server, "SIM_ip")) == 4


def test_a_tom_that_is_away_does_not_spoil_the_reduction(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "sleep", lambda _: None)
    monkeypatch.setenv("TOM_SECRET", SECRET)
    (tmp_path / "tom.yaml").write_text("url: http://127.0.0.1:9/\ntom_user_id: a\ntom_password_envvar: TOM_SECRET\n")
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text() + f"tom:\n  upload: True\n  config_file: {tmp_path / 'tom.yaml'}\n")
    (outcome,) = Reductions(run_locally, None, dataset / "cache").reduce([dataset])
    assert outcome.state in ("done", "unchanged")
    assert "cannot be reached" in outcome.record["tom"]
    assert SECRET not in (dataset / "aperture_pipeline.log").read_text()


class Moody(BaseHTTPRequestHandler):
    """Answers 503 twice to each question, and refuses every upload."""

    asked: dict[str, int]

    def do_GET(self) -> None:
        Moody.asked[self.path] = Moody.asked.get(self.path, 0) + 1
        busy = Moody.asked[self.path] < 3
        body = b'{"results": [{"id": 5, "name": "EVT", "target": 5, "product_id": "archiver 5 x 0123456789ab"}]}'
        self.answer(503 if busy else 200, b"" if busy else body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Moody.asked["POST"] = Moody.asked.get("POST", 0) + 1
        self.answer(500, b"no")

    def do_DELETE(self) -> None:
        Moody.asked["DELETE"] = 1
        self.answer(204, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Say nothing."""


def test_what_is_there_stays_when_the_upload_fails(
    curve: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "sleep", lambda _: None)
    Moody.asked = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    path = tmp_path / "tom_config.yaml"
    path.write_text(f"url: http://127.0.0.1:{server.server_port}\ntom_token_envvar: T\n")
    with (
        tom_upload.Tom(tom_upload.load(path), {"T": "x"}) as connection,
        pytest.raises(tom_upload.TomError, match="answered 500"),
    ):
        connection.upload("EVT", "x", curve)
    server.shutdown()
    server.server_close()
    assert Moody.asked["POST"] == 1
    assert "DELETE" not in Moody.asked


def test_an_answer_that_is_no_json_is_told(curve: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Moody, "do_GET", lambda self: self.answer(200, b"<html>maintenance</html>"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    path = tmp_path / "tom_config.yaml"
    path.write_text(f"url: http://127.0.0.1:{server.server_port}\ntom_token_envvar: T\n")
    with (
        tom_upload.Tom(tom_upload.load(path), {"T": "x"}) as connection,
        pytest.raises(ArchiveError, match="the TOM answered something that is no JSON to /api/targets/"),
    ):
        connection.upload("EVT", "x", curve)
    server.shutdown()
    server.server_close()


def test_secrets_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "tom_config.yaml"
    path.write_text("url: http://127.0.0.1:9/\ntom_token_envvar: NOT_THERE\n")
    with pytest.raises(ConfigError, match="NOT_THERE"):
        tom_upload.Tom(tom_upload.load(path), {})
    path.write_text("url: ftp://127.0.0.1/\n")
    with pytest.raises(ConfigError, match="line 1: url"):
        tom_upload.load(path)
    path.write_text("url: http://127.0.0.1:9/\n")
    with pytest.raises(ConfigError, match="tom_token_envvar"):
        tom_upload.Tom(tom_upload.load(path), {})


def test_points_are_modified_julian_dates(curve: Table) -> None:
    text, n = tom_upload.csv_of(curve, "x_ip")
    lines = text.splitlines()
    assert (n, lines[0]) == (4, "time,filter,magnitude,error,limit")
    assert 60479 < float(lines[1].split(",")[0]) < 60500
    assert lines[2].endswith(",x_ip,,,19.50000")
    assert not np.isfinite(curve["limit"][0])


def test_reducing_again_changes_no_word(dataset: Path) -> None:
    before = (dataset / "lightcurve.ecsv").read_text()
    assert reduce(dataset, again=True).state == "done"
    assert (dataset / "lightcurve.ecsv").read_text() == before
    assert demo_field.TARGET in before
