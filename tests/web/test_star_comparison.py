"""Light curves with models, and two stars compared: numbers of the pages, who may see them, and in a real browser."""

import json
import math
import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import expect
from test_browser import CHROMIUM, Watched, _log_in, browser, visit  # noqa: F401
from test_tasks import violations
from toy_archive import ZTF

from obsarchive.web.models.comparison import Comparison, Row

TARGET = "SIM-2026-BLG-0001"


@pytest.fixture
def series(archive: SimpleNamespace, sources: SimpleNamespace) -> SimpleNamespace:
    """A microlensing event in two filters, and two sources of a survey in two filters with the same epochs."""
    keys = [archive.toy.dataset("3", TARGET, band, 60) for band in ("gp", "ip")]
    for name, mag in (("ZT 1", 17.0), ("ZT 2", 17.5)):
        row = {"name": name, "ra": 30.0, "dec": 1.0, "mag": mag}
        archive.toy.source("WHITE_DWARFS", row, Steady(event_fraction=0.0))
    return SimpleNamespace(keys=keys, **vars(sources))


class Steady(ZTF):
    """Two filters; all sources at the same times."""

    def fetch_data_from_observatory(self, cat_row: Any, **kwargs: Any) -> Any:
        data, altdata = super().fetch_data_from_observatory(cat_row, **kwargs)
        return {**data, "mjd": 58000.0 + np.arange(len(data["mjd"]))}, altdata


def facts_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def test_the_light_curves_of_an_event_have_its_point_lens(series, as_user) -> None:
    ana = as_user("ana")
    page = ana.get(f"/lightcurves?target={TARGET}").text
    facts = facts_of(page)
    assert {line["filter"] for line in facts["models"]} == {"gp", "ip"}
    for curve in facts["curves"]:
        assert np.std(np.array(curve["residual"]) / np.array(curve["mag_err"])) < 1.3
        assert min(curve["mag"]) < np.median(curve["mag"]) - 1
    cells = re.search(r'aria-label="Parameters of the point lens">.*?<tbody><tr>(.*?)</tr>', page, re.DOTALL)[1]
    t0 = re.sub("<.*?>", "", cells.split("</td>")[0])
    value, error = (float(text) for text in t0.split(" ± "))
    assert abs(value - 2460560) < 4 * error, "in Julian days, as the light curves"
    assert "[BJD]" in page
    assert re.fullmatch(r"0\.\d\d|1\.\d\d?", re.sub("<.*?>", "", cells.split("</td>")[-2])), "one number of chi-square"
    one = ana.get(f"/dataset/{series.keys[0]}").text
    assert cells in one, "one fit, with the same values on both pages"
    assert {line["filter"] for line in facts_of(one)["models"]} == {"gp"}
    assert facts_of(ana.get(f"/lightcurves?target={TARGET}&model=none").text)["models"] == []
    quiet = facts_of(ana.get(f"/lightcurves?target={TARGET}&star=1").text)
    assert quiet["models"] == []
    assert "residual" not in quiet["curves"][0]


def test_folded_light_curves_have_harmonics(series, as_user) -> None:
    page = as_user("ana").get(f"/lightcurves?target={TARGET}&star=1&period=7").text
    facts = facts_of(page)
    assert {line["filter"] for line in facts["models"]} == {"gp", "ip"}
    assert all("residual" in curve for curve in facts["curves"])
    assert re.search(r"sinistro gp</td><td class=\"n\">0\.00\d+ ± 0\.00\d+<", page)


def test_two_stars_of_a_dataset(series, as_user) -> None:
    ana = as_user("ana")
    page = ana.get(f"/lightcurves/compare?target={TARGET}&star=1&other=2").text
    facts = facts_of(page)
    assert [panel["label"] for panel in facts["panels"]] == ["Magnitude", "Difference [mag]", "Residual [mag]"]
    assert [len(panel["curves"]) for panel in facts["panels"]] == [4, 2, 2]
    assert np.mean(facts["panels"][1]["curves"][0]["values"]) == pytest.approx(-1, abs=0.01)
    rows = re.findall(r"<tr><td>(sinistro .p)</td><td class=\"n\">60</td><td class=\"n\">([^<]*) ± ([^<]*)<", page)
    assert [name for name, *_ in rows] == ["sinistro gp", "sinistro ip"]
    for _, mean, error in rows:
        assert abs(float(mean.replace("−", "-")) + 1) < 4 * float(error)
    assert "varies" not in page.split("<tbody>")[1].split("</tbody>")[0]
    event = ana.get(f"/lightcurves/compare?target={TARGET}&star=0&other=1").text
    cells = re.findall(r"<td class=\"n\">(.*?)</td>", event.split("<tbody>")[1].split("</tbody>")[0])
    assert re.fullmatch(r'<span class="flag">varies</span> median −?\d\.\d\d\d?', cells[1]), "no one number"
    assert re.fullmatch(r"\d\.\d{2,3}", cells[2]), "a scatter with the digits that it has"
    assert float(cells[3]) > 0.5, "half of the range"
    assert re.fullmatch(r"\d+", cells[4]), "of thousands no decimals"
    ratio = facts_of(ana.get(f"/lightcurves/compare?target={TARGET}&star=1&other=2&show=ratio&period=5").text)
    assert (ratio["period"], ratio["panels"][1]["label"]) == (5.0, "Flux ratio")
    assert np.mean(ratio["panels"][1]["curves"][0]["values"]) == pytest.approx(10**0.4, rel=0.01)
    for query, words in (("star=x", "no number of a star"), ("other=99", "has the star 99"), ("show=x", "one of")):
        assert words in ana.get(f"/lightcurves/compare?target={TARGET}&{query}").text
    others = ana.get("/lightcurves/compare?target=MOA-2024-BLG-0007&star=1").text
    assert "no dataset of MOA-2024-BLG-0007 has the star 1" in others
    assert "MOA-2024-BLG-0007</option>" not in others


