"""What a pipeline class may look like, and what a step's workspace does for it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.archive_paths import Layout
from obsarchive.core.json_text import parse_with_checksum
from obsarchive.core.masters import Master
from obsarchive.errors import ArchiveError, ConfigError, Unprocessable
from obsarchive.execution.step_process import execute
from obsarchive.io.atomic import sha256
from obsarchive.io.fits_products import Provenance, tan_wcs
from obsarchive.pipeline import Pipeline, Task, Workspace, step
from obsarchive.pipeline.task import remove_scratch
from tests.sample_pipelines import CopySettings, Endings, Toy, ToyCalibration, task_values

OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"


def workspace(tmp_path: Path, pipeline: type[Pipeline] = Toy, name: str = "write", **fields: Any) -> Workspace:
    return Workspace(Task("task", pipeline, name, **{**task_values(tmp_path, OBS), **fields}))


# ------------------------------------------------------------------------------------- classes


def test_steps_come_in_the_order_in_which_they_can_run():
    assert list(Toy.steps) == ["write", "copy", "look"]
    assert Toy.steps["copy"].uses == ("science",)
    assert Toy.steps["copy"].after == ("write",)


def test_a_subclass_inherits_steps_and_may_replace_them():
    class More(Toy):
        @step(makes=["last.txt"], after=["copy"])
        def afterwards(self, work: Workspace) -> dict[str, Any]:
            return {}

        @step(makes=["other.txt"])
        def write(self, work: Workspace) -> dict[str, Any]:
            return {}

    assert set(More.steps) == {"write", "copy", "look", "afterwards"}
    assert More.steps["write"].makes == ("other.txt",)
    assert Toy.steps["write"].makes == ("{id}.txt",)


def test_steps_that_wait_for_each_other_are_refused():
    with pytest.raises(TypeError, match=r"Circle: steps wait for each other: .*one.*two"):

        class Circle(Pipeline):
            @step(makes=[], after=["two"])
            def one(self, work: Workspace) -> None: ...

            @step(makes=[], follows=["one"])
            def two(self, work: Workspace) -> None: ...


@pytest.mark.parametrize("order", [{"after": ["wirte"]}, {"follows": ["wirte"]}])
def test_an_unknown_step_is_refused(order):
    with pytest.raises(TypeError, match="no such step: wirte"):

        class Misspelt(Pipeline):
            @step(makes=[], **order)
            def write(self, work: Workspace) -> None: ...


def test_an_unknown_use_is_refused():
    with pytest.raises(TypeError, match="copy: uses 'scince'"):

        class Misspelt(Pipeline):
            @step(makes=[], uses=["scince"])
            def copy(self, work: Workspace) -> None: ...


def test_folders_of_products():
    layout = Layout(Path("/archive"))
    assert Toy().path(layout, "20160925", OBS) == Path(f"/archive/20160925/{OBS}/toy")
    assert ToyCalibration().path(layout, "20160925", "20160925") == Path("/archive/20160925/calib")


# ------------------------------------------------------------------------------------- settings


def test_settings_have_defaults_and_types():
    pipeline = Toy({"text": "nebula"}, {"copy": {"copies": 3}})
    assert pipeline.settings.text == "nebula"
    assert pipeline.step_settings["copy"] == CopySettings(copies=3, strict=False)
    assert Toy().settings.text == "starlight"


@pytest.mark.parametrize(
    ("settings", "steps", "words"),
    [
        ({"txt": "x"}, {}, "toy.settings.txt: unknown key; did you mean 'text'?"),
        ({"text": 3}, {}, "toy.settings.text: a text is expected; found 3"),
        ({}, {"copy": {"copys": 2}}, "toy.steps.copy.copys: unknown key; did you mean 'copies'?"),
        ({}, {"copy": {"copies": None}}, "toy.steps.copy.copies: a whole number is expected; found null"),
        ({}, {"write": {"copies": 2}}, "toy.steps.write.copies: unknown key"),
        ({}, {"copi": {}}, "toy.steps.copi: no such step; there are write, copy, look"),
    ],
)
def test_wrong_settings_are_explained(settings, steps, words):
    with pytest.raises(ConfigError) as failure:
        Toy(settings, steps)
    assert str(failure.value) == words


def test_a_needed_setting():
    @dataclass(frozen=True)
    class Needed:
        catalogue: str

    class Strict(Pipeline):
        name = "strict"
        Settings = Needed

    with pytest.raises(ConfigError, match=r"strict\.settings\.catalogue: this key is needed"):
        Strict()


# ------------------------------------------------------------------------------------- workspaces


def test_products_are_published_with_their_provenance(tmp_path):
    masters = [Master("dark", "6", (4, 5), "d", "copied from 20160924", "20160925")]
    raw = {"science": (Path("/raw/a.fits"), Path("/raw/b.fits"))}
    work = workspace(tmp_path, Endings, "succeed", files=raw, inputs={"science": "ab"}, config_digest="cafe")
    work.publish_fits("image.fits", np.arange(20).reshape(4, 5), {"MAGNITUD": 11.2}, masters)
    with fits.open(work.product("image.fits"), checksum=True) as hdus:
        provenance = Provenance.from_header(hdus[0].header)
        assert hdus[0].header["MAGNITUD"] == 11.2
        np.testing.assert_array_equal(hdus[0].data, np.arange(20).reshape(4, 5))
    assert (provenance.pipeline, provenance.step, provenance.config_hash) == ("endings", "succeed", "cafe")
    assert provenance.raw_files == ("a.fits", "b.fits")
    assert provenance.raw_signature == "science:ab"
    assert provenance.calibration == {"dark_6": "copied from 20160924"}
    image, _ = work.read("image.fits")
    assert image.dtype == np.float32


def test_names_of_products_may_hold_the_id(tmp_path):
    work = workspace(tmp_path)
    assert work.product("preview/{id}_full.png") == work.folder / "preview" / f"{OBS}_full.png"


def test_the_manifest_tells_what_was_made_from_what(tmp_path):
    task = Task("task", Toy, "write", settings={"text": "nova"}, inputs={"science": "ab"}, **task_values(tmp_path, OBS))
    outcome = execute(task)
    folder = tmp_path / "archive" / "20160925" / OBS / "toy"
    written = parse_with_checksum((folder / ".write.json").read_bytes())
    assert written == outcome.record
    product = folder / f"{OBS}.txt"
    digest = sha256(product)
    assert written["products"] == [{"name": f"{OBS}.txt", "bytes": 4, "sha256": digest, "content": digest[:16]}]
    assert written["results"] == {"letters": 4}
    assert written["settings"] == {"text": "nova"}
    assert written["inputs"] == {"science": "ab"}
    assert (written["subject"], written["pipeline"], written["step"]) == (OBS, "toy", "write")
    assert written["started"] <= written["finished"]


def test_later_steps_see_products_and_numbers_of_earlier_ones(tmp_path):
    values = task_values(tmp_path, OBS)
    execute(Task("1", Toy, "write", **values))
    steps = {"write": {"state": "done", "results": {"letters": 9}}}
    values["document"] = {**values["document"], "pipelined": {"toy": {"steps": steps}}}
    outcome = execute(Task("2", Toy, "copy", step_settings={"copy": {"copies": 2}}, **values))
    assert (outcome.event, outcome.record["results"]) == ("succeed", {"of": 9})
    names = [product["name"] for product in outcome.record["products"]]
    assert names == ["copies/copy_0.txt", "copies/copy_1.txt"]


def test_a_declared_product_must_be_made(tmp_path):
    work = workspace(tmp_path, Endings, "forget_a_product")
    work.publish_fits("image.fits", np.ones((2, 2)))
    with pytest.raises(ArchiveError, match=r"declares the product table\.txt but did not make it"):
        work.check_declared()


def test_the_scratch_folder_is_the_step_s_own_and_goes(tmp_path):
    work, other = workspace(tmp_path), Workspace(Task("other", Toy, "write", **task_values(tmp_path, OBS)))
    (work.scratch() / "big").write_text("x")
    assert work.scratch() != other.scratch()
    remove_scratch(work.task)
    assert not (tmp_path / "tmp" / "steps" / "task").exists()
    assert other.scratch().exists()


def test_without_raw_files_or_telescope_the_reason_is_clear(tmp_path):
    work = workspace(tmp_path)
    with pytest.raises(Unprocessable, match=f"no raw science files of {OBS} on disk"):
        work.frames()
    with pytest.raises(Unprocessable, match="no telescope for camera 'VIC' on 2016-09-25"):
        _ = work.telescope


def test_a_night_is_no_observation(tmp_path):
    work = workspace(tmp_path, ToyCalibration, "darks", document={"_id": "20160925"})
    assert work.subject.id == "20160925"
    with pytest.raises(TypeError, match="works on a night"):
        _ = work.observation


def test_odd_measured_values_become_what_json_and_bson_hold(tmp_path):
    outcome = execute(Task("task", Endings, "odd_values", **task_values(tmp_path, OBS)))
    assert outcome.event == "succeed", outcome.message
    results = outcome.record["results"]
    assert results == {
        "nan": None,
        "infinite": [1.0, None],
        "array": [[1, 2], [3, 4]],
        "flag": True,
        "nested": {"count": 7, "5": [None, "five"]},
        "huge": str(2**70),
        "text": "lone \\ud800 surrogate, NUL \0",
    }
    bson.encode(outcome.record)


measured = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.floats(width=32).map(np.float32),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["results", "message", "log"]), measured))
def test_any_measured_values_can_be_kept(tmp_path_factory, record):
    work = workspace(tmp_path_factory.mktemp("site"))
    manifest = work.write_manifest(record)
    assert bson.decode(bson.encode(manifest)) == manifest
    assert parse_with_checksum(work.layout.manifest(work.folder, "write").read_bytes()) == manifest


# ------------------------------------------------------------------------------------- products of other pipelines


class Maker(Pipeline):
    name = "maker"

    @step(makes=["image.fits", "note.txt"])
    def make(self, work: Workspace) -> dict[str, Any]:
        header = {"OBJECT": "Yrsa", **tan_wcs(10.0, 20.0, (1.0, 1.5), 36.0)}
        work.publish_fits("image.fits", np.arange(12.0).reshape(3, 4), header)
        work.publish("note.txt", b"note")
        return {}


class Solver(Pipeline):
    name = "solver"

    @step(makes=[], may_make=["solution.txt"], reads=["none/best.fits", "maker/image.fits"], uses=[])
    def solve(self, work: Workspace) -> dict[str, Any]:
        image, _ = work.source().parent, work.source_name
        cards = fits.Header([("CRVAL1", 10.5, "[deg]"), *((f"EXTRA{i}", i) for i in range(60))])
        work.amend_fits("maker", "image.fits", cards)
        return {"of": image.name}


def made_document(outcome: Any) -> dict[str, Any]:
    record = {"state": "done", "products": outcome.record["products"]}
    return {"_id": OBS, "pipelined": {"maker": {"steps": {"make": record}}}}


def test_a_step_amends_the_header_of_what_it_reads(tmp_path):
    values = task_values(tmp_path, OBS)
    made = execute(Task("one", Maker, "make", **values))
    outcome = execute(Task("two", Solver, "solve", **{**values, "document": made_document(made)}))
    assert (outcome.event, outcome.record["results"]) == ("succeed", {"of": "maker"})
    folder = Layout(values["archive"]).observation("20160925", OBS) / "maker"
    with fits.open(folder / "image.fits", checksum=True) as hdus:
        assert hdus[0].header["CRVAL1"] == 10.5
        assert hdus[0].header["PIPELINE"] == "maker"
        np.testing.assert_array_equal(hdus[0].data, np.arange(12.0).reshape(3, 4))
    [amended] = outcome.record["amended"]
    assert (amended["pipeline"], amended["step"], amended["sha256"]) == ("maker", "make", sha256(folder / "image.fits"))
    corners, moved = np.array(made.record["products"][0]["image"]["corners_deg"]), amended["image"]["corners_deg"]
    np.testing.assert_allclose(np.array(moved) - corners, [[0.5, 0.0]] * 4, atol=1e-6)
    first = made.record["products"][0]
    assert (amended["content"], amended["cards_of"]) == (first["content"], ["solver"])
    kept = {entry["name"]: entry for entry in json.loads((folder / ".make.json").read_text())["products"]}
    assert kept["image.fits"]["bytes"] == (folder / "image.fits").stat().st_size
    assert kept["note.txt"] == made.record["products"][1]


def test_a_step_without_anything_to_work_on_is_rejected(tmp_path):
    outcome = execute(Task("two", Solver, "solve", **task_values(tmp_path, OBS)))
    assert outcome.event == "reject"
    assert "none/best.fits, maker/image.fits" in outcome.message
