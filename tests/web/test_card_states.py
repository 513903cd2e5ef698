"""A card sums up the states of its steps: what is waited for or rejected is named, and hides nothing."""

from typing import Any

import pytest
from toy_archive import NIGHT

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.core.rules import compile_rule
from obsarchive.pipeline.chain import ChainEntry
from obsarchive.web.models.pipeline_views import pipelines_of
from obsarchive.web.models.view_models import Card
from pipelines.bright_star import BrightStar
from pipelines.faint_star import FaintStar

CHAIN = [
    ChainEntry(BrightStar(), compile_rule("True"), {}, {}),
    ChainEntry(FaintStar(), compile_rule("pipelined.bright_star.classified_as in ['faint']"), {}, {}),
]
DONE = {"state": "done"}
NO_STAR = {"state": "lacking", "lacks": "references", "message": "no references: the PSF library holds no other star"}
NO_MASTER = {"state": "lacking", "lacks": "calibration", "message": "no master dark of mode 6"}
REJECTED = {"state": "rejected", "message": "no diffraction limit"}


def card(tmp_path, bright: dict[str, Any], **faint: Any) -> Card:
    pipelined = {"bright_star": {"steps": bright}}
    if faint:
        pipelined["bright_star"]["classified_as"] = "faint"
        pipelined["faint_star"] = {"steps": faint}
    found = Observation({"_id": "3_GJ_436_VIC_Si_o_20160925_040000.000000", "night": NIGHT, "pipelined": pipelined})
    return Card(found, tuple(pipelines_of(found, CHAIN, Layout(tmp_path), {})))


@pytest.mark.parametrize(
    ("steps", "word", "missing"),
    [
        ({"reduce": DONE, "strehl": DONE, "pca": DONE, "preview": DONE}, "done", ""),
        (
            {"reduce": DONE, "strehl": DONE, "pca": NO_STAR, "preview": DONE},
            "done",
            "pca: waiting for references",
        ),
        # the night's references are not chosen yet
        ({"reduce": DONE, "strehl": DONE, "preview": DONE}, "done", "pca: waiting for references"),
        ({"reduce": DONE, "preview": DONE}, "waiting", ""),
        (
            {"reduce": DONE, "strehl": REJECTED, "pca": NO_STAR, "preview": DONE},
            "partly done",
            "strehl: rejected, pca: waiting for references",
        ),
        ({"reduce": REJECTED}, "rejected", ""),
        ({"reduce": NO_MASTER}, "waiting for calibration", ""),
        ({"reduce": DONE, "strehl": {"state": "failed"}, "pca": NO_STAR}, "failed", ""),
        ({"reduce": DONE, "strehl": {"state": "enqueued"}}, "queued", ""),
    ],
)
def test_a_card_says_what_is_there_and_what_is_not(tmp_path, steps, word, missing):
    found = card(tmp_path, steps)
    assert found.word == word
    assert found.missing == missing
    assert all(part in found.words for part in (word, missing))


def test_what_one_pipeline_rejects_another_may_do(tmp_path):
    faint = {"reduce": DONE, "strehl": DONE, "pca": NO_STAR, "preview": DONE}
    found = card(tmp_path, {"reduce": REJECTED}, **faint)
    assert (found.word, found.missing) == ("done", "pca: waiting for references")


def test_steps_behind_one_that_lacks_something_wait_with_it(tmp_path):
    view = card(tmp_path, {"reduce": NO_MASTER}).pipelines[0]
    assert {step.word for step in view.steps} == {"waiting for calibration"}


def test_pages_name_what_is_waited_for(app, archive, as_user) -> None:
    archive.toy.step(archive.own, "bright_star", "strehl", **NO_STAR)
    ana = as_user("ana")
    assert "strehl: waiting for references" in ana.get(f"/night/{NIGHT}").text
    page = ana.get(f"/observation/{archive.own}").text
    assert "strehl: waiting for references" in page.partition('id="headline"')[2].partition("</div>")[0]
    assert NO_STAR["message"] in page
    found = ana.get(f"/api/v1/observations/{archive.own}").get_json()["pipelines"]["bright_star"]
    assert (found["state"], found["steps"]["strehl"]["lacks"]) == ("done", "references")
    assert archive.own in ana.get("/search?state=lacking").text


def test_the_summary_groups_what_is_missing_by_its_cause(app, archive, as_user) -> None:
    for name in (archive.own, archive.foreign):
        archive.toy.step(name, "bright_star", "strehl", **NO_STAR)
    page = as_user("admin").get(f"/night/{NIGHT}/summary").text
    assert page.count("the PSF library holds no other star</td>") == 1
    for name in (archive.own, archive.foreign):
        assert f'href="/observation/{name}"' in page
