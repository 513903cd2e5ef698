"""Raw folders seen through clocks that can be set: what is new, what still grows, what cannot be read."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.config.model import RawRoot
from obsarchive.daemon import raw_scanner
from obsarchive.daemon.raw_scanner import FULL_LOOK_S, Scanner, open_instrument, signature
from obsarchive.errors import ConfigError

NIGHT, EARLIER = "20160925", "20160924"
OBS = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912"
DARK = "dark_6_20160925_010000.000000.fits"
SETTLE_S = 20.0
EPOCH = 1_474_800_000.0


@dataclass
class Clocks:
    """A monotonic clock and one on the wall."""

    monotonic_s: float = 1000.0
    wall_s: float = EPOCH

    def pass_(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_s += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def scanner(tmp_path: Path, clocks: Clocks) -> Scanner:
    (tmp_path / NIGHT).mkdir()
    return Scanner(RawRoot(path=tmp_path), SETTLE_S, "", lambda: clocks.monotonic_s, lambda: clocks.wall_s)


def put(folder: Path, name: str, wall_s: float, content: bytes = b"x" * 10) -> Path:
    """Write a file with a time of its own; the folder's time moves, as on a real disk."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    os.utime(path, (wall_s, wall_s))
    touch_folder(folder)
    return path


def touch_folder(folder: Path) -> None:
    """Give a folder a time it never had."""
    touched = folder.stat().st_mtime_ns + 1_000_000_000
    os.utime(folder, ns=(touched, touched))


def seen(scanner: Scanner) -> list[str]:
    return [listing.night for listing in scanner.changed()]


def test_nights_newest_first_and_nothing_but_nights(tmp_path, scanner):
    (tmp_path / EARLIER).mkdir()
    (tmp_path / "20160931").mkdir()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "20160926").touch()
    assert scanner.nights() == [NIGHT, EARLIER]
    scanner.first_night = NIGHT
    assert scanner.nights() == [NIGHT]


def test_a_night_is_listed_by_kind_and_observation(tmp_path, scanner):
    for name in (f"{OBS}_10.fits", f"{OBS}_9.fits", f"{OBS}.fits", DARK, "truth.json"):
        put(tmp_path / NIGHT, name, EPOCH - 100)
    (tmp_path / NIGHT / f"{OBS}_1.fits").mkdir()
    (tmp_path / NIGHT / f"{OBS}_2.fits").symlink_to("nowhere")
    [listing] = scanner.changed()
    assert [found.raw.name for found in listing.of_kind("dark")] == [DARK]
    assert listing.ignored == [f"{OBS}_1.fits", f"{OBS}_2.fits", "truth.json"]
    assert [found.raw.part for found in listing.observations()[OBS]] == [-1, 9, 10]


def test_an_unchanged_night_is_not_read_again(tmp_path, scanner, monkeypatch):
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    assert seen(scanner) == [NIGHT]
    monkeypatch.setattr(Scanner, "_list", lambda *_: pytest.fail("the folder was read"))
    assert seen(scanner) == []


def test_a_new_file_is_news(tmp_path, scanner):
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    assert seen(scanner) == [NIGHT]
    put(tmp_path / NIGHT, f"{OBS}.fits", EPOCH - 100)
    assert seen(scanner) == [NIGHT]


def test_a_file_rewritten_in_place_is_noticed_by_the_next_look(tmp_path, scanner, clocks):
    path = put(tmp_path / NIGHT, DARK, EPOCH - 100)
    [before] = scanner.changed()
    with path.open("r+b") as file:  # its folder keeps its time, and the file its size
        file.write(b"y" * 10)
    os.utime(path, (EPOCH, EPOCH))
    [growing] = scanner.changed()
    assert growing.growing == [DARK]
    assert growing.of_kind("dark") == []
    clocks.pass_(SETTLE_S)
    [listing] = scanner.changed()
    assert signature(listing.of_kind("dark")) not in ("", signature(before.files))
    assert seen(scanner) == []


def test_older_nights_are_compared_in_turn_where_there_are_many(tmp_path, clocks):
    """Each comparison takes longer than a look may: the newest night and one other a look."""
    nights = [f"201609{day:02d}" for day in range(20, 26)]

    class Slow:
        def __call__(self) -> float:
            clocks.monotonic_s += raw_scanner.COMPARED_S
            return clocks.monotonic_s

    scanner = Scanner(RawRoot(path=tmp_path), 0.0, "", Slow(), lambda: clocks.wall_s)
    for night in nights:
        put(tmp_path / night, DARK, EPOCH - 100)
    assert seen(scanner) == nights[::-1]
    for night in nights:
        times = ((tmp_path / night).stat().st_mtime_ns,) * 2
        (tmp_path / night / DARK).write_bytes(b"another length")
        os.utime(tmp_path / night, ns=times)
    looks = [seen(scanner) for _ in range(2 * len(nights))]
    assert looks[0][0] == nights[-1], "the newest night at once"
    assert sorted(night for look in looks for night in look) == nights
    assert max(map(len, looks)) <= 3


