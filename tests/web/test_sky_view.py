"""The sky viewer: only where it is configured, with the real Aladin Lite in a real browser."""

import io
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright
from test_browser import ARGUMENTS, CHROMIUM, Watched
from test_targets import EPOCHS, star
from test_tasks import violations
from toy_archive import make_config
from visitors import PASSWORD, Visitor, make_app, served

from obsarchive.store import Store
from obsarchive.web import Portal

__all__ = ["star"]

CANNOT_DRAW = ("--disable-gpu", "--in-process-gpu")
DRAWING = [
    *(one for one in ARGUMENTS if one not in CANNOT_DRAW),
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
"""WebGL without a graphics card."""
PACKAGE = Path(__file__).with_name("node_modules") / "aladin-lite"
SCENE = re.compile(r'<script type="application/json" id="sky-scene">(.*?)</script>')
FIELD = "document.querySelector('.sky-stage').aladin.getFov()[0]"
SURVEY = "https://hips.example.org/DSS2/red"
LEVEL = 180
"""Brightness of the sky of the survey here."""
PROPERTIES = """creator_did = ivo://example/P/grey
obs_title = Grey
hips_version = 1.4
hips_order = 3
hips_frame = equatorial
hips_tile_width = 512
hips_tile_format = jpeg
dataproduct_type = image
hips_status = public master clonable
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder like that of the npm package, with files beside that must not be served."""
    (tmp_path / "aladin-lite" / "dist").mkdir(parents=True)
    (tmp_path / "aladin-lite" / "dist" / "aladin.js").write_text("export default 1;\n")
    (tmp_path / "aladin-lite" / "package.json").write_text("{}")
    return tmp_path / "aladin-lite"


@pytest.fixture
def with_viewer(store: Store, tmp_path: Path, folder: Path, star: SimpleNamespace) -> Portal:
    """Return a portal with the viewer, whose observations lie on the sky."""
    for obs in star.ids:
        detections = store.observations.find(obs)["pipelined"]["bright_star"]["steps"]["pca"]["results"]["detections"]
        results = {"n_references": 12, "detections": detections}
        star.toy.step(obs, "bright_star", "pca", state="done", products=[], results=results)
    return make_app(store, make_config(tmp_path, aladin_lite=str(folder)))


def visitor(app: Portal, name: str) -> Visitor:
    found = Visitor(app.test_client())
    found.log_in(name)
    return found


def truth(app: Portal, obs: str, number: int) -> tuple[WCS, SkyCoord, SkyCoord]:
    """Return the world coordinates of an image, and the places of the star and of its companion."""
    night, _, _, separation, angle, _, (y, x) = EPOCHS[number]
    wcs = WCS(fits.getheader(app.layout.observation(night, obs) / "bright_star" / "100p.fits"))
    place = wcs.pixel_to_world(x, y)
    return wcs, place, place.directional_offset_by(angle * units.deg, separation * units.arcsec)


def scene_of(page: str) -> dict:
    return json.loads(SCENE.search(page)[1])


def test_it_does_not_exist_where_it_is_not_configured(star: SimpleNamespace, as_user) -> None:
    ana = as_user("ana")
    for address in (f"/observation/{star.ids[0]}/sky", "/target/HIP_55203/sky", "/aladin/1/aladin.js"):
        assert ana.get(address).status_code == 404, address
    for address in (f"/observation/{star.ids[0]}", "/target/HIP_55203"):
        assert "/sky" not in ana.get(address).text, address


def test_it_does_not_exist_while_the_folder_is_empty(with_viewer: Portal, folder: Path, star: SimpleNamespace) -> None:
    (folder / "dist" / "aladin.js").unlink()
    ana = visitor(with_viewer, "ana")
    assert ana.get(f"/observation/{star.ids[0]}/sky").status_code == 404
    assert "/sky" not in ana.get(f"/observation/{star.ids[0]}").text


def test_images_and_companions_lie_where_they_are(with_viewer: Portal, star: SimpleNamespace) -> None:
    ana, obs = visitor(with_viewer, "ana"), star.ids[0]
    address = f"/observation/{obs}/sky"
    assert f'href="{address}"' in ana.get(f"/observation/{obs}").text
    scene = scene_of(ana.get(address).text)
    wcs, _, second = truth(with_viewer, obs, 0)
    assert np.allclose(scene["images"][0]["corners"], wcs.calc_footprint(center=False), rtol=0, atol=1e-7)
    [companion] = scene["companions"]
    found = SkyCoord(companion["ra"], companion["dec"], unit="deg")
    assert found.separation(second).arcsec < 0.03  # the header tells where the star is to a pixel and a half
    assert companion["label"] == "Δ2.5 mag, 0.80″, 49°"
    assert scene["survey"] is None
    assert ana.get(scene["images"][0]["address"]).data.startswith(b"SIMPLE")


def test_stars_of_the_plate_solution_are_marked(with_viewer: Portal, star: SimpleNamespace) -> None:
    """Those of the catalogue lie beside those of the image; a solved image comes first."""
    obs, night = star.ids[0], EPOCHS[0][0]
    folder = with_viewer.layout.observation(night, obs) / "astrometry"
    table = (
        b"x_px,ra_deg,dec_deg,catalogue_ra_deg,catalogue_dec_deg\n1,169.6,31.52,169.60001,31.52001\n2,169.7,31.53,,\n"
    )
    image = (folder.parent / "bright_star" / "100p.fits").read_bytes()
    products = [
        star.toy.product(folder, f"{obs}{end}", data) for end, data in (("_matches.csv", table), ("_wcs.fits", image))
    ]
    star.toy.step(obs, "astrometry", "solve", state="done", products=products, results={"solved": True})
    scene = scene_of(visitor(with_viewer, "ana").get(f"/observation/{obs}/sky").text)
    assert [image["label"] for image in scene["images"]] == [
        "astrometry, wcs.fits, plate solution",
        "bright star, 100p.fits",
    ]
    assert scene["stars"] == [[169.6, 31.52], [169.7, 31.53]]
    assert scene["catalogue"] == [[169.60001, 31.52001]]


def test_epochs_of_a_target_are_those_that_the_user_may_see(with_viewer: Portal, star: SimpleNamespace) -> None:
    for name, dates in (("ana", ["2014-03-02", "2013-03-01"]), ("admin", ["2015-03-03", "2014-03-02", "2013-03-01"])):
        browser = visitor(with_viewer, name)
        assert 'href="/target/HIP_55203/sky"' in browser.get("/target/HIP_55203").text
        scene = scene_of(browser.get("/target/HIP_55203/sky").text)
        assert [image["label"][:10] for image in scene["images"]] == dates
        assert [companion["label"] for companion in scene["companions"]] == dates[::-1]
    assert visitor(with_viewer, "ana").get(f"/observation/{star.ids[2]}/sky").status_code == 404


def test_one_file_of_the_package_is_served(with_viewer: Portal, star: SimpleNamespace) -> None:
    ana = visitor(with_viewer, "ana")
    [address] = re.findall(r'data-sky="([^"]+)"', ana.get(f"/observation/{star.ids[0]}/sky").text)
    script = ana.get(address)
    assert (script.status_code, script.mimetype, script.text) == (200, "text/javascript", "export default 1;\n")
    assert script.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    version = address.split("/")[2]
    for other in (
        f"/aladin/{version}/../package.json",
        f"/aladin/{version}/..%2Fpackage.json",
        "/aladin/old/aladin.js",
    ):
        assert ana.get(other).status_code == 404, other
    assert Visitor(with_viewer.test_client()).get(address).status_code == 302


def test_only_this_page_may_run_it_and_fetch_the_survey(
    store: Store, tmp_path: Path, folder: Path, star: SimpleNamespace
) -> None:
    app = make_app(store, make_config(tmp_path, aladin_lite=str(folder), sky_survey=SURVEY))
    ana = visitor(app, "ana")
    page = ana.get(f"/observation/{star.ids[0]}/sky")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["connect-src"].split()[-1] == policy["img-src"].split()[-1] == f"{SURVEY}/"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert scene_of(page.text)["survey"] == SURVEY
    for other in (f"/observation/{star.ids[0]}", f"/view/{star.ids[0]}/bright_star/100p.fits", "/target/HIP_55203"):
        assert "hips.example.org" not in ana.get(other).headers["Content-Security-Policy"], other


@pytest.mark.parametrize("survey", ["ftp://a.org/x", "https://a.org/x; script-src *", "https://u@a.org/x"])
def test_a_survey_is_an_address_and_nothing_else(tmp_path: Path, survey: str) -> None:
    with pytest.raises(ValueError, match="sky_survey"):
        make_config(tmp_path, sky_survey=survey)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=DRAWING)
        yield found
        found.close()


