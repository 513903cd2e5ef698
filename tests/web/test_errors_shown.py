"""A number that has an error is shown with it, on every page, in exports and in the interface for programs."""

import csv
import json
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from toy_archive import NIGHT
from visitors import Visitor

SEEING = {
    "median_arcsec": 1.312,
    "median_error_arcsec": 0.0213,
    "nearest_arcsec": 1.2168,
    "nearest_error_arcsec": 0.0431,
}
MEDIAN, NEAREST = "1.312 ± 0.021", "1.22 ± 0.04"
STREHL = {"ratio_percent": 12.345, "ratio_error_percent": 0.4321, "fwhm_arcsec": 0.1214, "fwhm_error_arcsec": 0.00123}
DETECTIONS = [
    {"separation_arcsec": 0.9, "delta_mag": 4.5},
    {"separation_arcsec": 1.2, "separation_error_arcsec": 0.0123, "delta_mag": 5.0, "delta_mag_error": 0.0321},
]


@pytest.fixture
def measured(app, archive) -> SimpleNamespace:
    """An observation whose numbers have errors."""
    app.store.observations.set_fields(archive.own, {f"seeing.{key}": value for key, value in SEEING.items()})
    archive.toy.step(archive.own, "bright_star", "strehl", state="done", products=[], results=STREHL)
    archive.toy.step(
        archive.own, "bright_star", "preview", state="done", products=[], results={"detections": DETECTIONS}
    )
    return archive


def cells(page: str) -> list[str]:
    """Text of the cells of the tables of a page."""
    return [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"(?s)<t[dh][^>]*>(.*?)</t[dh]>", page)]


def test_the_page_of_an_observation(measured, as_user) -> None:
    found = cells(as_user("ana").get(f"/observation/{measured.own}").text)
    assert found[found.index("Seeing, median") + 1] == f"{MEDIAN} ″"
    assert found[found.index("Seeing, nearest in time") + 1] == f"{NEAREST} ″"
    assert found[found.index("Strehl ratio") + 1] == "12.3 ± 0.4 %"
    assert found[found.index("FWHM") + 1] == "0.1214 ± 0.0012 ″"


def test_a_table_of_results_has_the_errors_that_its_first_entry_lacks(measured, as_user) -> None:
    page = as_user("ana").get(f"/observation/{measured.own}").text
    found = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", page)
    assert {"separation error arcsec", "delta mag error", "0.0123", "0.0321"} <= set(found)


def test_without_an_error_a_number_stands_alone(archive, as_user) -> None:
    found = cells(as_user("ana").get(f"/observation/{archive.own}").text)
    assert found[found.index("Seeing, median") + 1] == "1.31 ″"
    assert found[found.index("Seeing, nearest in time") + 1] == "1.22 ″"


def test_the_page_of_a_target(measured, as_user) -> None:
    page = as_user("ana").get("/target/HD_140283").text
    assert {"12.3 ± 0.4", "0.1214 ± 0.0012", NEAREST} <= set(cells(page))


def test_results_of_a_search(measured, as_user) -> None:
    page = as_user("ana").get("/search?name=HD&columns=seeing_median&columns=seeing_nearest&columns=strehl_bright_star")
    assert {MEDIAN, NEAREST, "12.3 ± 0.4"} <= set(cells(page.text))


def rows(ana: Visitor) -> Iterator[tuple[str, dict[str, str]]]:
    table = csv.DictReader(ana.get("/search/export/csv?name=HD").text.splitlines())
    yield "csv", {key.removesuffix(" [arcsec]"): value for key, value in next(table).items()}
    yield "json", ana.get("/search/export/json?name=HD").json["observations"][0]


def test_exports_and_the_interface_for_programs(measured, as_user) -> None:
    ana = as_user("ana")
    for form, row in rows(ana):
        found = {key: float(row[key]) for key in ("seeing_median_error", "seeing_nearest_error")}
        assert found == pytest.approx({"seeing_median_error": 0.0213, "seeing_nearest_error": 0.0431}, abs=5e-4), form
    votable = ana.get("/search/export/votable?name=HD").text
    assert 'name="seeing_nearest_error"' in votable
    assert 'name="seeing_median_error"' in votable
    assert "stat.error" in votable


def test_cards_of_the_night(measured, as_user) -> None:
    page = as_user("ana").get(f"/night/{NIGHT}").text
    assert '<span class="strehl" title="Strehl ratio 12.3 ± 0.4 %">Strehl 12.3 %</span>' in page


def test_a_card_changes_with_its_error(measured, as_user) -> None:
    part = rf'id="card-{re.escape(measured.own)}" data-part="(\w+)"'
    before = re.search(part, as_user("ana").get(f"/night/{NIGHT}").text)
    results = {**STREHL, "ratio_error_percent": 0.9}
    measured.toy.step(measured.own, "bright_star", "strehl", state="done", products=[], results=results)
    after = re.search(part, as_user("ana").get(f"/night/{NIGHT}").text)
    assert before is not None
    assert after is not None
    assert before[1] != after[1]


def test_the_summary_of_the_night(app, measured, as_user) -> None:
    measured.toy.seeing(NIGHT, 2)
    path = "seeing.steps.measure.results.median_error_arcsec"
    app.store.nights.set_fields(NIGHT, {path: 0.0042, "seeing.median_arcsec": 1.2531})
    page = as_user("ana").get(f"/night/{NIGHT}/summary").text
    assert "Seeing, median 1.253 ± 0.004″" in page
    assert "1.20 ± 0.04″ · 2 of 2" in page, "a frame of the film"
    facts = json.loads(page.split('id="night-facts">')[1].split("</script>")[0])
    (star,) = [item for item in facts["strehl"] if item["id"] == measured.own]
    assert (star["seeing_arcsec"], star["seeing_error_arcsec"]) == (SEEING["nearest_arcsec"], 0.0431)
    assert star["seeing_text"] == f"{NEAREST}″"


def test_zero_points_of_datasets(app, archive, as_user) -> None:
    key = archive.datasets[0]
    ana = as_user("ana")
    assert "23.700" in ana.get("/datasets").text
    app.store.datasets.collection.update_one({"_id": key}, {"$set": {"zero_point_error": 0.0042}})
    assert "23.700 ± 0.004" in ana.get("/datasets").text
    assert "23.700 ± 0.004 <" in ana.get(f"/dataset/{key}").text
