"""Catalogue files of every format: what was written comes back, to the last digit, or it is said why not."""

import errno
import gzip
import os
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal
from pyarrow import parquet

from obsarchive.core.rules import names_in, select_rows
from obsarchive.errors import ArchiveError, ConfigError, DiskTrouble
from obsarchive.io.catalog_tables import ColumnTable, open_table, write_table
from obsarchive.io.column_units import unit_in_name

DATA = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "catalogs"
real = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no catalogues in {DATA}")]

FORMATS = (".fits", ".csv", ".h5", ".vot", ".parquet")
ID = 4267180339403392769
"""Above 2**53, and odd: as a float it would be another number."""
COLUMNS = {
    "source_id": np.array([ID, 2**62 + 1, -1]),
    "mag": np.array([15.5, np.nan, -np.inf]),
    "err": np.array([0.1, np.nan, 3e38], np.float32),
    "Gmag": np.array([1.0, 2.0, 3.0]),
    "gmag": np.array([4.0, 5.0, 6.0]),
    "n_obs": np.array([-(2**15), 0, 2**15 - 1], np.int16),
    "is_variable": np.array([True, False, True]),
    "name": np.array(["WD 0046+051", "", 'β "Cet", a\nb']),
    "digits": np.array(["007", "4", "NA"]),
    "B-V": np.array([0, 255, 1], np.uint8),
}


def assert_same(table: ColumnTable, columns: dict[str, np.ndarray]) -> None:
    assert table.names == list(columns)
    for name, expected in columns.items():
        found = table.column(name)
        assert found.dtype.isnative
        assert (found.dtype.kind == "U") == (expected.dtype.kind == "U")
        assert_array_equal(found, expected)
        assert len(table) == len(found)


@pytest.mark.parametrize("suffix", [*FORMATS, ".fits.gz", ".csv.gz", ".xml.gz", ".HDF5"])
def test_what_is_written_comes_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"stars{suffix}"
    write_table(path, COLUMNS)
    table = open_table(path)
    assert_same(table, COLUMNS)
    assert table.row(0) == {
        "source_id": ID,
        "mag": 15.5,
        "err": float(np.float32(0.1)),
        "Gmag": 1.0,
        "gmag": 4.0,
        "n_obs": -(2**15),
        "is_variable": True,
        "name": "WD 0046+051",
        "digits": "007",
        "B-V": 0,
    }
    assert [type(value) for value in table.row(0).values()][:3] == [int, float, float]
    assert table.row(-2)["mag"] is None
    assert table.row(1)["name"] is None
    with pytest.raises(IndexError):
        table.row(3)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if not suffix.endswith(".gz"):
        assert path.read_bytes()[:2] != b"\x1f\x8b"


numbers = st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "?", "f4", "f8"])
names = st.text('abcXYZ_0179-+.,;|#"/()[] ', min_size=1, max_size=6).filter(lambda name: name == name.strip())
letters = st.characters(max_codepoint=0xD7FF, exclude_characters="\0")


@st.composite
def tables(draw: st.DrawFn) -> dict[str, np.ndarray]:
    n = draw(st.integers(1, 4))
    texts = st.lists(st.text(letters, max_size=4).map(lambda text: text.rstrip(" ")), min_size=n, max_size=n)
    column = st.one_of(numbers.flatmap(lambda kind: hnp.arrays(kind, n)), texts.map(np.array))
    return draw(st.dictionaries(names, column, min_size=1, max_size=4))


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=30, deadline=None)
@given(columns=tables())
@example(columns={"1": np.array(["", "2"]), "2;3": np.array(["3", "4"])})
@example(columns={"a": np.array([" leading"]), "#b": np.array(["#"])})
@example(columns={"a": np.array([np.nan, 9.5e15])})
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, suffix: str, columns: dict) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    write_table(path, columns)
    assert_same(open_table(path), columns)


