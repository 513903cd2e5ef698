"""The PSF library: a file that several processes change, and that forgets nothing and invents nothing."""

import multiprocessing as mp
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.io import fits_products
from obsarchive.io.psf_candidates import header_of, offered
from obsarchive.io.psf_library import Entry, PsfLibrary, changed

SIDE = 9
NAMES = [f"3_star{i}_VIC_Si_o_2026031{i}_110427.040912" for i in range(5)]


def entry(i: int = 0, **fields: object) -> Entry:
    night = f"2026031{i}"
    return replace(Entry(NAMES[i], night, "KPNO_2.1m", "Si", "100p", 0.01735, 10.0 + i, 0.12), **fields)


def stamp(i: int = 0) -> np.ndarray:
    return np.full((SIDE, SIDE), i + 1, np.float32)


def put(layout: Layout, *numbers: int, by: str = "auto") -> None:
    with changed(layout) as library:
        for i in numbers:
            library.add(entry(i), stamp(i), by)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def members(layout: Layout) -> list[str]:
    return [found.observation for found in PsfLibrary.read(layout).entries]


def test_no_file_is_an_empty_library(layout: Layout) -> None:
    library = PsfLibrary.read(layout)
    assert (library.entries, library.version, len(library.stamps)) == ((), 0, 0)


def test_what_goes_in_comes_out(layout: Layout) -> None:
    put(layout, 2, 0, 1)
    library = PsfLibrary.read(layout)
    assert library.version == 1
    assert [replace(found, plane=-1, added="") for found in library.entries] == [entry(i) for i in range(3)]
    np.testing.assert_array_equal(library.stamps[:, 0, 0], [1, 2, 3])
    assert library.entries[1].date_utc.hour == 11


def test_a_target_is_never_its_own_reference(layout: Layout) -> None:
    again = NAMES[0].replace("110427", "120000")
    with changed(layout) as library:
        library.add(entry(0), stamp(0), "auto")
        library.add(entry(0, observation=again), stamp(1), "auto")
        library.add(entry(1), stamp(2), "auto")
        library.add(entry(2, filter="Sz"), stamp(3), "auto")
        library.add(entry(3, telescope="Palomar_P60"), stamp(3), "auto")
        library.add(entry(4, stack="20p"), stamp(3), "auto")
    library = PsfLibrary.read(layout)
    chosen = library.select(
        telescope="KPNO_2.1m",
        filter="Si",
        stack="100p",
        pixel_arcsec=entry(0).pixel_arcsec,
        but=Observation({"_id": NAMES[0]}),
    )
    assert [found.observation for found in chosen.entries] == [NAMES[1]]
    np.testing.assert_array_equal(chosen.stamps, stamp(2)[None])


@pytest.mark.parametrize(
    ("others", "left"),
    [([], ["HIP_91262", "Vega"]), (["vega"], ["HIP_91262"]), (["HR 7001", "hip-91262"], ["Vega"]), ("HIP 9126", 2)],
)
def test_a_star_under_another_name_is_not_its_own_reference(layout: Layout, others: object, left: object) -> None:
    with changed(layout) as library:
        for number, target in enumerate(("HIP_91262", "Vega")):
            name = f"3_{target}_VIC_Si_o_20260310_110427.040912"
            library.add(entry(0, observation=name), stamp(number), "auto")
    mine = Observation({"_id": "3_Alpha_Lyr_VIC_Si_o_20260310_120000.000000", "alternative_names": others})
    optics = {"telescope": "KPNO_2.1m", "filter": "Si", "stack": "100p", "pixel_arcsec": entry(0).pixel_arcsec}
    found = [entry.target for entry in PsfLibrary.read(layout).select(**optics, but=mine).entries]
    assert left in (found, len(found))


def test_nothing_new_is_no_new_version(layout: Layout) -> None:
    put(layout, 0, 1)
    before = layout.psf_library.read_bytes()
    put(layout, 0, 1)
    with changed(layout) as library:
        assert not library.remove(NAMES[3], "administrator")
        assert not library.add(entry(0), stamp(0), "auto")
    assert layout.psf_library.read_bytes() == before


def test_a_star_reduced_again_takes_the_place_of_its_stamp(layout: Layout) -> None:
    put(layout, 0)
    with changed(layout) as library:
        assert library.add(entry(0), stamp(4), "auto")
    after = PsfLibrary.read(layout)
    assert after.version == 2
    np.testing.assert_array_equal(after.stamps, stamp(4)[None])


