"""SIA2, TAP, DataLink and SODA through pyvo and STILTS, on a served archive of two programmes."""

import io
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import pyvo
import requests
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from PIL import Image
from visitors import CHEAP, PASSWORD, Visitor
from vo_archive import DEC, PIXEL_ARCSEC, RA, TOKENS, cached_vocabulary, stilts, vo_archive, vo_store

from obsarchive.accounts import users as accounts
from obsarchive.web.vo import query_runner

FIELD_DEG = 160 * PIXEL_ARCSEC / 3600


@pytest.fixture(scope="module")
def vo(mongo_server, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "_HASHER", CHEAP)
        with vo_store(mongo_server.uri) as store, vo_archive(store, tmp_path_factory.mktemp("vo")) as found:
            yield found


@pytest.fixture(scope="module", autouse=True)
def vocabulary(tmp_path_factory):
    with cached_vocabulary(tmp_path_factory.mktemp("cache")):
        yield


def session(user: str = "ana") -> requests.Session:
    found = requests.Session()
    found.headers["Authorization"] = f"Bearer {TOKENS[user]}"
    return found


@pytest.fixture(scope="module")
def sia(vo):
    return pyvo.dal.SIA2Service(f"{vo.address}/vo/sia2", session=session())


@pytest.fixture(scope="module")
def tap(vo):
    return pyvo.dal.TAPService(f"{vo.address}/vo/tap", session=session())


def names(found) -> set[tuple[str, str]]:
    """Observation and file of the rows of an answer."""
    return {(str(row["obs_id"]), str(row["access_url"]).rpartition("/")[2]) for row in found}


def validated(task: str, *arguments: str) -> str:
    """Run a validator of STILTS as Ana, and return what it reports."""
    as_ana = ("-Dstar.basicauth.user=any", f"-Dstar.basicauth.password={TOKENS['ana']}")
    return stilts(task, *arguments, options=as_ana)


# -- ObsCore is true to each file ---------------------------------------------------------------------------------


def test_rows_say_what_the_files_are(vo, sia):
    found = sia.search(target_name="HD_140283", calib_level=2)
    [row] = found
    path = vo.app.layout.observation("20160925", vo.own) / "bright_star" / "100p.fits"
    header = fits.getheader(path)
    corners = np.array(str(row["s_region"]).split()[2:], float).reshape(4, 2)
    expected = WCS(header).calc_footprint()
    apart = SkyCoord(*corners.T, unit="deg").separation(SkyCoord(*expected.T, unit="deg")).arcsec
    assert np.all(apart < PIXEL_ARCSEC)
    assert row["s_fov"] == pytest.approx(FIELD_DEG, rel=1e-6)
    centre = SkyCoord(row["s_ra"], row["s_dec"], unit="deg")
    middle = WCS(header).pixel_to_world(79.5, 59.5)
    assert centre.separation(middle).arcsec < PIXEL_ARCSEC / 100
    assert row["s_resolution"] == 0.121
    assert (row["s_xel1"], row["s_xel2"]) == (160, 120)
    assert row["s_pixel_scale"] == pytest.approx(PIXEL_ARCSEC, rel=1e-6)
    assert row["t_max"] - row["t_min"] == pytest.approx(90 / 86400)
    band = vo.app.settings.telescope["KPNO_2.1m"].filters["lp600"]
    assert row["em_max"] - row["em_min"] == pytest.approx(band.width_nm * 1e-9)
    assert row["access_estsize"] == round(path.stat().st_size / 1000)
    assert row["proposal_id"] == "3"


def test_pyvo_gets_the_bytes_of_products_raw_files_and_masters(vo, sia, tap, tmp_path):
    [row] = sia.search(target_name="HD_140283", calib_level=2)
    path = vo.app.layout.observation("20160925", vo.own) / "bright_star" / "100p.fits"
    assert row.getdataset().read() == path.read_bytes()
    row.cachedataset(filename=str(tmp_path / "copy.fits"))
    assert (tmp_path / "copy.fits").read_bytes() == path.read_bytes()
    masters = tap.search("SELECT * FROM ivoa.obscore WHERE obs_id = 'calib_20160925' ORDER BY obs_title")
    assert [str(row["obs_title"]).split()[-1] for row in masters] == ["dark_6.fits", "flat_lp600.fits"]
    assert masters["calib_level"].tolist() == [1, 1]
    content = session().get(masters[0]["access_url"]).content
    assert content == (vo.app.layout.calibration("20160925") / "dark_6.fits").read_bytes()


