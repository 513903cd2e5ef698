"""From tiny raw files and what the tree remembers to documents, on a real MongoDB."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pytest

from obsarchive.config.model import Config, RawRoot
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night, Observation, utc_now
from obsarchive.core.masters import CalibrationNeed
from obsarchive.core.step_state import State
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.psf_library_sync import PsfLibrarySync
from obsarchive.daemon.raw_scanner import Listing, Scanner
from obsarchive.daemon.sidecars import write_sidecar
from obsarchive.daemon.step_effects import StepEffects
from obsarchive.execution.step_process import execute
from obsarchive.pipeline import Task
from obsarchive.simulation.night import write_raw
from obsarchive.store import StepUpdate, Store
from tests.sample_pipelines import Endings, Toy

NIGHT = "20160925"
OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
OTHER = "3_HD95735_VIC_Si_o_20160925_120000.000000"
HEADER = {"TELRA": "20:24:00.00", "TELDEC": "-08:30:00.0", "MODE_NUM": 6, "EXPOSURE": 90.0, "MAGNITUD": 11.2}


class Site:
    """An archive with one raw root, its book, and what looks after both."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        paths = {"raw": [folder / "raw"], "archive": folder / "archive", "tmp": folder / "tmp", "logs": folder / "logs"}
        telescope = {"primary_m": 2.1, "plate_scale_arcsec": 0.035, "detector_px": [8, 8], "cameras": ["VIC"]}
        self.config = Config.model_validate(
            {
                "paths": paths,
                "telescope": {"KPNO": telescope},
                "pipelines": [{"class": "tests.sample_pipelines.Toy"}],
            }
        )
        self.layout = Layout(self.config.paths.archive)
        self.ingest = Ingest(self.config, store)

    def raw(self, name: str, n_frames: int = 2, root: str = "raw", **cards: Any) -> Path:
        path = self.folder / root / NIGHT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = (np.full((4, 6), number, np.uint16) for number in range(n_frames))
        write_raw(path, frames, n_frames, HEADER | cards)
        return path

    def listing(self, root: str = "raw") -> Listing:
        [listing] = Scanner(RawRoot(path=self.folder / root), 0.0).changed()
        return listing

    def take_in(self, root: str = "raw") -> None:
        self.ingest.night(self.listing(root))

    def observation(self, name: str = OBS) -> Observation:
        return Observation(self.store.observations.find(name))

    def night(self) -> Night:
        return Night(self.store.nights.find(NIGHT))

    def reduce(self, pipeline: type = Toy, step: str = "write", name: str = OBS) -> None:
        """Do one step as the daemon does: claim, run, finish."""
        path, records = (pipeline.name, step), self.store.observations
        records.claim(name, path, "t", "run")
        document = records.find(name)
        inputs = {"science": Observation(document).raw_signature}
        task = Task("t", pipeline, step, document, self.config.paths.archive, self.config.paths.tmp, inputs=inputs)
        outcome = execute(task)
        state = State.DONE if outcome.event == "succeed" else State.REJECTED
        records.finish(name, path, "t", StepUpdate(state, outcome.message, outcome.record))

    def lose_the_database(self) -> None:
        for name in self.store.database.list_collection_names():
            self.store.database.drop_collection(name)


