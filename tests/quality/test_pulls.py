"""The machinery of the quality benchmarks knows true errors from wrong ones."""

import importlib
import inspect

import numpy as np
import pytest

from benchmarks.quality import report
from benchmarks.quality.__main__ import SECTIONS
from benchmarks.quality.pulls import HEADER, Pulls, simulate, table


@pytest.mark.parametrize(
    ("claimed", "offset", "holds"),
    [(2.0, 0.0, True), (1.0, 0.0, False), (4.0, 0.0, False), (2.0, 1.5, False)],
    ids=["true", "too small", "too large", "biased"],
)
def test_only_true_errors_hold(claimed, offset, holds):
    found = 7.0 + offset + np.random.default_rng(3).normal(0, 2.0, 400)
    pulls = Pulls("flux", "bright", "e")
    pulls.add(found, claimed, 7.0)
    assert pulls.std == pytest.approx(2.0 / claimed, rel=0.1)
    assert pulls.holds is holds


def test_what_has_no_error_is_missing_and_does_not_hold():
    pulls = Pulls("flux", "faint")
    pulls.add([1.0, np.nan, 3.0], [np.nan, 1.0, 0.0], 2.0)
    assert (pulls.errors, pulls.missing, pulls.holds) == ([], 3, False)
    assert len(table([pulls]).splitlines()) == 3
    assert len(pulls.cells()) == len(HEADER)


def test_simulations_come_in_the_order_of_their_seeds():
    assert list(simulate(abs, [-3, -1, -2], processes=2)) == [3, 1, 2]
    assert list(simulate(abs, [-3], processes=1)) == [3]


def test_a_section_is_replaced_and_others_stay(tmp_path):
    page = tmp_path / "QUALITY.md"
    report.write_section("First", "one", page)
    report.write_section("Second", "two", page)
    report.write_section("First", "### inner\n\nthree", page)
    assert page.read_text().startswith(report.INTRODUCTION.strip())
    assert page.read_text().endswith("## First\n\n### inner\n\nthree\n\n## Second\n\ntwo\n")


@pytest.mark.filterwarnings("ignore")  # of the packages that a section compares with
@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_can_be_written(name):
    section = importlib.import_module(f"benchmarks.quality.{name}")
    assert section.TITLE
    assert list(inspect.signature(section.report).parameters) == ["trials", "processes"]
