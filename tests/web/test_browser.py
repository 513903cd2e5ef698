"""The portal in a real browser: keyboard, a quiet console, nothing fetched from elsewhere, hostile text inert."""

import shutil
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from toy_archive import EARLIER, NIGHT, ZTF
from visitors import PASSWORD

from obsarchive.accounts import users as accounts
from obsarchive.web import Portal

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--in-process-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


class Watched:
    """A page whose complaints and requests are kept."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._ask(request.url))

    def _note(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def _ask(self, url: str) -> None:
        if not url.startswith((self.address, "data:")):
            self.foreign.append(url)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)


@pytest.fixture
def visit(browser: Browser, address: str, archive: SimpleNamespace) -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    watched = Watched(context.new_page(), address)
    yield watched
    context.close()
    assert watched.complaints == []
    assert watched.foreign == []


def _log_in(visit: Watched, name: str) -> None:
    visit.open("/")
    visit.page.fill("[name=username]", name)
    visit.page.fill("[name=password]", PASSWORD)
    visit.page.click("main button")
    expect(visit.page).to_have_url(f"{visit.address}/night/{NIGHT}")
    visit.page.wait_for_selector("html.scripted")


def test_a_night_is_walked_by_keyboard(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    page = visit.page
    expect(page.locator(".card")).to_have_count(3)
    page.keyboard.press("ArrowRight")
    expect(page.locator(".card").first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.own}")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.failed}")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.own}")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{visit.address}/night/{NIGHT}")
    page.keyboard.press("k")
    expect(page).to_have_url(f"{visit.address}/night/{EARLIER}")
    page.keyboard.press("j")
    expect(page).to_have_url(f"{visit.address}/night/{NIGHT}")


def test_the_filter_narrows_while_one_types_and_stays_in_the_address(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    page = visit.page
    page.keyboard.press("/")
    expect(page.locator("[data-live-filter]")).to_be_focused()
    page.keyboard.type("rejected")
    expect(page.locator(".card:visible")).to_have_count(1)
    expect(page).to_have_url(f"{visit.address}/night/{NIGHT}?q=rejected")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.failed}?q=rejected")
    page.go_back()
    page.reload()
    expect(page.locator(".card:visible")).to_have_count(1)
    page.select_option("[name=sort]", "name")
    expect(page).to_have_url(f"{visit.address}/night/{NIGHT}?q=rejected&sort=name")


def test_the_size_of_thumbnails_is_remembered(visit: Watched) -> None:
    _log_in(visit, "ana")
    page = visit.page
    page.locator("[data-thumb-size]").fill("320")
    page.reload()
    box = page.locator(".card .frame").first.bounding_box()
    assert box is not None
    assert 310 <= box["width"] <= 320
    assert box["width"] == pytest.approx(box["height"], abs=1)


def test_an_observation_opens_its_pictures_and_logs(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open(f"/observation/{archive.own}")
    page = visit.page
    expect(page.locator(".picture-cropped img")).to_be_visible()
    page.get_by_label("whole frame").check()
    expect(page.locator(".picture-full img")).to_be_visible()
    expect(page.locator(".picture-cropped img")).to_be_hidden()
    step = page.locator(".pipeline-step").first
    step.locator("summary").first.click()
    step.locator(".provenance summary").click()
    expect(step.locator("pre.log")).to_contain_text("guide star found")
    page.locator("details.section summary", has_text="Header").click()
    page.fill("[data-filter-rows]", "expos")
    expect(page.locator("#header-rows tbody tr:visible")).to_have_count(1)


def test_hostile_text_does_nothing(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    page = visit.page
    for path in (f"/night/{NIGHT}", f"/observation/{archive.hostile}", "/jobs"):
        visit.open(path)
        for section in page.locator("details > summary").all():
            section.click()
        page.wait_for_load_state("networkidle")
        assert page.title() != "owned"
        assert page.locator("img[src=x]").count() == 0


def test_jobs_are_live(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open("/jobs")
    expect(visit.page.locator("main")).to_contain_text("Nothing is running")
    archive.toy.job(archive.own, "enqueued", fraction=0.41, text="registering frames")
    expect(visit.page.locator("main")).to_contain_text("registering frames", timeout=10_000)


def test_light_curves_are_drawn_and_folded(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open("/datasets")
    page = visit.page
    page.click("text=OGLE-2024-BLG-0034")
    expect(page.locator("[data-plot=lightcurve] canvas").first).to_be_visible()
    page.click("text=Light curves")
    page.fill("input[name=star]", "2")
    page.fill("input[name=period]", "2.5")
    page.click("text=Show")
    expect(page.locator("figcaption")).to_contain_text("star 2")
    expect(page.locator("[data-plot=lightcurve] canvas").first).to_be_visible()
    page.locator("[data-plot=lightcurve] .u-over").first.hover(position={"x": 5, "y": 5})
    assert page.locator("text=CSV").get_attribute("href").startswith("/lightcurves/export/csv")


def test_a_source_is_found_looked_at_zoomed_and_folded(
    visit: Watched, app: Portal, archive: SimpleNamespace, sources: SimpleNamespace
) -> None:
    row = {"name": sources.event, "ra": 0.0001, "dec": 20.0, "mag": 16.0}
    archive.toy.source("WHITE_DWARFS", row, ZTF(), extra={"period": {"period_d": 3.25, "power": 0.8}})
    _log_in(visit, "ana")
    page = visit.page
    page.get_by_role("link", name="Sources").click()
    expect(page.locator("section[aria-label=Projects]")).to_contain_text("2 of 5 sources")
    app.store.surveys.note_run("OURS", {"text": "4 of 5 sources", "progress": 0.8})
    expect(page.locator("section[aria-label=Projects]")).to_contain_text("80 %", timeout=10_000)
    page.fill("main [name=ra]", "00:00:00")
    page.fill("main [name=dec]", "20")
    page.fill("main [name=radius]", "1")
    page.select_option("main [name=unit]", "arcmin")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(f"{visit.address}/sources?ra=00%3A00%3A00&dec=20&radius=1&unit=arcmin#found")
    expect(page.locator(".results-table tbody tr")).to_have_count(2)
    page.locator(".results-table").get_by_role("link", name=sources.event).click()

    canvas = page.locator("[data-plot=lightcurve] canvas")
    expect(canvas).to_be_visible()
    entry = page.get_by_role("button", name="ZTF g")
    expect(entry).to_have_attribute("aria-pressed", "true")
    before = canvas.screenshot()
    entry.click()
    expect(entry).to_have_attribute("aria-pressed", "false")
    without = canvas.screenshot()
    assert without != before
    over = page.locator("[data-plot=lightcurve] .u-over")
    over.drag_to(over, source_position={"x": 200, "y": 100}, target_position={"x": 400, "y": 100})
    zoomed = canvas.screenshot()
    assert zoomed != without, "dragging zooms in"
    over.dblclick(position={"x": 300, "y": 100})
    page.mouse.move(5, 5)
    assert canvas.screenshot() == without, "a double click shows everything again"

    page.get_by_role("link", name="Fold with 3.25").click()
    expect(page.locator("figcaption").first).to_contain_text("folded")
    expect(page.locator("input[name=period]")).to_have_value("3.25")
    page.get_by_role("link", name="Against time").click()
    expect(page.locator("input[name=period]")).to_have_value("")
    page.locator(".chart a").click()
    expect(page.locator("h1")).to_have_text(sources.quiet)


def test_a_one_time_link_leads_into_the_archive(visit: Watched, app: Portal) -> None:
    token = accounts.invite(app.store.users, "ben")
    visit.open(f"/welcome#{token}")
    page = visit.page
    expect(page.locator("[name=token]")).to_have_value(token)
    expect(page).to_have_url(f"{visit.address}/welcome")
    page.fill("[name=password]", "aphelion in the winter")
    page.click("main button")
    expect(page).to_have_url(f"{visit.address}/night/{NIGHT}")
    page.click("text=Log out")
    expect(page).to_have_url(f"{visit.address}/login")


@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_is_wider_than_the_screen(
    browser: Browser, address: str, archive: SimpleNamespace, sources: SimpleNamespace, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844})
    visit = Watched(context.new_page(), address)
    _log_in(visit, "admin")
    series = (f"/dataset/{archive.datasets[0]}", "/datasets", "/lightcurves?star=1&period=3.1")
    surveys = ("/sources", "/sources?state=failed", f"/source/{sources.event}", f"/source/{sources.failed}")
    guide = ("/help", "/help/pipelines/bright_star", "/help/api", f"/help/program?of=/observation/{archive.own}")
    shown = (f"/night/{NIGHT}", f"/observation/{archive.own}", "/jobs", "/users", "/account", *series, *surveys, *guide)
    for path in shown:
        visit.open(path)
        for scheme in ("light", "dark"):
            visit.page.emulate_media(color_scheme=scheme)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, (path, scheme)
    context.close()
    assert visit.complaints == []


def test_a_public_observation_is_read_without_a_login(visit, archive, app) -> None:
    """Its description for search engines is no script: the policy lets it be."""
    app.store.people.mark()
    app.store.programmes.save("3", {"period": 0, "title": "Subdwarfs"}, "admin")
    visit.open("/public")
    visit.page.click("text=HD_140283")
    expect(visit.page.locator("h1")).to_have_text("HD_140283")
    width = visit.page.eval_on_selector(
        ".sole-picture img", "async image => (await image.decode(), image.naturalWidth)"
    )
    assert width == 320
    kind = visit.page.eval_on_selector("script[type='application/ld+json']", "found => JSON.parse(found.text)['@type']")
    assert kind == "Dataset"
    with visit.page.expect_download() as started:
        visit.page.click("a.download")
    assert started.value.suggested_filename == f"{archive.own}.tar"