def test_products_of_earlier_versions_are_described_from_their_files(vo, sia):
    path = "pipelined.bright_star.steps.reduce.products"
    before = vo.app.store.observations.find(vo.later)["pipelined"]["bright_star"]["steps"]["reduce"]["products"]
    plain = [{key: value for key, value in entry.items() if key != "image"} for entry in before]
    whole = str(sia.search(target_name="GJ_436", calib_level=2)[0]["s_region"])
    vo.app.store.observations.set_fields(vo.later, {path: plain})
    try:
        assert str(sia.search(target_name="GJ_436", calib_level=2)[0]["s_region"]) == whole
    finally:
        vo.app.store.observations.set_fields(vo.later, {path: before})


# -- who sees what ------------------------------------------------------------------------------------------------


def test_what_belongs_to_others_does_not_exist(vo, tap):
    everything = tap.search("SELECT * FROM ivoa.obscore")
    assert {str(row["obs_id"]) for row in everything} == {vo.own, vo.later, "calib_20160925"}
    counted = "SELECT COUNT(*) AS n FROM ivoa.obscore WHERE calib_level > 1"
    assert tap.search(counted)[0]["n"] == 3
    assert pyvo.dal.TAPService(f"{vo.address}/vo/tap", session=session("ben")).search(counted)[0]["n"] == 1
    assert pyvo.dal.TAPService(f"{vo.address}/vo/tap", session=session("admin")).search(counted)[0]["n"] == 4
    did = f"ivo://archiver/archiver?{vo.foreign}/bright_star/100p.fits"
    for address in ("datalink", "soda"):
        assert vo.foreign not in session().get(f"{vo.address}/vo/{address}?ID={did}").text.replace(did, "")
    assert session().get(f"{vo.address}/vo/soda?ID={did}").status_code == 404
    log = session().get(f"{vo.address}/vo/log/{vo.own}/bright_star/reduce").text
    assert vo.own in log
    assert vo.foreign not in log


def test_a_browser_may_ask_by_a_form_and_strangers_may_not(vo):
    query = {"LANG": "ADQL", "QUERY": "SELECT TOP 1 obs_id FROM ivoa.obscore"}
    assert requests.post(f"{vo.address}/vo/tap/sync", data=query, timeout=10).status_code == 401
    browser = Visitor(vo.app.test_client())
    browser.log_in("ana", PASSWORD)
    assert browser.client.post("/vo/tap/sync", data=query).status_code == 200
    assert browser.client.post("/vo/tap/async", data=query).status_code == 400  # changes something: needs a token
    cookies = requests.Session()
    cookie = browser.client.get_cookie("archiver")
    cookies.cookies.set("archiver", cookie.value)
    tap = pyvo.dal.TAPService(f"{vo.address}/vo/tap", session=cookies)
    assert len(tap.search("SELECT obs_id FROM ivoa.obscore WHERE calib_level = 2")) == 2


# -- SIA2 ---------------------------------------------------------------------------------------------------------