@pytest.mark.parametrize("suffix", [".fits", ".csv", ".h5", ".parquet"])
def test_numbers_without_sign_keep_their_digits(tmp_path: Path, suffix: str) -> None:
    columns = {"id": np.array([0, 2**63 + 1, 2**64 - 1], np.uint64)}
    write_table(tmp_path / f"t{suffix}", columns)
    assert_same(open_table(tmp_path / f"t{suffix}"), columns)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_masked_is_missing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    mask = [False, True, False]
    masked = {
        "count": np.ma.array([1, 2, 3], mask=mask),
        "id": np.ma.array([ID, 2, 3], mask=mask),
        "mag": np.ma.array([1.5, 2.5, 3.5], mask=mask),
        "ok": np.ma.array([True, True, False], mask=mask),
        "name": np.ma.array(["a", "b", "c"], mask=mask),
        "whole": np.ma.array([1, 2, 3], mask=False),
        "word": np.array(["x", None, "y"], dtype=object),
    }
    write_table(path, masked)
    table = open_table(path)
    assert_array_equal(table.column("count"), [1, np.nan, 3])
    assert_array_equal(table.column("mag"), [1.5, np.nan, 3.5])
    assert_array_equal(table.column("ok"), [1, np.nan, 0])
    assert_array_equal(table.column("name"), ["a", "", "c"])
    assert_array_equal(table.column("word"), ["x", "", "y"])
    assert_array_equal(table.column("id"), [str(ID), "", "3"])  # as numbers with NaN they would lose digits
    assert table.column("whole").dtype == np.int64
    assert set(table.row(1).items()) >= {(name, None) for name in masked if name != "whole"}


def a_masked_table() -> Table:
    return Table(
        {
            "id": np.ma.array([ID, ID + 2, 3], mask=[False, False, True]),
            "n": np.ma.array([5, 6, 7], mask=[True, False, False]),
            "name": np.array(["a", "b  ", ""]),
        }
    )


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".fits", {}),
        (".vot", {"format": "votable"}),
        (".xml", {"format": "votable", "tabledata_format": "binary2"}),
        (".h5", {"path": "deep/stars", "serialize_meta": True}),
        (".csv", {}),
        (".csv", {"format": "ascii.ecsv", "delimiter": ","}),
        (".txt", {"format": "ascii.tab"}),
    ],
)
def test_tables_of_astropy(tmp_path: Path, suffix: str, options: dict) -> None:
    path = tmp_path / f"t{suffix}"
    a_masked_table().write(path, **options)
    table = open_table(path)
    assert table.names == ["id", "n", "name"]
    assert_array_equal(table.column("id"), [str(ID), str(ID + 2), ""])
    assert_array_equal(table.column("n"), [np.nan, 6, 7])
    assert_array_equal(table.column("name"), ["a", "b", ""])
    assert table.row(0) == {"id": ID, "n": None, "name": "a"}
    assert table.row(2) == {"id": None, "n": 7, "name": None}


def test_fits_columns_are_scaled_and_several_values_in_a_row_left_out(tmp_path: Path) -> None:
    columns = [
        fits.Column("scaled", "I", array=np.array([2, -1])),
        fits.Column("missing", "J", null=-9, array=np.array([-9, 8], np.int32)),
        fits.Column("vector", "3E", array=np.zeros((2, 3))),
        fits.Column("ragged", "PE()", array=np.array([np.zeros(1), np.zeros(2)], dtype=object)),
        fits.Column("flag", "L", array=np.array([True, False])),
        fits.Column("text", "6A", array=np.array([b"caf\xc3\xa9", b" b"])),
    ]
    image, table = fits.ImageHDU(np.zeros((2, 2))), fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(tmp_path / "t.fit")
    fits.setval(tmp_path / "t.fit", "TSCAL1", value=0.5, ext=2)
    fits.setval(tmp_path / "t.fit", "TZERO1", value=10, ext=2)
    found = open_table(tmp_path / "t.fit")
    expected = {
        "scaled": np.array([11.0, 9.5]),
        "missing": np.array([np.nan, 8.0]),
        "flag": np.array([True, False]),
        "text": np.array(["café", " b"]),
    }
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id;mag\n1;2.5\n;3\n", {"id": [1, np.nan], "mag": [2.5, 3.0]}),
        ("a\tb\r\n1\tx\r\n2\t\r\n", {"a": [1, 2], "b": ["x", ""]}),
        ("a|b\n NaN | 7\n--|8\nNA|9\n", {"a": [np.nan] * 3, "b": [7, 8, 9]}),
        ("#%ECSV 1.0\n# a comment\na,b\n1,null\n2,x\n", {"a": [1, 2], "b": ["", "x"]}),
        ("\ufeff,a\n0,NA\n1,DA\n", {"column_1": [0, 1], "a": ["NA", "DA"]}),
        ("a,b\nTrue,1e3\nFalse,inf\n", {"a": [True, False], "b": [1000.0, np.inf]}),
        ('"a","b"\n"1","x"\n"2","y"\n', {"a": [1, 2], "b": ["x", "y"]}),
        ('a,"b, c"\n"1",2\n', {"a": ["1"], "b, c": [2]}),
        (f"id\n{ID}\n{2**63 + 1}\n", {"id": [ID, 2**63 + 1]}),
        (f"id\n{ID}\n\n{ID}.5\n", {"id": [float(ID), float(ID)]}),
        ("a,b\n", {"a": [], "b": []}),
    ],
)
def test_dialects_of_text(tmp_path: Path, text: str, expected: dict) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    table = open_table(tmp_path / "t.csv")
    assert table.names == list(expected)
    for name, values in expected.items():
        assert_array_equal(table.column(name), np.array(values))
    assert len(table) == len(values)


