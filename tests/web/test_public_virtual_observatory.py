"""Services of the virtual observatory for everybody: SIA2, TAP, DataLink and SODA on public observations."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
import pyvo
import requests
from astropy.io import fits
from visitors import CHEAP
from vo_archive import DEC, PIXEL_ARCSEC, RA, TOKENS, cached_vocabulary, stilts, vo_archive, vo_store

from obsarchive.accounts import users as accounts
from obsarchive.core.documents import utc_now
from obsarchive.web.pages import public

NIGHT = "20160925"
EVERYTHING = "SELECT * FROM ivoa.obscore"


@pytest.fixture(scope="module")
def vo(mongo_server, tmp_path_factory):
    """Programme 3 is public after twelve months, 4 never is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASHER", CHEAP)
        patch.setattr(public, "MOST_REQUESTS", 10**6)
        with vo_store(mongo_server.uri) as store, vo_archive(store, tmp_path_factory.mktemp("vo")) as found:
            policy = found.app.settings.release.model_copy(update={"months": 12})
            found.app.settings = found.app.settings.model_copy(update={"release": policy})
            store.people.mark()
            store.programmes.save("4", {"period": "never"}, "admin")
            yield found


@pytest.fixture(scope="module", autouse=True)
def vocabulary(tmp_path_factory):
    with cached_vocabulary(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture
def base(vo) -> str:
    return f"{vo.address}/public/vo"


@pytest.fixture
def tap(base):
    return pyvo.dal.TAPService(f"{base}/tap")


@pytest.fixture
def sia(base):
    return pyvo.dal.SIA2Service(f"{base}/sia2")


def test_what_is_public_is_seen_and_nothing_else(vo, tap, sia):
    assert {str(row["obs_id"]) for row in tap.search(EVERYTHING)} == {vo.own, vo.later, f"calib_{NIGHT}"}
    assert {str(row["obs_id"]) for row in sia.search(calib_level=2)} == {vo.own, vo.later}
    for words in (f"obs_id = '{vo.foreign}'", "target_name = '351_Yrsa'", "proposal_id = '4'", "obs_id LIKE '4%'"):
        assert len(tap.search(f"{EVERYTHING} WHERE {words}")) == 0
    cone = requests.get(f"{vo.address}/public/vo/scs?RA={RA}&DEC={DEC}&SR=1", timeout=10).text
    assert vo.own in cone
    assert vo.foreign not in cone


def test_who_asks_makes_no_difference(vo, base):
    """A token, even of an administrator, opens nothing here; the addresses for users stay closed to others."""
    ask = {"LANG": "ADQL", "QUERY": "SELECT COUNT(*) FROM ivoa.obscore"}
    headers = [{}, {"Authorization": f"Bearer {TOKENS['admin']}"}, {"Authorization": "Bearer nonsense"}]
    texts = {requests.get(f"{base}/tap/sync", params=ask, headers=each, timeout=10).text for each in headers}
    assert len(texts) == 1
    assert requests.get(f"{vo.address}/vo/tap/sync", params=ask, timeout=10).status_code == 401


def test_a_day_too_early_there_is_nothing(vo, base, monkeypatch):
    ask = {"LANG": "ADQL", "QUERY": EVERYTHING}
    monkeypatch.setattr(public, "clock", lambda: vo.now.replace(year=2017, month=9, day=24))
    assert "<TR>" not in requests.get(f"{base}/tap/sync", params=ask, timeout=10).text
    did = f"ivo://archiver/archiver?{vo.own}/bright_star/100p.fits"
    assert requests.get(f"{base}/soda", params={"ID": did}, timeout=10).status_code == 404


def test_an_archive_without_a_period_shows_nothing_to_visitors(vo, base, monkeypatch):
    private = vo.app.settings.release.model_copy(update={"months": None})
    monkeypatch.setattr(vo.app, "settings", vo.app.settings.model_copy(update={"release": private}))
    for address in ("sia2", "scs?RA=155&DEC=0&SR=180", "tap/sync?LANG=ADQL&QUERY=SELECT+*+FROM+ivoa.obscore"):
        answer = requests.get(f"{base}/{address}", timeout=10)
        assert answer.status_code == 200
        assert "<TR>" not in answer.text


def test_pyvo_gets_the_bytes(vo, tap, sia, tmp_path):
    path = vo.app.layout.observation(NIGHT, vo.own) / "bright_star" / "100p.fits"
    [row] = sia.search(target_name="HD_140283", calib_level=2)
    assert row.getdataset().read() == path.read_bytes()
    files = {str(row["obs_title"]).split()[-1]: row for row in tap.search(EVERYTHING)}
    assert requests.get(files[f"{vo.own}.fits"]["access_url"], timeout=10).content == vo.raw[vo.own]
    master = vo.app.layout.calibration(NIGHT) / "dark_6.fits"
    assert requests.get(files["dark_6.fits"]["access_url"], timeout=10).content == master.read_bytes()


def test_every_link_works_without_an_account(vo, sia):
    [row] = sia.search(target_name="HD_140283", calib_level=2)
    links = list(row.getdatalink())
    assert {str(link["semantics"]) for link in links} >= {"#this", "#preview", "#progenitor", "#dark", "#auxiliary"}
    for link in links:
        if link["access_url"]:
            assert "/public/" in link["access_url"]
            answer = requests.get(link["access_url"], timeout=10)
            assert answer.status_code == 200, link["access_url"]
    assert not any("log" in str(link["description"]) for link in links)
    assert requests.get(f"{vo.address}/public/vo/log/{vo.own}/bright_star/reduce", timeout=10).status_code == 404
    did = f"ivo://archiver/archiver?{vo.foreign}/bright_star/100p.fits"
    assert "NotFoundFault" in requests.get(f"{vo.address}/public/vo/datalink", params={"ID": did}, timeout=10).text


def test_pyvo_cuts_out(sia):
    [row] = sia.search(target_name="GJ_436", calib_level=2)
    service = next(row.getdatalink().bysemantics("#cutout"))
    content = service.process(circle=(RA, DEC, 20 * PIXEL_ARCSEC / 3600)).read()
    assert fits.open(io.BytesIO(content))[0].data.shape[0] < 60


def test_masters_of_nights_without_public_data_are_not_there(vo, monkeypatch):
    address = f"{vo.address}/public/calibration"
    assert requests.get(f"{address}/{NIGHT}/dark_6.fits", timeout=10).status_code == 200
    for missing in (f"{NIGHT}/nothing.fits", f"{NIGHT}/dark_6.png", "20160101/dark_6.fits", "x/dark_6.fits"):
        assert requests.get(f"{address}/{missing}", timeout=10).status_code == 404
    monkeypatch.setattr(public, "clock", lambda: vo.now.replace(year=2017, month=9, day=24))
    assert requests.get(f"{address}/{NIGHT}/dark_6.fits", timeout=10).status_code == 404


def test_jobs_are_known_to_those_who_made_them(vo, tap, base):
    job = tap.submit_job("SELECT COUNT(*) AS n FROM ivoa.obscore WHERE calib_level=2")
    job.run().wait(phases=["COMPLETED", "ERROR"])
    assert job.fetch_result()[0]["n"] == 2
    assert tap.get_job_list() == [], "several people may share an address"
    for part in ("", "/owner"):
        assert "public:" not in requests.get(job.url + part, timeout=10).text
    theirs = vo.app.store.query_jobs.add("ana", {"LANG": "ADQL", "QUERY": EVERYTHING}, "")
    assert requests.get(f"{base}/tap/async/{theirs}", timeout=10).status_code == 404
    address = job.url
    job.delete()
    assert requests.get(address, timeout=10).status_code == 404


def test_visitors_are_limited_in_the_format_of_the_protocols(vo, base, monkeypatch):
    ask = f"{base}/tap/sync?LANG=ADQL&QUERY=SELECT+TOP+1+obs_id+FROM+ivoa.obscore"
    slots = vo.app.store.slots.take_each({"query public:127.0.0.1": 1}, timedelta(minutes=1))
    taken = [vo.app.store.slots.take("query public:", 4, timedelta(minutes=1)) for _ in range(4)]
    assert requests.get(ask, timeout=10).status_code == 429
    for slot in (*taken, *slots):
        vo.app.store.slots.give_back(slot)
    assert requests.get(ask, timeout=10).status_code == 200
    monkeypatch.setattr(public, "MOST_REQUESTS", 2)
    answers = [requests.get(ask, timeout=10) for _ in range(4)]
    assert answers[-1].status_code == 429
    assert 'value="ERROR"' in answers[-1].text
    assert answers[-1].headers["Retry-After"] == "60"


@pytest.mark.slow
def test_taplint_finds_no_error(base):
    found = stilts("taplint", f"tapurl={base}/tap", "report=EWSF", "maxtable=10")
    assert "Totals: Errors: 0;" in found, found


def test_votlint_and_datalinklint_find_no_error(base, sia, tmp_path: Path):
    did = str(sia.search(calib_level=2)[0]["obs_publisher_did"]).replace("?", "%3F")
    found = stilts("datalinklint", f"votable={base}/datalink?ID={did}&ID=ivo://else", "report=EWSF")
    assert "Totals: Errors: 0;" in found, found
    table = tmp_path / "answer.vot"
    table.write_bytes(requests.get(f"{base}/sia2?CALIB=2", timeout=10).content)
    found = stilts("votlint", f"votable={table}", "ucd=true", "unit=true")
    assert not {"ERROR", "WARNING"} & set(found.split(":")), found


def test_stilts_asks_by_tap(base):
    found = stilts("tapquery", f"tapurl={base}/tap", "adql=SELECT COUNT(*) AS n FROM ivoa.obscore", "ofmt=csv")
    assert found.split()[0] == "n"
    assert int(found.split()[1]) > 3


def test_nothing_of_visitors_is_kept_for_ever(vo, tap):
    tap.submit_job("SELECT TOP 1 obs_id FROM ivoa.obscore")
    kept = list(vo.app.store.query_jobs.collection.find({"owner": {"$regex": "^public:"}}))
    assert kept
    assert all(job["expires"] - utc_now() <= timedelta(days=2) for job in kept)
