"""Contrast curves of several pipelines in one plot, as a browser draws them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from test_browser import CHROMIUM, Watched, _log_in, browser, visit
from toy_archive import NIGHT

__all__ = ["browser", "visit"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")

BLUE, COPPER, CRIMSON = "#2f7fc4", "#cb7d51", "#bd2440"


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def drawn(visit: Watched, colour: str) -> int:
    """Columns of the plot in which a colour is drawn."""
    shot = visit.page.locator("[data-plot=contrast] .u-wrap").screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=int)
    return int((np.abs(pixels - rgb(colour)).max(axis=2) < 25).any(axis=0).sum())


def legend(visit: Watched) -> list[tuple[str, str]]:
    """Texts of the legend, and the background of their signs."""
    script = "entries => entries.map(e => [e.textContent, getComputedStyle(e.querySelector('i')).backgroundImage])"
    return [tuple(pair) for pair in visit.page.locator("[data-plot=contrast] .plot-legend span").evaluate_all(script)]


@pytest.fixture
def two_pipelines(archive: SimpleNamespace) -> SimpleNamespace:
    """An observation that two pipelines reduced, with curves one above the other, and another filter's."""
    curve = [[x, 3.0 + 2 * x, 0.7] for x in np.linspace(0.2, 1.5, 14).round(2).tolist()]
    faint = [[x, y - 1.5, t] for x, y, t in curve]
    archive.toy.step(archive.own, "bright_star", "pca", state="done", products=[], results={"curve": curve})
    archive.toy.step(archive.own, "faint_star", "pca", state="done", products=[], results={"curve": faint})
    archive.toy.step(archive.failed, "faint_star", "pca", state="done", products=[], results={"curve": faint})
    return archive


def test_pipelines_of_an_observation_differ(visit: Watched, two_pipelines: SimpleNamespace) -> None:
    _log_in(visit, "ana")
    visit.open(f"/observation/{two_pipelines.own}")
    entries = legend(visit)
    assert [text for text, _ in entries] == ["lp600, bright star", "lp600, faint star"]
    assert entries[0][1] == "none", "the curve of the filter has no gaps"
    assert f"rgb{rgb(COPPER)} 0px" in entries[1][1]
    assert drawn(visit, BLUE) > 1.3 * drawn(visit, COPPER) > 100, "one line, one of dashes"


def test_pipelines_of_a_night_differ(visit: Watched, two_pipelines: SimpleNamespace, app) -> None:
    _log_in(visit, "ana")
    visit.open(f"/night/{NIGHT}/summary")
    assert [text for text, _ in legend(visit)] == ["lp600, bright star", "lp600, faint star"]
    assert drawn(visit, COPPER) > 100
    app.store.observations.set_fields(two_pipelines.failed, {"filter": "Sr"})
    visit.open(f"/night/{NIGHT}/summary")
    assert [text for text, _ in legend(visit)] == ["Sr, faint star", "lp600, bright star"]
    app.store.observations.collection.update_one({"_id": two_pipelines.own}, {"$unset": {"pipelined.bright_star": ""}})
    visit.open(f"/night/{NIGHT}/summary")
    assert [text for text, _ in legend(visit)] == ["Sr", "lp600"], "one pipeline needs no name"
    assert drawn(visit, CRIMSON) > 20
