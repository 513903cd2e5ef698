"""The daemon, run as its operator runs it."""

import json
import os
import re
import shutil
import signal
from datetime import timedelta

from astropy.io import fits

from obsarchive.core.documents import utc_now
from obsarchive.daemon.tarballs import members
from tests.daemon.conftest import NIGHT, Site, tree, wait_for

EVERY_STEP_DONE = {
    f"{NIGHT} calib.darks": "done",
    f"{NIGHT} calib.flats": "done",
    "HIP_1 bright_star.reduce": "done",
    "HIP_1 bright_star.strehl": "done",
    "HIP_1 bright_star.pca": "lacking",  # no other star in the library
    "HIP_1 bright_star.preview": "done",
    "KOI-2 bright_star.reduce": "done",
    "KOI-2 bright_star.strehl": "done",
    "KOI-2 bright_star.pca": "lacking",
    "KOI-2 bright_star.preview": "done",
    "void bright_star.reduce": "rejected",
}


def jobs_of(site: Site) -> list[str]:
    """Steps that ran, as the database has them."""
    with site.store() as store:
        return sorted(f"{job['subject']} {job['pipeline']}.{job['step']}" for job in store.jobs.recent(limit=1000))


def test_a_night_goes_through(reduced: Site) -> None:
    assert reduced.states() == EVERY_STEP_DONE
    name = reduced.observation("HIP_1")
    made = {path for path in tree(reduced) if path.startswith(f"{NIGHT}/{name}/")}
    assert made == {
        f"{NIGHT}/{name}/{product}"
        for product in (
            "bright_star/100p.fits",
            "bright_star/20p.fits",
            "bright_star/frames.txt",
            f"bright_star/strehl/{name}_strehl.txt",
            f"bright_star/strehl/{name}_box.fits",
            f"bright_star/strehl/{name}_profile.png",
            f"bright_star/preview/{name}_full.png",
            f"bright_star/preview/{name}_cropped.png",
            f"bright_star/preview/{name}_thumb.png",
            f"bright_star/preview/{name}_quality.png",
            f"{name}.tar.bz2",
        )
    }
    assert {"dark_0.fits", "dark_6.fits", "flat_Si.fits"} <= {
        p.name for p in reduced.layout.calibration(NIGHT).iterdir()
    }
    assert not list(reduced.layout.root.rglob("*.part"))


def test_the_tarball_holds_every_product(reduced: Site) -> None:
    name = reduced.observation("HIP_1")
    folder = reduced.layout.observation(NIGHT, name)
    packed = set(members(reduced.layout.tarball(NIGHT, name)))
    shown = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".bz2" and not p.name.startswith(".")]
    texts = {f"{name}/{text}" for text in ("README.txt", "CITATION.txt", "SHA256SUMS")}
    assert packed == {f"{name}/{p.relative_to(folder)}" for p in shown} | texts


def test_products_say_where_they_come_from(reduced: Site) -> None:
    name = reduced.observation("HIP_1")
    header = fits.getheader(reduced.layout.observation(NIGHT, name) / "bright_star/100p.fits")
    assert header["RAW001"] == f"{name}.fits.bz2"
    assert (header["PIPELINE"], header["PIPESTEP"]) == ("bright_star", "reduce")
    assert header["CONFHASH"] == reduced.config.digest
    assert {header["CAL001"], header["CAL002"]} == {"dark_6: own", "flat_Si: own"}


def test_an_empty_field_is_rejected_with_its_reason(reduced: Site) -> None:
    with reduced.store() as store:
        block = store.observations.find(reduced.observation("void"))["pipelined"]["bright_star"]
    assert block["steps"]["reduce"]["state"] == "rejected"
    assert "no guide star" in block["steps"]["reduce"]["message"]


def test_dropping_the_database_rebuilds_it_without_reducing(copied: Site) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.layout.root.rglob("*.fits")}
    said = copied.run()
    assert "steps of this run: none" in said
    assert copied.states() == EVERY_STEP_DONE
    assert {path: path.stat().st_mtime_ns for path in copied.layout.root.rglob("*.fits")} == before


def test_a_deleted_product_alone_is_made_again(copied: Site, reduced: Site) -> None:
    name = copied.observation("KOI-2")
    product = copied.layout.observation(NIGHT, name) / f"bright_star/strehl/{name}_strehl.txt"
    product.unlink()
    copied.run()
    assert jobs_of(copied) == [f"{name} bright_star.strehl"]
    assert tree(copied) == tree(reduced)


def test_ctrl_c_stops_cleanly_and_gives_claims_back(lone_site: Site) -> None:
    daemon = lone_site.start()
    wait_for(lambda: list(lone_site.layout.root.rglob("dark_*.fits")))
    os.killpg(daemon.pid, signal.SIGINT)
    said, _ = daemon.communicate(timeout=30)
    assert daemon.returncode == 0, said
    assert "Traceback" not in said
    assert "enqueued" not in lone_site.states().values()


