"""Mistyped names and numbers of surveys are refused, with the nearest name."""

from collections.abc import Callable
from typing import Any

import pytest

from obsarchive.errors import ConfigError
from obsarchive.store import Store
from surveys.database import Session
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.detection import Detection
from surveys.finder import Finder
from surveys.observatory.ztf import VirtualZTF
from surveys.project import Project
from surveys.properties import Properties
from surveys.quality import QualityChecker
from surveys.source import Source


@pytest.mark.parametrize(
    ("kind", "wrong", "near"),
    [
        (Source, "nmae", "name"),
        (Source, "rra", "ra"),
        (RawPhotometry, "observatry", "observatory"),
        (Lightcurve, "fliter", "filter"),
        (Detection, "scor", "score"),
        (Properties, "sate", "state"),
    ],
)
def test_unknown_fields_are_refused_by_every_query(survey_store: Store, kind: type, wrong: str, near: str) -> None:
    with Session(survey_store.surveys) as session:
        queries: list[Callable[..., Any]] = [session.all, session.first, session.scalars, session.find]
        for query in queries:
            with pytest.raises(TypeError, match=f"no field '{wrong}'; did you mean '{near}'") as failed:
                query(kind, **{wrong: "x"})
            assert isinstance(failed.value, ConfigError)
            assert list(query(kind, **{near: "x"}) or []) == []
        assert session.all(kind) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: Finder(cfg_file=None, snr_threshold=-5.0),
        lambda: Finder(cfg_file=None, snr_threshold=float("nan")),
        lambda: Finder(cfg_file=None, min_epochs=0),
        lambda: QualityChecker(cfg_file=None, max_offset=-1.0),
        lambda: VirtualZTF(cfg_file=None, cone_radius=-2.0),
        lambda: VirtualZTF(cfg_file=None, timeout=-1.0),
        lambda: VirtualZTF(cfg_file=None, reducer={"radius": -1.0}),
        lambda: Project("p", cfg_file=None, obs_names=["DEMO"], batch_size=0),
        lambda: Project("p", cfg_file=None, obs_names=["DEMO"], analysis_kwargs={"num_injections": -1}),
    ],
)
def test_negative_thresholds_and_radii_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"must be at least|must not be negative"):
        make()


def test_an_unknown_key_of_a_project_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        Project("p", cfg_file=None, obs_names=["DEMO"], batchsize=5)
