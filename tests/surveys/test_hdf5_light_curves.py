"""Files of light curves: what is written comes back, whatever happens to the writers; what is damaged is told."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from obsarchive.errors import ArchiveError
from obsarchive.io.file_locks import wait_until
from surveys.formats.hdf5_keys import escape, unescape
from surveys.formats.hdf5_light_curves import (
    CorruptFileError,
    MissingDataError,
    PhotometryFile,
    Record,
    checksum,
    ra_zone,
)

N = 100


def light_curve(n: int = N, seed: int = 0) -> Record:
    """As surveys give them: times, magnitudes and errors in double precision, and one of text."""
    rng = np.random.default_rng(seed)
    columns = {
        "mjd": 58000 + np.sort(rng.uniform(0, 1000, n)),
        "mag": rng.normal(17, 0.1, n),
        "magerr": rng.uniform(0.01, 0.1, n),
        "ra": rng.normal(123, 1e-5, n),
        "dec": rng.normal(-32, 1e-5, n),
        "filter": np.array(["zg", "zr", "zi"])[rng.integers(0, 3, n)],
        "flag": rng.random(n) < 0.1,
    }
    return Record(columns, {"name": f"star {seed}", "ra": 123.4, "filters": ["zg", "zr"], "nothing": None})


@pytest.fixture
def file(tmp_path: Path) -> PhotometryFile:
    return PhotometryFile(tmp_path / "ZTF" / "ZTF_photometry_RA123.h5")


def assert_same(found: Record, wanted: Record) -> None:
    assert list(found.columns) == list(wanted.columns)
    for name, values in wanted.columns.items():
        assert found.columns[name].dtype.kind == values.dtype.kind
        if values.dtype.kind != "U":
            assert found.columns[name].dtype == values.dtype
        assert_array_equal(found.columns[name], values)
    assert found.altdata == wanted.altdata
    assert len(found) == len(wanted)
    assert checksum(found) == checksum(wanted)


# ------------------------------------------------------------------------------------------------- round trip

names = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=8)
kinds = st.sampled_from(["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u8", "?"])
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))


@st.composite
def records(draw: st.DrawFn) -> Record:
    n = draw(st.integers(0, 5))
    texts = st.lists(st.text(letters, max_size=5), min_size=n, max_size=n).map(lambda words: np.array(words, "U"))
    column = st.one_of(kinds.flatmap(lambda kind: hnp.arrays(kind, n)), texts)
    altdata = st.dictionaries(st.text(max_size=6), nested, max_size=4)
    return Record(draw(st.dictionaries(names, column, max_size=5)), draw(altdata))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records(), key=names.filter(lambda name: "/" not in name and name not in (".", "..")))
@example(record=Record({}), key="empty")
@example(
    record=Record({"mag": np.array([np.nan, np.inf, -0.0])}, {"_checksum": "x", "a": {"b": [1, {"c": None}]}}), key="x"
)
@example(record=Record({"filter": np.array(["", ""])}), key="no text")
@example(record=Record({"filter": np.array(["zg", "größe", "🔭 "])}, {"µ": "𝛼"}), key="WD 1145+017 größe")
@example(record=Record({"mag": np.empty(0, np.float32), "filter": np.empty(0, "U5")}), key="zero rows")
def test_what_is_written_comes_back(file: PhotometryFile, record: Record, key: str) -> None:
    file.write({key: record})
    assert_same(file.read(key), record)
    assert {key} <= set(file.keys())


def test_large_facts_come_back(file: PhotometryFile) -> None:
    """HDF5 keeps no attributes of more than 64 kB in its older format."""
    record = Record({"mag": np.zeros(3)}, {"header": {f"KEY{n}": "x" * 100 for n in range(3000)}})
    file.write({"a": record})
    assert_same(file.read("a"), record)


def test_numbers_of_numpy_and_paths_in_facts_are_kept_plain(file: PhotometryFile) -> None:
    facts = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "v": np.arange(2),
        "path": Path("a/b"),
        "t": pd.Timestamp("2020-01-02"),
    }
    file.write({"a": Record({}, facts)})
    assert file.read("a").altdata == {"n": 3, "x": 0.5, "v": [0, 1], "path": "a/b", "t": "2020-01-02 00:00:00"}


def test_columns_of_pandas_come_back(file: PhotometryFile) -> None:
    table = pd.DataFrame({"filter": ["zg", None, "zr"], "n": [1, 2, None], "ok": [True, False, True]})
    file.write({"a": Record({name: table[name].to_numpy() for name in table})})
    found = file.read("a").columns
    assert found["filter"].tolist() == ["zg", "", "zr"]
    assert_array_equal(found["n"], [1, 2, np.nan])
    assert found["ok"].dtype == bool


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_dates_come_back_as_text_that_is_a_date(file: PhotometryFile, unit: str) -> None:
    dates = np.array(["2020-01-02T03:04:05", "NaT"], f"M8[{unit}]")
    file.write({"a": Record({"date": dates})})
    found = file.read("a").columns["date"]
    assert found.dtype.kind == "U"  # numbers would not tell their unit
    assert_array_equal(found.astype(f"M8[{unit}]"), dates)


def test_bytes_of_any_encoding_are_text(file: PhotometryFile) -> None:
    file.write({"a": Record({"name": np.array([b"caf\xc3\xa9", b"caf\xe9"])})})
    found = file.read("a").columns["name"].tolist()
    assert found[0] == "café"
    assert found[1].startswith("caf")
    file.write({"b": Record({"name": np.array(found)})})
    assert file.read("b").columns["name"].tolist() == found


def test_numbers_of_the_other_byte_order_come_back(file: PhotometryFile) -> None:
    file.write({"a": Record({"mag": np.array([1.5, 2.5], ">f8"), "n": np.array([1, 2], ">i4")})})
    assert_array_equal(file.read("a").columns["mag"], [1.5, 2.5])
    assert_array_equal(file.read("a").columns["n"], [1, 2])


# ---------------------------------------------------------------------------------------- keys, room, plain HDF5


def test_what_is_not_there_is_absent(file: PhotometryFile) -> None:
    assert file.keys() == []
    for key in ("a", "b"):
        with pytest.raises(MissingDataError, match=r"ZTF_photometry_RA123\.h5") as failure:
            file.read(key)
        assert isinstance(failure.value, KeyError)
        assert "'" not in str(failure.value) or key == "b"
        file.write({"a": light_curve()})
        file.remove(["a"])
        file.write({"c": light_curve()})
    found = dict(file.read_many(["c", "a"]))
    assert len(found["c"]) == N
    assert isinstance(found["a"], MissingDataError)
    with pytest.raises(MissingDataError):
        list(PhotometryFile(file.path.with_name("no.h5")).read_many(["c"]))


ODD_NAMES = ["", "C/2023 A3", "/", "//", "a/", ".", "..", "../x", " a ", "a%2Fb", "%", "a\nb", "\0", "\x7f"]
ODD_NAMES += [70_000 * "x"]


@given(st.text())
@example("..")
def test_any_name_is_a_key_and_comes_back(name: str) -> None:
    key = escape(name)
    assert unescape(key) == name
    assert key.isprintable() or not name.isprintable()
    assert key not in ("", ".", "..")
    assert "/" not in key


def test_any_text_is_a_name(file: PhotometryFile) -> None:
    file.write({name: light_curve(3, seed) for seed, name in enumerate(ODD_NAMES)})
    assert file.keys() == sorted(ODD_NAMES)
    assert [record.altdata["name"] for _, record in file.read_many(ODD_NAMES)] == [
        f"star {n}" for n in range(len(ODD_NAMES))
    ]
    file.write({}, remove=["..", "/"])
    assert file.keys() == sorted(set(ODD_NAMES) - {"..", "/"})
    with pytest.raises(MissingDataError):
        file.read("..")
    file.remove(ODD_NAMES)
    assert not file.path.exists()


@pytest.mark.parametrize("gone", [[], ["x"]])
def test_older_files_have_their_names_as_they_are(file: PhotometryFile, gone: list[str]) -> None:
    names = ["HD 1", " a%2Fb ", "x"]
    file.write({"HD 1": light_curve(3)})
    with h5py.File(file.path, "a") as old:
        del old.attrs["keys"]
        for name in names[1:]:
            old.copy("HD 1", name)
    assert file.keys() == sorted(names)
    assert len(file.read(names[1])) == 3
    for absent in ("a/b", "/", ".", "", "..", "\0"):
        with pytest.raises(MissingDataError):
            file.read(absent)
    file.write({"a/b": light_curve(5)}, gone)
    assert file.keys() == sorted({*names, "a/b"} - set(gone))
    assert (len(file.read("a/b")), len(file.read(names[1]))) == (5, 3)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"mjd": np.zeros(3), "mag": np.zeros(4)}, r"unequal lengths \[3, 4\]"),
        ({"mjd": np.zeros(3), "image": np.zeros((3, 2))}, "'image' .* one dimension"),
        ({"mjd": np.float64(3)}, "'mjd' .* one dimension"),
        ({"z": np.zeros(2, complex)}, "'z' .* numbers or text"),
    ],
)
def test_what_is_no_light_curve_is_refused(file: PhotometryFile, columns: dict, words: str) -> None:
    file.write({"a": light_curve()})
    before = file.path.read_bytes()
    with pytest.raises(ArchiveError, match=words):
        file.write({"b": Record(columns)})
    assert file.path.read_bytes() == before
    assert [path.name for path in file.path.parent.iterdir() if path.name.endswith(".part")] == []


def test_replacing_and_removing_gives_the_room_back(file: PhotometryFile) -> None:
    file.write({f"star {n}": light_curve(seed=n) for n in range(20)})
    size = file.path.stat().st_size
    for _ in range(5):
        file.write({f"star {n}": light_curve(seed=n) for n in range(10)})
    assert file.path.stat().st_size < 1.05 * size
    file.write({"new": light_curve(seed=99)}, remove=[f"star {n}" for n in range(10)])
    assert file.keys() == sorted([*(f"star {n}" for n in range(10, 20)), "new"])
    assert file.path.stat().st_size < 0.65 * size
    for n in range(10, 20):
        assert_same(file.read(f"star {n}"), light_curve(seed=n))
    file.remove(["star 11", "star 12", "nobody"])
    assert len(file.keys()) == 9
    file.remove(["nobody"])
    file.remove(file.keys())
    assert not file.path.exists()
    file.remove(["star 1"])
    assert file.keys() == []


def test_a_source_takes_less_than_10_kilobytes(file: PhotometryFile) -> None:
    n_sources = 50
    file.write({f"star {n}": light_curve(100, n) for n in range(n_sources)})
    assert file.path.stat().st_size / n_sources < 10_000
    alone = PhotometryFile(file.path.with_name("alone.h5"))
    alone.write({"star": light_curve(100)})
    assert alone.path.stat().st_size < 10_000


def test_any_reader_of_hdf5_reads_it(file: PhotometryFile) -> None:
    wanted = light_curve()
    file.write({"J123.1-32.13": wanted})
    with h5py.File(file.path) as plain:
        assert list(plain) == ["J123.1-32.13"]
        table = plain["J123.1-32.13"]
        assert_array_equal(table["mag"], wanted.columns["mag"])
        assert_array_equal(table["flag"], wanted.columns["flag"])
        assert_array_equal(table["filter"].astype("U"), wanted.columns["filter"])
        altdata = json.loads(table.attrs["altdata"])
    assert altdata.pop("_checksum") == checksum(wanted)
    assert altdata == wanted.altdata


@pytest.mark.parametrize(
    ("ra", "degree"), [(0, 0), (123.99, 123), (359.9999, 359), (360.0, 0), (-0.5, 359), (-1e-20, 0)]
)
def test_degrees_of_right_ascension(ra: float, degree: int) -> None:
    assert ra_zone(ra) == degree


# ---------------------------------------------------------------------------------------------------- damage


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, N - 1), name=st.sampled_from(["mjd", "mag", "flag", "filter"]), byte=st.integers(1, 255))
def test_any_change_of_the_data_is_noticed(file: PhotometryFile, row: int, name: str, byte: int) -> None:
    file.write({"a": light_curve(), "b": light_curve(seed=1)})
    with h5py.File(file.path, "r+") as plain:
        table = plain["a"][:]
        raw = table[name][row : row + 1].view(np.uint8).copy()
        raw[0] = raw[0] ^ 1 if name == "flag" else raw[0] ^ byte
        table[name][row] = raw.view(table.dtype[name])[0]
        plain["a"][...] = table
    with pytest.raises(CorruptFileError, match=r"RA123\.h5: 'a' is not what was written"):
        file.read("a")
    found = dict(file.read_many(["a", "b"]))
    assert isinstance(found["a"], CorruptFileError)
    assert_same(found["b"], light_curve(seed=1))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"ra":123.4', '"ra":123.5'),
        lambda text: text.replace('"name":"star 0",', ""),
        lambda text: text[:12] + ("1" if text[14] != "1" else "2") + text[13:],
        lambda text: text[:-5],
        lambda text: text.replace("_checksum", "checksum"),
        lambda text: "{}",
    ],
)
def test_any_change_of_the_facts_is_noticed(file: PhotometryFile, change) -> None:
    file.write({"a": light_curve()})
    with h5py.File(file.path, "r+") as plain:
        text = plain["a"].attrs["altdata"]
        text = text.decode() if isinstance(text, bytes) else text
        assert change(text) != text
        plain["a"].attrs["altdata"] = np.bytes_(change(text))
    with pytest.raises(CorruptFileError, match=r"RA123\.h5: 'a'"):
        file.read("a")


def test_columns_and_facts_make_the_checksum() -> None:
    record = light_curve()
    columns, facts = record.columns, record.altdata
    others = [
        Record(columns, {**facts, "x": 1}),
        Record({**columns, "mag": columns["mag"].astype(np.float32)}, facts),
        Record({name: values for name, values in columns.items() if name != "flag"}, facts),
        Record({("magnitude" if name == "mag" else name): values for name, values in columns.items()}, facts),
        Record({name: values[:-1] for name, values in columns.items()}, facts),
        Record({}, facts),
    ]
    assert len({checksum(other) for other in [record, *others]}) == 7
    assert checksum(Record(dict(columns), dict(reversed(facts.items())))) == checksum(record)


@pytest.mark.parametrize("foreign", ["group", "no checksum"])
def test_what_somebody_else_wrote_is_told(file: PhotometryFile, foreign: str) -> None:
    file.write({"a": light_curve()})
    with h5py.File(file.path, "r+") as plain:
        if foreign == "group":
            plain.create_group("x")
        else:
            plain["x"] = np.zeros(3)
    with pytest.raises(CorruptFileError, match=r"RA123\.h5: 'x' cannot be read"):
        file.read("x")
    assert_same(file.read("a"), light_curve())


def test_half_a_file_is_told_with_its_path_and_set_aside_by_the_next_writer(file: PhotometryFile) -> None:
    file.write({f"star {n}": light_curve(seed=n) for n in range(5)})
    whole = file.path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no HDF5 at all" * 100):
        file.path.write_bytes(content)
        for ask in (lambda: file.read("star 0"), file.keys):
            with pytest.raises(
                CorruptFileError, match=r"RA123\.h5 is no readable HDF5 file .* fetch its sources again"
            ):
                ask()
        assert file.path.read_bytes() == content
        file.write({"new": light_curve()})
        assert file.keys() == ["new"]
        (aside,) = file.path.parent.glob(f"{file.path.name}.damaged_*")
        assert aside.read_bytes() == content
        aside.unlink()


def test_flipped_bits_anywhere_give_the_right_data_or_an_error(file: PhotometryFile) -> None:
    file.write({"a": light_curve(), "b": light_curve(seed=1)})
    whole = bytearray(file.path.read_bytes())
    rng = np.random.default_rng(3)
    n_damaged = 0
    for place in rng.integers(0, len(whole), 150).tolist():
        spoilt = whole.copy()
        spoilt[place] ^= 1 << int(rng.integers(0, 8))
        file.path.write_bytes(spoilt)
        for key, seed in (("a", 0), ("b", 1)):
            try:
                found = file.read(key)
            except ArchiveError:
                n_damaged += 1
            else:
                assert_same(found, light_curve(seed=seed))
    assert n_damaged > 50


# -------------------------------------------------------------------------------------------------- many writers

SERVER = """
import os
import sys
from pathlib import Path

