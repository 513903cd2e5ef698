"""The page of a source with a microlensing event: model over the light curve, parameters, what the user is told."""

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toy_archive import ZTF

from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from obsarchive.science.light_curves.point_lens import magnification
from obsarchive.web.models.lens_view import LensView
from surveys import point_lens

T0_MJD, U0, T_E = 58300.0, 0.1, 20.0


class Lenses(ZTF):
    """Photometry of a microlensing event in two filters."""

    def fetch_data_from_observatory(self, cat_row: Any, **kwargs: Any) -> Any:
        rng = np.random.default_rng(1)
        mjd = np.sort(rng.uniform(T0_MJD - 90, T0_MJD + 90, 300))
        band = np.where(np.arange(len(mjd)) % 2, "g", "r")
        source = np.where(band == "g", 80.0, 200.0)
        flux = source * magnification(np.hypot(U0, (mjd - T0_MJD) / T_E)) + 100
        error = np.full(len(mjd), 6.0)
        mag, magerr = magnitudes_of_fluxes(flux + error * rng.normal(size=len(mjd)), error)
        data = {"mjd": mjd, "mag": mag, "magerr": magerr, "exptime": np.full(len(mjd), 30.0), "filter": band}
        return data, {"name": cat_row["name"], "ra": cat_row["ra"], "dec": cat_row["dec"]}


@pytest.fixture
def lens(archive: SimpleNamespace, sources: SimpleNamespace) -> str:
    """A source whose event the analysis fitted."""
    row = {"name": "OGLE-LENS", "ra": 268.0, "dec": -29.0, "mag": 17.5}
    observatory = Lenses()
    curves = observatory.reduce(observatory.download(row))
    extra = {"point_lens": point_lens.fit(curves).document()}
    return str(archive.toy.source("WHITE_DWARFS", row, observatory, extra=extra))


def test_the_page_shows_parameters_and_the_model(lens: str, as_user: Any) -> None:
    page = as_user("ana").get(f"/source/{lens}").text
    assert "Point lens" in page
    (cells,) = re.findall(r'aria-label="Parameters of the point lens">.*?<tbody><tr>(.*?)</tr>', page, re.DOTALL)
    values = [re.sub("<.*?>", "", cell) for cell in cells.split("</td>") if cell]
    assert values[0].startswith("58300.")
    assert all(" ± " in value for value in values[:3])
    sets = re.search(r'aria-label="Light curves of the point lens">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    assert len(re.findall(r'<td class="n">[\d.]+ ± [\d.]+</td>', sets)) == 6, (
        "source, blend and their ratio have errors"
    )
    facts = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    assert {(line["instrument"], line["filter"]) for line in facts["models"]} == {("ZTF", "g"), ("ZTF", "r")}
    for line in facts["models"]:
        assert min(line["mag"]) < min(line["mag"][0], line["mag"][-1]) - 1
        (points,) = [one for one in facts["curves"] if one["filter"] == line["filter"]]
        model = np.interp(points["time"], line["time"], line["mag"])
        assert np.std((np.array(points["mag"]) - model) / np.array(points["mag_err"])) < 1.3
        assert np.array(points["residual"]) == pytest.approx(np.array(points["mag"]) - model, abs=0.02)
    assert json.loads(json.dumps(facts)) == facts


def test_the_error_of_the_blend_is_that_of_the_source() -> None:
    """The sum of both, the baseline, is known well: the ratio errs as both together."""
    known = {name: {"value": 1.0} for name in ("t0", "u0", "tE")}
    fluxes = {"source_flux": 100.0, "blend_flux": 50.0, "blend_flux_error": 1.0}
    (one,) = LensView.of({"parameters": known, "sets": [fluxes]}).sets
    assert one["blend_ratio_error"] == pytest.approx(51 / 99 - 0.5, rel=0.02)
    assert one["blend_mag_error"] == pytest.approx(2.5 * np.log10(51 / 50), rel=0.02)
    (dark,) = LensView.of({"parameters": known, "sets": [{**fluxes, "blend_flux": -1.0}]}).sets
    assert "blend_mag_error" not in dark
    (unknown,) = LensView.of({"parameters": known, "sets": [{**fluxes, "blend_flux_error": None}]}).sets
    assert "blend_ratio_error" not in unknown


def test_a_folded_curve_has_harmonics_and_a_source_without_event_no_model(
    lens: str, sources: Any, as_user: Any
) -> None:
    ana = as_user("ana")
    facts = re.search(
        r'<script type="application/json">(.*?)</script>', ana.get(f"/source/{lens}?period=3").text, re.DOTALL
    )
    folded = json.loads(facts[1])
    assert [(line["time"][0], line["time"][-1]) for line in folded["models"]] == [(0.0, 2.0)] * 2
    for curve, line in zip(folded["curves"], folded["models"], strict=True):
        phase = (np.array(curve["time"]) - folded["epoch"]) / 3 % 1
        model = np.array(curve["mag"]) - np.array(curve["residual"])
        assert model == pytest.approx(np.interp(phase, line["time"], line["mag"]), abs=0.01)
    assert "Point lens" not in ana.get(f"/source/{sources.quiet}").text


@pytest.mark.parametrize("stored", [None, 5, {}, {"parameters": {"t0": 1}}, {"parameters": {"t0": {"value": "x"}}}])
def test_what_is_no_fit_is_not_shown(stored: Any) -> None:
    assert LensView.of(stored) is None
