"""The main pages look as they did: small pictures of them, compared with tolerance, so that layout does not rot.

``RECORD_SCREENS=1`` writes the pictures anew; look at them before they are committed.
"""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from test_browser import CHROMIUM, Watched, _log_in, browser
from toy_archive import NIGHT

from obsarchive.core.documents import utc_now
from obsarchive.web import Portal

__all__ = ["browser"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")

SCREENS = Path(__file__).with_name("screens")
WIDTH = 96
"""Of the stored pictures [pixel]: they hold the layout and the colours, not the letters."""
DIFFERENT, MOST = 24, 0.04
"""A pixel differs by more than so many of 255 steps; so large a part may."""
VARYING = ".t, .id, .foot, .hint, td.n, time, [data-daemon-now], table .subject"
"""Times, durations and names: what differs from run to run."""


def look(page: Page) -> Image.Image:
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur()")
    shot = page.screenshot(animations="disabled", mask=[page.locator(VARYING)], mask_color="#808080")
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    return picture.resize((WIDTH, round(WIDTH * picture.height / picture.width)), Image.Resampling.BOX)


def difference(found: Image.Image, kept: Image.Image) -> float:
    """Part of the pixels that differ; all of them where the sizes do."""
    if found.size != kept.size:
        return 1.0
    apart = np.abs(np.asarray(found, dtype=int) - np.asarray(kept, dtype=int)).max(axis=2)
    return float((apart > DIFFERENT).mean())


@pytest.mark.parametrize(
    ("width", "height", "scheme", "names"),
    [
        (1400, 900, "light", ("night", "summary", "tonight", "observation", "jobs", "search", "account")),
        (390, 844, "dark", ("night", "tonight", "observation", "jobs")),
        (1400, 900, "dark", ("night", "jobs")),
    ],
)
def test_the_main_pages_look_as_they_did(
    browser: Browser,
    address: str,
    app: Portal,
    archive: SimpleNamespace,
    width: int,
    height: int,
    scheme: str,
    names: tuple[str, ...],
) -> None:
    archive.toy.seeing(NIGHT, 4)
    app.store.jobs.report({"updated": utc_now(), "state": "idle", "workers": [{}], "cpu_percent": 3.0})
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    visit = Watched(context.new_page(), address)
    _log_in(visit, "admin")
    addresses = {
        "night": f"/night/{NIGHT}",
        "summary": f"/night/{NIGHT}/summary",
        "tonight": f"/tonight?night={NIGHT}",
        "observation": f"/observation/{archive.own}",
        "jobs": "/jobs",
        "search": "/search?date_from=2016-01-01",
        "account": "/account",
    }
    pages = {name: addresses[name] for name in names}
    found = {}
    for name, path in pages.items():
        visit.open(path)
        found[name] = look(visit.page)
    visit.open(pages["jobs"])
    visit.page.evaluate("document.querySelector('main').style.paddingLeft = '30%'")
    shifted = look(visit.page)
    context.close()
    assert visit.complaints == []
    files = {name: SCREENS / f"{name}_{width}_{scheme}.png" for name in pages}
    if os.environ.get("RECORD_SCREENS"):
        SCREENS.mkdir(exist_ok=True)
        for name, picture in found.items():
            picture.save(files[name], optimize=True)
    apart = {name: difference(picture, Image.open(files[name])) for name, picture in found.items()}
    assert {name: round(part, 3) for name, part in apart.items() if part > MOST} == {}
    assert difference(shifted, Image.open(files["jobs"])) > MOST, "a page that is shifted is seen to be"
