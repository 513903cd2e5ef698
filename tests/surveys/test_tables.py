"""Light curves and results as tables, pictures and representations, as users of lightkurve and astroquery expect."""

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table
from astropy.time import Time
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from obsarchive.core.rules import conditions
from obsarchive.errors import ConfigError
from obsarchive.figures.plot_style import FILTER_COLOURS
from obsarchive.science.light_curves.light_curve import binned, magnitudes_of_fluxes
from obsarchive.store import Store
from surveys import export
from surveys.analysis import Analysis
from surveys.database import Session
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.demo import VirtualDemoObs
from surveys.detection import Detection
from surveys.finder import Finder
from surveys.histograms import Histogram
from surveys.plots import band_colours, draw_source
from surveys.project import Project
from surveys.properties import Properties
from surveys.source import Source

N = 60


def curve(name: str = "r", shift: float = 0.0, **facts: Any) -> Lightcurve:
    rng = np.random.default_rng(4)
    mjd = 58000.0 + np.arange(N) * 0.5
    flux, error = 100 + rng.normal(size=N), np.full(N, 1.0)
    mag, mag_err = magnitudes_of_fluxes(flux, error)
    columns = {"mjd": mjd, "exptime": np.full(N, 30.0), "flux": flux, "flux_err": error, "mag": mag + shift}
    columns |= {"mag_err": mag_err, "flag": np.arange(N) == 3}
    known = {"name": "S1", "filter": name, "ra": 10.0, "dec": -5.0, **facts}
    return Lightcurve(columns, known, observatory="ZTF", project="P")


# light curves


def test_a_table_has_times_and_units() -> None:
    table = curve().to_table()
    assert isinstance(table, Table)
    assert isinstance(table["time"], Time)
    assert table["time"].isot[0] == "2017-09-04T00:00:00.000"
    assert [str(table[name].unit) for name in ("flux", "flux_err", "mag", "exptime")] == ["uJy", "uJy", "mag", "s"]
    assert table.meta["filter"] == "r"
    raw = RawPhotometry({"jd": 2458000.5 + np.arange(3), "mag": np.ones(3)}, observatory="ZTF").to_table()
    assert (raw["time"].mjd[0], raw["mag"].unit) == (58000.0, None)


def test_columns_epochs_and_pandas() -> None:
    lc = curve()
    assert np.array_equal(lc["mag"], lc.columns["mag"])
    assert len(lc) == N
    assert lc[lc.good]["mjd"].tolist() == np.delete(lc["mjd"], 3).tolist()
    assert (len(lc[5:8]), len(lc[5]), lc[::-1]["mjd"][0]) == (3, 1, lc["mjd"][-1])
    with pytest.raises(KeyError, match="did you mean 'flux_err'"):
        lc["flux_er"]
    with pytest.raises(TypeError, match=r"lc\['mag'\]"):
        iter(lc)
    frame = lc.to_pandas()
    frame["mag"] = 0.0
    assert lc["mag"][0] != 0.0


@pytest.mark.parametrize("epoch", [58001.25, 2458001.75, Time(58001.25, format="mjd"), 58001.25 * u.day])
@pytest.mark.parametrize("period", [3.0, 72 * u.hour])
def test_folding(epoch: Any, period: Any) -> None:
    folded = curve().fold(period, epoch)
    phase = folded["phase"]
    assert np.all(np.diff(phase) >= 0)
    assert phase == pytest.approx(((folded["mjd"] - 58001.25) / 3) % 1)
    assert len(folded) == N
    assert curve().fold(3.0)["phase"][0] == 0.0
    with pytest.raises(ConfigError, match="positive number of days"):
        curve().fold(0)


def test_bins() -> None:
    lc = curve(shift=2.5)  # a zero point of its own
    good = np.arange(N) != 3
    found = lc.bin(10)
    assert found["n_epochs"].tolist() == [19, 20, 20]
    assert found["flux"][0] == pytest.approx(np.mean(lc["flux"][:20][good[:20]]))
    assert found["flux_err"] == pytest.approx(1 / np.sqrt(found["n_epochs"]))
    assert found["mag"] == pytest.approx(magnitudes_of_fluxes(found["flux"], found["flux_err"])[0] + 2.5)
    assert found["exptime"].tolist() == [570.0, 600.0, 600.0]
    assert (found.filter, len(lc.bin(240 * u.hour))) == ("r", 3)
    assert len(lc[[]].bin(1)) == 0
    with pytest.raises(ConfigError, match="width of bins"):
        lc.bin(-1)
    mixed = binned(np.zeros(2), np.array([1.0, 3.0]), np.array([1.0, np.nan]), 1.0)
    assert (mixed[1][0], mixed[2][0]) == (1.0, 1.0)  # an epoch without an error beside one with
    unknown = binned(np.zeros(2), np.array([1.0, 3.0]), np.full(2, np.nan), 1.0)
    assert unknown[1][0] == 2.0
    assert np.isnan(unknown[2][0])


