"""Point lenses in light curves of surveys: which epochs are used, what an analysis keeps, tables, the command."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from obsarchive.cli.main import surveys as main
from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from obsarchive.science.light_curves.point_lens import magnification
from obsarchive.store import Store
from surveys import point_lens
from surveys.analysis import Analysis, in_memory
from surveys.dataset import Lightcurve
from surveys.source import Source

T0_MJD, U0, T_E = 58300.0, 0.2, 20.0
JD = 2_400_000.5


def curve(band: str, start: float, stop: float, series: int = 1, *, source: float = 200.0, seed: int = 1) -> Lightcurve:
    rng = np.random.default_rng(seed)
    mjd = np.sort(rng.uniform(start, stop, int((stop - start) * 0.8)))
    light = source * magnification(np.hypot(U0, (mjd - T0_MJD) / T_E)) + 100
    error = np.full(len(mjd), 6.0)
    flux = light + error * rng.normal(size=len(mjd))
    mag, mag_err = magnitudes_of_fluxes(flux, error)
    columns = {"mjd": mjd, "flux": flux, "flux_err": error, "mag": mag, "mag_err": mag_err}
    more = {"exptime": np.full(len(mjd), 30.0), "ra": np.full(len(mjd), 270.0), "dec": np.full(len(mjd), -30.0)}
    columns |= more | {"flag": np.zeros(len(mjd), bool)}
    facts = {"name": "EVENT", "filter": band, "series_number": series, "ra": 270.0, "dec": -30.0}
    return Lightcurve(columns, facts, observatory="ZTF", project="LENSES")


def curves() -> list[Lightcurve]:
    return [
        curve("r", 58200, 58400),
        curve("r", 58560, 58760, 2, seed=2),
        curve("g", 58220, 58390, 3, source=80, seed=3),
    ]


def test_bands_are_fitted_together_and_seasons_joined():
    found = point_lens.fit(curves())
    assert [one.name for one in found.sets] == ["ZTF r", "ZTF g"]
    for value, truth in ((found.t0, T0_MJD + JD), (found.u0, U0), (found.t_e, T_E)):
        assert abs(value.value - truth) < 4 * value.error
    assert found.sets[0].n + found.sets[0].n_rejected == 320


def test_flagged_epochs_are_not_used():
    bad = curves()
    columns = bad[0].columns
    columns["flux"][::3] += 5000
    columns["flag"][::3] = True
    (data, _) = point_lens.photometry_of([bad[0].with_columns(columns), bad[2]])
    assert len(data.time) == len(columns["mjd"]) - len(columns["mjd"][::3])
    assert data.flux.max() < 2000


def test_a_curve_that_is_stored_with_and_without_scores_counts_once_and_simulated_ones_do_not():
    one = curves()[0]
    processed = one.with_columns(one.columns, was_processed=True)
    simulated = one.with_columns(one.columns, simulation_number=1)
    for order in ([one, processed, simulated], [simulated, processed, one]):
        (data,) = point_lens.photometry_of(order)
        assert len(data.time) == len(one)


def test_an_analysis_keeps_the_lens_of_a_single_event():
    source = in_memory(Source("EVENT", 270.0, -30.0, 17.0), curves())
    Analysis(num_injections=0).analyze_source(source)
    kept = source.properties.extra["point_lens"]
    assert kept["parameters"]["t0"]["value"] == pytest.approx(T0_MJD + JD, abs=0.5)
    assert kept["is_reliable"]
    assert json.loads(json.dumps(kept)) == kept
    found = source.fit_point_lens()
    assert found.t_e.value == pytest.approx(kept["parameters"]["tE"]["value"], rel=1e-3)


def test_an_analysis_keeps_no_lens_that_is_none_and_none_if_it_should_not():
    source = in_memory(Source("QUIET", 270.0, -30.0, 17.0), [curve("r", 58560, 58760)])
    assert "point_lens" not in Analysis(num_injections=0).analyze_source(source).properties.extra
    with pytest.raises(Unprocessable, match="no event"):
        source.fit_point_lens()
    flare = curve("r", 58200, 58400)
    columns = flare.columns
    columns["flux"] = 300 + np.where(columns["mjd"] > T0_MJD, 2000 * np.exp(-(columns["mjd"] - T0_MJD) / 8), 0.0)
    source = in_memory(Source("FLARE", 270.0, -30.0, 17.0), [flare.with_columns(columns)])
    assert "point_lens" not in Analysis(num_injections=0).analyze_source(source).properties.extra
    source = in_memory(Source("EVENT", 270.0, -30.0, 17.0), curves())
    analysis = Analysis(num_injections=0, point_lens=False)
    assert "point_lens" not in analysis.analyze_source(source).properties.extra


def test_a_table_with_names_is_read_band_by_band(tmp_path: Path):
    rows = [
        pd.DataFrame(
            {"mjd": c.columns["mjd"], "mag": c.columns["mag"], "magerr": c.columns["mag_err"], "filter": c.filter}
        )
        for c in (curves()[0], curves()[2])
    ]
    path = tmp_path / "event.csv"
    pd.concat(rows).to_csv(path, index=False)
    data = point_lens.read_table(path)
    assert [one.name for one in data] == ["event g", "event r"]
    assert data[1].time.min() > JD + 58000
    with pytest.raises(ArchiveError):
        point_lens.read_table(tmp_path / "missing.csv")


def test_the_command_fits_a_source_of_a_project(
    survey_store: Store, survey_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "event.csv").write_text("name,ra,dec,mag\nEVENT,270.0,-30.0,17\n")
    config = {"project": {"obs_names": ["DEMO"]}, "catalog": {"filename": str(tmp_path / "event.csv")}}
    (tmp_path / "lenses.yaml").write_text(json.dumps(config))
    for each in curves():
        each.save()
    survey_store.surveys.save("lightcurves", [each.document() for each in curves()])
    arguments = [
        "point-lens",
        str(tmp_path / "lenses.yaml"),
        "EVENT",
        "--output",
        str(tmp_path),
        "--data",
        str(survey_root),
    ]
    assert main([*arguments, "--export", "mulensmodel"]) == 0
    assert "t0 [JD]     2458300." in capsys.readouterr().out
    written = json.loads((tmp_path / "EVENT_point_lens.json").read_text())
    assert written["parameters"]["u0"]["value"] == pytest.approx(U0, abs=0.02)
    assert (tmp_path / "EVENT_point_lens.png").read_bytes()[:4] == b"\x89PNG"
    content = yaml.safe_load((tmp_path / "EVENT_mulensmodel" / "mulensmodel.yaml").read_text())
    assert content["model"]["coords"] == "18:00:00.00 -30:00:00.00"
