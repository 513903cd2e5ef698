"""A request for a redo outlives a lost database, until it has been carried out."""

import json
from pathlib import Path

import pytest

from obsarchive.core.rules import compile_rule
from obsarchive.core.step_state import State
from obsarchive.daemon.ingest import Ingest
from obsarchive.daemon.night_context import NightContext
from obsarchive.daemon.observation_edits import ObservationEdits
from obsarchive.daemon.reconcile import Reconciler
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import Store
from tests.daemon.test_ingest import NIGHT, OBS, Site
from tests.sample_pipelines import Toy


class Asked(Site):
    """An observation that was reduced, and what looks after it."""

    def __init__(self, folder: Path, store: Store) -> None:
        super().__init__(folder, store)
        self.raw(f"{OBS}.fits")
        self.take_in()
        self.reduce()
        chain = [ChainEntry(Toy(), compile_rule("True"), {}, {})]
        self.reconciler = Reconciler(WorkQueue(store, chain, [], 3), self.layout, self.ingest.edits)

    def lose_and_rebuild(self) -> None:
        self.lose_the_database()
        self.ingest.tree()
        self.take_in()

    def settle(self) -> None:
        self.reconciler.settle(self.observation(), NightContext(self.night()))

    @property
    def step(self):
        return self.observation().pipeline("toy").step("write")


@pytest.fixture
def site(tmp_path: Path, store: Store) -> Asked:
    return Asked(tmp_path, store)


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("typed", [True, 1, "yes"])
def test_a_request_that_nobody_took_up_is_rebuilt(site, is_whole, typed):
    path = "pipelined.toy.status.force_redo" if is_whole else "pipelined.toy.steps.write.redo"
    site.store.observations.set_fields(OBS, {path: typed})
    site.reconciler.keep_up(OBS)
    site.lose_and_rebuild()
    assert site.step.state is State.DONE
    assert site.observation().pipeline("toy").force_redo is is_whole
    assert site.step.redo is not is_whole
    site.settle()
    assert site.step.state is State.WAITING


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_request_that_is_not_carried_out_yet_is_not_taken_for_done(site, is_whole):
    records = site.store.observations
    assert records.request_redo(OBS, "toy") if is_whole else records.request_step_redo(OBS, ("toy", "write"))
    site.settle()
    assert site.step.state is State.WAITING
    site.lose_and_rebuild()
    assert site.step.state is State.WAITING
    site.reduce()
    site.lose_and_rebuild()
    assert site.step.state is State.DONE


def test_without_a_request_nothing_is_done_again(site):
    site.reconciler.keep_up(OBS)
    site.settle()
    site.lose_and_rebuild()
    assert site.step.state is State.DONE
    assert not site.observation().pipeline("toy").force_redo


@pytest.mark.parametrize("damage", ["toy", 3, ["nonsense", "toy.nonsense", 7]])
def test_damaged_requests_of_a_sidecar_file_stop_nothing(site, damage):
    path = site.layout.sidecar(NIGHT, OBS)
    path.write_text(path.read_text().replace("{", f'{{"redo": {damage!r},'.replace("'", '"'), 1))
    site.lose_and_rebuild()
    assert site.step.state is State.DONE


@pytest.mark.parametrize("request_", ["calib.status.force_redo", "calib.steps.darks.redo", "summary.status.force_redo"])
def test_a_request_for_a_night_that_nobody_took_up_is_rebuilt(site, request_):
    folder = site.layout.calibration(NIGHT)
    folder.mkdir(parents=True, exist_ok=True)
    done = {"pipeline": "calib", "step": "darks", "state": "done", "started": None, "finished": None}
    (folder / ".darks.json").write_text(json.dumps(done))
    site.take_in()
    site.store.nights.set_fields(NIGHT, {request_: True})
    site.reconciler.keep_up(NIGHT)
    site.lose_and_rebuild()
    name = request_.partition(".")[0]
    block = site.night().pipeline(name)
    assert (block.force_redo, block.step("darks").redo) == (request_.endswith("force_redo"), "darks" in request_)
    assert site.night().pipeline("calib").step("darks").state is State.DONE
    site.store.nights.set_fields(NIGHT, {request_: False})  # as the daemon does that carries it out
    site.reconciler.keep_up(NIGHT)
    assert not site.layout.night_sidecar(NIGHT).exists()
    site.lose_and_rebuild()
    assert not site.night().pipeline(name).force_redo
    assert not site.night().pipeline("calib").step("darks").redo


