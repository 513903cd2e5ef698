"""Sources with any name, and sources with which anything may be wrong: they stop no others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obsarchive.errors import ArchiveError
from surveys import export
from surveys.analysis import Analysis
from surveys.dataset import Lightcurve
from surveys.demo import VirtualDemoObs
from surveys.project import Project
from surveys.source import Source
from surveys.worker import source_of

pytestmark = pytest.mark.usefixtures("survey_store", "survey_root")

NAMES = [
    "HD 1",
    "C/2023 A3",
    "KMT-2019-BLG-0001/OGLE-2019-BLG-0002",
    "..",
    ".",
    "/",
    "a_reduction_1",
    "a",
    "50% {x} $y #?&",
    "HD 1_reduction_01_of_01",
    "x" * 300,
]
COLUMNS = {"mjd": np.arange(58000.0, 58030.0), "mag": np.full(30, 15.0), "magerr": np.full(30, 0.01)}


def catalogue(names: list[str], path: Path = Path("cat.csv")) -> dict[str, str]:
    rows = [f'"{name}",{10 + 0.01 * n},20.0,14' for n, name in enumerate(names)]
    path.write_text("\n".join(["name,ra,dec,mag", *rows]) + "\n")
    return {"filename": str(path.absolute())}


def project(
    names: list[str], module: str = "surveys.demo", observatory: str = "VirtualDemoObs", **more: Any
) -> Project:
    given: dict[str, Any] = {"obs_names": [f"{module}.{observatory}"], "catalog_kwargs": catalogue(names)}
    return Project("odd", cfg_file=None, **{**given, "analysis_kwargs": {"num_injections": 0}, **more})


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_names_are_data(survey_root: Path) -> None:
    proj = project(NAMES)
    run = proj.run()
    assert (run.fetched, run.analysed, run.failures) == (len(NAMES), len(NAMES), [])
    for name in NAMES:
        source = proj.get_source(name)
        curves = source.lightcurves
        assert [curve.source_name for curve in curves] == [name]
        assert curves[0].altdata["name"] == name
        assert len(source.raw_photometry["demo"].data) == len(curves[0].data) > 0
        assert export.write(list(curves), "csv").count(b"\n") == len(curves[0].data) + 1
    assert {path.name for path in (survey_root / "DEMO").glob("*.h5")} == {"DEMO_photometry_RA010.h5"}
    assert proj.run().analysed == 0
    assert proj.rebuild() == len(NAMES)
    assert proj.run(source_names=["C/2023 A3"]).failures == []


def test_keys_of_light_curves_tell_their_sources() -> None:
    for name in NAMES:
        for kind in ("reduction", "processed", "simulated"):
            assert source_of(f"{name}_{kind}_01_of_02") == name


class VirtualFaulty(VirtualDemoObs):
    """Returns what the name of a source says."""

    name = "FAULTY"

    def fetch_data_from_observatory(self, cat_row: Any, **_: Any) -> Any:
        match cat_row["name"]:
            case "error":
                raise ValueError("no table in the answer")
            case "unequal":
                return {**COLUMNS, "mag": np.zeros(3)}, {}
            case "complex":
                return {**COLUMNS, "z": np.zeros(30, complex)}, {}
            case "list":
                return [1, 2], {}
            case "deep":
                return {**COLUMNS, "z": np.zeros((30, 2))}, {}
            case "no metadata":
                return COLUMNS, None
            case "not two":
                return COLUMNS
        return COLUMNS, {"filter": "r"}

    def reduce_photometry(self, *given: Any, **more: Any) -> Any:
        curves = super().reduce_photometry(*given, **more)
        match curves[0].source_name:
            case "bad reduction":
                return [curves[0].with_columns({**curves[0].columns, "z": np.zeros(30, complex)})]
            case "no curve":
                return [None]
        return curves


class FaultyAnalysis(Analysis):
    def analyze_photometry(self, source: Source) -> None:
        super().analyze_photometry(source)
        match source.name:
            case "set":
                source.properties.features = {"a": {1, 2}}  # type: ignore[dict-item]
            case "huge":
                source.properties.extra["n"] = 2**70
            case "nothing":
                source.properties = None  # type: ignore[assignment]


UNFETCHED = ["error", "unequal", "complex", "list", "deep", "no metadata", "not two"]
UNREDUCED = ["bad reduction", "no curve"]
UNANALYSED = ["set", "huge", "nothing"]


def test_what_is_wrong_with_a_source_stops_no_other() -> None:
    names = [f"good {n}" for n in range(4)]
    names = [names[0], *UNFETCHED, names[1], *UNREDUCED, names[2], *UNANALYSED, names[3]]
    proj = project(names, __name__, "VirtualFaulty", analysis_module=__name__, analysis_class="FaultyAnalysis")
    run = proj.run()
    failed = {one["source"]: one["reason"] for one in proj.failures()}
    assert set(failed) == {*UNFETCHED, *UNREDUCED, *UNANALYSED}
    assert dict(run.failures).keys() == failed.keys()
    assert failed["error"] == "ValueError: no table in the answer"
    assert "unequal lengths" in failed["unequal"]
    assert "cannot be stored" in failed["huge"]
    assert run.fetched == len(names) - len(UNFETCHED)
    for name in names:
        assert len(proj.get_source(name).lightcurves) == (0 if name in failed else 1)
    assert proj.run().analysed == 0


def test_a_zone_whose_file_cannot_be_written_stops_no_other(survey_root: Path) -> None:
    """The sources of that zone are not failed for good, as nothing is wrong with them."""
    path = Path("cat.csv")
    proj = project(["a", "b"])
    path.write_text("name,ra,dec\na,10.5,20\nb,11.5,20\n")
    blocked = survey_root / "ODD" / ".DEMO_photometry_RA010_reduced.h5.lock"
    blocked.mkdir(parents=True)
    with pytest.raises(ArchiveError, match=r"the work on RA 10 was lost.*RA010_reduced"):
        proj.run()
    assert len(proj.get_source("b").lightcurves) == 1
    assert proj.failures() == []
    blocked.rmdir()
    assert proj.run().analysed == 1
    assert isinstance(proj.get_source("a").lightcurves[0], Lightcurve)


def test_what_was_fetched_before_a_download_gave_up_is_analysed() -> None:
    names = ["good 1", *(f"unequal{n}" for n in range(11)), "good 2"]
    proj = project(names, __name__, "VirtualGone")
    with pytest.raises(ArchiveError, match="10 failures in a row"):
        proj.run()
    assert [len(proj.get_source(name).lightcurves) for name in (names[0], names[-1])] == [1, 1]
    assert proj.run().failures == []


class VirtualGone(VirtualFaulty):
    name = "GONE"

    def fetch_data_from_observatory(self, cat_row: Any, **_: Any) -> Any:
        return super().fetch_data_from_observatory({"name": cat_row["name"].rstrip("0123456789")})