@pytest.mark.parametrize("by", ["auto", "administrator"])
def test_what_was_removed_stays_away_until_a_person_adds_it(layout: Layout, by: str) -> None:
    put(layout, 0, 1)
    with changed(layout) as library:
        assert library.remove(NAMES[0], by)
    put(layout, 0)
    assert members(layout) == [NAMES[1]]
    assert [found.added_by for found in PsfLibrary.read(layout).removed] == [by]
    put(layout, 0, by="administrator")
    assert members(layout) == NAMES[:2]


def test_a_full_library_loses_its_oldest_that_nobody_asked_for(layout: Layout) -> None:
    put(layout, 0, by="administrator")
    put(layout, 1, 2, 3)
    with changed(layout) as library:
        library.limit(2)
    assert members(layout) == [NAMES[0], NAMES[3]]


def test_stamps_of_another_size_are_refused(layout: Layout) -> None:
    put(layout, 0)
    with pytest.raises(Unprocessable, match=r"\(5, 5\).*\(9, 9\).*move the library away"), changed(layout) as library:
        library.add(entry(1), np.ones((5, 5), np.float32), "auto")
    assert members(layout) == NAMES[:1]


def test_a_damaged_library_is_named_and_left_alone(layout: Layout) -> None:
    layout.psf_library.write_bytes(b"SIMPLE  = no FITS")
    with pytest.raises(ArchiveError, match=r"psf_library\.fits cannot be read.*made again"):
        PsfLibrary.read(layout)
    with pytest.raises(ArchiveError), changed(layout):
        pass
    assert layout.psf_library.read_bytes() == b"SIMPLE  = no FITS"


def test_a_reader_notices_that_the_file_was_replaced(layout: Layout) -> None:
    put(layout, 0)
    library = PsfLibrary.read(layout)
    put(layout, 1)
    with pytest.raises(ArchiveError, match="version 1 is gone"):
        _ = library.stamps


def test_an_error_while_it_is_changed_changes_nothing(layout: Layout) -> None:
    put(layout, 0)
    with pytest.raises(KeyboardInterrupt), changed(layout) as library:
        library.add(entry(1), stamp(1), "auto")
        raise KeyboardInterrupt
    put(layout, 2)  # and the lock is free
    assert members(layout) == [NAMES[0], NAMES[2]]


def _add_one(root: Path, i: int) -> None:
    put(Layout(root), i)


def test_writers_do_not_lose_each_others_stars(layout: Layout) -> None:
    context = mp.get_context("spawn")
    writers = [context.Process(target=_add_one, args=(layout.root, i)) for i in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert members(layout) == NAMES[:4]
    assert PsfLibrary.read(layout).version == 4


def test_a_night_offers_what_a_person_may_add(tmp_path: Path) -> None:
    path = tmp_path / "offer.fits"
    header = header_of(entry(0, strehl_percent=float("nan")), ["100p", "20p"], "a companion")
    fits_products.write_fits(
        path, {"100p": stamp(0), "20p": stamp(1)}, header, fits_products.Provenance("1", "psflib", "c", "")
    )
    (first, one), (second, two) = offered(path)
    assert (first.stack, second.stack) == ("100p", "20p")
    assert replace(first, strehl_percent=10.0) == entry(0)
    assert np.isnan(first.strehl_percent)
    np.testing.assert_array_equal(np.stack([one, two])[:, 0, 0], [1, 2])
    with pytest.raises(ArchiveError, match="has not offered this star"):
        offered(tmp_path / "none.fits")


_ACTIONS = st.lists(st.tuples(st.sampled_from(["auto", "administrator", "remove"]), st.integers(0, 4)), max_size=12)


@given(actions=_ACTIONS)
@settings(max_examples=25)
def test_the_file_follows_what_was_done(tmp_path_factory: pytest.TempPathFactory, actions: list) -> None:
    layout = Layout(tmp_path_factory.mktemp("library"))
    inside: set[int] = set()
    away: set[int] = set()
    for what, i in actions:
        with changed(layout) as library:
            if what == "remove":
                assert library.remove(NAMES[i], "administrator") == (i in inside)
                away |= {i} & inside
                inside.discard(i)
            else:
                library.add(entry(i), stamp(i), what)
                if what == "administrator" or i not in away:
                    inside.add(i)
                    away.discard(i)
    library = PsfLibrary.read(layout)
    assert [found.observation for found in library.entries] == [NAMES[i] for i in sorted(inside)]
    assert {found.observation for found in library.removed} == {NAMES[i] for i in away}
    assert sorted(library.stamps[:, 0, 0]) == [i + 1 for i in sorted(inside)] if inside else True
