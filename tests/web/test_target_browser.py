"""Blinking the epochs of a target, by keyboard and by pointer, in a real browser."""

import pytest
from playwright.sync_api import Page, expect
from test_browser import CHROMIUM, Watched, _log_in, browser, visit  # noqa: F401
from test_targets import star  # noqa: F401
from toy_archive import NIGHT

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium"),
]


def shown(page: Page) -> str:
    return page.locator(".blink-stage figure:visible figcaption a").inner_text()[:10]


def test_epochs_are_blinked(visit: Watched, star) -> None:  # noqa: F811
    _log_in(visit, "admin")
    page = visit.page
    visit.open("/target/hip 55203")
    page.wait_for_selector(".is-blinking")
    pictures = page.locator(".blink-stage img")
    expect(pictures).to_have_count(3)
    assert pictures.evaluate_all("all => all.every((one) => one.complete && one.naturalWidth === 480)")
    boxes = pictures.evaluate_all("all => all.map((one) => JSON.stringify(one.getBoundingClientRect()))")
    assert len(set(boxes)) == 1, "they lie over each other"
    assert shown(page) == "2013-03-01"
    page.keyboard.press("b")
    assert shown(page) == "2014-03-02"
    page.keyboard.press("Shift+B")
    page.keyboard.press("Shift+B")
    assert shown(page) == "2015-03-03"
    page.locator(".blink-stage figure:visible img").click()
    assert shown(page) == "2013-03-01"
    page.locator("[data-pause]").select_option("250")
    page.locator("h1").click()
    page.keyboard.press(" ")
    expect(page.locator("[data-do=play]")).to_have_text("Stop")
    seen = {shown(page)}
    for _ in range(40):
        page.wait_for_timeout(50)
        seen.add(shown(page))
    assert len(seen) == 3
    page.keyboard.press(" ")
    expect(page.locator("[data-do=play]")).to_have_text("Blink")
    page.locator(".trend a").first.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visit.address}/observation/{star.ids[0]}")


def test_a_search_leads_to_the_target(visit: Watched, star) -> None:  # noqa: F811
    _log_in(visit, "ana")
    page = visit.page
    page.fill(".find input", "HIP 55203")
    page.keyboard.press("Enter")
    page.click("td.sticky a >> nth=0")
    expect(page.locator("h1")).to_contain_text("55203")
    expect(page.locator("tbody tr")).to_have_count(2)


def test_a_filter_of_the_address_is_cleared_by_escape(visit: Watched, archive) -> None:  # noqa: F811
    """What the server filtered out comes back, and the number of problems does not depend on the filter."""
    _log_in(visit, "ana")
    page = visit.page
    problems = page.locator(".tabs .flag").inner_text()
    visit.open(f"/night/{NIGHT}?q=rejected")
    expect(page.locator(".card:visible")).to_have_count(1)
    expect(page.locator(".tabs .flag")).to_have_text(problems)
    page.focus("[data-live-filter]")
    page.keyboard.press("Escape")
    expect(page.locator(".card:visible")).to_have_count(3)
    assert "q=" not in page.url
    visit.open(f"/night/{NIGHT}/downloads")
    expect(page.locator(".tabs .flag")).to_have_text(problems)