def test_a_large_night_is_compared_in_parts(tmp_path, scanner, monkeypatch):
    monkeypatch.setattr(raw_scanner, "MOST_COMPARED", 2)
    darks = [f"dark_6_20160925_01000{number}.000000.fits" for number in range(5)]
    for name in darks:
        put(tmp_path / NIGHT, name, EPOCH - 100)
    assert seen(scanner) == [NIGHT]
    assert [seen(scanner) for _ in range(3)] == [[], [], []]
    times = ((tmp_path / NIGHT).stat().st_mtime_ns,) * 2
    (tmp_path / NIGHT / darks[-1]).write_bytes(b"another length")
    os.utime(tmp_path / NIGHT, ns=times)
    assert [seen(scanner) for _ in range(3)] == [[], [], [NIGHT]]


def test_a_full_look_finds_what_no_comparison_did(tmp_path, scanner, clocks, monkeypatch):
    path = put(tmp_path / NIGHT, DARK, EPOCH - 100)
    [before] = scanner.changed()
    monkeypatch.setattr(raw_scanner, "_differ", lambda *_: False)
    path.write_bytes(b"y" * 11)
    os.utime(path, (EPOCH, EPOCH))
    assert seen(scanner) == []
    clocks.pass_(FULL_LOOK_S)
    [listing] = scanner.changed()
    assert signature(listing.files) != signature(before.files)


def test_touching_the_folder_alone_is_no_news(tmp_path, scanner):
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    assert seen(scanner) == [NIGHT]
    touch_folder(tmp_path / NIGHT)
    assert seen(scanner) == []


def test_forgotten_nights_are_told_again(tmp_path, scanner):
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    assert seen(scanner) == [NIGHT]
    scanner.forget(NIGHT)
    assert seen(scanner) == [NIGHT]


def test_only_the_wanted_nights(tmp_path, scanner):
    put(tmp_path / EARLIER, DARK, EPOCH - 100)
    assert [listing.night for listing in scanner.changed({EARLIER})] == [EARLIER]


# ------------------------------------------------------------------------------------- growing files


def test_a_file_that_is_being_written_waits_until_it_settled(tmp_path, scanner, clocks):
    name = f"{OBS}.fits.bz2"
    for size in (0, 10, 20):
        put(tmp_path / NIGHT, name, clocks.wall_s, b"x" * size)
        [listing] = scanner.changed()
        assert (listing.growing, listing.observations()) == ([name], {})
        assert scanner.unsettled
        clocks.pass_(SETTLE_S - 1)
    assert seen(scanner) == []
    clocks.pass_(1)
    [listing] = scanner.changed()
    assert (listing.growing, list(listing.observations())) == ([], [OBS])
    assert not scanner.unsettled


def test_a_file_whose_header_comes_later_is_seen(tmp_path: Path, clocks: Clocks) -> None:
    """A camera that is known by its headers: the file is ignored while it has none, but looked at again."""
    root = RawRoot(path=tmp_path, instrument="obsarchive.instruments.HeaderDriven")
    scanner = Scanner(root, SETTLE_S, "", lambda: clocks.monotonic_s, lambda: clocks.wall_s)
    path = put(tmp_path / NIGHT, "0001.fits", clocks.wall_s, b"")
    (listing,) = scanner.changed()
    assert (listing.ignored, listing.growing, listing.files) == (["0001.fits"], ["0001.fits"], [])
    assert scanner.unsettled
    clocks.pass_(5)
    header = fits.Header({"IMAGETYP": "object", "OBJECT": "M67", "DATE-OBS": "2016-09-25T01:02:03"})
    fits.PrimaryHDU(np.zeros((4, 4), np.uint16), header).writeto(path, overwrite=True)
    os.utime(path, (clocks.wall_s, clocks.wall_s))
    (listing,) = scanner.changed()
    assert listing.observations() == {}
    clocks.pass_(SETTLE_S + 1)
    (listing,) = scanner.changed()
    assert list(listing.observations()) == ["1_M67_CCD_none_o_20160925_010203.000000"]
    assert not scanner.unsettled


