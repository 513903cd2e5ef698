"""Results that exist stay valid: the hashes of configurations are those that were computed when they were made."""

import importlib
import linecache
import sys
from pathlib import Path
from typing import Any

import pytest

from surveys import provenance
from surveys.demo import VirtualDemoObs
from surveys.finder import Finder
from surveys.observatory import VirtualObservatory
from surveys.observatory.ztf import VirtualZTF
from surveys.project import Project
from surveys.provenance import CLASSES, OF_ALL_RESULTS, RECORDED, code_name, code_of, digest_of_code
from surveys.registry import OBSERVATORIES, observatory_class

OURS: dict[str, tuple[dict[str, Any], str]] = {
    "demonstration": ({"obs_names": ["DEMO"]}, "c7e429137c5a0d38"),
    "ZTF": ({"obs_names": ["ZTF"]}, "948c1a547c238d5e"),
    "ZTF by its class": ({"obs_names": ["surveys.observatory.ztf.VirtualZTF"]}, "948c1a547c238d5e"),
    "TESS": ({"obs_names": ["TESS"]}, "61fd2f2ac52b0e1e"),
    "TESS under another name": (
        {"obs_names": ["MINE"], "MINE": {"obs_module": "surveys.observatory.tess", "obs_class": "VirtualTESS"}},
        "c9ef665d371bbca4",
    ),
    "three observatories": ({"obs_names": ["ZTF", "TESS", "DEMO"], "version_control": True}, "a4972681906d9806"),
    "the guide's example": (
        {
            "obs_names": ["DEMO"],
            "catalog_kwargs": {"default": "test", "test_size": 20},
            "analysis_kwargs": {
                "num_injections": 3,
                "finder_kwargs": {"snr_threshold": 7.5},
                "finder_module": "surveys.finder",
                "finder_class": "Finder",
            },
            "analysis_module": "surveys.analysis",
            "analysis_class": "Analysis",
            "obs_kwargs": {"reducer": {"gap": 40}},
            "DEMO": {"event_fraction": 0.5},
        },
        "d72f15cac55474fe",
    ),
}
"""Configurations, and their hashes as they were when the code of our modules was still hashed."""

TOYS = {
    "toy_analysis": '''"""An analysis of a user's own."""

from surveys.analysis import Analysis, ParsAnalysis


class ParsToyAnalysis(ParsAnalysis):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.depth = self.add_par("depth", 0.5, float, "depth", unit="mag")


class ToyAnalysis(Analysis):
    pars_class = ParsToyAnalysis

    def analyze_photometry(self, source):
        super().analyze_photometry(source)
        source.properties.extra["toy"] = 1
''',
    "toy_observatory": '''"""An observatory of a user's own."""

from surveys.observatory import VirtualObservatory


class VirtualToy(VirtualObservatory):
    name = "TOY"

    def fetch_data_from_observatory(self, cat_row, **kwargs):
        return {"mjd": [1.0], "mag": [18.0]}, {}
''',
    "toy_finder": '''"""A finder of a user's own."""

from surveys.finder import Finder


class ToyFinder(Finder):
    def detect(self, lightcurve):
        return super().detect(lightcurve)[:1]
''',
}
USERS: dict[str, tuple[dict[str, Any], str]] = {
    "toy_analysis": (
        {"obs_names": ["DEMO"], "analysis_module": "toy_analysis", "analysis_class": "ToyAnalysis"},
        "915b7c1ed6361451",
    ),
    "toy_observatory": ({"obs_names": ["toy_observatory.VirtualToy"]}, "dce6b09e55a7f578"),
    "toy_finder": (
        {"obs_names": ["ZTF"], "analysis_kwargs": {"finder_module": "toy_finder", "finder_class": "ToyFinder"}},
        "a7946d02411d3187",
    ),
}


@pytest.fixture(autouse=True)
def first_version(monkeypatch):
    """The hashes were recorded with version 1 of the analysis; later versions only add their number."""
    monkeypatch.setattr(provenance, "ANALYSIS_VERSION", 1)


