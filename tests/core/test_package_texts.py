"""What the README says of products."""

import pytest

from obsarchive.core.package_texts import Member, checksums, describe, readme
from obsarchive.pipeline import Pipeline
from pipelines.astrometry import Astrometry
from pipelines.bright_star import BrightStar
from pipelines.ccd import CcdStack
from pipelines.extended_object import ExtendedObject
from pipelines.faint_star import FaintStar
from pipelines.photometry import Photometry


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bright_star/100p.fits", "all good frames"),
        ("bright_star/20p.fits", "sharpest 20 %"),
        ("20p.fits", "sharpest 20 %"),
        ("x_100p.fits", "its header describes it"),
        ("faint_star/3_X_summed.fits", "own mean"),
        ("bright_star/pca/3_X_pca.png", "before and after"),
        ("raw/3_X.fits.bz2", "as the camera wrote it"),
        ("calibration/flat_Si.fits", "master flat"),
    ],
)
def test_products_are_described_by_their_names(name: str, text: str) -> None:
    assert text in describe(name)


def test_an_unknown_product_is_listed_all_the_same() -> None:
    assert describe("own/thing.bin") == ""
    assert "own/thing.bin  (7 bytes)\n    see its pipeline" in readme("3_X", [Member("own/thing.bin", 7)])


def test_checksums_are_written_as_sha256sum_reads_them() -> None:
    assert checksums([("a b", "00"), ("a\\b\nc", "11")]) == "00  a b\n\\11  a\\\\b\\nc\n"


@pytest.mark.parametrize("pipeline", [BrightStar, FaintStar, ExtendedObject, CcdStack, Astrometry, Photometry])
def test_every_product_of_our_pipelines_is_described(pipeline: type[Pipeline]) -> None:
    """A new product needs a line in the table, or an ending that says enough."""
    for step in pipeline.steps.values():
        for name in (*step.makes, *step.may_make):
            assert describe(f"{pipeline.name}/{name.format(id='3_X')}"), name