def test_one_growing_part_holds_back_its_observation_alone(tmp_path, scanner, clocks):
    other = OBS.replace("Yrsa", "Ida")
    for name in (f"{OBS}.fits", f"{other}.fits"):
        put(tmp_path / NIGHT, name, EPOCH - 100)
    put(tmp_path / NIGHT, f"{OBS}_0.fits", EPOCH)
    [listing] = scanner.changed()
    assert list(listing.observations()) == [other]


def test_an_old_file_of_no_bytes_is_complete(tmp_path, scanner):
    """It will be told to be bad by the step that reads it: there is nothing to wait for."""
    put(tmp_path / NIGHT, f"{OBS}.fits.bz2", EPOCH - 100, b"")
    [listing] = scanner.changed()
    assert list(listing.observations()) == [OBS]


def test_a_file_from_the_future_settles_by_the_monotonic_clock(tmp_path, scanner, clocks):
    put(tmp_path / NIGHT, DARK, EPOCH + 86400)
    [listing] = scanner.changed()
    assert listing.growing == [DARK]
    clocks.pass_(SETTLE_S)
    [listing] = scanner.changed()
    assert listing.growing == []


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0])
def test_a_step_of_the_wall_clock_changes_nothing(tmp_path, scanner, clocks, step_s):
    put(tmp_path / NIGHT, DARK, EPOCH)
    assert seen(scanner) == [NIGHT]
    clocks.wall_s += step_s
    assert seen(scanner) == []
    assert scanner.unsettled
    clocks.pass_(SETTLE_S)
    [listing] = scanner.changed()
    assert listing.growing == []
    clocks.wall_s -= step_s
    assert seen(scanner) == []


def test_a_growing_file_that_vanishes_with_its_night_holds_up_nothing(tmp_path, scanner):
    put(tmp_path / NIGHT, DARK, EPOCH)
    assert seen(scanner) == [NIGHT]
    shutil.rmtree(tmp_path / NIGHT)
    assert seen(scanner) == []
    assert not scanner.unsettled


# ------------------------------------------------------------------------------------- trouble


def failing_on(part: str, code: int) -> Callable:
    real = os.scandir

    def scandir(path):
        if str(path).endswith(part):
            raise OSError(code, os.strerror(code), str(path))
        return real(path)

    return scandir


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ENOENT])
def test_a_night_that_cannot_be_read_is_no_empty_night(tmp_path, scanner, monkeypatch, caplog, code):
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    put(tmp_path / EARLIER, DARK, EPOCH - 100)
    assert seen(scanner) == [NIGHT, EARLIER]
    put(tmp_path / NIGHT, f"{OBS}.fits", EPOCH - 100)
    put(tmp_path / EARLIER, f"{OBS}.fits", EPOCH - 100)
    monkeypatch.setattr(raw_scanner.os, "scandir", failing_on(NIGHT, code))
    assert seen(scanner) == [EARLIER]
    assert f"night {NIGHT}" in caplog.text
    monkeypatch.undo()
    [listing] = scanner.changed()
    assert len(listing.files) == 2


def test_a_stale_root_is_an_error(tmp_path, scanner, monkeypatch):
    monkeypatch.setattr(raw_scanner.os, "scandir", failing_on(tmp_path.name, errno.ESTALE))
    with pytest.raises(OSError, match="Stale"):
        list(scanner.changed())


NO_TARGET = "a link that leads to no file: mend or remove it"
FOLDER = "a folder that is called like a file: FITS files are expected in the folder of the night itself"
PIPE = "no file, but a pipe, a socket or a device: remove it"


@pytest.mark.parametrize("instrument", ["RoboAO", "HeaderDriven"])
def test_what_is_called_like_a_raw_file_and_is_none_is_a_problem(
    tmp_path: Path, clocks: Clocks, instrument: str
) -> None:
    """It costs no other file of the night, and a pipe is never opened: who reads one that nobody writes waits."""
    night = tmp_path / NIGHT
    put(night, "notes.txt", EPOCH - 100)
    (night / "folder.fits").mkdir()
    put(night / "folder.fits", f"{OBS}.fits", EPOCH - 100)
    for name, target in {
        "nowhere.fits": "/nowhere/at_all.fits",
        "itself.fits.bz2": "itself.fits.bz2",
        "below_a_file.fits": "notes.txt/below.fits",
        "to_a_folder.fit": "folder.fits",
        ".hidden.fits": "nowhere",
        "notes_of_others": "nowhere",
    }.items():
        (night / name).symlink_to(target)
    os.mkfifo(night / "pipe.fts")
    root = RawRoot(path=tmp_path, instrument=f"obsarchive.instruments.{instrument}")
    scanner = Scanner(root, SETTLE_S, "", lambda: clocks.monotonic_s, lambda: clocks.wall_s)
    [listing] = scanner.changed()
    assert not listing.problems, "none of them is old enough"
    clocks.pass_(SETTLE_S + 1)
    [listing] = scanner.changed()
    assert {problem.name: problem.reason for problem in listing.problems} == {
        "nowhere.fits": NO_TARGET,
        "itself.fits.bz2": NO_TARGET,
        "below_a_file.fits": NO_TARGET,
        "folder.fits": FOLDER,
        "to_a_folder.fit": FOLDER,
        "pipe.fts": PIPE,
    }
    assert len(listing.problems) == 6
    assert not listing.files
    assert len(listing.ignored) == 9
    assert seen(scanner) == [], "nothing has changed"