@pytest.fixture
def site(tmp_path: Path, store: Store) -> Site:
    return Site(tmp_path, store)


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the times at which it was written."""
    return {
        key: without_times(value) if isinstance(value, dict) else value
        for key, value in document.items()
        if key not in ("last_modified", "date_added", "look_again")
    }


# ------------------------------------------------------------------------------------- what lies on disk


def test_an_observation_with_its_parts(site):
    site.store.users.save("ida", {"programs": ["4"]})
    site.raw(f"{OBS}.fits.bz2")
    site.raw(f"{OBS}_0.fits.bz2")
    site.take_in()
    found = site.observation()
    document = found.document
    assert [path.name for path in found.raw_files] == [f"{OBS}.fits.bz2", f"{OBS}_0.fits.bz2"]
    assert all(path.exists() for path in found.raw_files)
    assert (document["name"], found.camera, found.filter, found.mode, found.shape) == (
        "351_Yrsa",
        "VIC",
        "lp600",
        "6",
        (4, 6),
    )
    assert document["science_program"] == {"program_id": "4", "program_PI": ["ida"]}
    assert document["telescope"] == "KPNO"
    assert document["coordinates"]["ra_deg"] == pytest.approx(306.0)
    assert {"key": "MAGNITUD", "value": 11.2, "comment": ""} in document["fits_header"]
    assert not found.packed
    assert site.layout.sidecar(NIGHT, OBS).exists()


def test_a_copy_of_a_part_below_another_root_is_no_loss(site):
    path = site.raw(f"{OBS}.fits")
    site.raw(f"{OBS}_0.fits")
    site.take_in()
    copies = site.folder / "raw2" / NIGHT
    copies.mkdir(parents=True)
    shutil.copy2(path, copies)
    site.take_in("raw2")
    assert not site.observation().raw_missing


def test_taking_in_twice_changes_nothing(site):
    site.raw(f"{OBS}.fits")
    site.take_in()
    before = site.observation().document
    site.take_in()
    assert site.observation().document == before


def test_calibration_files_and_what_science_asks_of_them(site):
    site.raw("dark_6_20160925_010000.000000.fits")
    site.raw("flat_0_Si_20160925_010000.000000.fits")
    site.raw(f"{OBS}.fits")
    (site.folder / "raw" / NIGHT / "notes.txt").write_text("cloudy")
    site.take_in()
    night = site.night()
    assert [(file["mode"], file["path"].exists()) for file in night.raw_files("dark")] == [("6", True)]
    assert [file["filter"] for file in night.raw_files("flat")] == ["Si"]
    assert night.raw_signature("dark") != night.raw_signature("flat") != ""
    assert night.raw_signature("seeing") == ""
    assert night.needs() == {CalibrationNeed("6", (4, 6), "lp600", (8, 8))}
    assert night.document["raw_data"]["ignored"] == ["notes.txt"]


def test_changed_raw_files(site):
    path = site.raw(f"{OBS}.fits")
    site.take_in()
    before = site.observation().raw_signature
    site.store.observations.set_fields(OBS, {"comment": "pretty", "look_again": False})
    path.unlink()
    site.raw(f"{OBS}.fits", n_frames=3, MAGNITUD=12.5)
    site.take_in()
    found = site.observation()
    assert found.raw_signature != before
    assert (found.document["magnitude"], found.document["comment"]) == (12.5, "pretty")
    assert found.document["look_again"] is True


def test_raw_files_that_go_and_come_back(site):
    path = site.raw(f"{OBS}.fits")
    site.raw(f"{OTHER}.fits")
    site.take_in()
    site.reduce()
    away = path.rename(site.folder / "away.fits")
    site.take_in()
    found = site.observation()
    assert found.raw_missing
    assert not site.observation(OTHER).raw_missing
    assert found.pipeline("toy").step("write").state is State.DONE
    assert site.night().needs() == {CalibrationNeed("6", (4, 6), "Si", (8, 8))}
    away.rename(path)
    site.take_in()
    assert not site.observation().raw_missing
    assert site.observation().pipeline("toy").step("write").inputs["science"] == site.observation().raw_signature


def test_a_growing_observation_is_neither_new_nor_gone(site):
    site.raw(f"{OBS}.fits")
    site.take_in()
    site.raw(f"{OBS}_0.fits")
    listing = site.listing()
    listing.growing.append(f"{OBS}_0.fits")
    site.ingest.night(listing)
    assert not site.observation().raw_missing
    assert len(site.observation().raw_files) == 1


def test_a_night_below_two_roots_loses_nothing(site):
    site.raw(f"{OBS}.fits")
    site.raw(f"{OTHER}.fits", root="raw2")
    site.take_in()
    site.take_in("raw2")
    assert not site.observation().raw_missing
    assert not site.observation(OTHER).raw_missing
    assert all(path.exists() for name in (OBS, OTHER) for path in site.observation(name).raw_files)


# ------------------------------------------------------------------------------------- hostile files


def test_a_file_that_vanishes_after_the_listing(site):
    path = site.raw(f"{OBS}.fits")
    site.raw(f"{OTHER}.fits")
    listing = site.listing()
    path.unlink()
    site.ingest.night(listing)
    assert site.observation().document["fits_header"] == []
    assert site.observation(OTHER).mode == "6"
    site.take_in()
    assert site.observation().raw_missing


BROKEN = [
    b"",
    b"no FITS at all",
    b"BZh91AY&SY cut short",
    b"SIMPLE  =                    T".ljust(2880),
    bytes(range(256)) * 20,
]


def test_broken_files_cost_their_own_fields_and_the_night_goes_on(site):
    site.raw(f"{OBS}.fits")
    names = []
    for number, (suffix, content) in enumerate(itertools.product([".fits", ".fits.bz2", ".fits.gz"], BROKEN)):
        name = OBS.replace("Yrsa", f"broken{number}")
        (site.folder / "raw" / NIGHT / f"{name}{suffix}").write_bytes(content)
        names.append(name)
    site.take_in()
    for name in names:
        document = site.observation(name).document
        assert (document["filter"], document["science_program"]["program_id"]) == ("lp600", "4")
        assert "magnitude" not in document
    assert site.observation().document["magnitude"] == 11.2


HOSTILE_CARDS = [
    "NAXIS1  = 99999999999999999999",
    "NAXIS1  =                   -7",
    "NAXIS2  =                1E300",
    "MAGNITUD=                1E400",
    "MAGNITUD= 'NaN     '",
    "TELRA   = '99:99:99'",
    "TELRA   =                1E308",
    "TELDEC  =                  NaN",
    "MODE_NUM= 'six''s'",
    "EXPOSURE= (1.0, 2.0)",
    "OBJECT  = 'unfinished",
    "HIERARCH a.b$c \x00\x07 = 3",
    "$WHERE  = 'function() { while (1); }'",
    f"LONG    = {2**70}",
]


def with_card(path: Path, card: str) -> None:
    """Put a card into a file's first header, in place of the one it had."""
    block = path.read_bytes()
    cards = [block[start : start + 80] for start in range(0, 2880, 80)]
    kept = [old for old in cards if not old.startswith((card[:8].encode(), b"END     ", b" " * 80))]
    header = b"".join([*kept, card.encode().ljust(80), b"END".ljust(80)]).ljust(2880)
    path.write_bytes(header + block[2880:])


