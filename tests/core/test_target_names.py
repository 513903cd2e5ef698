"""Names of targets: written by people in many ways, and never confused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obsarchive.core.target_names import PART, folded, target_fields

WRITTEN = st.text(st.sampled_from("HIPKOJGBDjd0123456789 _-+−–.αß*é"), max_size=24) | st.text(max_size=20)


@pytest.mark.parametrize(
    "names",
    [
        ("HIP 55203", "HIP_55203", "HIP55203", "hip-55203", " hip  55203 "),
        ("HD 95735", "HD95735", "hd_95735"),
        ("KOI-0628", "KOI 628", "koi628", "KOI_00628"),
        ("GJ_1134+B", "GJ 1134 B", "gj1134b"),
        ("TYC_3127-1", "TYC 3127 1"),
        ("GJ 1134-2", "GJ1134-2", "GJ_1134_2"),
        ("351_Yrsa", "(351) Yrsa"),
        ("J1215+5700", "J1215 5700"),
        ("WDS_J1023-3421", "WDS J1023−3421", "WDSJ1023–3421"),
        ("BD-20_1234", "BD −20 1234", "bd_-20_1234"),
        ("α Lyr", "alpha_Lyr"),
        ("Hévelius", "HEVELIUS"),
    ],
)
def test_one_target_in_several_hands(names: tuple[str, ...]) -> None:
    assert len({folded(name) for name in names}) == 1


@pytest.mark.parametrize(
    "names",
    [
        ("HD 1 2", "HD 12"),
        ("TYC 3127-1", "TYC 31-271"),
        ("KOI-2626.01", "KOI-2626.1", "KOI-262601"),
        ("KOI-628", "KOI-6280"),
        ("J1023+3421", "J1023-3421"),
        ("J0023-0021", "J0230-021"),
        ("BD+20 1234", "BD-20 1234"),
        ("PSR B1919+21", "PSR B1919-21"),
        ("GJ 1134 A", "GJ 1134 B"),
    ],
)
def test_different_targets(names: tuple[str, ...]) -> None:
    assert len({folded(name) for name in names}) == len(names)


@given(WRITTEN)
def test_folding_again_changes_nothing(name: str) -> None:
    assert folded(folded(name)) == folded(name)


def numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", name)]


@given(st.text(st.sampled_from("HIPKOJGBDab0123456789 _-+."), max_size=24))
def test_numbers_stay_apart(name: str) -> None:
    """Two names with one folded form hold the same numbers in the same order."""
    assert numbers(folded(name)) == numbers(name)


@given(WRITTEN, st.integers(0, 20), st.integers(1, 12))
def test_every_part_of_a_name_is_the_beginning_of_an_indexed_one(name: str, start: int, length: int) -> None:
    key = folded(name)
    part = key[start : start + length]
    if part:
        assert any(indexed.startswith(part[:PART]) for indexed in target_fields({"name": name})["parts"])


def test_names_of_a_document() -> None:
    found = target_fields({"_id": "x", "name": "HIP_55203", "alternative_names": ["Lalande 21185", 3, "hip 55203"]})
    assert found["keys"] == ["hip55203", "lalande21185"]
    nameless = target_fields({"_id": "3_HD_1402_VIC_Si_o_20160925_030000.000000", "alternative_names": None})
    assert nameless["keys"] == ["hd1402"]
    assert target_fields({"name": "***"})["keys"] == []
