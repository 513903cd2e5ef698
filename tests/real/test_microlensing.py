"""Point-lens fits of published microlensing events: the parameters of the papers, with the planets rejected."""

import os
from pathlib import Path

import pytest

from obsarchive.science.light_curves.point_lens import Options, PointLens, fit
from obsarchive.timeseries.point_lens import read_file

FOLDER = (
    Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "lc" / "microlensing"
)

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no microlensing light curves in {FOLDER}"),
]


def fitted(event: str, options: Options = Options()) -> PointLens:  # noqa: B008 - immutable
    # Spitzer sees another event: it is far from the Earth
    files = [path for path in sorted((FOLDER / event).glob("*.*")) if path.suffix in (".dat", ".tbl")]
    return fit([read_file(path) for path in files if "spitzer" not in path.name], options)


def test_ogle_2008_blg_092() -> None:
    """The event of 2010, by the companion of the lens; as MulensModel and pyLIMA fit it."""
    found = fitted("OB08092")
    assert found.t0.value == pytest.approx(2_455_379.571, abs=0.002)
    assert found.u0.value == pytest.approx(0.52298, abs=0.0002)
    assert found.t_e.value == pytest.approx(17.940, abs=0.005)
    assert found.chi2 == pytest.approx(427.2, abs=0.1)
    assert found.is_reliable


def test_moa_2008_blg_310() -> None:
    """Janczak et al. 2010, ApJ 711, 731: t0 4656.39975, u0 0.00300, tE 11.14 d; source extended, planet at the peak."""
    found = fitted("MB08310")
    assert found.rho is not None
    assert found.rho.value == pytest.approx(0.00493, abs=2 * found.rho.error)
    assert found.u0.value == pytest.approx(0.00300, abs=found.u0.error)
    assert found.t_e.value == pytest.approx(11.14, abs=found.t_e.error)
    # the planet makes the peak asymmetric, which the warnings tell
    assert found.t0.value == pytest.approx(2_454_656.39975, abs=0.0015)
    assert not found.is_adequate
    whole = fitted("MB08310", Options(clip_sigma=0, extended_source=False))
    assert abs(whole.t0.value - 2_454_656.39975) < whole.t0.error
    assert abs(whole.u0.value - 0.00300) < whole.u0.error


def test_ogle_2016_blg_1195() -> None:
    """Shvartzvald et al. 2017, ApJ 840, L3 and Bond et al. 2017, MNRAS 469, 2434: u0 0.053-0.058, tE 9.95 d."""
    found = fitted("OB161195")
    assert found.t0.value == pytest.approx(2_457_568.77, abs=0.005)
    assert found.u0.value == pytest.approx(0.0532, abs=found.u0.error)
    assert found.t_e.value == pytest.approx(9.95, abs=found.t_e.error)
    (planet,) = found.anomalies
    assert 2_457_569.0 < planet.start < planet.stop < 2_457_569.3
    assert planet.mean_sigma > 0


def test_ogle_2015_blg_0966() -> None:
    """Street et al. 2016, ApJ 819, 93: tE 57.8 d with parallax; MulensModel, too, finds 62.8 d without."""
    found = fitted("OB150966")
    assert found.t0.value == pytest.approx(2_457_205.20, abs=0.02)
    assert found.u0.value == pytest.approx(0.0115, abs=0.0006)
    assert found.t_e.value == pytest.approx(62.8, abs=2 * found.t_e.error)
    assert any(2_457_205.6 < one.start < 2_457_205.8 for one in found.anomalies)
    assert not found.is_adequate
