"""Real light curves of surveys: events at their published times, quiet stars quiet, known periods."""

import csv
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from astropy.timeseries import LombScargle

from surveys.dataset import Lightcurve, RawPhotometry
from surveys.detection import Detection
from surveys.finder import Finder
from surveys.observatory import VirtualObservatory
from surveys.observatory.ztf import VirtualZTF
from surveys.periods import find_period
from surveys.quality import QualityChecker

FOLDER = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "lc"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real light curves in {FOLDER}"),
]

KMT = [f"OB161195/{name}.dat" for name in ("KCT01I", "KCT41I", "KCT42I", "KSA01I", "KSA41I", "KSA42I", "KSS01I")]
EVENTS = {
    # Street et al. 2016, ApJ 819, 93; the survey missed the night of the peak
    "OB150966/OGLE_OB150966.dat": (0, 2457205.2, 2.0, 58.0),
    # Janczak et al. 2010, ApJ 711, 731
    "MB08310/MOA_0300089_PLC_007.tbl": (0, 2454656.40, 0.5, 11.0),
    # Poleski et al. 2014, ApJ 795, 42: the second of its events
    "OB08092/phot_ob08092_O4.dat": (2_450_000, 2455379.57, 0.5, 38.0),
    # Shvartzvald et al. 2017, ApJ 840, L3
    **dict.fromkeys(KMT, (2_450_000, 2457568.77, 0.5, 10.0)),
}
"""What is added to the times, the published time of the peak (HJD), how near an epoch is, and the Einstein time [d]."""
QUIET = {
    "OB150966/OGLE_OB150966.dat": (0, [(0, 2457000)]),
    "MB08310/MOA_0300089_PLC_007.tbl": (0, [(0, 2454600)]),
    "OB08092/phot_ob08092_O4.dat": (2_450_000, [(2455500, 1e9)]),
    **dict.fromkeys(KMT, (2_450_000, [(0, 2457530), (2457610, 1e9)])),
}
"""When these stars were quiet (HJD): long before and after their events."""
ALIAS = "1671222"
"""Its published period explains much less of the data than one that differs by a cycle a year."""


def raw_photometry(name: str, offset: float) -> RawPhotometry:
    lines = (FOLDER / "microlensing" / name).read_text().splitlines()
    rows = [line.split()[:3] for line in lines if line.strip() and line[0] not in "\\|#"]
    hjd, mag, error = np.array(rows, float).T
    facts = {"name": name, "ra": 268.0, "dec": -30.0, "filter": "I", "time_offset": offset}
    return RawPhotometry({"hjd": hjd, "mag": mag, "magerr": error}, facts, observatory="SURVEY")


def search(curve: Lightcurve, finder: Finder | None = None) -> list[Detection]:
    finder = finder or Finder()
    return finder.detect(finder.process(QualityChecker().check(curve)))


@pytest.mark.parametrize("name", EVENTS)
def test_microlensing_events_are_found_at_their_published_times(name: str) -> None:
    offset, published_hjd, reach, einstein_d = EVENTS[name]
    (curve,) = VirtualObservatory("SURVEY").reduce(raw_photometry(name, offset), gap=0)
    found = search(curve)
    published = published_hjd - 2_400_000.5
    assert found[0].score > 50
    assert abs(found[0].mjd_peak - published) < reach
    assert found[0].mjd_start < published < found[0].mjd_stop
    # whatever else is found lies in the wings of the event
    assert all(abs(other.mjd_peak - published) < 3 * einstein_d and other.score > 0 for other in found)


