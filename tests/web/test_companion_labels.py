"""Labels of companions on the close-up, on a phone."""

from types import SimpleNamespace

import pytest
from playwright.sync_api import Browser
from test_browser import CHROMIUM, Watched, _log_in, browser

__all__ = ["browser"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")

BOX = "one => JSON.parse(JSON.stringify(one.getBoundingClientRect()))"


@pytest.mark.parametrize("width", [390, 1400])
def test_labels_are_read_and_lie_within_the_picture(
    browser: Browser, address: str, archive: SimpleNamespace, width: int
) -> None:
    places = [(0, 80), (60, 40), (-70, -75), (20, 8), (-20, 9)]
    found = [
        {"dy_px": dy, "dx_px": dx, "separation_arcsec": 0.6, "position_angle_deg": 149.0, "delta_mag": 12.53}
        for dy, dx in places
    ]
    archive.toy.step(archive.own, "bright_star", "pca", state="done", products=[], results={"detections": found})
    known = archive.toy.store.observations.find(archive.own)["pipelined"]["bright_star"]["steps"]["preview"]
    crop = {"crop_centre": [200, 190], "crop_px": 172}
    archive.toy.step(archive.own, "bright_star", "preview", state="done", products=known["products"], results=crop)
    context = browser.new_context(viewport={"width": width, "height": 844})
    visit = Watched(context.new_page(), address)
    _log_in(visit, "ana")
    visit.open(f"/observation/{archive.own}")
    visit.page.wait_for_load_state("networkidle")
    picture = visit.page.locator(".picture-cropped").evaluate(BOX)
    labels = visit.page.locator(".marks text").all()
    assert len(labels) == len(places)
    for label in labels:
        box = label.evaluate(BOX)
        assert picture["left"] <= box["left"] < box["right"] <= picture["right"]
        assert box["height"] > 12, "letters of ten points"
    context.close()
    assert visit.complaints == []