@pytest.fixture
def script(folder: Path) -> None:
    """Put the real Aladin Lite into the folder."""
    found = PACKAGE / "dist" / "aladin.js"
    assert found.is_file(), f"{found} is missing: `make test` installs it"
    (folder / "dist" / "aladin.js").write_bytes(found.read_bytes())


@contextmanager
def opened(browser: Browser, app: Portal, observation: str) -> Iterator[Watched]:
    """Open the sky viewer as Ana and wait for the first image."""
    with served(app) as address:
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(120_000)
        visit = Watched(context.new_page(), address)
        visit.open("/login")
        for name, value in (("username", "ana"), ("password", PASSWORD)):
            visit.page.fill(f"[name={name}]", value)
        visit.page.click("main button")
        visit.open(f"/observation/{observation}/sky")
        visit.page.wait_for_selector("html[data-sky-shown='0']")
        for box in visit.page.locator("[data-sky-marks]").all():
            box.uncheck()
        visit.page.wait_for_timeout(500)
        yield visit
        context.close()


@pytest.fixture
def survey() -> Iterator[str]:
    """Return the address of a sky survey that is as bright everywhere."""
    tile, all_tiles, coverage = io.BytesIO(), io.BytesIO(), io.BytesIO()
    Image.new("RGB", (512, 512), (LEVEL,) * 3).save(tile, "JPEG")
    Image.new("RGB", (27 * 64, 29 * 64), (LEVEL,) * 3).save(all_tiles, "JPEG")
    whole_sky = fits.BinTableHDU.from_columns([fits.Column("UNIQ", "1J", array=range(4, 16))])
    whole_sky.header.update(PIXTYPE="HEALPIX", ORDERING="NUNIQ", COORDSYS="C", MOCORDER=0, MOCVERS="1.1")
    fits.HDUList([fits.PrimaryHDU(), whole_sky]).writeto(coverage)
    files = {"properties": PROPERTIES.encode(), "Moc.fits": coverage.getvalue(), "Allsky.jpg": all_tiles.getvalue()}

    class Survey(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(files.get(self.path.partition("?")[0].rpartition("/")[2], tile.getvalue()))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Survey)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/grey"
    server.shutdown()
    server.server_close()


