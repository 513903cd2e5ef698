"""What people come for, done in a real browser: a PI the morning after, an administrator at work."""

import io
import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import axe_playwright_python
import numpy as np
import pyotp
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from playwright.sync_api import Page, Route, expect
from test_browser import CHROMIUM, Watched, _log_in, browser, visit
from toy_archive import NIGHT
from visitors import PASSWORD

from obsarchive.core.documents import utc_now
from obsarchive.daemon.requests import Requests
from obsarchive.web import Portal
from obsarchive.web.framework.authorization import REAUTH

__all__ = ["browser", "visit"]

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")


def test_a_pi_looks_at_last_night(visit: Watched, archive: SimpleNamespace) -> None:
    """Log in, the last night, a target, magnify, contrast curve, header, FITS viewer, download; search, export."""
    _log_in(visit, "ana")
    page = visit.page
    expect(page.locator("[data-plot=night] canvas")).to_be_visible()
    page.locator(".card", has_text="HD_140283").click()
    expect(page.locator("h1")).to_have_text("HD_140283")

    page.locator("[data-magnify]").check()
    page.locator(".picture-cropped img").hover()
    glass = page.locator(".glass")
    expect(glass).to_be_visible()
    assert "cropped.png" in glass.evaluate("element => element.style.backgroundImage")
    page.mouse.move(5, 5)
    expect(glass).to_be_hidden()

    expect(page.locator("[data-plot=contrast] canvas")).to_be_visible()
    page.locator("details.section summary", has_text="Header").click()
    page.fill("[data-filter-rows]", "object")
    expect(page.locator("#header-rows tbody tr:visible")).to_have_count(1)

    with page.expect_download() as download:
        page.get_by_role("link", name="Download everything").click()
    assert download.value.suggested_filename == f"{archive.own}.tar.bz2"

    page.get_by_role("link", name="Search").click()
    page.fill("main [name=ra]", "10:20:30.5")
    page.fill("main [name=dec]", "-00:00:15")
    page.fill("main [name=radius]", "2")
    page.select_option("main [name=unit]", "arcmin")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(f"{visit.address}/search?ra=10%3A20%3A30.5&dec=-00%3A00%3A15&radius=2&unit=arcmin#found")
    expect(page.locator(".results-table tbody tr")).to_have_count(4)
    with page.expect_download() as export:
        page.get_by_role("link", name="CSV").click()
    assert export.value.suggested_filename == "observations.csv"
    page.get_by_role("link", name="as thumbnails").click()
    expect(page.locator(".card")).to_have_count(4)
    page.locator(".search-form details summary", has_text="Columns").click()
    page.get_by_role("link", name="as a table").click()
    page.get_by_role("link", name="Target").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Target")


def test_the_summary_has_plots_and_a_film(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    frames = archive.toy.seeing(NIGHT, 4)
    _log_in(visit, "ana")
    page = visit.page
    page.get_by_role("link", name="Summary").click()
    for kind in ("seeing", "strehl-time", "strehl-seeing", "contrast"):
        expect(page.locator(f"[data-plot={kind}] canvas")).to_be_visible()
    picture, caption = page.locator("[data-frame]"), page.locator("[data-caption]")
    expect(caption).to_contain_text("1 of 4")
    page.get_by_role("button", name="Next frame").click()
    expect(caption).to_contain_text("2 of 4")
    assert frames[1] in picture.get_attribute("src")
    page.get_by_role("button", name="Play").click()
    expect(caption).to_contain_text("1 of 4")
    page.get_by_role("button", name="Pause").click()


def _answer_late(page: Page, wait_ms: float, route: Route) -> None:
    page.wait_for_timeout(wait_ms)
    route.continue_()


def test_the_fits_viewer_waits_for_the_module_that_reads_fits_files(visit: Watched, archive: SimpleNamespace) -> None:
    """Over a slow line it comes last, and the viewer's own script after JS9 has been set up."""
    archive.toy.real_image(archive.own)
    _log_in(visit, "ana")
    page = visit.page
    for name, wait_ms in (("viewer.js", 1000), ("astroemw.wasm", 3000)):
        page.route(f"**/{name}*", partial(_answer_late, page, wait_ms))
    visit.open(f"/view/{archive.own}/bright_star/100p.fits")
    page.wait_for_selector("html[data-fits-shown='120']", timeout=20_000)


def test_the_fits_viewer_shows_the_image(visit: Watched, archive: SimpleNamespace) -> None:
    archive.toy.real_image(archive.own)
    _log_in(visit, "ana")
    page = visit.page
    visit.open(f"/view/{archive.own}/bright_star/100p.fits")
    page.wait_for_selector("html[data-fits-shown='120']", timeout=20_000)
    bright = Image.open(io.BytesIO(page.locator(".fits-stage").screenshot())).convert("L").getextrema()[1]
    assert bright > 200, "the star is seen"
    page.select_option("[data-js9=scale]", "linear")
    page.get_by_role("button", name="Invert").click()
    box = page.locator(".fits-stage").bounding_box()
    assert box is not None
    for step in range(5):
        page.mouse.move(box["x"] + box["width"] / 2 + step, box["y"] + box["height"] / 2)
    expect(page.locator("[data-readout]")).to_contain_text("value")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.own}")