def quiet_curves(epochs: int | None) -> Iterator[Lightcurve]:
    """Real light curves of quiet stars: seasons, or pieces of them of about so many epochs."""
    for name, (offset, spans) in QUIET.items():
        for curve in VirtualObservatory("SURVEY").reduce(raw_photometry(name, offset), gap=40 if epochs else 0):
            hjd = curve.columns["mjd"] + 2_400_000.5
            for low, high in spans:
                inside = np.flatnonzero((hjd > low) & (hjd < high))
                n_pieces = max(1, len(inside) // epochs) if epochs else 1
                for piece in np.array_split(inside, n_pieces):
                    if len(piece) >= 20:
                        yield curve.with_columns({key: values[piece] for key, values in curve.columns.items()})


def test_quiet_stars_are_quiet() -> None:
    n_curves, alarms = 0, 0
    for epochs in (50, 100, None):
        curves = list(quiet_curves(epochs))
        n_curves += len(curves)
        alarms += sum(len(search(curve)) > 0 for curve in curves)
    assert n_curves > 500
    assert alarms < 0.01 * n_curves


def test_supernovae_are_found_in_difference_photometry() -> None:
    finder, found, n_searched = Finder(baseline=0.0), 0, 0
    with (FOLDER / "ztf_snia" / "bts_rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        with (FOLDER / "ztf_snia" / f"{row['ZTFID']}.csv").open() as file:
            epochs = list(csv.DictReader(file))
        columns = {key: np.array([float(epoch[key]) for epoch in epochs]) for key in ("time", "mag", "magerr")}
        columns["band"] = np.array([epoch["band"] for epoch in epochs])
        raw = RawPhotometry(columns, {"name": row["ZTFID"], "ra": 1.0, "dec": 2.0}, observatory="ZTF")
        published = float(row["peakt"]) + 2_458_000 - 2_400_000.5
        curves = [curve for curve in VirtualObservatory("SURVEY").reduce(raw, gap=0) if len(curve) > 1]
        detections = [one for curve in curves for one in search(curve, finder)]
        n_searched += bool(curves)
        found += any(one.score > 5 and one.mjd_start - 7 < published < one.mjd_stop + 7 for one in detections)
    assert n_searched == len(rows) - 1  # of one supernova a single epoch was kept
    assert found == n_searched


def test_a_ztf_object_as_the_survey_serves_it() -> None:
    with (FOLDER / "ztf_dr" / "ZTF_lightcurve.csv").open() as file:
        rows = list(csv.DictReader(file))
    columns = {
        key: np.array([float(row[key]) for row in rows]) for key in ("mjd", "mag", "magerr", "ra", "dec", "catflags")
    }
    columns |= {
        "oid": np.array([int(row["oid"]) for row in rows]),
        "filtercode": np.array([row["filtercode"] for row in rows]),
    }
    # the object lies half a milliarcsecond from 0 h: a plain difference of right ascensions would be 360 degrees
    place = {"name": "J0000+5123", "ra": 359.99964, "dec": 51.39372}
    curves = VirtualZTF().reduce(RawPhotometry(columns, place, observatory="ZTF"), mag_range=0)
    assert sum(map(len, curves)) == len(rows)
    assert {curve.filter for curve in curves} == {"g", "r", "i"}
    assert {curve.altdata["oid"] for curve in curves} == set(columns["oid"].tolist())
    for before, after in pairwise(curves):
        if before.altdata["oid"] == after.altdata["oid"]:
            assert after.mjds[0] - before.mjds[-1] > 40
    flagged = np.concatenate([QualityChecker().check(curve).columns["qflag"] for curve in curves])
    # a few epochs lie off; half of them would if 0 h were not seen
    assert 0 < flagged.mean() < 0.1


def rr_lyrae() -> Iterator[tuple[str, float, dict[str, np.ndarray]]]:
    with (FOLDER / "rrlyrae_s82" / "periods.csv").open() as file:
        published = {row["Num"]: float(row["Per"]) for row in csv.DictReader(file)}
    for number, period in published.items():
        with (FOLDER / "rrlyrae_s82" / f"{number}.csv").open() as file:
            rows = list(csv.DictReader(file))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in ("time", "mag", "magerr")}
        yield number, period, {**columns, "band": np.array([row["band"] for row in rows])}


def test_periods_of_rr_lyrae_stars() -> None:
    """Periods: Sesar et al. 2010, ApJ 708, 717."""
    n = 0
    for number, published, data in rr_lyrae():
        found = find_period(data["time"], data["mag"], data["magerr"], data["band"], (0.2, 1.0))
        n += 1
        if number == ALIAS:
            assert 1 / found.period_d - 1 / published == pytest.approx(1 / 365.25, rel=0.02)
            assert _explained(data, found.period_d) > 1.15 * _explained(data, published)
        else:
            assert found.period_d == pytest.approx(published, rel=1e-4)
            assert found.power > 0.8
    assert n == 16


def _explained(data: dict[str, np.ndarray], period: float) -> float:
    """Return how much of the variance in g a wave with four harmonics explains, by astropy alone."""
    own = (data["band"] == "g") & (data["magerr"] < 1)
    model = LombScargle(data["time"][own], data["mag"][own], np.hypot(data["magerr"][own], 0.02), nterms=4)
    return float(model.power(np.linspace(1 / period - 3e-4, 1 / period + 3e-4, 1001)).max())


def test_the_example_of_an_observatory_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "my_observatory", raising=False)
    from my_observatory import VirtualFolder  # found through the path above

    source = FOLDER / "microlensing" / "OB08092" / "phot_ob08092_O4.dat"
    (tmp_path / "OB08092.dat").write_bytes(source.read_bytes())
    obs = VirtualFolder(photometry=str(tmp_path), time_offset=2_450_000.0, reducer={"gap": 0})
    raw = obs.download({"name": "OB08092", "ra": 268.0, "dec": -30.0})
    (curve,) = obs.reduce(raw)
    assert len(curve) == 383
    assert search(curve)[0].mjd_peak == pytest.approx(2455379.57 - 2_400_000.5, abs=0.5)
    assert obs.download({"name": "another", "ra": 268.0, "dec": -30.0}).is_empty