def test_two_sources_of_a_survey(series, as_user) -> None:
    ana = as_user("ana")
    page = ana.get("/sources/compare?first=ZT 1&second=ZT 2").text
    facts = facts_of(page)
    assert np.median(facts["panels"][1]["curves"][0]["values"]) == pytest.approx(-0.5, abs=0.02)
    assert {curve["filter"] for curve in facts["panels"][0]["curves"]} == {"g", "r"}
    far = f"/sources/compare?first=ZT 1&second={quote(series.event)}"
    assert len(facts_of(ana.get(far).text)["panels"]) == 1, "no filter in common"
    for unknown in ("BEN 1", "ZT 9"):
        answer = ana.get(f"/sources/compare?first=ZT 1&second={unknown}")
        assert answer.status_code == 404
        assert f"no source called {unknown} that you may see" in answer.text
        assert 'value="ZT 1"' in answer.text, "the form is there to mend it"
    assert as_user("ben").get("/sources/compare?first=ZT 1&second=BEN 1").status_code == 200
    assert "a number of days" in ana.get("/sources/compare?first=ZT 1&second=ZT 2&within=-1").text
    assert "has no light curve" in ana.get(f"/sources/compare?first=ZT 1&second={quote(series.empty)}").text
    example = ana.get("/sources/compare").text
    assert 'name="first" size="18" maxlength="200" value="WDJ0000+2000"' in example, "the strongest events"
    assert "BEN 1" not in example


def test_one_common_epoch_has_no_scatter(app) -> None:
    row = Row("DEMO r", 1, False, -0.385, 0.013, 0.0, None, 0.0, math.nan)
    with app.test_request_context():
        table = app.jinja_env.get_template("_comparison.html").module.comparison(Comparison({}, [row]), ("a", "b"), "")
    assert "−0.385 ± 0.013" in table
    assert "one epoch has none" in table
    assert not re.search(r'<td class="n">0(\.0+)?</td>', table)


@pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium")
def test_models_and_comparisons_are_drawn(visit: Watched, series) -> None:  # noqa: F811
    _log_in(visit, "ana")
    page = visit.page
    for path, panels in (
        (f"/lightcurves?target={TARGET}", 2),
        (f"/lightcurves?target={TARGET}&star=1&period=7", 2),
        (f"/lightcurves/compare?target={TARGET}&star=1&other=2", 3),
        (f"/lightcurves/compare?target={TARGET}&show=ratio&period=7", 3),
        ("/sources/compare?first=ZT 1&second=ZT 2", 3),
        ("/sources/compare?first=ZT 1", 0),
    ):
        visit.open(path)
        page.wait_for_load_state("networkidle")
        expect(page.locator(".plot-panel canvas")).to_have_count(panels)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert violations(page) == [], path
        fields = page.locator(".line-form > :visible").evaluate_all(
            "all => all.map((one) => one.offsetTop + one.offsetHeight)"
        )
        assert max(fields) - min(fields) < 20, f"{path}: the form is one line"
    visit.open(f"/lightcurves/compare?target={TARGET}&star=1&other=2")
    boxes = [page.locator(".plot-panel .u-over").nth(i).bounding_box() for i in range(3)]
    assert len({(round(box["x"]), round(box["width"])) for box in boxes}) == 1, "one axis of time"
    ticks = page.evaluate("() => [...document.querySelectorAll('.plot-panel')].map((one) => one.clientHeight)")
    assert ticks[0] > ticks[1] > 100
    x, y = boxes[1]["x"] + boxes[1]["width"] / 4, boxes[1]["y"] + 30
    before = [page.locator(".plot-panel canvas").nth(i).screenshot() for i in range(3)]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + boxes[1]["width"] / 3, y, steps=4)
    page.mouse.up()
    page.mouse.move(5, 5)
    page.wait_for_timeout(200)
    after = [page.locator(".plot-panel canvas").nth(i).screenshot() for i in range(3)]
    assert all(one != other for one, other in zip(before, after, strict=True)), "all panels follow"
    page.get_by_role("button", name="sinistro gp").click()
    expect(page.get_by_role("button", name="sinistro gp")).to_have_attribute("aria-pressed", "false")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