def test_the_night_whose_calibration_is_copied_is_rebuilt(site):
    """Until an administrator wants the night's own again."""
    for wanted in ("20160924", ""):
        site.store.nights.set_fields(NIGHT, {"raw_data.copies_calibration_from": wanted})
        site.reconciler.keep_up(NIGHT)
        site.lose_and_rebuild()
        assert site.night().copies_from == wanted
    assert not site.layout.night_sidecar(NIGHT).exists()


def test_the_database_is_right_about_requests_for_a_night_that_it_knows(site):
    site.store.nights.set_fields(NIGHT, {"calib.status.force_redo": True})
    site.reconciler.keep_up(NIGHT)
    site.store.nights.set_fields(NIGHT, {"calib.status.force_redo": False})  # and nobody wrote the file again
    site.take_in()
    assert not site.night().pipeline("calib").force_redo


def test_the_audit_keeps_up_where_the_database_cannot_be_followed(site):
    site.store.nights.set_fields(NIGHT, {"calib.status.force_redo": 1})
    assert list(site.reconciler.audit([NIGHT])) == [NIGHT]
    site.lose_and_rebuild()
    assert site.night().pipeline("calib").force_redo


@pytest.mark.parametrize("damage", ["{", '{"redo": 3}', '{"redo": ["a b", ".x", "calib.nothing", 7, null]}'])
def test_damaged_requests_for_a_night_stop_nothing(site, damage):
    site.layout.night_sidecar(NIGHT).write_text(damage)
    site.lose_and_rebuild()
    assert not any(site.night().pipeline(name).force_redo for name in ("calib", "summary", "a b"))


def test_what_users_said_outlives_the_database_and_the_sidecar_file(site: Asked) -> None:
    """A second copy lies beside the database's folder: one damage more than the database takes nothing away."""
    said = {"comment": "seen in poor seeing", "alternative_names": ["HIP 87"], "science_program.program_PI": ["zoe"]}
    site.store.observations.set_fields(OBS, said)
    site.reconciler.keep_up(OBS)
    site.lose_the_database()
    site.layout.sidecar(NIGHT, OBS).write_text("{ garbled")
    site.ingest = Ingest(site.config, site.store)  # a daemon that starts anew
    site.ingest.tree()
    site.take_in()
    document = site.observation().document
    assert document["comment"] == "seen in poor seeing"
    assert document["alternative_names"] == ["HIP 87"]
    assert document["science_program"]["program_PI"] == ["zoe"]


@pytest.mark.parametrize("are_raw_files_there", [True, False])
def test_a_flipped_bit_in_a_sidecar_file_is_noticed_without_the_database(
    site: Asked, are_raw_files_there: bool
) -> None:
    before = site.observation().document
    site.store.observations.set_fields(OBS, {"comment": "seen in poor seeing"})
    site.reconciler.keep_up(OBS)
    site.lose_the_database()
    sidecar = site.layout.sidecar(NIGHT, OBS)
    text = sidecar.read_text()
    for was, flipped in (("poor seeing", "poos seeing"), ("MAGNITUD", "MAGNITUE")):
        assert was in text
        text = text.replace(was, flipped)
    sidecar.write_text(text)
    if not are_raw_files_there:
        (site.folder / "raw" / NIGHT / f"{OBS}.fits").unlink()
    site.ingest = Ingest(site.config, site.store)
    assert site.ingest.tree() == (0 if are_raw_files_there else 1)
    site.take_in()
    document = site.observation().document
    assert document["comment"] == "seen in poor seeing"
    assert (document["fits_header"] == before["fits_header"]) is are_raw_files_there
    assert document["science_program"] == before["science_program"]


def test_a_flipped_bit_in_a_manifest_is_noticed_without_the_database(site: Asked) -> None:
    site.lose_the_database()
    manifest = site.layout.manifest(site.layout.observation(NIGHT, OBS) / "toy", "write")
    text = manifest.read_text()
    assert '"version": "' in text
    manifest.write_text(text.replace('"version": "', '"version": "1'))
    site.ingest.tree()
    site.take_in()
    assert site.step.state is not State.DONE


def test_the_last_edit_counts_and_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    fields = {"program_PI": None, "comment": None, "names": None, "redo": []}
    edits = ObservationEdits(tmp_path)
    edits.note(OBS, {**fields, "comment": "first"})
    edits.path.write_bytes(edits.path.read_bytes() + b'{"id": "cut o')
    edits = ObservationEdits(tmp_path)
    edits.note(OBS, {**fields, "comment": "second"})
    assert ObservationEdits(tmp_path).corrected({"_id": OBS, "comment": "sexond"})["comment"] == "second"
    assert ObservationEdits(tmp_path).corrected({"_id": "other"}) == {"_id": "other"}
    assert edits.path.stat().st_mode & 0o077 == 0