def test_hostile_headers_are_survived(site):
    site.store.ensure_indexes([("toy", "reduce")])  # the sphere's refuses what is no position
    cards = {OBS.replace("Yrsa", f"hostile{number}"): card for number, card in enumerate(HOSTILE_CARDS)}
    for name, card in cards.items():
        with_card(site.raw(f"{name}.fits"), card)
    site.take_in()
    for name, card in cards.items():
        document = site.observation(name).document
        known = {key: document.get(key) for key in ("exposure_s", "magnitude", "mode", "shape")}
        truth = {"exposure_s": 90.0, "magnitude": 11.2, "mode": "6", "shape": [4, 6]}
        assert sum(known[key] != truth[key] for key in truth) <= 1, card


def test_names_that_are_no_text_are_counted_and_shown(site):
    site.raw(f"{OBS}.fits")
    (site.folder / "raw" / NIGHT / os.fsdecode(b"\xff\xfe\n$x.fits")).touch()
    site.take_in()
    raw = site.night().document["raw_data"]
    assert raw["ignored_count"] == 1
    assert raw["ignored"] == ["\\udcff\\udcfe\n$x.fits"]


# ------------------------------------------------------------------------------------- what the tree remembers


@pytest.fixture
def reduced(site: Site) -> Iterator[Site]:
    """A site with two observations, one of them reduced and rejected by another pipeline."""
    site.raw(f"{OBS}.fits")
    site.raw(f"{OTHER}.fits")
    site.take_in()
    site.store.observations.set_fields(
        OBS, {"comment": "pretty", "alternative_names": ["Yrsa"], "science_program.program_PI": "asteroids"}
    )
    site.reduce(Toy)
    site.reduce(Endings, "reject")
    write_sidecar(site.layout, site.store.observations.find(OBS))
    return site