def test_a_link_is_followed_once_it_leads_to_a_file(tmp_path, scanner, clocks):
    """The folder of the night keeps its time when the target comes, as of a disk that is mounted."""
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    link, target = tmp_path / NIGHT / f"{OBS}.fits", tmp_path / "elsewhere" / "a.fits"
    link.symlink_to(target)
    os.utime(link, (EPOCH - 100, EPOCH - 100), follow_symlinks=False)
    [listing] = scanner.changed()
    assert [problem.reason for problem in listing.problems] == [NO_TARGET]
    assert seen(scanner) == []
    put(target.parent, target.name, EPOCH - 100)
    [listing] = scanner.changed()
    assert listing.growing == [f"{OBS}.fits"]
    assert not listing.problems
    clocks.pass_(SETTLE_S + 1)
    [listing] = scanner.changed()
    assert list(listing.observations()) == [OBS]
    target.unlink()
    assert [list(listing.observations()) for listing in scanner.changed()] == [[]]
    clocks.pass_(SETTLE_S + 1)
    [listing] = scanner.changed()
    assert [problem.reason for problem in listing.problems] == [NO_TARGET]


def test_a_night_that_is_no_folder_costs_no_other_night(tmp_path, scanner):
    put(tmp_path / NIGHT, DARK, EPOCH - 100)
    (tmp_path / "20160926").touch()
    (tmp_path / "20160927").symlink_to("20160927")
    (tmp_path / "20160928").symlink_to("nowhere")
    (tmp_path / "20160929").symlink_to(NIGHT)
    (tmp_path / f"{OBS}.fits").symlink_to("nowhere")
    assert seen(scanner) == ["20160929", NIGHT]
    assert scanner.not_looked_at() == [
        "3 night(s) not looked at, expected a folder, found a file or a link that leads to none"
        " (20160926, 20160927, 20160928)",
        f"1 FITS file(s) not looked at, expected in a folder of their night, yyyymmdd ({OBS}.fits)",
    ]


@settings(max_examples=40)
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=4))
def test_any_names_in_a_night_are_survived(tmp_path_factory, names):
    """File names are bytes: newlines, quotes, what is no text at all."""
    root = tmp_path_factory.mktemp("raw")
    night = root / NIGHT
    night.mkdir()
    written = set()
    for name in names:
        if name not in (b".", b"..") and not set(name) & {0, ord("/")}:
            (night / os.fsdecode(name)).touch()
            written.add(os.fsdecode(name))
    [listing] = Scanner(RawRoot(path=root), 0.0).changed()
    assert set(listing.ignored) == written


def test_a_wrong_instrument_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="RoboAO has no settings"):
        open_instrument(RawRoot(path=tmp_path, settings={"gain": 2}))


# ------------------------------------------------------------------------------------- signatures


def test_the_signature_follows_names_sizes_and_times(tmp_path, scanner, clocks):
    def signed(name: str = DARK, wall_s: float = EPOCH - 100, content: bytes = b"xx") -> str:
        shutil.rmtree(tmp_path / NIGHT)
        put(tmp_path / NIGHT, name, wall_s, content)
        scanner.forget(NIGHT)
        [listing] = scanner.changed()
        return signature(listing.files)

    assert signed() == signed()
    others = {signed(), signed(name=DARK.replace("6", "7", 1)), signed(wall_s=EPOCH - 101), signed(content=b"xxx")}
    assert len(others) == 4


def test_the_signature_does_not_depend_on_the_order(tmp_path, scanner):
    for number in range(4):
        put(tmp_path / NIGHT, f"{OBS}_{number}.fits", EPOCH - 100)
    [listing] = scanner.changed()
    assert signature(listing.files) == signature(reversed(listing.files))
    assert signature([]) == ""
