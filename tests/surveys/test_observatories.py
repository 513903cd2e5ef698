"""Observatories against a server that answers as the real ones do: what is asked, what is kept, what goes wrong."""

import csv
import math
import os
import pickle
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.remote import http
from obsarchive.remote.http import HttpClient, RateLimiter, RequestRefusedError, ServerUnavailableError
from obsarchive.science.astrometry.times import light_curve_times
from obsarchive.store import Store
from surveys.catalog import Catalog
from surveys.demo import VirtualDemoObs
from surveys.observatory import VirtualObservatory
from surveys.observatory.downloads import sliding
from surveys.observatory.tess import VirtualTESS
from surveys.observatory.ztf import VirtualZTF
from surveys.source import Source
from tests.surveys.survey_services import EMPTY_ZTF, Services, serve, tess_file

REAL = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "lc" / "ztf_dr"
PLACE = {"name": "J0000+5123", "ra": 359.99964, "dec": 51.39372, "mag": None}


def recorded_ztf() -> str:
    """The answer of the service about a real object: the file of the data set without the columns added to it."""
    names = EMPTY_ZTF.strip().split(",")
    with (REAL / "ZTF_lightcurve.csv").open() as file:
        rows = [",".join(row[name] for name in names) for row in csv.DictReader(file)]
    return EMPTY_ZTF + "\n".join(rows) + "\n"


@pytest.fixture
def services() -> Iterator[Services]:
    with serve(Services()) as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    return waited


def ztf(services: Services, **more: Any) -> VirtualZTF:
    return VirtualZTF(base_url=services.url, rate_limit=0.0, **more)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real light curve in {REAL}")
def test_ztf_is_asked_for_a_circle_and_its_answer_is_reduced(services: Services) -> None:
    services.ztf["359.9996", "51.3937"] = recorded_ztf()
    obs = ztf(services, reducer={"mag_range": 0.0})
    raw = obs.download(PLACE)
    method, _, asked = services.asked[0]
    assert method == "GET"
    assert asked == {"POS": "CIRCLE 359.9996400 51.3937200 0.0005556", "FORMAT": "CSV"}
    assert len(raw) == 1852
    assert raw.data["oid"].iloc[0] == 736115200001082
    curves = obs.reduce(raw)
    assert {curve.filter for curve in curves} == {"g", "r", "i"}
    assert sum(len(curve) for curve in curves) == 1852


def test_fast_stars_are_looked_for_in_larger_circles(services: Services) -> None:
    ztf(services).download({**PLACE, "pmra": 600.0, "pmdec": 800.0})
    radius = float(services.asked[0][2]["POS"].split()[3]) * 3600
    assert radius == pytest.approx(2 + 3.0, abs=1e-3)


@pytest.mark.parametrize("row", [{"dec": -40.0}, {"mag": 21.0}])
def test_ztf_is_not_asked_for_what_it_cannot_see(services: Services, row: dict[str, float]) -> None:
    assert ztf(services).download({**PLACE, **row}).is_empty
    assert services.asked == []