def hash_with(configuration: dict[str, Any]) -> str:
    return Project("toy", cfg_file=None, **configuration).cfg_hash


class Modules:
    """A folder of modules of a user, which may be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        self.forget()
        (self.folder / f"{name}.py").write_text(text)
        importlib.invalidate_caches()

    def forget(self) -> None:
        digest_of_code.cache_clear()
        linecache.clearcache()
        for name in TOYS:
            sys.modules.pop(name, None)


@pytest.fixture
def modules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Modules(tmp_path)
    yield made
    made.forget()


@pytest.mark.parametrize(("configuration", "known"), OURS.values(), ids=OURS)
def test_projects_with_classes_of_ours_have_the_hashes_that_they_had(configuration, known):
    assert hash_with(configuration) == known


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="syntax trees look different in each version of Python")
@pytest.mark.parametrize("name", USERS)
def test_projects_with_a_users_classes_have_the_hashes_that_they_had(modules, name):
    modules.write(name, TOYS[name])
    configuration, known = USERS[name]
    assert hash_with(configuration) == known


@pytest.mark.parametrize("name", USERS)
def test_a_users_changed_class_changes_the_hash(modules, name):
    configuration, _ = USERS[name]
    modules.write(name, TOYS[name])
    before = hash_with(configuration)
    modules.write(name, f"# a remark\n{TOYS[name]}")
    assert hash_with(configuration) == before
    modules.write(name, f"{TOYS[name]}\nLIMIT = 3\n")
    assert hash_with(configuration) != before


def test_modules_of_ours_may_move(monkeypatch):
    for made in (VirtualZTF, VirtualObservatory, Finder):
        monkeypatch.setattr(made, "__module__", f"surveys.elsewhere.{made.__name__.lower()}")
    configuration, known = OURS["ZTF"]
    assert hash_with(configuration) == known


def test_what_is_written_names_the_class_where_it_is_now():
    project = Project("toy", cfg_file=None, obs_names=["ZTF"])
    written = project.final_config()["observatories"]["ZTF"]
    found = observatory_class(f"{written['obs_module']}.{written['obs_class']}")
    assert found == ("ZTF", VirtualZTF)


def test_another_version_of_the_analysis_makes_everything_again(monkeypatch):
    before = {name: hash_with(configuration) for name, (configuration, _) in OURS.items()}
    monkeypatch.setattr(provenance, "ANALYSIS_VERSION", provenance.ANALYSIS_VERSION + 1)
    assert all(hash_with(configuration) != before[name] for name, (configuration, _) in OURS.items())


def test_every_class_of_ours_that_a_project_is_made_of_is_recorded():
    project = Project("toy", cfg_file=None, obs_names=list(OBSERVATORIES))
    parts = [project.analysis, project.catalog, *project.observatories, *project.analysis.parts.values()]
    ours = {base for part in parts for base in type(part).__mro__ if base is not object}
    assert {base.__qualname__ for base in ours} == CLASSES.keys() - {"Parameters"}
    assert {code_name(base) for base in ours} <= RECORDED.keys()
    assert RECORDED.keys() == {*OF_ALL_RESULTS, *(f"surveys.{name}" for name in CLASSES.values())}


def test_a_users_class_in_our_package_is_hashed_by_its_source(monkeypatch):
    namesake = type("VirtualDemoObs", (VirtualDemoObs,), {"__module__": "surveys.mine"})
    other = type("VirtualMine", (VirtualDemoObs,), {"__module__": "surveys.mine"})
    for made in (namesake, other):
        assert code_name(made) == "surveys.mine"
        monkeypatch.setattr(provenance, "digest_of_code", {"surveys.mine": "one"}.__getitem__)
        before = code_of([made])
        monkeypatch.setattr(provenance, "digest_of_code", {"surveys.mine": "another"}.__getitem__)
        assert code_of([made]) != before