import numpy as np

from surveys.formats.hdf5_light_curves import PhotometryFile, Record


def write(path, told, start, stop):
    log = os.open(told, os.O_WRONLY | os.O_CREAT)
    for n in range(start, stop):
        PhotometryFile(Path(path)).write({f"star {n}": Record({"mag": np.full(2000, float(n))}, {"n": n})})
        os.write(log, b"%d\\n" % n)


for line in sys.stdin:
    path, told, start, stop = line.split()
    if path == "wait":
        print(os.waitstatus_to_exitcode(os.waitpid(int(told), 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        write(path, told, int(start), int(stop))
        os._exit(0)
    print(pid, flush=True)
"""
"""Starts writers as processes of their own, faster than Python starts."""


@dataclass
class Writer:
    """A process that writes keys one by one, and tells in a file of each that it has written."""

    server: subprocess.Popen
    log: Path
    pid: int = 0

    def ask(self, *words: object) -> int:
        print(*words, file=self.server.stdin, flush=True)
        return int(self.server.stdout.readline())

    def told(self) -> list[int]:
        return [int(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def ended(self) -> int:
        return self.ask("wait", self.pid, 0, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=pipe, stdout=pipe, text=True) as made:
        yield made
        made.stdin.close()


def start_writer(server: subprocess.Popen, file: PhotometryFile, start: int, stop: int) -> Writer:
    file.path.parent.mkdir(exist_ok=True)
    made = Writer(server, file.path.parent.with_name(f"told_{start}"))
    made.pid = made.ask(file.path, made.log, start, stop)
    return made


def assert_whole(file: PhotometryFile, numbers: set[int]) -> None:
    assert {f"star {n}" for n in numbers} <= set(file.keys())
    for key, record in file.read_many(file.keys()):
        assert isinstance(record, Record)
        assert_array_equal(record.columns["mag"], np.full(2000, float(key.split()[1])))
        assert record.altdata == {"n": int(key.split()[1])}


def test_threads_and_processes_lose_nothing_of_each_other(file: PhotometryFile, server: subprocess.Popen) -> None:
    writers = [start_writer(server, file, start, start + 10) for start in (100, 200)]

    def write(n: int) -> None:
        file.write({f"star {n}": Record({"mag": np.full(2000, float(n))}, {"n": n})})
        assert file.read(f"star {n}").altdata == {"n": n}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(30)))
    assert [writer.ended() for writer in writers] == [0, 0]
    assert_whole(file, {*range(30), *range(100, 110), *range(200, 210)})
    assert len(file.keys()) == 50
    assert list(file.path.parent.glob(".*.part")) == []


def test_readers_never_see_anything_but_a_whole_file(file: PhotometryFile) -> None:
    """Records of two keys that are written together, and a key that comes and goes."""
    file.write({"a": Record({}, {"n": 0}), "b": Record({}, {"n": 0})})
    stop = time.monotonic() + 0.7
    seen = set()

    def change() -> None:
        n = 0
        while time.monotonic() < stop:
            n += 1
            file.write({"a": Record({}, {"n": n}), "b": Record({}, {"n": n})}, remove=["c"] if n % 2 else [])

    def look() -> None:
        while time.monotonic() < stop:
            found = dict(file.read_many(["a", "b"]))
            assert found["a"].altdata == found["b"].altdata
            seen.add(found["a"].altdata["n"])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(change), *(pool.submit(look) for _ in range(3))]:
            done.result()
    assert len(seen) > 3


def test_a_killed_writer_leaves_a_whole_file(file: PhotometryFile, server: subprocess.Popen) -> None:
    rng = np.random.default_rng(4)
    written: set[int] = set()
    for attempt in range(8):
        start = 1000 * attempt
        writer = start_writer(server, file, start, start + 1000)
        wait_until(lambda writer=writer, n=1 + attempt % 3: len(writer.told()) >= n, 30, "a writer")
        time.sleep(float(rng.uniform(0, 0.05)))
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.ended() == -signal.SIGKILL
        told = writer.told()
        written.update(told)
        assert_whole(file, written)
        # all that it told of, and perhaps the one that it could not tell of any more
        keys = file.keys()
        found = {int(key.split()[1]) for key in keys} - written
        assert found <= {told[-1] + 1}
        written |= found
    file.write({"star 999999": Record({"mag": np.full(2000, 999999.0)}, {"n": 999999})})
    assert_whole(file, written)
    left = [path.name for path in file.path.parent.iterdir()]
    assert sorted(left) == [".ZTF_photometry_RA123.h5.lock", "ZTF_photometry_RA123.h5"]


def test_what_a_killed_writer_left_is_swept_up_by_the_next(file: PhotometryFile) -> None:
    file.write({"a": light_curve()})
    left = file.path.with_name(f".{file.path.name}.0123abcd.part")
    others = file.path.with_name(".ZTF_photometry_RA124.h5.0123abcd.part")
    for path in (left, others):
        path.write_bytes(file.path.read_bytes()[:1000])
    assert_same(file.read("a"), light_curve())
    file.write({"b": light_curve(seed=1)})
    assert not left.exists()
    assert others.exists()
    assert file.keys() == ["a", "b"]


def test_a_writer_that_fails_leaves_the_file_as_it_was(file: PhotometryFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write({"a": light_curve()})
    before = file.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("obsarchive.io.atomic.os.fsync", full)
    with pytest.raises(ArchiveError, match=r"no space left for .*RA123\.h5"):
        file.write({"b": light_curve(seed=1)})
    monkeypatch.undo()
    assert file.path.read_bytes() == before
    file.write({"b": light_curve(seed=1)})
    assert file.keys() == ["a", "b"]