def test_the_last_of_many_lines_tells_that_a_column_is_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 400_000 + "007,bad\n")
    table = open_table(tmp_path / "t.csv")
    assert table.column("a").sum() == 400_007
    assert set(table.column("b").tolist()) == {"2", "bad"}


def test_hdf5_groups_of_datasets(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file["image"] = np.zeros((4, 4))
        file["notes/length"] = np.zeros(3)
        file["notes/other"] = np.zeros(5)
        file["stars/id"] = np.array([ID, 1])
        file["stars/name"] = ["Sirius", "ζ Pup"]
        file["stars/kind"] = np.array([b"DA ", b"O4"])
        file["stars/cutout"] = np.zeros((2, 5, 5))
    expected = {"id": np.array([ID, 1]), "kind": np.array(["DA", "O4"]), "name": np.array(["Sirius", "ζ Pup"])}
    assert_same(open_table(tmp_path / "t.h5"), expected)


def test_hdf5_tables_of_pandas(tmp_path: Path) -> None:
    """As DataFrame.to_hdf(..., format="table") of pandas 3 and PyTables 3 writes them."""
    kinds = [("index", "i8"), ("values_block_0", "f8", (2,)), ("values_block_1", "S3", (1,)), ("id", "i8")]
    rows = np.array([(0, (1.5, 2.5), (b"a",), ID), (1, (np.nan, 3.5), (b"nan",), 7)], kinds)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        group = file.create_group("stars")
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        group["_i_table/index/bounds"] = np.zeros(4)
        group["table"] = rows
        group["table"].attrs["index_kind"] = np.bytes_(b"integer")
        group["table"].attrs["values_block_0_kind"] = np.bytes_(b"(lp0\nVmag\np1\naVra\np2\na.")
        group["table"].attrs["values_block_1_kind"] = np.bytes_(b"(lp0\nVname\np1\na.")
        group["table"].attrs["values_block_1_nan_rep"] = np.bytes_(b"nan")
        group["table"].attrs["id_kind"] = np.bytes_(b"(lp0\nVid\np1\na.")
    expected = {
        "index": np.array([0, 1]),
        "mag": np.array([1.5, np.nan]),
        "ra": np.array([2.5, 3.5]),
        "name": np.array(["a", ""]),
        "id": np.array([ID, 7]),
    }
    assert_same(open_table(tmp_path / "t.h5"), expected)


def test_parquet_of_others(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([ID, None, 3], pa.int64()),
            "kind": pa.array(["DA", None, "DA"]).dictionary_encode(),
            "mag": pa.array([Decimal("1.5"), None, Decimal("2.5")]),
            "night": pa.array([0, None, 1], pa.int32()).cast(pa.date32()),
            "nothing": pa.nulls(3),
            "fluxes": [[1.0], [2.0, 3.0], []],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = open_table(tmp_path / "t.parquet")
    expected = {
        "id": np.array([str(ID), "", "3"]),
        "kind": np.array(["DA", "", "DA"]),
        "mag": np.array([1.5, np.nan, 2.5]),
        "night": np.array(["1970-01-01", "", "1970-01-02"]),
        "nothing": np.full(3, np.nan),
    }
    assert_same(found, expected)
    assert found.row(2) == {"id": 3, "kind": "DA", "mag": 2.5, "night": "1970-01-02", "nothing": None}


def write(path: Path, content: bytes | str | dict) -> None:
    if isinstance(content, dict):
        with h5py.File(path, "w") as file:
            file.attrs["pandas_type"] = np.bytes_(b"frame" if "axis0" in content else b"")
            for name, values in content.items():
                file[name] = values
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.fits", b"no FITS at all", "expected a table"),
        ("t.csv", "", "names of columns, found none"),
        ("t.csv", "1.0,2\n3,4\n", "names of columns, found ['1.0', '2']"),
        ("t.csv", "a,b,a\n1,2,3\n", "columns of different names, found a repeated"),
        ("t.csv", "a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 99, mtime=0)[:-9], "ended before the end"),
        ("t.h5", b"no HDF5 at all", "expected a table"),
        ("t.h5", {"image": np.zeros((3, 3))}, "compound dataset or a group of one-dimensional ones"),
        ("t.h5", {"axis0": [0, 1], "axis1": [0, 1]}, 'write it with to_hdf(..., format="table")'),
        ("t.xml", "<html></html>", "does not appear to be a VOTABLE"),
        ("t.xml", "<VOTABLE/>", "expected a TABLE with FIELDs, found none"),
        ("t.xml", '<VOTABLE version="1.4"><RESOURCE>', "expected a table"),
        ("t.parquet", b"PAR1 but no more", "expected a table"),
        ("t.xls", b"", "expected a table in .fits, .fit, .csv"),
        ("t.parquet.gz", b"", "found .parquet.gz"),
        ("stars", b"", "found none"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, name: str, content: bytes | str | dict, words: str) -> None:
    write(tmp_path / name, content)
    with pytest.raises(ConfigError) as failure:
        open_table(tmp_path / name)
    assert words in str(failure.value)
    assert str(tmp_path / name) in str(failure.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stars\.fits: expected a table, found no such file"):
        open_table(tmp_path / "stars.fits")


def test_images_are_no_tables(tmp_path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((8, 8), np.int16))]).writeto(tmp_path / "i.fits")
    with pytest.raises(ConfigError, match="expected a binary table, found"):
        open_table(tmp_path / "i.fits")


@pytest.mark.parametrize("suffix", [".fits", ".h5", ".vot", ".parquet", ".fits.gz", ".csv.gz", ".vot.gz"])
def test_half_a_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    write_table(path, {"id": np.arange(5000), "name": np.arange(5000).astype("U")})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 - 3])
    with pytest.raises(ConfigError):
        open_table(path).column("name")