def count(vo, query: str) -> int:
    answer = session().get(f"{vo.address}/vo/sia2?CALIB=2&{query}")
    assert answer.status_code == 200, answer.text
    return answer.text.count("<TR>")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 2),
        (f"POS=CIRCLE {RA} {DEC} 0.0001", 2),
        (f"POS=CIRCLE {RA} {DEC + 0.0006} 0.0001", 0),
        (f"POS=RANGE {RA - 0.001} {RA + 0.001} -0.01 0.01", 2),
        ("POS=RANGE 0 10 -Inf +Inf", 0),
        ("POS=RANGE -Inf +Inf -90 90", 2),
        (f"POS=POLYGON {RA} -0.01 {RA + 0.01} 0.01 {RA - 0.01} 0.01", 2),
        ("POS=POLYGON 10 0 11 0 11 1", 0),
        (f"POS=CIRCLE 10 0 1&POS=CIRCLE {RA} {DEC} 0.1", 2),
        ("BAND=7.6e-7", 2),
        ("BAND=6.3e-7 6.4e-7", 1),
        ("BAND=9e-7 %2BInf", 1),
        ("BAND=-Inf 3e-7", 0),
        ("TIME=57656.125 57656.126", 1),
        ("TIME=57656.1255", 1),
        ("TIME=57656 57657", 2),
        ("TIME=-Inf 57000", 0),
        ("POL=I", 0),
        ("FOV=0 0.001", 2),
        ("FOV=0.001 1", 0),
        ("SPATRES=0.1 0.2", 2),
        ("SPATRES=0.2 %2BInf", 0),
        ("SPECRP=1 20", 2),
        ("EXPTIME=90", 2),
        ("EXPTIME=91 1000", 0),
        ("TIMERES=0 1", 0),
        ("COLLECTION=Robo-AO archive", 2),
        ("COLLECTION=NOPE", 0),
        ("FACILITY=KPNO_2.1m", 2),
        ("FACILITY=NOPE", 0),
        ("INSTRUMENT=NOPE", 0),
        ("INSTRUMENT=NOPE&INSTRUMENT=VIC", 2),
        ("TARGET=GJ_436", 1),
        ("TARGET=NOPE", 0),
        ("DPTYPE=image", 2),
        ("DPTYPE=cube", 0),
        ("CALIB=3", 3),
        ("FORMAT=image/fits", 2),
        ("FORMAT=image/png", 0),
        ("ID=ivo://archiver/archiver?nothing/of/ours", 0),
        ("maxrec=1", 1),
    ],
)
def test_every_parameter_of_sia2(vo, query, expected):
    assert count(vo, query.replace(" ", "+")) == expected


@pytest.mark.parametrize(
    "query",
    [
        "POS=BOX 1 2 3 4",
        "POS=CIRCLE 0 99 1",
        "POS=RANGE 2 1 0 1",
        "POS=POLYGON 0 0 1 1",
        "BAND=2 1",
        "TIME=now",
        "FOV=NaN",
        "CALIB=7",
        "DPTYPE=spectrum",
        "POL=blue",
        "MAXREC=-1",
        "RESPONSEFORMAT=application/pdf",
        "UPLOAD=t,param:x",
    ],
)
def test_what_sia2_does_not_understand_is_an_error(vo, query):
    answer = session().get(f"{vo.address}/vo/sia2?{query}")
    assert answer.status_code == 400
    assert 'value="ERROR"' in answer.text


def test_unknown_parameters_are_named_and_too_many_rows_are_said(vo):
    answer = session().get(f"{vo.address}/vo/sia2?PROGRAMME=3&MAXREC=1").text
    assert 'value="PROGRAMME"' in answer
    assert 'value="OVERFLOW"' in answer
    assert "OVERFLOW" not in session().get(f"{vo.address}/vo/sia2").text


def test_pyvo_searches_with_all_it_knows(sia):
    found = sia.search(
        pos=(RA, DEC, 0.01),
        time=(Time(57656.0, format="mjd"), Time(57657.0, format="mjd")),
        band=(5e-7, 1e-6),
        facility="KPNO_2.1m",
        instrument="VIC",
        data_type="image",
        calib_level=2,
        target_name="HD_140283",
        exptime=(10, 100),
        spatial_resolution=(0.1, 0.2),
        res_format="image/fits",
    )
    assert len(found) == 1
    assert len(sia.search(instrument="NOPE")) == 0
    assert len(sia.search(publisher_did=str(found[0]["obs_publisher_did"]))) == 1


# -- DataLink and SODA --------------------------------------------------------------------------------------------


