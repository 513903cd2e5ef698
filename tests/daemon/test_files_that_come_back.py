"""Raw files and masters that are away while calibration runs, as on an unmounted disk, count when they are back."""

from pathlib import Path

import pytest

from tests.daemon.conftest import CONFIG, NIGHT, Site

ALL = {f"{NIGHT} calib.darks": "done", f"{NIGHT} calib.flats": "done"}


@pytest.fixture
def listed(site: Site) -> Site:
    """A site whose raw files are listed, and nothing of which is calibrated."""
    site.change(pipelines=[{"class": "tests.sample_pipelines.Toy"}])
    site.run()
    site.change(pipelines=CONFIG["pipelines"])
    return site


def calibration(site: Site) -> dict[str, str]:
    return {name: state for name, state in site.states().items() if " calib." in name}


@pytest.mark.parametrize("pattern", ["dark_*", "flat_*", "dark_0*"])
def test_files_that_are_away_while_calibration_runs_are_used_when_they_are_back(
    listed: Site, tmp_path: Path, pattern: str
) -> None:
    names = [path.name for path in listed.night.glob(pattern)]
    for name in names:
        (listed.night / name).rename(tmp_path / name)
    listed.run()
    assert "lacking" in calibration(listed).values()
    for name in names:
        (tmp_path / name).rename(listed.night / name)
    listed.run()
    states = listed.states()
    assert calibration(listed) == ALL
    assert states["HIP_1 bright_star.reduce"] == states["KOI-2 bright_star.reduce"] == "done"