def test_lightkurve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightkurve", None)
    with pytest.raises(ImportError, match="pip install lightkurve"):
        curve().to_lightkurve()

    class LightCurve(dict[str, Any]):
        def __init__(self, time: Time, flux: u.Quantity, flux_err: u.Quantity, meta: dict[str, Any]) -> None:
            super().__init__(time=time, flux=flux, flux_err=flux_err)
            self.meta = meta

    package = ModuleType("lightkurve")
    package.LightCurve = LightCurve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightkurve", package)
    found = curve().to_lightkurve()
    assert found["flux"].unit == u.uJy
    assert found.meta["LABEL"] == "S1 ZTF r"
    assert found["mag"].unit == u.mag


@pytest.mark.parametrize("form", ["fits", "ecsv"])
def test_fits_and_ecsv_have_units(form: str) -> None:
    content = export.write([curve("r"), curve("g", series_number=2)], form)
    names = {"fits": "fits", "ecsv": "ascii.ecsv"}
    source = io.BytesIO(content) if form == "fits" else content.decode()
    table = Table.read(source, format=names[form])
    assert len(table) == 2 * N
    assert [str(table[name].unit) for name in ("mjd", "flux", "mag")] == ["d", "uJy", "mag"]
    assert {str(name) for name in table["filter"]} == {"r", "g"}
    assert table.meta["TIMESYS"] == "UTC"
    assert export.kind_of(form, 2)[0] == f".{form}"


@pytest.mark.parametrize("form", ["fits", "ecsv", "votable"])
def test_names_of_sources_are_exported_in_any_letters(form: str) -> None:
    one = curve("r")
    one.altdata["name"] = "η Car"
    names = {"fits": "fits", "ecsv": "ascii.ecsv", "votable": "votable"}
    content = export.write([one], form)
    table = Table.read(content.decode() if form == "ecsv" else io.BytesIO(content), format=names[form])
    found = table["source"][0]
    assert (found.decode() if isinstance(found, bytes) else found) == "η Car"


# pictures


def test_bands_have_their_colours() -> None:
    found = band_colours(["g", "zr", "i'", "V", "TESS", "B", ""])
    assert (found["g"], found["i'"]) == (FILTER_COLOURS["g"], FILTER_COLOURS["i"])
    assert len(set(found.values())) == len(found)


def test_a_source_is_drawn_with_the_colours_of_the_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = [curve("g"), curve("r"), curve("r", series_number=2)]
    axes = draw_source(curves, [Detection(mjd_start=58003, mjd_stop=58005)], "S1", Figure().add_subplot())
    labels = axes.get_legend_handles_labels()
    assert labels[1] == ["ZTF g", "ZTF r"]
    assert [to_hex(handle.lines[0].get_color()) for handle in labels[0]] == [FILTER_COLOURS["g"], FILTER_COLOURS["r"]]
    assert axes.yaxis_inverted()
    folded = curve().fold(3.0).plot(Figure().add_subplot())
    assert folded.get_xlabel() == "phase"
    mpl.use("agg")
    empty = Source("S", 1, 2)
    empty.__dict__ |= {"lightcurves": [], "raw_photometry": [], "detections": []}
    assert empty.plot().get_title() == "S"


# representations


def test_objects_are_shown_in_a_line_and_a_small_table(survey_root: Path) -> None:
    given = {"num_epochs": 50, "credentials": {"a": "xyz"}}
    project = Project("shown", cfg_file=None, obs_names=["DEMO"], DEMO=given)
    raw = RawPhotometry.from_document({"source_name": "S", "observatory": "DEMO", "filename": "f.h5", "filekey": "S"})
    features = {"ZTF r": {"n": 60.0, "median_mag": 18.9}}
    properties = Properties("S1", "P", has_data=True, n_detections=2, features=features)
    shown = {
        "Project(name='shown', folder='SHOWN', observatories=DEMO": project,
        "VirtualDemoObs(name='DEMO', num_epochs=50)": project.observatories[0],
        "Analysis(finder='Finder', quality='QualityChecker'": Analysis(num_injections=3),
        "Finder(snr_threshold=7)": Finder(snr_threshold=7),
        "RawPhotometry(source='S', observatory='DEMO', file='f.h5')": raw,
        "Lightcurve(source='S1', observatory='ZTF', epochs=60, filter='r', project='P', series='1 of 1', mjd=": curve(),
        "Detection(source='S1', score=9.1, mjd_peak=58000.5": Detection("S1", score=9.123, mjd_peak=58000.5),
        "Properties(source='S1', project='P', state='done', has_data=True, n_detections=2, ZTF r='n 60": properties,
        "Histogram(snr='0 epochs'": Histogram(),
        "Source('S1', ra=": Source("S1", 1.0, 2.0, 17.0),
        "UniqueList([VirtualDemoObs": project.observatories,
    }
    for words, item in shown.items():
        assert repr(item).startswith(words), repr(item)
        assert "xyz" not in repr(item)
    for item in [*list(shown.values())[:-1], project.pars]:
        html = item._repr_html_()
        assert html.startswith("<table>")
        assert "xyz" not in html
    assert "&lt;b&gt;" in Source("<b>", 1.0, 2.0)._repr_html_()
    assert "least S/N" in Finder().pars._repr_html_()


