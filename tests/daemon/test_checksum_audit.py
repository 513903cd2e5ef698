"""What rots in the archive is found by its checksum, whatever it is, and made again."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from obsarchive.core import document_paths as paths
from obsarchive.core.documents import utc_now
from obsarchive.core.rules import compile_rule
from obsarchive.core.step_state import State
from obsarchive.daemon import checksum_audit, planner
from obsarchive.daemon.checksum_audit import REST_S, ChecksumAudit
from obsarchive.daemon.night_context import NightContext
from obsarchive.daemon.observation_edits import ObservationEdits
from obsarchive.daemon.reconcile import Reconciler
from obsarchive.daemon.tarballs import pack
from obsarchive.daemon.work_queue import WorkQueue
from obsarchive.pipeline import Pipeline, step
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.store import StepUpdate, Store
from pipelines.night import Calibration
from pipelines.psf_library import PsfCandidates
from pipelines.seeing import Seeing
from tests.daemon.test_ingest import NIGHT, OBS, Site
from tests.sample_pipelines import Endings, Toy

PERIOD = timedelta(days=30)


class Audited(Site):
    """An observation that was reduced and packed."""

    def __init__(self, folder: Path, store: Store) -> None:
        super().__init__(folder, store)
        self.raw(f"{OBS}.fits")
        self.take_in()
        self.reduce()
        self.reduce(Endings, "reject")
        self.chain = [ChainEntry(kind(), compile_rule("True"), {}, {}) for kind in (Toy, Endings)]
        self.now = 0.0
        self.queue = WorkQueue(store, self.chain, [], 3)
        self.audit = ChecksumAudit(self.queue, self.layout, PERIOD, 5.0, lambda: self.now)
        packed = pack(self.folder_of, self.tarball)
        asked = (store.observations.find(OBS) or {})["distributed"]["last_modified"]
        fields = {paths.PACKED_BYTES: packed.n_bytes, paths.PACKED_SHA256: packed.sha256}
        assert store.observations.set_packed(OBS, asked, fields)

    @property
    def folder_of(self) -> Path:
        return self.layout.observation(NIGHT, OBS)

    @property
    def tarball(self) -> Path:
        return self.layout.tarball(NIGHT, OBS)

    def state(self, pipeline: str, step: str) -> State:
        return self.observation().pipeline(pipeline).step(step).state

    def age(self, days: float) -> None:
        self.store.nights.set_fields(NIGHT, {"checked": utc_now() - timedelta(days=days)})

    def check(self) -> int:
        """Check for a minute; return what was found damaged."""
        before = self.audit.n_repaired
        self.now += 2 * REST_S
        self.audit.advance(1.0)
        return self.audit.n_repaired - before


@pytest.fixture
def site(tmp_path: Path, store: Store) -> Audited:
    return Audited(tmp_path, store)


def flip(path: Path) -> None:
    """Change one bit and nothing else, not even the time."""
    content, stat = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_sound_archive_is_left_alone(site):
    site.age(31)
    before = site.observation().document
    assert site.check() == 0
    assert site.observation().document == before
    assert utc_now() - site.night().document["checked"] < timedelta(minutes=1)


def test_a_night_that_was_restored_from_its_tree_is_read_soon(site):
    for name in ("objects", "aux"):
        site.store.database[name].delete_many({})
    assert site.ingest.tree() == 1
    flip(site.folder_of / "toy" / f"{OBS}.txt")
    assert site.check() == 1
    assert utc_now() - site.night().document["checked"] < timedelta(minutes=1)
    assert site.check() == 0


def test_a_night_is_not_read_before_its_time(site, monkeypatch):
    flip(site.folder_of / "toy" / f"{OBS}.txt")
    assert site.check() == 0
    site.age(29)
    assert site.check() == 0
    site.age(31)
    assert site.check() == 1


def test_one_flipped_bit_of_a_product(site):
    site.age(31)
    flip(site.folder_of / "toy" / f"{OBS}.txt")
    assert list(Reconciler(site.queue, site.layout, ObservationEdits(site.layout.root)).audit()) == [NIGHT]
    assert site.state("toy", "write") is State.DONE  # its size is as it was
    assert site.check() == 1
    assert site.state("toy", "write") is State.WAITING


class Reader(Pipeline):
    """Reads masters in one step, and a product of another pipeline in the next."""

    name = "reader"

    @step(makes=[], uses=("calibration",))
    def calibrate(self, work):
        """Use masters."""

    @step(makes=[], uses=(), reads=("toy/{id}.txt",))
    def copy(self, work):
        """Use a product."""

    @step(makes=[], uses=(), after=("copy",))
    def look(self, work):
        """Show the copy."""


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("what", ["product", "master"])
def test_what_may_have_been_made_from_a_damaged_file_is_made_again(site, what, hours):
    """Of two readings, one before the file was last known to be whole and one since, the second is in doubt."""
    site.queue.chain.append(ChainEntry(Reader(), compile_rule("True"), {}, {}))
    site.age(31)
    done = {"state": "done", "finished": site.night().document["checked"] + timedelta(hours=hours)}
    blocks = {f"pipelined.reader.steps.{name}": dict(done) for name in ("calibrate", "copy", "look")}
    site.store.observations.set_fields(OBS, blocks)
    (site.folder_of / "reader").mkdir()
    for name in ("calibrate", "copy", "look"):
        site.layout.manifest(site.folder_of / "reader", name).write_text('{"state": "done", "products": []}')
    if what == "product":
        flip(site.folder_of / "toy" / f"{OBS}.txt")
    else:
        site.queue.night_chain.append(ChainEntry(Calibration(), compile_rule("True"), {}, {}))
        master = {"kind": "dark", "key": "6", "shape": [4, 6], "signature": "0", "origin": "own"}
        site.store.nights.set_fields(NIGHT, {"calib.steps.darks": {**done, "results": {"masters": [master]}}})
    site.check()
    doubted = {"copy", "look"} if what == "product" else {"calibrate"}
    waiting = {name for name in ("calibrate", "copy", "look") if site.state("reader", name) is State.WAITING}
    assert waiting == (doubted if hours > 0 else set())


@pytest.mark.parametrize("hours", [-1, 1])
def test_later_steps_of_a_pipeline_that_may_have_read_a_damaged_file_are_made_again(site, hours):
    """As where a user has one step done again, after a product of the step before was damaged."""
    site.queue.chain.append(ChainEntry(Reader(), compile_rule("True"), {}, {}))
    site.age(31)
    known_whole = site.night().document["checked"]
    done = {"state": "done", "finished": known_whole - timedelta(hours=2)}
    site.store.observations.set_fields(OBS, {f"pipelined.reader.steps.{name}": dict(done) for name in ("copy", "look")})
    looked = {"pipelined.reader.steps.look.finished": known_whole + timedelta(hours=hours)}
    site.store.observations.set_fields(OBS, looked)
    (site.folder_of / "reader").mkdir()
    site.layout.manifest(site.folder_of / "reader", "copy").write_bytes(b"damaged")
    site.layout.manifest(site.folder_of / "reader", "look").write_text('{"state": "done", "products": []}')
    site.check()
    assert site.state("reader", "copy") is State.WAITING
    assert site.state("reader", "look") is (State.WAITING if hours > 0 else State.DONE)


def test_what_is_being_made_from_a_damaged_file_is_made_again_when_it_has_ended(site):
    site.queue.chain.append(ChainEntry(Reader(), compile_rule("True"), {}, {}))
    site.age(31)
    assert site.store.observations.claim(OBS, ("reader", "copy"), "t", "run")
    flip(site.folder_of / "toy" / f"{OBS}.txt")
    site.check()
    assert site.state("reader", "copy") is State.ENQUEUED
    ended = StepUpdate(State.DONE, "", {"inputs": {"source": "what is made again with the same content"}})
    site.store.observations.finish(OBS, ("reader", "copy"), "t", ended)
    due = planner.stale(site.observation(), site.queue.chain, NightContext())
    assert ("reader", "copy") in [(pipeline.name, step.name) for pipeline, step in due]


@pytest.mark.parametrize("hours", [-1, 1])
def test_reference_stars_cut_from_a_damaged_image_are_cut_again(site, hours):
    site.queue.night_chain.append(ChainEntry(PsfCandidates(), compile_rule("True"), {}, {}))
    site.age(31)
    ended = site.night().document["checked"] + timedelta(hours=hours)
    site.store.nights.set_fields(NIGHT, {"psflib.steps.candidates": {"state": "done", "finished": ended}})
    folder = PsfCandidates().path(site.layout, NIGHT, NIGHT)
    folder.mkdir(parents=True)
    site.layout.manifest(folder, "candidates").write_text('{"state": "done", "products": []}')
    site.store.nights.set_fields(NIGHT, {"science.signature": "known", "science.reductions": "known"})
    flip(site.folder_of / "toy" / f"{OBS}.txt")
    site.check()
    state = site.night().pipeline("psflib").step("candidates").state
    assert state is (State.WAITING if hours > 0 else State.DONE)
    assert (site.night().science, site.night().reductions) == ("", ""), "they wait until the image is made again"


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other", "results", "message"])
@pytest.mark.parametrize(("pipeline", "step"), [("toy", "write"), ("endings", "reject")])
def test_damaged_manifests_also_of_rejected_steps(site, pipeline, step, damage):
    path = site.folder_of / pipeline / f".{step}.json"
    content = path.read_bytes()
    match damage:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "other":
            path.write_text(json.dumps({**json.loads(content), "products": [{"name": "x", "sha256": "0"}]}))
        case "results" | "message":  # what one flipped bit may leave: still a manifest, with other numbers or words
            changed = {"n": 8} if damage == "results" else "other"
            path.write_text(json.dumps({**json.loads(content), damage: changed}))
    site.age(31)
    assert site.check() == 1
    assert site.state(pipeline, step) is State.WAITING


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"_id": "another"}', b"[" * 5000, None])
def test_damaged_sidecar_files_are_written_again(site, damage):
    path = site.layout.sidecar(NIGHT, OBS)
    site.store.observations.set_fields(OBS, {"comment": "pretty"})
    if damage is None:
        path.unlink()
        list(Reconciler(site.queue, site.layout, ObservationEdits(site.layout.root)).audit())
    else:
        path.write_bytes(damage)
        site.age(31)
        assert site.check() == 1
    assert json.loads(path.read_text())["comment"] == "pretty"


@pytest.mark.parametrize("key", ["comment", "science_program", "date_utc", "fits_header", "filter"])
def test_a_sidecar_file_that_differs_from_the_database_is_written_again(site, key):
    path = site.layout.sidecar(NIGHT, OBS)
    content = path.read_bytes()
    path.write_text(json.dumps({**json.loads(content), key: "2001-02-03T04:05:06.000+00:00"}))
    site.age(31)
    assert site.check() == 1
    assert json.loads(path.read_text())[key] == json.loads(content)[key]


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_tarballs_are_packed_again(site, damage):
    match damage:
        case "flipped":
            flip(site.tarball)
            site.age(31)
            assert site.check() == 1
        case "cut":
            os.truncate(site.tarball, 30)
            list(Reconciler(site.queue, site.layout, ObservationEdits(site.layout.root)).audit())
        case "gone":
            site.tarball.unlink()
            list(Reconciler(site.queue, site.layout, ObservationEdits(site.layout.root)).audit())
    assert not site.observation().packed


def test_a_disk_that_fails_ends_nothing(site, monkeypatch, caplog):
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    site.age(31)
    site.layout.sidecar(NIGHT, OBS).unlink()
    monkeypatch.setattr(checksum_audit, "write_sidecar", fails)
    assert site.check() == 0
    assert "cannot be checked or repaired at present" in caplog.text


def test_the_rate_is_kept(site):
    sizes = [300_000_000, 1, 1]
    site.audit._work = iter(sizes)
    site.now += 1.0
    site.audit.advance(1.0)
    assert site.audit._allowance == pytest.approx(5e6 - 3e8)
    site.now += 30.0
    site.audit.advance(1.0)
    assert site.audit._allowance == pytest.approx(31 * 5e6 - 3e8)  # nothing more was read


def test_a_night_is_compared_with_all_of_its_document(site):
    results = {"frames": [{"file": "a.fits", "fwhm_arcsec": 1.1}], "median_arcsec": 1.1}
    record = {"state": "done", "message": "", "results": results, "products": []}
    site.store.nights.set_fields(NIGHT, {"seeing": {"steps": {"measure": record}}})
    site.audit.queue = WorkQueue(site.store, site.chain, [ChainEntry(Seeing(), compile_rule("True"), {}, {})], 3)
    manifest = site.layout.manifest(Seeing().path(site.layout, NIGHT, NIGHT), "measure")
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps(record))
    site.age(31)
    assert site.check() == 0
    manifest.write_text(json.dumps({**record, "results": {**results, "median_arcsec": 1.3}}))
    site.age(31)
    assert site.check() == 1