def test_a_lost_database_comes_back_with_the_raw_files(reduced):
    before = {name: reduced.store.observations.find(name) for name in (OBS, OTHER)}
    reduced.lose_the_database()
    reduced.take_in()
    found = reduced.observation()
    assert found.document["comment"] == "pretty"
    assert found.document["alternative_names"] == ["Yrsa"]
    assert found.document["science_program"]["program_PI"] == "asteroids"
    assert found.document["date_added"] == before[OBS]["date_added"]
    check_steps(found)
    assert without_times(reduced.observation(OTHER).document) == without_times(before[OTHER])


def test_a_lost_database_comes_back_without_the_raw_files(reduced):
    before = reduced.observation()
    reduced.lose_the_database()
    assert reduced.ingest.tree() == 2
    found = reduced.observation()
    check_steps(found)
    for key in ("science_program", "coordinates", "date_utc", "fits_header", "comment", "shape"):
        assert found.document[key] == before.document[key], key
    assert not found.packed
    assert found.raw_missing  # until they are seen
    assert reduced.ingest.tree() == 0
    reduced.take_in()
    assert reduced.observation().document["raw_data"] == before.document["raw_data"] | {"missing": False}
    check_steps(reduced.observation())


def check_steps(found: Observation) -> None:
    toy, endings = found.pipeline("toy"), found.pipeline("endings")
    assert (toy.step("write").state, toy.step("write").results) == (State.DONE, {"letters": 9})
    assert toy.step("write").inputs["science"] == found.raw_signature
    assert [product["name"] for product in toy.step("write").products] == [f"{OBS}.txt"]
    assert (endings.step("reject").state, endings.step("reject").message) == (State.REJECTED, "no guide star")
    assert endings.classified_as == "zero_flux"


def test_taking_up_the_tree_leaves_the_book_s_documents_alone(reduced):
    before = reduced.observation().document
    assert reduced.ingest.tree() == 0
    assert reduced.observation().document == before


class InAFolder(Toy):
    name = "toy_elsewhere"
    folder = "results"


def test_a_pipeline_with_a_folder_of_its_own_is_recalled_by_name(reduced):
    reduced.reduce(InAFolder)
    reduced.lose_the_database()
    reduced.take_in()
    assert reduced.observation().pipeline("toy_elsewhere").step("write").state is State.DONE


DAMAGE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"date_utc": "yesterday"}',
    b'{"science_program": 3, "distributed": 1}',
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_sidecar_costs_what_it_remembered_only(reduced, damage):
    reduced.layout.sidecar(NIGHT, OBS).write_bytes(damage)
    reduced.lose_the_database()
    reduced.ingest.tree()
    reduced.take_in()
    found = reduced.observation()
    assert found.pipeline("toy").step("write").state is State.DONE
    assert found.raw_signature != ""


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"[]", b"\xff"),
        {"state": "finished"},
        {"state": ["done"]},
        {"started": "yesterday"},
        {"pipeline": None, "step": None, "state": None},
    ],
)
def test_a_damaged_manifest_makes_its_step_due_again(reduced, damage):
    path = reduced.layout.manifest(reduced.layout.observation(NIGHT, OBS) / "toy", "write")
    if isinstance(damage, dict):
        damage = json.dumps(json.loads(path.read_text()) | damage).encode()
    path.write_bytes(damage)
    reduced.lose_the_database()
    reduced.take_in()
    assert reduced.observation().pipeline("toy").step("write").state is State.WAITING
    assert reduced.observation().pipeline("endings").step("reject").state is State.REJECTED


def test_whatever_people_put_into_a_document_can_be_remembered(site):
    site.raw(f"{OBS}.fits")
    site.take_in()
    odd = {"id": bson.ObjectId(), "number": bson.Decimal128("1.5"), "when": utc_now(), "bytes": b"x"}
    site.store.observations.set_fields(OBS, {"comment": odd})
    write_sidecar(site.layout, site.store.observations.find(OBS))
    assert json.loads(site.layout.sidecar(NIGHT, OBS).read_text())["comment"]["number"] == "1.5"