def brightness(visit: Watched, place: SkyCoord) -> int:
    """Return how bright the page is at a place on the sky."""
    script = "(stage, at) => stage.aladin.world2pix(...at)"
    x, y = visit.page.locator(".sky-stage").evaluate(script, [float(place.ra.deg), float(place.dec.deg)])
    picture = Image.open(io.BytesIO(visit.page.locator(".sky-stage").screenshot())).convert("L")
    return picture.getpixel((round(x), round(y)))


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
@pytest.mark.usefixtures("script")
def test_the_sky_is_drawn_and_walked_by_keyboard(browser: Browser, with_viewer: Portal, star: SimpleNamespace) -> None:
    _, first, second = truth(with_viewer, star.ids[0], 0)
    beside = first.directional_offset_by(139 * units.deg, 0.8 * units.arcsec)
    with opened(browser, with_viewer, star.ids[0]) as visit:
        bright, faint, empty = (brightness(visit, place) for place in (first, second, beside))
        assert bright > faint > empty + 40
        page = visit.page
        page.locator(".sky-stage").focus()
        before = page.locator(".sky-stage").evaluate("stage => [...stage.aladin.getRaDec(), stage.aladin.getFov()[0]]")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("+")
        page.wait_for_function(f"field => {FIELD} < field", arg=before[2])
        after = page.locator(".sky-stage").evaluate("stage => stage.aladin.getRaDec()")
        assert after[0] > before[0], "east is left"
        assert after[1] > before[1], "north is up"
        expect(page.locator("[data-sky-readout]")).to_have_text(
            re.compile(r"^11:18:2\d\.\d{3} \+31:31:1\d\.\d\d ICRS$")
        )
        page.keyboard.press("0")
        page.wait_for_function(f"field => {FIELD} > field", arg=0.99 * before[2])
        assert violations(page, {"exclude": [".aladin-container > *"]}) == []
        assert visit.complaints == []
        assert [url for url in visit.foreign if not url.startswith("blob:")] == []


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
@pytest.mark.usefixtures("script")
def test_a_survey_is_the_background(
    browser: Browser, store: Store, tmp_path: Path, folder: Path, star: SimpleNamespace, survey: str
) -> None:
    app = make_app(store, make_config(tmp_path, aladin_lite=str(folder), sky_survey=survey))
    wcs, first, _ = truth(app, star.ids[0], 0)
    height, width = wcs.array_shape
    outside = wcs.pixel_to_world(width / 2, 1.04 * height)
    with opened(browser, app, star.ids[0]) as visit:
        visit.page.locator("[data-sky-do=out]").click()
        visit.page.wait_for_timeout(2000)
        assert abs(brightness(visit, outside) - LEVEL) < 20
        assert brightness(visit, first) > 220
        assert visit.complaints == []
        fetched = [url for url in visit.foreign if not url.startswith("blob:")]
        assert fetched
        assert all(url.startswith(f"{survey}/") for url in fetched)