@pytest.mark.parametrize(("north_deg", "east_left"), [(0.0, True), (0.0, False), (35.0, True), (-140.0, False)])
def test_the_compass_points_as_the_coordinates_of_the_image_do(
    visit: Watched, archive: SimpleNamespace, north_deg: float, east_left: bool
) -> None:
    """Directions and scale bar against astropy, as loaded, enlarged, and turned north up."""
    path = archive.toy.real_image(archive.own, north_deg, east_left)
    _log_in(visit, "ana")
    page = visit.page
    visit.open(f"/view/{archive.own}/bright_star/100p.fits")
    page.wait_for_selector("html[data-fits-shown='120']", timeout=20_000)
    wcs = WCS(fits.getheader(path))
    middle = wcs.pixel_to_world(59.5, 59.5)
    expected = {}
    for letter, angle in (("N", 0), ("E", 90)):
        there = wcs.world_to_pixel(middle.directional_offset_by(angle * u.deg, 1 * u.arcsec))
        expected[letter] = np.array([there[0] - 59.5, 59.5 - there[1]])  # the screen's y points down
    for _ in range(2):
        for letter, direction in expected.items():
            assert np.allclose(_arrow(page, letter), direction / np.hypot(*direction), atol=0.02), letter
        page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="North up").click()
    assert np.allclose(_arrow(page, "N"), (0, -1), atol=0.02)
    before = _bar_arcsec_per_pixel(page)
    page.get_by_role("button", name="Zoom in").click()
    assert _bar_arcsec_per_pixel(page) == pytest.approx(before / 2, rel=0.01)
    zoom = page.evaluate("JS9.GetZoom({display: 'JS9'})")
    assert _bar_arcsec_per_pixel(page) == pytest.approx(0.0174 / zoom, rel=0.01)


def _arrow(page: Page, letter: str) -> np.ndarray:
    """Unit vector of an arrow on the screen."""
    path = page.locator(f"[data-arrow={letter}]").get_attribute("d") or ""
    x0, y0, x1, y1 = (float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", path)[:4])
    return np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)


def _bar_arcsec_per_pixel(page: Page) -> float:
    bar = page.locator("[data-bar]")
    length = re.search(r"h([\d.]+)", bar.get_attribute("d") or "")
    assert length is not None
    return float(bar.get_attribute("data-bar") or 0) / float(length[1])