def test_links_lead_to_what_belongs_to_a_file(vo, sia):
    [row] = sia.search(target_name="HD_140283", calib_level=2)
    links = row.getdatalink()
    by_kind: dict[str, list] = {}
    for link in links:
        by_kind.setdefault(str(link["semantics"]), []).append(link)
    assert by_kind.keys() == {
        *("#this", "#preview-image", "#preview", "#progenitor", "#dark", "#flat", "#cutout", "#auxiliary"),
    }
    path = vo.app.layout.observation("20160925", vo.own) / "bright_star" / "100p.fits"
    assert by_kind["#this"][0]["content_length"] == path.stat().st_size
    assert str(by_kind["#progenitor"][0]["access_url"]).endswith(f"/observation/{vo.own}/raw/{vo.own}.fits")
    assert by_kind["#progenitor"][0]["content_length"] == len(vo.raw[vo.own])
    for kind in ("#this", "#preview-image", "#preview", "#dark", "#flat"):
        for link in by_kind[kind]:
            answer = session().get(link["access_url"])
            assert answer.status_code == 200
            assert len(answer.content) == link["content_length"]


def test_a_stack_is_the_progenitor_of_what_was_made_from_it(vo, tap):
    [cube] = tap.search("SELECT * FROM ivoa.obscore WHERE calib_level = 3 AND dataproduct_type = 'cube'")
    progenitors = [str(link["description"]) for link in cube.getdatalink() if link["semantics"] == "#progenitor"]
    assert progenitors == ["stack, 100p.fits", f"raw, {vo.own}.fits"]


def test_links_of_unknown_files_are_an_error_of_their_own_row(vo, sia):
    did = str(sia.search(target_name="GJ_436", calib_level=2)[0]["obs_publisher_did"])
    answer = session().get(f"{vo.address}/vo/datalink", params={"ID": [did, "ivo://else?where"]}).text
    assert answer.count("NotFoundFault") == 1
    assert answer.count("#this") == 2