def test_strangers_in_the_tree_are_left_alone(site):
    for folder in ("20160925/not an observation", "20160931/x", "lost+found", ".db/data"):
        (site.layout.root / folder).mkdir(parents=True)
    (site.layout.root / NIGHT / OTHER).mkdir()
    (site.layout.root / NIGHT / OBS).symlink_to(site.layout.root / NIGHT / OTHER)
    assert site.ingest.tree() == 0
    assert [night.id for night in site.store.nights.all()] == [NIGHT]


def test_an_empty_or_missing_tree(site):
    assert site.ingest.tree() == 0


def test_what_all_observations_of_a_night_share_is_read_once(site, monkeypatch):
    """Ten thousand may arrive at once, and each answer of the database takes its time."""
    site.store.users.save("ida", {"programs": ["4"]})
    for number in range(3):
        site.raw(OBS.replace("351_Yrsa", f"star_{number}") + ".fits")
    asked = []
    owners = site.store.users.owners
    monkeypatch.setattr(site.store.users, "owners", lambda program: asked.append(program) or owners(program))
    site.take_in()
    assert asked == ["4"]
    found = site.store.observations.of_night(NIGHT)
    assert [each.document["science_program"]["program_PI"] for each in found] == [["ida"]] * 3
    site.store.users.save("ben", {"programs": ["4"]})
    site.raw(OBS.replace("351_Yrsa", "star_3") + ".fits")
    site.take_in()
    assert asked == ["4", "4"], "the next look asks again"


SEEING = {
    "frames": [
        {"date_utc": "2016-09-25T11:00:00+00:00", "fwhm_arcsec": 1.2, "fwhm_error_arcsec": 0.03},
        {"date_utc": "2016-09-25T12:30:00+00:00", "fwhm_arcsec": 1.6, "fwhm_error_arcsec": 0.05},
    ],
    "median_arcsec": 1.4,
    "median_error_arcsec": 0.2,
}
WITH_ERRORS = {"median": (pytest.approx(1.4), 0.2), "nearest": (1.2, 0.03)}


def seeing_of(document: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {
        name: (document["seeing"][f"{name}_arcsec"], document["seeing"].get(f"{name}_error_arcsec"))
        for name in ("median", "nearest")
    }


def test_seeing_that_an_earlier_version_shared_without_errors_gets_them(site):
    site.raw(f"{OBS}.fits.bz2")
    site.take_in()
    record = {"steps": {"measure": {"state": "done", "results": SEEING}}, "median_arcsec": 1.4}
    site.store.nights.set_fields(NIGHT, {"seeing": record, "science.signature": "settled"})
    shared = {"median_arcsec": 1.4, "nearest_arcsec": 1.2}
    site.store.observations.collection.update_one({"_id": OBS}, {"$set": {"seeing": shared}})
    effects = StepEffects(site.store, PsfLibrarySync(site.store, site.layout, []))
    effects.carry_over_errors()
    assert seeing_of(site.observation().document) == WITH_ERRORS
    assert site.night().document["seeing"]["median_error_arcsec"] == 0.2
    assert site.night().science == "settled", "no summary is made again"
    site.store.observations.set_fields(OBS, {"seeing.nearest_error_arcsec": None})
    effects.carry_over_errors()
    assert site.observation().document["seeing"]["nearest_error_arcsec"] is None, "once is enough"


def test_an_observation_of_the_tree_has_the_seeing_of_its_night(reduced):
    assert seeing_of(reduced.observation().document) == {"median": (None, None), "nearest": (None, None)}
    folder = reduced.layout.summary(NIGHT)
    folder.mkdir(parents=True)
    measured = {"pipeline": "seeing", "step": "measure", "state": "done", "results": SEEING}
    (folder / ".measure.json").write_text(json.dumps({**measured, "started": None, "finished": None}))
    reduced.lose_the_database()
    shutil.rmtree(reduced.folder / "raw")
    reduced.ingest.tree()
    assert seeing_of(reduced.observation().document) == WITH_ERRORS
