"""Groups of reference stars: whom a star serves, and when the references of an observation are others."""

from dataclasses import replace
from pathlib import Path

from obsarchive.daemon.reference_groups import groups_of, signatures, without_target
from obsarchive.io.psf_library import Entry, PsfLibrary

STAR = Entry("3_star0_VIC_Si_o_20260310_110427.040912", "20260310", "KPNO_2.1m", "Si", "100p", 0.01735, added="before")


def test_a_star_reduced_again_makes_other_references_for_all_but_itself() -> None:
    first, found = (
        signatures(groups_of(PsfLibrary(Path("psf_library.fits"), (star,))))
        for star in (STAR, replace(STAR, added="now"))
    )
    whole = {("KPNO_2.1m", "Si"), ("KPNO_2.1m", "Si", "20260310")}
    alone = {(*key, without_target(STAR.target)) for key in whole}
    assert found.keys() == first.keys() == whole | alone
    assert {found[key] for key in alone} == {"none"}  # no star is its own reference
    assert all(found[key] != first[key] for key in whole)