@pytest.mark.parametrize(
    "region",
    [
        {"CIRCLE": f"{RA} {DEC} {20 * PIXEL_ARCSEC / 3600}"},
        {"POS": f"CIRCLE {RA} {DEC} {20 * PIXEL_ARCSEC / 3600}"},
        {"POLYGON": " ".join(f"{RA + x / 3600} {DEC + y / 3600}" for x, y in ((-0.3, -0.3), (0.3, -0.3), (0, 0.4)))},
        {"POS": f"RANGE {RA - 0.0001} {RA + 0.0001} {DEC - 0.0001} {DEC + 0.0001}"},
    ],
)
def test_cut_outs_hold_the_region_and_know_where_they_are(vo, sia, region):
    """The image is turned by 30 degrees; a pixel of the part is the pixel of the whole at the same position."""
    [row] = sia.search(target_name="GJ_436", calib_level=2)
    answer = session().get(f"{vo.address}/vo/soda", params={"ID": row["obs_publisher_did"], **region})
    assert answer.headers["Content-Type"] == "image/fits"
    part = fits.open(io.BytesIO(answer.content))[0]
    whole = fits.open(vo.app.layout.observation("20160925", vo.later) / "bright_star" / "100p.fits")[0]
    assert 20 < part.header["NAXIS1"] < 60
    assert 20 < part.header["NAXIS2"] < 60
    ny, nx = part.data.shape
    for x, y in ((0, 0), (nx - 1, 0), (0, ny - 1), (nx // 2, ny // 3)):
        there = WCS(whole.header).world_to_pixel(WCS(part.header).pixel_to_world(x, y))
        column, line = (round(float(value)) for value in there)
        assert np.allclose((column, line), there, atol=1e-3)
        assert part.data[y, x] == whole.data[line, column]
    star_x, star_y = WCS(part.header).world_to_pixel(SkyCoord(RA, DEC, unit="deg"))
    assert part.data[round(float(star_y)), round(float(star_x))] == pytest.approx(1000, rel=1e-3)


def test_a_large_region_gives_the_whole_image_and_a_half_the_half(vo, sia):
    [row] = sia.search(target_name="HD_140283", calib_level=2)  # north is up
    ask = f"{vo.address}/vo/soda"
    did = row["obs_publisher_did"]
    whole = fits.open(io.BytesIO(session().get(ask, params={"ID": did, "CIRCLE": f"{RA} {DEC} 5"}).content))[0]
    assert whole.data.shape == (120, 160)
    north = {"ID": did, "POS": f"RANGE {RA - 1} {RA + 1} {DEC} {DEC + 1}"}
    half = fits.open(io.BytesIO(session().get(ask, params=north).content))[0]
    assert half.data.shape[1] == 160
    assert 60 <= half.data.shape[0] <= 64
    cube = row["obs_publisher_did"].replace("100p", "cube")
    part = fits.open(io.BytesIO(session().get(ask, params={"ID": cube, "CIRCLE": f"{RA} {DEC} 0.0003"}).content))[0]
    assert part.data.ndim == 3


def test_a_cut_out_as_a_picture_shows_north_up(vo, sia):
    [row] = sia.search(target_name="HD_140283", calib_level=2)
    above = f"{RA} {DEC + 20 * PIXEL_ARCSEC / 3600} {25 * PIXEL_ARCSEC / 3600}"
    parameters = {"ID": row["obs_publisher_did"], "CIRCLE": above, "RESPONSEFORMAT": "image/png"}
    answer = session().get(f"{vo.address}/vo/soda", params=parameters)
    assert answer.headers["Content-Type"] == "image/png"
    picture = np.array(Image.open(io.BytesIO(answer.content)).convert("L"), float)
    line, _ = np.unravel_index(np.argmax(picture), picture.shape)
    assert line > picture.shape[0] * 0.7  # the star lies south of the middle


def test_no_overlap_is_no_content_and_nonsense_an_error(vo, sia):
    did = sia.search(target_name="GJ_436", calib_level=2)[0]["obs_publisher_did"]
    ask = f"{vo.address}/vo/soda"
    assert session().get(ask, params={"ID": did, "CIRCLE": "10 10 0.1"}).status_code == 204
    for wrong in ({"CIRCLE": "10 10"}, {"POS": "CIRCLE 1 1 1", "CIRCLE": "1 1 1"}, {"RESPONSEFORMAT": "image/gif"}):
        assert session().get(ask, params={"ID": did, **wrong}).status_code == 400
    assert session().get(ask).status_code == 400


def test_pyvo_cuts_out_by_the_description_of_the_service(sia):
    [row] = sia.search(target_name="GJ_436", calib_level=2)
    service = next(row.getdatalink().bysemantics("#cutout"))
    content = service.process(session=session(), circle=(RA, DEC, 20 * PIXEL_ARCSEC / 3600)).read()
    assert fits.open(io.BytesIO(content))[0].data.shape[0] < 60


# -- TAP ----------------------------------------------------------------------------------------------------------


FILES = "FROM ivoa.obscore WHERE calib_level = 2"
QUERIES = [
    ("SELECT TOP 1 target_name FROM ivoa.obscore WHERE s_ra > 0 ORDER BY t_min", [("HD_140283",)]),
    (
        "SELECT target_name t FROM ivoa.obscore AS o WHERE o.calib_level = 2 ORDER BY t_min DESC",
        [("GJ_436",), ("HD_140283",)],
    ),
    ("SELECT DISTINCT proposal_id FROM ivoa.obscore WHERE proposal_id IS NOT NULL", [("3",)]),
    ("SELECT COUNT(*) FROM ivoa.obscore WHERE obs_id = 'nothing'", [(0,)]),
    (
        "SELECT target_name, COUNT(*) n FROM ivoa.obscore WHERE calib_level > 1 GROUP BY target_name ORDER BY n DESC",
        [("HD_140283", 2), ("GJ_436", 1)],
    ),
    (
        "SELECT target_name, MAX(s_xel1) FROM ivoa.obscore GROUP BY target_name HAVING MAX(s_xel1) > 4 ORDER BY 1",
        [("GJ_436", 1024), ("HD_140283", 1024)],
    ),
    (f"SELECT target_name {FILES} AND target_name LIKE 'HD%'", [("HD_140283",)]),
    (f"SELECT target_name {FILES} AND target_name ILIKE '%j_4_6'", [("GJ_436",)]),
    (f"SELECT target_name {FILES} AND NOT target_name IN ('HD_140283')", [("GJ_436",)]),
    (f"SELECT target_name {FILES} AND t_min NOT BETWEEN 57656.1 AND 57656.13", [("GJ_436",)]),
    (f"SELECT target_name {FILES} AND em_min < 6.5e-7", [("HD_140283",)]),
    (f"SELECT ROUND(t_exptime / 60 + 1, 2) {FILES} AND target_name = 'GJ_436'", [(2.5,)]),
    (f"SELECT 'a' || target_name {FILES} AND target_name = 'GJ_436'", [("aGJ_436",)]),
    (
        f"SELECT COUNT(*) {FILES} AND 1 = CONTAINS(POINT('ICRS', s_ra, s_dec), CIRCLE('ICRS', {RA}, {DEC}, 0.01))",
        [(2,)],
    ),
    (f"SELECT COUNT(*) {FILES} AND CONTAINS(POINT({RA}, {DEC}), s_region) = 1", [(2,)]),
    (f"SELECT COUNT(*) {FILES} AND INTERSECTS(s_region, CIRCLE('ICRS', 10, 10, 1)) = 1", [(0,)]),
    (f"SELECT COUNT(*) {FILES} AND INTERSECTS(s_region, POLYGON({RA}, -1, {RA} + 1, 1, {RA} - 1, 1)) = 1", [(2,)]),
    (f"SELECT COUNT(*) {FILES} AND DISTANCE(POINT(s_ra, s_dec), POINT({RA}, {DEC})) < 0.01", [(2,)]),
    (f"SELECT COUNT(*) {FILES} AND s_ra BETWEEN 155 AND 156 AND s_dec < 0", [(2,)]),
    (f"SELECT COUNT(*) {FILES} AND (s_fov > 1 OR s_resolution < 0.2)", [(2,)]),
    ("SELECT COUNT(*) FROM ivoa.obscore WHERE calib_level = 1 AND target_name IS NULL", [(2,)]),
    ("SELECT table_name FROM TAP_SCHEMA.tables WHERE schema_name = 'ivoa'", [("ivoa.obscore",)]),
    ("SELECT unit, \"size\" FROM tap_schema.columns WHERE column_name = 's_fov'", [("deg", None)]),
    (f"SELECT target_name {FILES} OFFSET " + "9" * 30, []),
    (f"SELECT POWER(10, 400), ROUND(1 / 0.0, 2), LOG(-1) {FILES} AND target_name = 'GJ_436'", [(None, None, None)]),
    (f"SELECT target_name {FILES} ORDER BY s_resolution, target_name DESC OFFSET 1", [("GJ_436",)]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_queries(vo, query, expected):
    answer = session().get(f"{vo.address}/vo/tap/sync", params={"LANG": "ADQL", "QUERY": query})
    assert answer.status_code == 200, answer.text
    rows = [
        [cell.text for cell in row.findall("{*}TD")]
        for row in ET.fromstring(answer.text).iter("{http://www.ivoa.net/xml/VOTable/v1.3}TR")  # noqa: S314
    ]
    assert rows == [[None if value is None else str(value) for value in row] for row in expected]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM users",
        "SELECT password FROM ivoa.obscore",
        "SELECT * FROM ivoa.obscore, tap_schema.tables",
        "SELECT * FROM ivoa.obscore WHERE obs_id IN (SELECT obs_id FROM ivoa.obscore)",
        "DELETE FROM ivoa.obscore",
        "SELECT * FROM ivoa.obscore WHERE s_ra = 'x'",
        "SELECT * FROM ivoa.obscore WHERE target_name",
        "SELECT * FROM ivoa.obscore WHERE SLEEP(5) = 1",
        "SELECT * FROM ivoa.obscore WHERE 1=CONTAINS(POINT(1,95),CIRCLE(1,2,3))",
        "SELECT target_name, COUNT(*) FROM ivoa.obscore",
        "SELECT * FROM ivoa.obscore ORDER BY 99",
        "SELECT " + "(" * 500 + "1" + ")" * 500 + " FROM ivoa.obscore",
        "SELECT " + "+ " * 5000 + "1 FROM ivoa.obscore",
        "SELECT " + "1 + " * 4000 + "1 FROM ivoa.obscore",
        "SELECT TOP " + "9" * 5000 + " obs_id FROM ivoa.obscore",
        "",
    ],
)
def test_what_tap_does_not_understand_is_a_plain_error(vo, query):
    answer = session().post(f"{vo.address}/vo/tap/sync", data={"LANG": "ADQL", "QUERY": query})
    assert answer.status_code == 400
    assert 'value="ERROR"' in answer.text


def test_answers_come_as_votable_csv_and_tsv(vo):
    query = {
        "LANG": "ADQL",
        "QUERY": "SELECT obs_id, calib_level FROM ivoa.obscore WHERE target_name='GJ_436' AND calib_level=2",
    }
    ask = f"{vo.address}/vo/tap/sync"
    assert session().get(ask, params={**query, "FORMAT": "csv"}).text == f"obs_id,calib_level\r\n{vo.later},2\r\n"
    assert session().get(ask, params={**query, "RESPONSEFORMAT": "tsv"}).text == f"obs_id\tcalib_level\n{vo.later}\t2\n"
    assert session().get(ask, params={**query, "FORMAT": "fits"}).status_code == 400


def test_queries_have_limits_of_time_and_number(vo, monkeypatch):
    ask, query = f"{vo.address}/vo/tap/sync", {"LANG": "ADQL", "QUERY": "SELECT * FROM ivoa.obscore"}
    taken = [vo.app.store.slots.take("query ana", 4, timedelta(minutes=1)) for _ in range(4)]
    assert session().get(ask, params=query).status_code == 429
    for slot in taken:
        vo.app.store.slots.give_back(slot)
    assert session().get(ask, params=query).status_code == 200
    assert session().get(ask, params={**query, "MAXREC": 1}).text.count("<TR>") == 1
    monkeypatch.setattr(query_runner, "TIME_LIMIT_S", 0.0)
    answer = session().get(ask, params=query)
    assert answer.status_code == 400
    assert "takes longer" in answer.text


def test_a_job_is_answered_later(vo, tap):
    job = tap.submit_job("SELECT COUNT(*) AS n FROM ivoa.obscore WHERE calib_level=2")
    assert job.phase == "PENDING"
    job.run().wait(phases=["COMPLETED", "ERROR"])
    assert job.fetch_result()[0]["n"] == 2
    assert job.job_id in {found.jobid for found in tap.get_job_list()}
    others = session("ben").get(job.url)
    assert others.status_code == 404
    address = job.url
    job.delete()
    assert session().get(address).status_code == 404
    with pytest.raises(pyvo.dal.DALQueryError, match="no column"):
        tap.run_async("SELECT nonsense FROM ivoa.obscore")


# -- validators ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_taplint_finds_no_error(vo):
    found = validated("taplint", f"tapurl={vo.address}/vo/tap", "report=EWSF", "maxtable=10")
    assert "Totals: Errors: 0;" in found, found
    assert "S-OBS-COLS-1 ivoa.ObsCore columns: 30/30 required" in found


def test_datalinklint_finds_no_error(vo, sia):
    rows = sia.search(calib_level=2)
    dids = "&".join(f"ID={row['obs_publisher_did'].replace('?', '%3F')}" for row in rows)
    found = validated("datalinklint", f"votable={vo.address}/vo/datalink?{dids}&ID=ivo://else", "report=EWSF")
    assert "Totals: Errors: 0;" in found, found
    other = validated("datalinklint", f"votable={vo.address}/vo/sia2?CALIB=2", "report=EWSF")
    assert "Totals: Errors: 0;" not in other, "the validator finds nothing wrong with what is no list of links"


@pytest.mark.parametrize(
    "query",
    [
        "sia2?CALIB=2",
        "sia2?MAXREC=1&NOPE=1",
        "sia2?POS=nowhere",
        "tap/sync?LANG=ADQL&QUERY=SELECT+*+FROM+ivoa.obscore",
        "datalink?ID=ivo://else",
        "scs?RA=155.127&DEC=0&SR=1",
    ],
)
def test_votlint_finds_no_error(vo, query, tmp_path: Path):
    table = tmp_path / "answer.vot"
    table.write_bytes(session().get(f"{vo.address}/vo/{query}").content)
    found = validated("votlint", f"votable={table}", "ucd=true", "unit=true")
    assert "ERROR" not in found, found
    assert "WARNING" not in found, found
