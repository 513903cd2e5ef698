"""Real data measured by the archive and by a second program: they differ by no more than their errors allow."""

import importlib
import os
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.compared import Compared

FOLDER = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
PROGRAMS = ("source-extractor", "psfex", "scamp")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no test data in {FOLDER}"),
    pytest.mark.filterwarnings("ignore"),  # of the other programs
]
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"not all of {', '.join(PROGRAMS)} are installed"
)


def real(name: str) -> Any:
    """Return a module of comparisons; late, as the other programs take seconds to import."""
    with warnings.catch_warnings(action="ignore"):
        return importlib.import_module(f"benchmarks.quality.real.{name}")


def agreeing(rows: Iterable[Compared]) -> list[Compared]:
    """Check all rows, and return them."""
    made = list(rows)
    assert made
    disagreeing = [row.cells() for row in made if not row.agrees]
    assert not disagreeing
    return made


@needs_programs
@pytest.mark.parametrize("rows", ["ntt_rows", "lowell_rows", "wcs_rows"])
def test_star_fields_are_those_of_sextractor_and_scamp(rows: str) -> None:
    agreeing(getattr(real("fields"), rows)())


@needs_programs
def test_psf_photometry_is_that_of_psfex() -> None:
    agreeing(row for row in real("fields").psf_rows() if "faint" in row.quantity)


def test_aperture_photometry_repeats_within_its_errors() -> None:
    rows = agreeing(row for row in real("fields").repeated_rows() if "aperture" in row.quantity)
    # the noise of the exposures is independent: errors that are too large show as well
    assert all(0.8 < row.deviation < 1.2 for row in rows)


def test_zero_point_and_colour_term_are_those_of_a_plain_fit() -> None:
    agreeing(real("catalogues").zero_point_rows())


def test_shifts_of_bright_stars_are_those_of_photutils_and_image_registration() -> None:
    agreeing(real("frames").shift_rows())


@pytest.mark.parametrize("rows", ["beta_pic_rows", "subtraction_rows"])
def test_companions_and_subtracted_stars_are_those_of_vip(rows: str) -> None:
    agreeing(getattr(real("companions"), rows)())


def test_added_companions_are_found_where_they_are() -> None:
    rows = agreeing(row for row in real("companions").added_rows(4) if "magnitude" not in row.quantity)
    assert len(rows) == 2


@pytest.mark.parametrize("event", ["OB08092", "MB08310", "OB161195", "OB150966"])
def test_events_are_those_of_mulensmodel(event: str) -> None:
    agreeing(real("light_curves").event_rows(event))


def test_periods_are_those_of_astropy_and_published_ones() -> None:
    agreeing(real("light_curves").period_rows(of_all=False))


def test_supernovae_peak_when_fits_and_publications_say() -> None:
    agreeing(row for row in real("light_curves").supernova_rows() if "epoch" in row.quantity)