def test_force_redo_repack_and_owner_from_the_mongo_shell(copied: Site) -> None:
    copied.run()
    name = copied.observation("HIP_1")
    tarball = copied.layout.tarball(NIGHT, name)
    with copied.store() as store:
        objects, aux = store.database["objects"], store.database["aux"]
        objects.update_one(
            {"_id": name},
            {
                "$set": {
                    "pipelined.bright_star.status.force_redo": True,
                    "pipelined.bright_star.last_modified": utc_now(),
                }
            },
        )
        objects.update_many({}, {"$set": {"distributed.status": False, "distributed.last_modified": utc_now()}})
        objects.update_many(
            {"science_program.program_id": "4.1"}, {"$set": {"science_program.program_PI": "asteroids"}}
        )
        aux.update_many({}, {"$set": {"psf_lib": [{"observation": name}]}})
        aux.update_many({}, {"$unset": {"psf_lib": ""}})
    packed_before = tarball.stat().st_mtime_ns
    copied.run()
    assert jobs_of(copied) == [f"{name} bright_star.{step}" for step in ("pca", "preview", "reduce", "strehl")]
    assert tarball.stat().st_mtime_ns > packed_before
    with copied.store() as store:
        assert {d["distributed"]["status"] for d in store.database["objects"].find()} == {True}
        document = store.observations.find(copied.observation("KOI-2"))
        assert document["science_program"]["program_PI"] == "asteroids"
        assert store.observations.find(name)["pipelined"]["bright_star"]["status"]["force_redo"] is False


def test_an_owner_given_in_the_shell_survives_the_loss_of_the_database(copied: Site) -> None:
    copied.run()
    name = copied.observation("HIP_1")
    with copied.store() as store:
        store.database["objects"].update_one({"_id": name}, {"$set": {"science_program.program_PI": "asteroids"}})
    copied.run()
    with copied.store() as store:
        store.database.client.drop_database(store.database.name)
    copied.run()
    with copied.store() as store:
        assert store.observations.find(name)["science_program"]["program_PI"] == "asteroids"


def test_one_step_can_be_asked_for(copied: Site) -> None:
    copied.run()
    name = copied.observation("HIP_1")
    with copied.store() as store:
        assert store.observations.request_step_redo(name, ("bright_star", "preview"))
    copied.run()
    assert jobs_of(copied) == [f"{name} bright_star.preview"]


def test_check_says_what_is_due_and_changes_nothing(site: Site) -> None:
    said = site.run("--check")
    due = "due now: 1 calib.darks; when the night's calibration is done: 3 bright_star.reduce\n"
    assert f"{NIGHT}: 3 observation(s), {due}" in said
    assert site.states() == {}
    assert not list(site.layout.root.rglob("*.fits"))


def test_check_names_the_steps_of_a_night_once_for_all_its_raw_folders(site: Site) -> None:
    other = site.folder / "raw2" / NIGHT
    other.mkdir(parents=True)
    for path in (site.folder / "raw" / NIGHT).glob("dark_*"):
        path.rename(other / path.name)
    site.change(paths={**json.loads(site.config_file.read_text())["paths"], "raw": ["raw", "raw2"]})
    said = site.run("--check")
    assert said.count("calib.darks") == 1
    assert "when the night's calibration is done: 3 bright_star.reduce\n" in said
    assert f"{NIGHT}: 0 observation(s), due now: nothing\n" in said


def test_check_says_what_waits_for_a_calibration_that_is_made_again(copied: Site) -> None:
    copied.run()
    assert f"{NIGHT}: 3 observation(s), due now: nothing\n" in copied.run("--check")
    with copied.store() as store:
        assert store.observations.request_step_redo(copied.observation("HIP_1"), ("bright_star", "preview"))
    assert "due now: 1 bright_star.preview\n" in copied.run("--check")
    dark = min((copied.folder / "raw" / NIGHT).glob("dark_*"))
    shutil.copy2(dark, dark.with_name(re.sub(r"_(\d{6})\.\d{6}\.", r"_\1.999999.", dark.name)))
    waits = "when the night's calibration is done: 1 bright_star.preview\n"
    assert f"due now: 1 calib.darks, 1 calib.flats; {waits}" in copied.run("--check")


def test_a_pipeline_that_is_added_is_run_on_what_is_packed(copied: Site) -> None:
    copied.run()
    ended, tarballs = copied.states(), modification_times(copied)
    remark = {"class": "tests.daemon.remark.Remark", "when": "name in ['KOI-2']"}
    copied.change(pipelines=[*json.loads(copied.config_file.read_text())["pipelines"], remark])
    assert "due now: 1 remark.write" in copied.run("--check")
    assert "steps of this run: 1 done" in copied.run("--once")
    assert copied.states() == {**ended, "KOI-2 remark.write": "done"}
    changed = {name for name, time_ns in modification_times(copied).items() if tarballs[name] != time_ns}
    assert changed == {f"{copied.observation('KOI-2')}.tar.bz2"}
    assert "due now: nothing" in copied.run("--check")
    assert "steps of this run: none" in copied.run("--once")


def modification_times(site: Site) -> dict[str, int]:
    """Modification time of every tarball [ns]."""
    return {path.name: path.stat().st_mtime_ns for path in site.layout.root.rglob("*.tar.bz2")}


def test_a_long_dead_lease_is_taken_over(copied: Site) -> None:
    with copied.store() as store:
        store.database["lease"].insert_one(
            {"_id": "master", "run": "x", "host": "elsewhere", "expires": utc_now() - timedelta(seconds=1), "fence": 4}
        )
    copied.run()


def test_a_deleted_master_of_a_night_without_science_is_made_again(site: Site) -> None:
    for path in site.night.iterdir():
        if not path.name.startswith(("dark_", "flat_")):
            path.unlink()
    site.run()
    master = site.layout.calibration(NIGHT) / "dark_6.fits"
    master.unlink()
    site.run()
    assert master.exists()