def test_credentials_are_used_and_never_in_an_address(
    services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IRSA_PASSWORD", "hunter 2")
    obs = ztf(services, credentials={"username": "guy", "password": {"env": "IRSA_PASSWORD"}})
    obs.download(PLACE)
    obs.download(PLACE)
    method, _, form = services.asked[0]
    assert method == "POST"
    assert (form["josso_username"], form["josso_password"]) == ("guy", "hunter 2")
    assert [asked[0] for asked in services.asked] == ["POST", "GET", "GET"]
    assert "JOSSO_SESSIONID=known" in services.cookies[1]
    assert not any("hunter" in asked[1] for asked in services.asked)
    for told in (repr(obs.pars), obs.pars.describe(), str(obs.pars.to_dict())):
        assert "hunter" not in told
        assert "guy" not in told
    secret = tmp_path / "password"
    secret.write_text("swordfish\n")
    assert VirtualZTF(credentials={"password": {"file": str(secret)}}).secret("password") == "swordfish"
    assert VirtualZTF(credentials={"password": "as given"}).secret("password") == "as given"
    with pytest.raises(ConfigError, match="NOT_SET"):
        VirtualZTF(credentials={"password": {"env": "NOT_SET"}}).secret("password")
    # workers reduce: what is sent to them holds no secret
    assert b"hunter" not in pickle.dumps(obs)
    assert b"as given" not in pickle.dumps(VirtualZTF(credentials={"password": "as given"}))


def test_a_service_in_trouble_is_asked_again_as_late_as_it_wishes(services: Services, pauses: list[float]) -> None:
    services.troubles = [(503, {}), (429, {"Retry-After": "7"}), (500, {})]
    assert ztf(services).download(PLACE).is_empty
    assert pauses == [2.0, 7.0, 14.0]
    services.troubles = [(503, {})] * 3
    with pytest.raises(ServerUnavailableError, match="ZTF: answered 503, 3 times"):
        ztf(services, max_tries=3).download(PLACE)


@pytest.mark.parametrize("status", [302, 400, 404])
def test_refusals_and_redirections_are_final(services: Services, status: int, pauses: list[float]) -> None:
    services.troubles = [(status, {"Location": "http://127.0.0.1:1/elsewhere"})]
    with pytest.raises(RequestRefusedError, match=str(status)):
        ztf(services).download(PLACE)
    assert len(services.asked) == 1
    assert pauses == []


def test_an_answer_that_is_no_table_is_told(services: Services) -> None:
    services.ztf["359.9996", "51.3937"] = "<html>maintenance</html>"
    with pytest.raises(RequestRefusedError, match="maintenance"):
        ztf(services).download(PLACE)


def test_questions_keep_their_distance(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    pace = RateLimiter(4.0)
    for _ in range(4):
        pace.wait()
    assert np.diff(pauses) == pytest.approx([0.25, 0.25])
    assert pauses[0] == pytest.approx(0.25)


def test_an_endless_answer_is_not_read(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 50)
    client = HttpClient("the service", services.url)
    with pytest.raises(ServerUnavailableError, match="more than"):
        client.get("/nph_light_curves", {"POS": "CIRCLE 1 2 3"})
    client.close()


def test_tess_finds_the_target_and_reads_its_sectors(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surveys.observatory.tess.sleep", lambda _: None)
    services.tic = [
        {"ID": 1, "ra": 120.0005, "dec": 30.0, "GAIAmag": 15.0, "Tmag": 14.5},  # near, but much fainter
        {"ID": 12345678, "ra": 120.0009, "dec": 30.0, "GAIAmag": 11.2, "Tmag": 10.5},
        {"ID": 3, "ra": 120.05, "dec": 30.0, "GAIAmag": 11.1, "Tmag": 10.5},  # too far
    ]
    services.sectors = {1: tess_file(1, 9000.0), 4: tess_file(4, 9000.0, seed=1)}
    services.busy["Mast.Catalogs.Tic.Cone"] = 2
    obs = VirtualTESS(base_url=services.url, rate_limit=0.0)
    raw = obs.download({"name": "S", "ra": 120.0, "dec": 30.0, "mag": 11.0})
    assert raw.altdata["TICID"] == "12345678"
    assert raw.altdata["sectors"] == [1, 4]
    assert len(raw) == 2 * 499  # an epoch without a time is none
    curves = obs.reduce(raw)
    assert [len(curve) for curve in curves] == [499, 499]
    first = curves[0].columns
    # the zero point is that of the star itself
    assert np.median(first["mag"]) == pytest.approx(10.5, abs=0.01)
    assert first["flag"].sum() == 1
    assert first["exptime"][0] == pytest.approx(120, abs=0.1)
    bjd = 2457000 + 1325.3
    assert light_curve_times(first["mjd"][:1], 120.0, 30.0).bjd_tdb[0] == pytest.approx(bjd, abs=1e-8)
    sap = VirtualTESS(base_url=services.url, rate_limit=0.0, flux_type="SAP").download(
        {"name": "S", "ra": 120.0, "dec": 30.0}
    )
    assert np.median(sap.columns["flux"]) == pytest.approx(8100, abs=1)


def test_a_source_that_tess_did_not_look_at_is_empty(services: Services) -> None:
    assert VirtualTESS(base_url=services.url, rate_limit=0.0).download({"name": "S", "ra": 1.0, "dec": 2.0}).is_empty


class Counting(VirtualDemoObs):
    """Counts what is fetched; some of it fails."""

    name = "COUNTING"
    fails: tuple[str, ...] = ()
    fetched: list[str]

    def fetch_data_from_observatory(self, cat_row: Any, **kwargs: Any) -> Any:
        self.fetched.append(cat_row["name"])
        if cat_row["name"] in self.fails:
            raise ValueError("broken data")
        return super().fetch_data_from_observatory(cat_row)


def counting(n: int = 30, **parameters: Any) -> Counting:
    obs = Counting(**parameters)
    obs.fetched = []
    obs.catalog = Catalog(default="test", test_size=n)
    obs.output_folder = "P"
    return obs


@pytest.mark.parametrize("threads", [0, 4])
def test_what_is_there_is_not_fetched_again(survey_store: Store, survey_root: Path, threads: int) -> None:
    obs = counting(num_threads_download=threads)
    assert obs.fetch_all_sources(0, 20) == 20
    assert obs.download_all_sources(0, 30, save=True) == 10
    assert sorted(obs.fetched) == sorted(obs.catalog.names)
    assert [source.name for source in obs.sources] == obs.catalog.names
    assert len(obs.raw_data) == len(obs.datasets) == 30
    assert obs.fetch_all_sources(0, 5, save=False) == 5  # without keeping, whatever is asked for is fetched


def test_the_last_sources_are_kept_in_memory(survey_store: Store, survey_root: Path) -> None:
    obs = counting(download_batch_size=7)
    obs.fetch_all_sources()
    assert [source.name for source in obs.sources] == obs.catalog.names[-7:]


def test_empty_sources_are_remembered_until_they_expire(survey_store: Store, survey_root: Path) -> None:
    obs = counting(empty_fraction=1.0, empty_expires=10.0)
    assert obs.fetch_all_sources() == 30
    assert obs.fetch_all_sources() == 0
    assert all(raw.is_empty for raw in obs.raw_data)
    raws = survey_store.surveys._of["raw_photometry"]
    raws.update_one({"source_name": obs.catalog.names[3]}, {"$set": {"expires": datetime.now(UTC) - timedelta(days=1)}})
    assert obs.fetch_all_sources() == 1
    assert obs.fetched[-1] == obs.catalog.names[3]


@pytest.mark.parametrize("threads", [0, 4])
def test_a_failure_stops_no_other_and_is_tried_again_on_demand(
    survey_store: Store, survey_root: Path, threads: int
) -> None:
    obs = counting(num_threads_download=threads)
    obs.fails = tuple(obs.catalog.names[4:6])
    assert obs.fetch_all_sources() == 28
    assert [failure["name"] for failure in obs.failures_list] == list(obs.fails)
    assert obs.failures_list[0]["reason"] == "ValueError: broken data"
    assert {found["reason"] for found in survey_store.surveys.failed("COUNTING")} == {"ValueError: broken data"}
    assert obs.fetch_all_sources() == 0
    obs.fails = obs.fails[:1]
    assert obs.retry_failed() == 1
    assert [found["source_name"] for found in survey_store.surveys.failed("COUNTING")] == list(obs.fails)


def test_a_download_gives_up_when_everything_fails(survey_store: Store, survey_root: Path) -> None:
    obs = counting(200, num_threads_download=2, download_batch_size=10)
    obs.fails = tuple(obs.catalog.names)
    with pytest.raises(ArchiveError, match="10 failures in a row"):
        obs.fetch_all_sources()
    assert len(obs.fetched) < 60


def test_lost_files_are_fetched_again_and_a_lost_database_is_filled_from_files(
    survey_store: Store, survey_root: Path
) -> None:
    obs = counting()
    obs.fetch_all_sources()
    first = sorted((survey_root / "COUNTING").glob("*.h5"))[0]
    first.unlink()
    gone = obs.fetch_all_sources()
    assert gone >= 1
    surveys = survey_store.surveys
    kinds = ("raw_photometry", "sources")
    before = {found["_id"]: found["checksum"] for found in surveys.find("raw_photometry", {})}
    for kind in kinds:
        surveys._of[kind].delete_many({})
    (survey_root / "COUNTING" / "COUNTING_photometry_RA999.h5").write_bytes(b"no HDF5")
    assert obs.populate_sources() == 30
    assert {found["_id"]: found["checksum"] for found in surveys.find("raw_photometry", {})} == before
    assert surveys.count("sources", {}) == 30
    n_fetched = len(obs.fetched)
    assert obs.fetch_all_sources() == 0
    assert len(obs.fetched) == n_fetched


def test_other_arguments_fetch_again_where_that_is_wished(survey_store: Store, survey_root: Path) -> None:
    obs = counting(5)
    obs.fetch_all_sources()
    obs.pars.download_pars = {"depth": 2}
    assert obs.fetch_all_sources() == 0
    obs.pars.check_download_pars = True
    assert obs.fetch_all_sources() == 5
    assert obs.fetch_all_sources() == 0
    obs.pars.download_pars, obs.fails = {"depth": 3}, tuple(obs.catalog.names[:1])
    assert obs.fetch_all_sources() == 4
    # what was there stays when the survey cannot give it anew
    assert survey_store.surveys.failed("COUNTING") == []
    assert len(Source.from_row(obs.catalog.get_row(0)).raw_photometry[0]) == 100


def test_one_source_is_fetched_by_row_or_object(survey_store: Store, survey_root: Path) -> None:
    obs = counting(3)
    row = obs.catalog.get_row(1)
    raw = obs.fetch_source(row)
    again = obs.fetch_source(Source.from_row(row))
    assert obs.fetched == [row["name"]]
    assert np.array_equal(raw.columns["mjd"], again.columns["mjd"])


def test_either_name_of_the_method_of_the_download_will_do() -> None:
    class Old(VirtualObservatory):
        name = "OLD"

        def download_from_observatory(self, cat_row: Any, **kwargs: Any) -> Any:
            return pd.DataFrame({"mjd": [58000.0], "mag": [18.0], "magerr": [0.1]}), {"filter": "r"}

    raw = Old().download({"name": "S", "ra": 1.0, "dec": 2.0})
    assert len(raw) == 1
    assert raw.altdata["filter"] == "r"
    with pytest.raises(NotImplementedError, match="fetch"):
        VirtualObservatory("NONE").download({"name": "S", "ra": 1.0, "dec": 2.0})


def test_a_misspelt_argument_is_refused_before_the_first_source() -> None:
    with pytest.raises(ConfigError, match="did you mean 'radius'"):
        VirtualZTF(reducer={"radus": 3})


def test_downloads_slide_and_keep_their_order() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        time.sleep(0.2 if item == 0 else 0.001)
        if item == 5:
            raise ValueError("five")
        return item

    found = []
    for item, made in sliding(work, range(40), 4):
        if not found:
            n_started = len(started)
        found.append((item, made))
    # while the first was slow the others went on
    assert n_started > 20
    assert [item for item, _ in found] == list(range(40))
    assert isinstance(found[5][1], ValueError)
    assert sum(made == item for item, made in found) == 39


def test_empty_sources_are_fetched_again_on_demand(survey_store: Store, survey_root: Path) -> None:
    obs = counting(empty_fraction=1.0)
    obs.fetch_all_sources()
    rows = [obs.catalog.get_row(i) for i in range(30)]
    assert obs.missing(rows) == []
    assert len(obs.missing(rows, again=math.inf)) == 30


def test_data_that_a_survey_does_not_deliver_again_are_kept(survey_store: Store, survey_root: Path) -> None:
    obs = counting()
    obs.fetch_all_sources()
    rows = [obs.catalog.get_row(i) for i in range(30)]
    emptied = counting(empty_fraction=1.0)
    assert len(list(emptied.fetch(rows))) == 30
    assert survey_store.surveys.raw_states("COUNTING", obs.catalog.names) == {"good": 30}
    for row in rows[:2]:
        assert len(obs.fetch_source(Source.from_row(row)).columns["mjd"])


@pytest.mark.parametrize(("refresh_after", "again"), [(10.0, None), (None, 10.0), (99.0, 10.0)])
def test_growing_light_curves_are_fetched_again_at_an_age(
    survey_store: Store, survey_root: Path, refresh_after: float | None, again: float | None
) -> None:
    obs = counting(refresh_after=refresh_after)
    obs.fetch_all_sources()
    rows = [obs.catalog.get_row(i) for i in range(30)]
    raws = survey_store.surveys._of["raw_photometry"]
    old = datetime.now(UTC) - timedelta(days=11)
    raws.update_one({"source_name": obs.catalog.names[3]}, {"$set": {"fetched": old}})
    assert [row["name"] for row in obs.missing(rows, again=again)] == [obs.catalog.names[3]]
    assert counting().missing(rows) == counting().missing(rows, again=math.inf) == []
