"""What is made again with the same content makes nothing else due; other content does."""

import json
import os

from tests.daemon.conftest import NIGHT, Site
from tests.daemon.test_runs import jobs_of


def redo_reduction(site: Site, name: str) -> list[str]:
    """Ask for the reduction of an observation, run the daemon, and return the steps that it ran in that run."""
    with site.store() as store:
        store.database["jobs"].delete_many({})
        assert store.observations.request_step_redo(name, ("bright_star", "reduce"))
    site.run()
    return [job.removeprefix(f"{name} ") for job in jobs_of(site)]


def test_a_product_made_again_concerns_who_reads_it_only_with_other_content(copied: Site) -> None:
    name = copied.observation("HIP_1")
    photometry = {"class": "pipelines.photometry.Photometry", "when": "name in ['HIP_1']"}
    copied.change(pipelines=[*json.loads(copied.config_file.read_text())["pipelines"], photometry])
    redone = [f"bright_star.{step}" for step in ("pca", "preview", "reduce", "strehl")]
    copied.run()
    assert redo_reduction(copied, name) == redone
    telescope = json.loads(copied.config_file.read_text())["telescope"]
    telescope["KPNO_2.1m"]["plate_scale_arcsec"] = 0.0348  # which the header says
    copied.change(telescope=telescope)
    assert redo_reduction(copied, name) == [*redone, "photometry.measure"]


def test_darks_that_were_only_touched_make_no_science_due(copied: Site) -> None:
    copied.run()
    for path in copied.night.glob("dark_*"):
        os.utime(path, (1.8e9, 1.8e9))
    copied.run()
    assert jobs_of(copied) == [f"{NIGHT} calib.darks", f"{NIGHT} calib.flats"]