def test_a_file_that_vanishes_and_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_table(path, COLUMNS)
    table = open_table(path)
    with pytest.raises(ConfigError, match=r"t\.h5: expected a column 'surce_id', found none; did you mean 'source_id'"):
        table.column("surce_id")
    with pytest.raises(ConfigError, match="there are source_id, mag"):
        table.column("qqq")
    path.unlink()
    with pytest.raises(ConfigError, match=r"t\.h5"):
        table.column("mag")


@pytest.mark.parametrize(
    ("suffix", "columns", "words"),
    [
        (".csv", {}, "one length, found none"),
        (".csv", {"a": np.zeros(2), "b": np.zeros(3)}, "one length, found [2, 3]"),
        (".csv", {"a": np.zeros((2, 2))}, "one dimension, found float64 of shape (2, 2)"),
        (".csv", {"a": np.zeros(2, complex)}, "found complex128"),
        (".csv", {"a": np.array([1, "x"], dtype=object)}, "found object"),
        (".csv", {"a\nb": np.zeros(2)}, "a printable name"),
        (".csv", {" ": np.zeros(2)}, "a printable name"),
        (".csv", {"a": np.array(["x\0y"])}, "NUL"),
        (".fits", {"größe": np.zeros(2)}, "try .parquet"),
        (".fits", {"5'": np.zeros(2)}, "a name with a quote"),
        (".vot", {"a": np.array([2**64 - 1], np.uint64)}, "uint64"),
        (".vot", {"a": np.array(["🔭"])}, "UCS-2"),
        (".tsv", {"a": np.zeros(2)}, "expected a table in .fits"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_was(
    tmp_path: Path, suffix: str, columns: dict, words: str
) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_text("before")
    with pytest.raises(ConfigError) as failure:
        write_table(path, columns)
    assert words in str(failure.value)
    assert str(path) in str(failure.value)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ArchiveError, match="no space left"):
        write_table(tmp_path / "t.csv", COLUMNS)
    assert list(tmp_path.iterdir()) == []


class TestRealCatalogues:
    pytestmark = real

    @pytest.mark.parametrize(("name", "n_rows"), [("gdr3_sm.fits", 1000), ("gdr2_sm_negplx.fits", 8)])
    def test_gaia(self, name: str, n_rows: int) -> None:
        table = open_table(DATA / name)
        assert len(table) == n_rows
        # The archive writes the number also as text: Gaia DR3 4267180339403392768.
        ids = table.column("source_id")
        assert ids.dtype == np.int64
        assert_array_equal(ids.astype("U"), [text.split()[-1] for text in table.column("designation")])
        row = table.row(n_rows - 1)
        assert str(row["source_id"]) == row["designation"].split()[-1]
        assert list(row) == table.names
        assert not {-32768} & set(row.values())

    def test_missing_counts_of_gaia(self) -> None:
        table = open_table(DATA / "gdr3_sm.fits")
        has_velocity = np.isfinite(table.column("radial_velocity"))
        assert 0 < has_velocity.sum() < len(table)
        assert_array_equal(np.isfinite(table.column("rv_nb_transits")), has_velocity)
        assert table.column("astrometric_n_obs_al").dtype == np.int16

    def test_cuts_read_only_their_columns(self) -> None:
        table = open_table(DATA / "gdr3_sm.fits")
        cut = "phot_g_mean_mag < 18 and dec > 0 and not parallax <= 0"
        chosen = select_rows(cut, {name: table.column(name) for name in names_in(cut)})
        for i in range(0, len(table), 50):
            row = table.row(i)
            bright, north = row["phot_g_mean_mag"] < 18, row["dec"] > 0
            assert chosen[i] == (bright and north and not (row["parallax"] is not None and row["parallax"] <= 0))

    def test_white_dwarfs(self) -> None:
        path = DATA / "MontWarWDs.csv.gz"
        table = open_table(path)
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        assert table.names == ["column_1", *lines[0].split(",")[1:]]
        assert len(table) == len(lines) - 1 == 7077
        for name in ("GaiaEDR3", "SDSS12", "spectype"):
            place = table.names.index(name)
            assert_array_equal(table.column(name).astype("U"), [line.split(",")[place] for line in lines[1:]])
        place = table.names.index("Plx")
        assert_array_equal(table.column("Plx"), [float(line.split(",")[place]) for line in lines[1:]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"12a\rb1.0\nb,11.5\n"),  # a line end of another system within a line
        ("a.ecsv", b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, datatype: float64}\n"),  # ends before the names
        ("a.ecsv", b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, datatype\nra\n1\n"),  # cut in its description
        ("a.vot", b'<VOTABLE><RESOURCE><TABLE><FIELD type="x"><DATA/></TABLE></RESOURCE></VOTABLE>'),
        ("a.txt", b"..MPLE  =" + b" " * 9000 + b"T\n1\n"),  # another format: a line without end
    ],
)
def test_whatever_the_libraries_raise_is_a_message_at_once(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    began = time.process_time()
    with suppress(ConfigError):
        open_table(tmp_path / name)
    assert time.process_time() - began < 2.0


def test_a_unit_is_looked_for_at_the_end_of_a_name_however_long_that_is() -> None:
    assert unit_in_name("x" * 500 + "ra_hours") == ("x" * 500 + "ra", "hours")
    assert unit_in_name("ra_hours") == ("ra", "hours")


def test_a_disk_that_does_not_answer_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("name,ra,dec\na,1,2\n")
    monkeypatch.setattr("obsarchive.io.table_readers.unpacked", mock.Mock(side_effect=OSError(errno.EIO, "I/O error")))
    with pytest.raises(DiskTrouble, match=r"stars\.csv cannot be read: I/O error"):
        open_table(path)
