"""Open pages follow the archive in all their parts and say when daemon or login are gone; keys stay in place."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect
from test_browser import CHROMIUM, Watched, _log_in, browser, visit
from toy_archive import NIGHT

from obsarchive.core.causes import SILENCE
from obsarchive.core.documents import utc_now
from obsarchive.web import Portal

__all__ = ["browser", "visit"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")


def test_a_daemon_that_falls_silent_is_red_on_every_open_page(
    visit: Watched, app: Portal, archive: SimpleNamespace
) -> None:
    """It is missed as soon as it counts as ended, however slowly the page polls: a silence of 60 s, not 90 s."""
    _log_in(visit, "ana")
    pages = [visit.page, *(visit.page.context.new_page() for _ in range(2))]
    last = utc_now() - SILENCE + timedelta(seconds=6)
    app.store.jobs.report({"updated": last, "state": "working"})
    for page, path in zip(pages, ("/search", f"/observation/{archive.own}", "/jobs"), strict=True):
        page.goto(visit.address + path)
        page.evaluate("window.notReloaded = true")
        expect(page.locator("[data-alarm]")).to_be_hidden()
    for page in pages:
        expect(page.locator("[data-alarm]")).to_be_visible(timeout=12_000)
        expect(page.locator("[data-daemon]")).to_have_text("not running")
        assert page.evaluate("window.notReloaded")
    assert utc_now() - last < SILENCE + timedelta(seconds=8)
    app.store.jobs.report({"updated": utc_now(), "state": "idle"})
    expect(pages[2].locator("[data-alarm]")).to_be_hidden(timeout=8_000)
    expect(pages[2].locator("[data-daemon]")).to_have_text("idle")


def test_after_a_logout_elsewhere_an_open_page_says_so(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    other = visit.page.context.new_page()
    other.goto(f"{visit.address}/search")
    visit.page.click("text=Log out")
    notice = other.locator("[data-logged-out]")
    expect(notice).to_be_visible(timeout=10_000)
    expect(notice.get_by_role("link")).to_have_attribute("href", f"{visit.address}/login?next=%2Fsearch")


def test_an_observation_is_live_in_all_its_parts(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    app.store.jobs.report({"updated": utc_now(), "state": "working"})
    _log_in(visit, "ana")
    visit.open(f"/observation/{archive.failed}")
    page = visit.page
    page.evaluate("window.notReloaded = true")
    expect(page.locator("#headline .state")).to_have_text("rejected")
    archive.toy.reduced(archive.failed, 3, 21.5)
    archive.toy.job(archive.failed, "done", night=NIGHT, finished=utc_now())
    expect(page.locator("#headline .state")).to_have_text("done", timeout=15_000)
    expect(page.locator(".picture-cropped img")).to_be_visible()
    expect(page.locator("#about")).to_contain_text("21.5 ± 0.4")
    expect(page.locator("[data-plot=contrast] canvas")).to_be_visible()
    picture = page.locator(".picture-cropped img").get_attribute("src")
    page.get_by_label("whole frame").check()
    archive.toy.reduced(archive.failed, 4, 22.5)
    archive.toy.job(archive.failed, "done", night=NIGHT, finished=utc_now())
    expect(page.locator("#about")).to_contain_text("22.5 ± 0.4", timeout=15_000)
    assert page.locator(".picture-cropped img").get_attribute("src") != picture, "the new picture is fetched"
    expect(page.get_by_label("whole frame")).to_be_checked()
    assert page.evaluate("window.notReloaded")


def test_the_summary_is_live(visit: Watched, app: Portal, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open(f"/night/{NIGHT}/summary")
    page = visit.page
    page.evaluate("window.notReloaded = true")
    expect(page.locator("#missing-now")).to_contain_text("no star brighter")
    archive.toy.reduced(archive.failed, 3, 21.5)
    archive.toy.job(archive.failed, "done", night=NIGHT, finished=utc_now())
    expect(page.locator("#missing-now")).not_to_contain_text("no star brighter", timeout=15_000)
    expect(page.locator("#night-tabs")).to_contain_text("1 problem")
    expect(page.locator("[data-plot=strehl-time] canvas")).to_be_visible()
    assert page.evaluate("window.notReloaded")


def test_what_is_open_on_the_jobs_page_stays_open(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open("/jobs")
    page = visit.page
    opened = page.locator(".causes details").first
    opened.locator("summary").click()
    expect(opened.locator("summary")).to_be_focused()
    page.locator("#history > summary").click()
    page.locator("#history > summary").focus()
    with page.expect_response("**/jobs/now"):
        pass
    page.wait_for_timeout(300)
    expect(opened.locator("a").first).to_be_visible()
    expect(page.locator("#history > summary")).to_be_focused()


def test_arrows_in_the_choice_of_pictures_stay_on_the_page(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open(f"/observation/{archive.failed}")
    visit.open(f"/observation/{archive.own}")
    page = visit.page
    page.get_by_label("close-up").focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.own}")
    expect(page.get_by_label("whole frame")).to_be_checked()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_label("close-up")).to_be_checked()
    page.get_by_label("whole frame").check()
    page.get_by_label("faint").check()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.failed}")
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.own}")
    expect(page.get_by_label("whole frame")).to_be_checked()
    expect(page.get_by_label("faint")).to_be_checked()


def test_the_focus_returns_to_the_card(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    page = visit.page
    page.keyboard.press("ArrowDown")
    expect(page.locator("body")).to_be_focused()  # it scrolls
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visit.address}/observation/{archive.failed}")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{visit.address}/night/{NIGHT}")
    expect(page.locator(f"[id='card-{archive.failed}'] a")).to_be_focused()


def test_a_slider_shows_that_it_has_the_focus(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open(f"/night/{NIGHT}")
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.type") == "range":
            break
    shown = visit.page.evaluate("getComputedStyle(document.activeElement)['outline-style']")
    assert (visit.page.evaluate("document.activeElement.type"), shown) == ("range", "solid")


def test_escape_closes_the_menu_and_gives_the_focus_back(visit: Watched, archive: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.page.set_viewport_size({"width": 390, "height": 844})
    visit.open(f"/observation/{archive.own}")
    for presses in (1, 3):  # the search field, and a link
        visit.page.locator("button.menu").focus()
        visit.page.keyboard.press("Enter")
        for _ in range(presses):
            visit.page.keyboard.press("Tab")
        visit.page.keyboard.press("Escape")
        expect(visit.page.locator("button.menu")).to_be_focused()
        assert visit.page.evaluate("document.querySelector(':popover-open')") is None
        assert archive.own in visit.page.url


def test_points_of_a_plot_are_reached_by_keyboard(visit: Watched, archive: SimpleNamespace) -> None:
    archive.toy.reduced(archive.failed, 3, 21.5)
    _log_in(visit, "ana")
    page = visit.page
    plot = page.locator("[data-plot=night]")
    plot.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".plot-label")).to_contain_text("HD_140283")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".plot-label")).to_have_text("GJ_436  Strehl 21.5 ± 0.4 %  lp600")
    page.keyboard.press("Enter")
    expect(page.locator(f"[id='card-{archive.failed}'] a")).to_be_focused()


def test_the_skip_link_leads_to_the_content(visit: Watched) -> None:
    _log_in(visit, "ana")
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
