"""Pages as everybody reads them: axe, no complaint, no sideways scroll; light and dark, on a desk and a telephone."""

import re
from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser
from test_browser import CHROMIUM, Watched, _log_in, browser
from test_tasks import violations
from toy_archive import NIGHT

from obsarchive.store.notes import Note
from obsarchive.web import Portal

__all__ = ["browser"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
WIDTHS = (390, 1400)
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] : ["page", ...
    [...document.querySelectorAll("main *")].filter(part => part.getBoundingClientRect().right > innerWidth + 1)
        .filter(part => !part.closest(".scroll, pre")).map(part => part.outerHTML.slice(0, 120))].slice(0, 3)"""
"""The first parts of a page that reach beyond the screen."""
EXAMPLES = {"/help", "/help/glossary", "/help/products", "/help/pipelines/seeing"}
"""Pages of the help that axe reads: they are all made by the same code, and long."""


@pytest.fixture
def shown(app: Portal, archive: SimpleNamespace) -> SimpleNamespace:
    """An archive in which every page has something to show."""
    toy = archive.toy
    toy.seeing(NIGHT, 2)
    toy.reduced(archive.earlier, 1)
    app.store.people.mark()
    app.store.programmes.save("3", {"period": 0, "title": "Subdwarfs", "pi": "Doe, J.", "doi": "10.1234/x"}, "admin")
    app.store.notes.write(archive.own, NIGHT, Note("doubtful", "clouds", "ana"))
    toy.step(archive.own, "bright_star", "pca", state="failed", message="OSError: no space left", retries=3)
    toy.job(archive.own, "failed", night=NIGHT, message="OSError: no space left")
    return archive


def _guide(visit: Watched) -> list[str]:
    """Every page of the help."""
    visit.open("/help")
    found = visit.page.eval_on_selector_all("main a[href^='/help']", "links => links.map(a => a.getAttribute('href'))")
    pages = sorted({address.partition("#")[0] for address in found})
    assert len(pages) > 15
    return pages


def _pages(visit: Watched, kind: str, archive: SimpleNamespace) -> list[str]:
    if kind == "public":
        return ["/public", f"/public/observation/{archive.own}", "/public?program=3", "/public/observation/none"]
    _log_in(visit, "admin")
    if kind == "guide":
        return _guide(visit)
    tonight = ["/tonight", "/programmes", "/programme/3", "/search?quality=doubtful"]
    return [*tonight, "/target/HD_140283", "/target/Vega", "/target/no such", "/search?name=no such"]


@pytest.mark.parametrize("kind", ["public", "targets and tonight", "guide"])
def test_pages_are_read_by_everybody(browser: Browser, address: str, shown: SimpleNamespace, kind: str) -> None:
    context = browser.new_context(viewport={"width": WIDTHS[-1], "height": 844})
    visit = Watched(context.new_page(), address)
    found = []
    for path in _pages(visit, kind, shown):
        visit.open(path)
        for width in WIDTHS:
            visit.page.set_viewport_size({"width": width, "height": 844})
            if kind != "guide" or path in EXAMPLES:
                found += [(path, width, problem) for problem in violations(visit.page)]
            found += [(path, width, f"is wider than the screen: {text}") for text in visit.page.evaluate(TOO_WIDE)]
    context.close()
    assert found == []
    expected = "404|422"  # pages that are not there, close-ups of files that are no images here
    assert [text for text in visit.complaints if not re.search(expected, text)] == []
    assert visit.foreign == []


def test_what_a_card_waits_for_can_be_read(browser: Browser, address: str, archive: SimpleNamespace) -> None:
    archive.toy.step(archive.own, "bright_star", "strehl", state="lacking", lacks="references")
    context = browser.new_context(viewport={"width": WIDTHS[-1], "height": 844})
    visit = Watched(context.new_page(), address)
    _log_in(visit, "admin")
    visit.open(f"/night/{NIGHT}")
    card = f'[id="card-{archive.own}"]'
    hint = visit.page.locator(f"{card} .hint")
    assert hint.inner_text() == "strehl: waiting for references"
    assert hint.evaluate("text => text.scrollWidth <= text.clientWidth"), "a part of it is cut off"
    assert violations(visit.page, card) == []
    context.close()