# queries


@pytest.fixture
def filled(survey_store: Store) -> Store:
    sources = [Source(f"S{i}", 10.0 * i, 5.0, mag) for i, mag in enumerate((15.0, 17.0, None))]
    survey_store.surveys.register([one.document() for one in sources], "P")
    detections = [
        Detection(f"S{i}", "ZTF", "P", name, number=number, score=score, mjd_peak=58000.0 + score, peak_mag=peak)
        for i, name, number, score, peak in (
            (0, "r", 1, 12.0, 14.0),
            (0, "g", 2, -20.0, None),
            (1, "r", 1, 30.0, 15.5),
            (2, "r", 1, 8.0, 16.0),
        )
    ]
    unreal = Detection("S0", "ZTF", "P", "r", score=99.0, simulated=True, sim_pars={"number": 1})
    survey_store.surveys.save("detections", [one.document() for one in [*detections, unreal]])
    properties = Properties("S0", "P", extra={"period": {"period_d": 2.5}}, n_detections=2)
    survey_store.surveys.save("properties", [properties.document()])
    return survey_store


@pytest.mark.parametrize(
    ("where", "scores"),
    [
        ("score > 10 and source.mag < 16", [12]),
        ("", [-20, 8, 12, 30]),
        ("score >= 8 and score < 30", [8, 12]),
        ("filter in ['g'] or source.mag > 16", [-20, 30]),
        ("filter not in ['g'] and not source.mag > 16", [8, 12]),
        ("not (score > 10 or source.mag < 16)", [8]),
        ("source.mag != 17", [-20, 12]),
        ("peak_mag != 14", [8, 30]),
        ("source_name == 'S0' and strength > 15", [-20]),
        ("simulated == True", [99]),
        ("False", []),
        ("score == 12 and True", [12]),
    ],
)
def test_queries_with_comparisons(filled: Store, where: str, scores: list[float]) -> None:
    with Session() as session:
        found = session.table(Detection, where=where, sort="score")
    assert found["score"].tolist() == scores


def test_queries_are_sorted_limited_and_have_units(filled: Store) -> None:
    with Session() as session:
        found = session.table(Detection, sort="-source.mag, -score", limit=2, project="P")
        assert found["score"].tolist() == [30, 12]
        assert found["source.mag"].tolist() == [17, 15]
        assert (str(found["source.mag"].unit), str(found["mjd_peak"].unit)) == ("mag", "d")
        everything = session.table(Detection, sort="score")
        assert everything["peak_mag"].mask.tolist() == [True, False, False, False]
        assert everything.to_pandas()["score"].tolist() == [-20, 8, 12, 30]
        assert len(session.table(Detection, simulated=True)) == 1
        assert session.table(Source, where="mag < 16 or dec > 80")["name"].tolist() == ["S0"]
        assert session.table(Source, where="ra > 5", sort="-ra")["ra"].tolist() == [20, 10]
        assert session.table(Properties, where="extra.period.period_d > 2")["n_detections"].tolist() == [2]
        assert len(session.table(Lightcurve)) == 0
        assert session.table(RawPhotometry, source_name="S0").colnames[:3] == ["source_name", "observatory", "state"]


@pytest.mark.parametrize(
    ("where", "sort", "words"),
    [
        ("scor > 3", "", "did you mean 'score'"),
        ("score > 3", "scor", "did you mean 'score'"),
        ("source.magg > 3", "", "did you mean 'source.mag'"),
        ("score > 'a'", "", "score is a number"),
        ("simulated == 1", "", "simulated is True or False"),
        ("__import__('os')", "", "neither a comparison"),
        ("filter < 'r'", "", "has no order"),
    ],
)
def test_what_is_mistyped_in_a_query_is_refused(filled: Store, where: str, sort: str, words: str) -> None:
    with Session() as session, pytest.raises(ConfigError, match=words):
        session.table(Detection, where=where, sort=sort)
    with Session() as session, pytest.raises(ConfigError, match="a date"):
        session.table(Properties, sort="made")


def test_operators_in_an_expression_are_data() -> None:
    ((names, query),) = conditions("name == '$where'", {"name": ("_id", str)})
    assert (names, query) == ({"name"}, {"_id": {"$eq": "$where"}})


def test_the_demonstration_observatory_is_shown_without_its_parameters() -> None:
    assert repr(VirtualDemoObs(cfg_file=None)) == "VirtualDemoObs(name='DEMO')"