def test_a_night_under_way_is_followed_without_reloading(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    app.store.jobs.report({"updated": archive.toy.now(), "state": "working"})
    _log_in(visit, "ana")
    page = visit.page
    card = page.locator(".card", has_text="GJ_436")
    expect(card).to_contain_text("rejected")
    page.evaluate("window.notReloaded = true")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(card).to_be_focused()
    archive.toy.reduced(archive.failed, 3, 21.5)
    archive.toy.job(archive.failed, "done", night=NIGHT, finished=archive.toy.now())
    expect(card).to_contain_text("21.5", timeout=15_000)
    expect(page.locator("#counts-3")).to_contain_text("2 done")
    expect(page.locator("#night-plot canvas")).to_be_visible()
    expect(card).to_be_focused()
    fresh = archive.toy.observation("3", "Newcomer", 20)
    archive.toy.job(fresh, "enqueued", night=NIGHT)
    expect(page.locator(".card", has_text="Newcomer")).to_be_visible(timeout=35_000)
    assert page.evaluate("window.notReloaded")
    app.store.jobs.telemetry.delete_many({})
    expect(page.locator("[data-daemon]")).to_have_text("not running", timeout=35_000)


def test_an_administrator_at_work(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    """Add a user, whose invitation is accepted; force a redo; edit the library; copy the calibration of a night."""
    archive.toy.calibration("20160920", [])
    _log_in(visit, "admin")
    page = visit.page
    page.get_by_role("link", name="Users").click()
    page.locator("form[action$='/users'] [name=name]").fill("kim")
    page.locator("form[action$='/users'] [name=programs]").fill("4")
    page.get_by_role("button", name="Add and make").click()
    link = page.get_by_label("One-time link").input_value()
    context = page.context.browser.new_context()
    guest = context.new_page()
    guest.goto(f"{visit.address}/welcome#{link.split('#')[1]}")
    guest.fill("[name=password]", "a meteor over the dome")
    guest.click("main button")
    expect(guest.locator(".card")).to_have_count(1)
    expect(guest.locator(".card")).to_contain_text("351_Yrsa")
    context.close()

    visit.open(f"/observation/{archive.own}")
    page.get_by_role("button", name="Redo", exact=True).first.click()
    expect(page.locator(".pipeline").first).to_contain_text("redo requested")

    page.get_by_role("link", name="PSF library").click()
    page.locator("li", has_text="HD_140283").get_by_role("button", name="Remove").click()
    expect(page.locator("li", has_text="HD_140283")).to_contain_text("queued")

    visit.open(f"/night/{NIGHT}/summary")
    page.get_by_label("Source of the calibration").select_option("20160920")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("main")).to_contain_text("The daemon will change the calibration")

    Requests(app.store, app.layout, app.chain).apply()
    assert app.store.observations.find(archive.own)["pipelined"]["bright_star"]["status"]["force_redo"] is True
    assert app.store.nights.find(NIGHT)["raw_data"]["copies_calibration_from"] == "20160920"
    visit.open("/psflib")
    expect(page.locator(".problem")).to_contain_text("was rejected")


@pytest.mark.timeout(900)
def test_everybody_can_read_and_reach_everything(
    visit: Watched, archive: SimpleNamespace, sources: SimpleNamespace
) -> None:
    """Contrast, names, roles, order of headings: WCAG 2.2 AA as axe checks it."""
    archive.toy.seeing(NIGHT, 2)
    page = visit.page
    visit.open("/login")
    found = [("/login", problem) for problem in violations(page)]
    _log_in(visit, "admin")
    archive.toy.store.sessions.collection.update_many({}, {"$set": {"confirmed": utc_now() - REAUTH}})
    for path in (
        "/login/confirm",
        f"/night/{NIGHT}",
        f"/night/{NIGHT}/summary",
        f"/night/{NIGHT}/downloads",
        f"/observation/{archive.own}",
        f"/observation/{archive.failed}",
        "/nights",
        "/help",
        "/help/pipelines/high_contrast",
        "/help/api",
        f"/help/program?of=/observation/{archive.own}",
        "/search",
        "/search?date_from=2016-01-01",
        "/search?ra=x&dec=y",
        "/psflib",
        "/datasets",
        f"/dataset/{archive.datasets[0]}",
        "/lightcurves?star=1",
        "/lightcurves?star=x",
        "/lightcurves/compare",
        "/sources/compare",
        "/events",
        "/sources",
        "/sources?ra=0&dec=20&radius=1&unit=arcmin",
        "/sources?state=failed",
        "/sources?ra=x&dec=y",
        f"/source/{sources.event}?period=3.25",
        f"/source/{sources.empty}",
        f"/source/{sources.failed}",
        "/jobs",
        "/users",
        "/account",
        "/no/such/page",
    ):
        visit.open(path)
        page.wait_for_load_state("networkidle")
        found += [(path, problem) for problem in violations(page)]
    visit.complaints = [text for text in visit.complaints if not re.search("40[04]", text)]
    assert found == []


def violations(page: Page, what: object = "html") -> list[str]:
    """What axe finds wrong with (a part of) a page, light and dark: the rule, the first element that breaks it."""
    page.evaluate(AXE.read_text())
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    problems = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        for item in page.evaluate("([what, rules]) => axe.run(what, rules)", [what, rules])["violations"]:
            first = item["nodes"][0]
            problems.append(f"{scheme}: {item['id']}: {first['html'][:160]}: {first['failureSummary'][:200]}")
    return problems


def test_tokens_sessions_and_the_second_step(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    page = visit.page
    page.get_by_role("link", name="ana").click()
    page.locator("#tokens [name=label]").fill("notebook")
    page.get_by_role("button", name="Create a token").click()
    token = page.get_by_label("Token", exact=True).input_value()
    answer = page.request.get(f"{visit.address}/api/v1/account", headers={"Authorization": f"Bearer {token}"})
    assert json.loads(answer.text())["name"] == "ana"
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("main")).to_contain_text("The token was revoked")

    page.get_by_role("button", name="Set up").click()
    secret = page.locator("#two-step code").inner_text()
    expect(page.locator(".qr")).to_be_visible()
    page.locator("#two-step [name=code]").fill(pyotp.TOTP(secret).now())
    page.get_by_role("button", name="Switch on").click()
    expect(page.locator("#two-step")).to_contain_text("a code of your authenticator")
    page.click("text=Log out")
    page.fill("[name=username]", "ana")
    page.fill("[name=password]", PASSWORD)
    page.click("main button")
    expect(page.locator("h1")).to_have_text("Second step")
