"""Histograms of scores: every epoch is counted once, in the right bin, and histograms add up."""

import errno
import io
import math
import pickle
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.figures.previews import Labels
from surveys.histograms import Axis, Histogram, histogram
from surveys.histograms.plot import COLOURS

SMALL_SCORES = (Axis("snr", -2, 2, 0.5), Axis("dmag", -1.0, 1.0, 0.1, "mag", "difference"))
SMALL_SHARED = (Axis.dynamic("exptime", 30, 1, "s"), Axis("mag", 15, 17, 0.5, "mag"), Axis.text("filter", "band"))
HERE = {"mag": 16.2, "exptime": 30.0, "filter": "r"}


def small() -> Histogram:
    return Histogram(SMALL_SCORES, SMALL_SHARED)


def filled() -> Histogram:
    counted = small()
    counted.add({"snr": [-9, 0.1, np.nan], "dmag": [0.0, 0.1, 5.0]}, HERE, ["a"])
    counted.add({"snr": [1.0, 1.0]}, {"mag": [np.nan, 99], "exptime": [60, 2.5], "filter": ["g", "ü"]}, ["b", "ç d "])
    return counted


def bins(value: float, axis: Axis = histogram.DEFAULT_SCORES[0]) -> list[float]:
    """Lower edges of the bins in which a value was counted."""
    counted = Histogram([axis], [])
    counted.add({axis.name: np.array([value])}, {})
    counts = counted.data[f"{axis.name}_counts"]
    assert counts.sum() == 1
    return counts[axis.name].values[counts.values > 0].tolist()


class TestBins:
    @pytest.mark.parametrize(
        ("value", "edge"),
        [
            (0.0, 0.0),
            (0.3, 0.3),
            (np.float32(0.3), 0.3),
            (np.float32(0.7), 0.7),
            (-20 + 203 * 0.1, 0.3),
            (0.29999, 0.2),
            (0.3999, 0.3),
            (-0.05, -0.1),
            (-20.0, -20.0),
            (19.95, 19.9),
            (-20.001, -math.inf),
            (-math.inf, -math.inf),
            (-1e308, -math.inf),
            (20.0, 20.0),
            (1e308, 20.0),
            (math.inf, 20.0),
        ],
    )
    def test_known_values(self, value: float, edge: float) -> None:
        assert bins(value) == [edge]

    def test_what_is_no_number_is_counted_last(self) -> None:
        (edge,) = bins(math.nan)
        assert math.isnan(edge)

    @pytest.mark.parametrize("axis", [*histogram.DEFAULT_SCORES, histogram.DEFAULT_SHARED[0]], ids=lambda a: a.name)
    def test_every_edge_is_in_the_bin_it_begins(self, axis: Axis) -> None:
        n = axis.n_bins - 3
        exact = [float(Decimal(str(axis.low)) + k * Decimal(str(axis.step))) for k in range(n + 1)]
        assert axis.edges[1:-1].tolist() == exact
        assert axis.bins(np.array(exact)).tolist() == list(range(1, n + 2))
        assert axis.bins(np.array(exact, np.float32).astype(np.float64)).tolist() == list(range(1, n + 2))
        assert axis.bins(np.array(exact) + 0.5 * axis.step).tolist() == list(range(1, n + 2))
        assert axis.bins(np.array(exact) - 1e-3 * axis.step).tolist() == list(range(n + 1))

    def test_dynamic_axis_has_the_bins_that_occur(self) -> None:
        counted = Histogram([Axis("snr", 0, 1, 1)], [Axis.dynamic("exptime", 30, 0.1)])
        times = [30, 29.95, 30.3, 30.35, 3000.0, -5.0, math.inf, -math.inf, math.nan, 1e300]
        counted.add({"snr": np.full(10, 0.5)}, {"exptime": times})
        found = counted.project("snr", ["exptime"])
        expected = [-math.inf, -5.0, 29.9, 30.0, 30.3, 3000.0, 1e300, math.inf, math.nan]
        np.testing.assert_allclose(found["exptime"], expected, rtol=1e-15)
        assert found.sel(exptime=30.3) == 2
        assert found.sum() == 10

    def test_text_axis_has_a_bin_for_each_text(self) -> None:
        counted = Histogram([Axis("snr", 0, 1, 1)], [Axis.text("filter")])
        counted.add({"snr": [0.5] * 4}, {"filter": np.array(["r", "g", "r", ""])})
        counted.add({"snr": [0.5] * 2}, {"filter": "i"})
        counted.add({"snr": [0.5] * 3}, {"filter": np.array([None, math.nan, "sdss i"], object)})
        counted.add({"snr": [0.5]}, {"filter": np.array([b"r"])})
        counted.add({"snr": [0.5]}, {"filter": np.ma.array(["r"], mask=[True])})
        found = counted.project("snr", ["filter"])
        expected = {"": 4, "g": 1, "i": 2, "r": 3, "sdss i": 1}
        assert dict(zip(found["filter"].values.tolist(), found.values.tolist(), strict=True)) == expected


class TestAdd:
    def test_counts_are_where_they_belong(self) -> None:
        data = filled().data
        assert data.snr_counts.dims == ("exptime", "mag", "filter", "snr")
        assert data.exptime.values.tolist() == [2.0, 30.0, 60.0]
        assert data["filter"].values.tolist() == ["g", "r", "ü"]
        here = data.sel(exptime=30, mag=16.0, filter="r")
        assert here.snr_counts.values.tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
        assert here.dmag_counts.sel(dmag=[0.0, 0.1, 1.0]).values.tolist() == [1, 1, 1]
        assert data.snr_counts.isel(mag=-1).sel(exptime=60, filter="g", snr=1.0) == 1
        assert data.snr_counts.sel(mag=17.0, exptime=2, filter="ü", snr=1.0) == 1
        assert (data.snr_counts.sum(), data.dmag_counts.sum()) == (5, 3)
        assert data.snr_counts.dtype == np.uint32

    def test_defaults(self) -> None:
        counted = Histogram()
        for name, filters in (("a", "r"), ("b", ["r", "g", "g"])):
            scores = {name: np.array([0.1, 99, np.nan]) for name in ("snr", "dmag", "offset")}
            counted.add(scores, {"mag": 18.0, "exptime": 30, "filter": filters}, [name])
        assert counted.data.sizes == {"mag": 15, "exptime": 1, "filter": 2, "snr": 403, "dmag": 63, "offset": 103}
        assert {name: int(counts.sum()) for name, counts in counted.data.items()} == dict.fromkeys(
            ("snr_counts", "dmag_counts", "offset_counts"), 6
        )

    def test_nothing_is_nothing(self) -> None:
        counted = small()
        counted.add({"snr": [], "dmag": []}, {"mag": [], "exptime": [], "filter": []})
        counted.add({}, {})
        counted.add({"snr": np.array([])}, HERE)
        assert counted == small()
        assert counted.data.snr_counts.shape == (0, 7, 0, 11)
        assert counted.data.snr_counts.sum() == 0

    def test_arrays_may_change_afterwards(self) -> None:
        counted, snr = small(), np.array([0.1, 0.2])
        counted.add({"snr": snr}, HERE)
        snr[:] = 99
        assert counted.project("snr", ["snr"]).sel(snr=0.0) == 2

    def test_masked_values_are_no_numbers(self) -> None:
        counted = small()
        counted.add({"snr": np.ma.array([1, 0], mask=[False, True])}, HERE)
        assert counted.project("snr", ["snr"]).values[[-1, -4]].tolist() == [1, 1]

    def test_sources(self) -> None:
        counted = filled()
        assert counted.sources == {"a", "b", "ç d "}
        assert counted.has("a")
        assert not counted.has("c")
        counted.add({}, {}, "one name")
        assert "one name" in counted.sources
        assert "o" not in counted.sources

    @pytest.mark.parametrize(
        ("scores", "shared", "error", "text"),
        [
            ({"sn": [1]}, HERE, ConfigError, "expected snr, dmag .* found sn"),
            ({"snr": [1]}, {"mag": 3}, ConfigError, "exptime, filter, mag, found snr against mag"),
            ({"snr": [1]}, HERE | {"airmass": 1}, ConfigError, "airmass"),
            ({"snr": [1, 2], "dmag": [1]}, HERE, ArchiveError, r"\(2,\) for dmag, found \(1,\)"),
            ({"snr": [1, 2]}, HERE | {"mag": [1, 2, 3]}, ArchiveError, r"\(2,\) for mag, found \(3,\)"),
            ({"snr": [1, 2]}, HERE | {"filter": ["r"]}, ArchiveError, r"\(2,\) for filter, found \(1,\)"),
            ({"snr": [[1, 2]]}, HERE, ArchiveError, "for snr"),
            ({"snr": ["bright"]}, HERE, ArchiveError, "expected numbers for snr, found .*bright"),
            ({"snr": [1]}, HERE | {"filter": 3}, ArchiveError, "as filter, found 3"),
            ({"snr": [1]}, HERE | {"filter": "r\0"}, ArchiveError, "NUL"),
        ],
    )
    def test_what_is_wrong_is_not_counted(self, scores: dict, shared: dict, error: type, text: str) -> None:
        counted = filled()
        with pytest.raises(error, match=text):
            counted.add(scores, shared, ["new"])
        assert counted == filled()

    @pytest.mark.parametrize("name", ["a\0", "\ud800", 7])
    def test_sources_have_names(self, name: object) -> None:
        with pytest.raises(ArchiveError, match="name of a source"):
            small().add({}, {}, [name])

    def test_counts_beyond_32_bits(self) -> None:
        counted = small()
        counted.add({"snr": np.zeros(1)}, HERE)
        for _ in range(33):
            counted += counted
        assert counted.data.snr_counts.dtype == np.uint64
        assert counted.data.snr_counts.max() == 2**33
        assert counted.data.dmag_counts.dtype == np.uint32


class TestAxes:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: Axis("snr", 0, 1, 0.3),
            lambda: Axis("snr", 1, 0, 0.5),
            lambda: Axis("snr", 0, 0, 0.5),
            lambda: Axis("snr", 0, 1, -0.5),
            lambda: Axis("snr", math.nan, 1, 0.5),
            lambda: Axis("snr", 0, math.inf, 0.5),
            lambda: Axis("snr", 0, 1, "1e-1"),
            lambda: Axis("", 0, 1, 1),
            lambda: Axis("source", 0, 1, 1),
            lambda: Axis("snr", kind="sparse"),
            lambda: Axis.dynamic("exptime", math.inf, 1),
            lambda: Axis.dynamic("exptime", 0, 0),
            lambda: Histogram([]),
            lambda: Histogram([Axis("mag", 0, 1, 1)]),
            lambda: Histogram([Axis("a", 0, 1, 1)], [Axis.text("a_counts")]),
            lambda: Histogram([Axis.text("filter")], []),
            lambda: Histogram([Axis("a", 0, 1, 1e-7)], [Axis("b", 0, 1, 1e-7)]),
        ],
    )
    def test_wrong_axes(self, make: object) -> None:
        with pytest.raises(ConfigError, match="expected"):
            make()

    def test_too_large_for_one_array(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(histogram, "MOST_CELLS", 100)
        with pytest.raises(ArchiveError, match=r"snr: expected at most 100 bins, found 3 x 7 x 3 x 11"):
            _ = filled().data
        assert filled().project("snr", ["snr", "mag"]).sum() == 5


def any_number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.one_of(st.floats(low, high), st.floats(), st.sampled_from([low, high, math.nan, math.inf, -math.inf]))


EPOCHS = st.lists(
    st.tuples(
        any_number(-3, 3),
        any_number(-2, 2),
        any_number(14, 18),
        any_number(0, 100),
        st.one_of(st.sampled_from("gri"), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)),
        st.sampled_from([("snr",), ("dmag",), ("snr", "dmag")]),
    ),
    max_size=12,
)


def add_epochs(counted: Histogram, epochs: list[tuple]) -> Histogram:
    for chosen in {epoch[-1] for epoch in epochs}:
        snr, dmag, mag, exptime, texts, _ = zip(*(epoch for epoch in epochs if epoch[-1] == chosen), strict=True)
        values = {"snr": np.array(snr), "dmag": np.array(dmag)}
        shared = {"mag": np.array(mag), "exptime": np.array(exptime), "filter": np.array(texts, object)}
        counted.add({name: values[name] for name in chosen}, shared)
    return counted


class TestProperties:
    @settings(max_examples=30)
    @given(EPOCHS)
    def test_nothing_is_lost(self, epochs: list[tuple]) -> None:
        counted = add_epochs(small(), epochs)
        for name in ("snr", "dmag"):
            n = sum(name in epoch[-1] for epoch in epochs)
            assert counted.data[f"{name}_counts"].sum() == n
            assert all(counted.project(name, [axis]).sum() == n for axis in ("mag", "exptime", "filter", name))
            assert counted.project(name, []) == n

    @settings(max_examples=20)
    @given(st.lists(st.tuples(EPOCHS, st.integers(0, 2)), max_size=4), st.randoms())
    def test_any_split_and_order_give_the_same(self, parts: list[tuple], random: object) -> None:
        at_once = small()
        split = [small(), small(), small()]
        for epochs, which in parts:
            add_epochs(at_once, epochs)
            add_epochs(split[which], random.sample(epochs, len(epochs)))
        random.shuffle(split)
        a, b, c = split
        totals = [a + b + c, a + (b + c), c + b + a, sum(split)]
        for total in totals:
            assert total == at_once
            xarray.testing.assert_identical(total.data, at_once.data)
        before = pickle.loads(pickle.dumps(a))  # noqa: S301 - as sent between processes
        a += b
        assert a == before + b

    @settings(max_examples=6)
    @given(EPOCHS, st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4), max_size=4))
    def test_a_file_gives_back_what_was_saved(
        self, tmp_path_factory: pytest.TempPathFactory, epochs: list[tuple], sources: set[str]
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "histogram.nc"
        counted = add_epochs(small(), epochs)
        counted.add({}, {}, sources)
        counted.save(path)
        loaded = Histogram.load(path)
        assert loaded == counted
        xarray.testing.assert_identical(loaded.data, counted.data)


class TestSum:
    def test_axes_that_grow_are_united(self) -> None:
        one, other = small(), small()
        one.add({"snr": [0.0]}, HERE, ["a"])
        other.add({"snr": [0.0, 0.0]}, HERE | {"exptime": [10, 90], "filter": "g"}, ["b"])
        total = one + other
        assert total.data.exptime.values.tolist() == [10, 30, 90]
        assert total.data["filter"].values.tolist() == ["g", "r"]
        assert total.project("snr", ["filter", "exptime"]).values.tolist() == [[1, 0, 1], [0, 1, 0]]
        assert total.sources == {"a", "b"}
        assert one.sources == {"a"}
        assert one.data.exptime.values.tolist() == [30]

    def test_the_sum_is_a_copy(self) -> None:
        one = filled()
        total = sum([one])
        total.add({"snr": [0]}, HERE, ["new"])
        assert one == filled()

    @pytest.mark.parametrize(
        ("scores", "shared", "name"),
        [
            ((Axis("snr", -2, 2, 0.25), SMALL_SCORES[1]), SMALL_SHARED, "snr"),
            (SMALL_SCORES[:1], SMALL_SHARED, "dmag"),
            (SMALL_SCORES, (Axis.dynamic("exptime", 30, 2, "s"), *SMALL_SHARED[1:]), "exptime"),
            (SMALL_SCORES, (SMALL_SHARED[0], Axis("mag", 15, 17.5, 0.5, "mag"), SMALL_SHARED[2]), "mag"),
            (SMALL_SCORES, (*SMALL_SHARED, Axis.text("field")), "field"),
        ],
    )
    def test_other_axes_are_refused(self, scores: tuple, shared: tuple, name: str) -> None:
        counted = filled()
        with pytest.raises(ConfigError, match=f"axis {name}: "):
            counted += Histogram(scores, shared)
        assert counted == filled()
        assert counted != Histogram(scores, shared)

    def test_common_sources_are_refused(self) -> None:
        counted, other = filled(), small()
        other.add({"snr": [0]}, HERE, ["b", "new"])
        with pytest.raises(ArchiveError, match=r"found 1 that are in both: b$"):
            counted += other
        assert counted == filled()
        with pytest.raises(ArchiveError, match="found 3"):
            counted += counted

    def test_equal_is_equal_content(self) -> None:
        assert filled() == filled()
        assert filled() != small()
        for scores, sources in (({"snr": [0]}, ()), ({"dmag": [0]}, ()), ({}, ["new"])):
            other = filled()
            other.add(scores, HERE, sources)
            assert other != filled()
        assert filled() != "something else"

    def test_only_histograms_are_added(self) -> None:
        for wrong in (1, "a", None):
            with pytest.raises(TypeError):
                _ = filled() + wrong
            with pytest.raises(TypeError):
                _ = wrong + filled()
            with pytest.raises(TypeError):
                counted = filled()
                counted += wrong

    def test_the_buffer_does_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = sum_of_many()
        monkeypatch.setattr(histogram, "MOST_PENDING", 7)
        assert sum_of_many() == expected
        assert expected.data.snr_counts.sum() == 60


def sum_of_many() -> Histogram:
    counted, rng = small(), np.random.default_rng(3)
    for i in range(20):
        counted.add({"snr": rng.normal(size=3)}, HERE | {"exptime": float(i % 7), "filter": "gri"[i % 3]})
    return counted


class TestProjection:
    def test_it_sums_over_the_others(self) -> None:
        counted = sum_of_many()
        for onto in (["snr"], ["filter", "snr"], ["snr", "exptime", "mag"], ["exptime", "mag", "filter", "snr"]):
            whole = counted.data.snr_counts
            expected = whole.sum([name for name in whole.dims if name not in onto]).transpose(*onto)
            xarray.testing.assert_equal(counted.project("snr", onto), expected)

    @pytest.mark.parametrize(
        ("score", "onto"), [("mag", ["mag"]), ("snr", ["dmag"]), ("snr", ["airmass"]), ("snr", ["mag", "mag"])]
    )
    def test_unknown_axes(self, score: str, onto: list[str]) -> None:
        with pytest.raises(ConfigError, match="expected one of snr, dmag over some of"):
            filled().project(score, onto)


class TestFile:
    def test_others_understand_it(self, tmp_path: Path) -> None:
        filled().save(tmp_path / "new" / "histogram.nc")
        with xarray.open_dataset(tmp_path / "new" / "histogram.nc", engine="h5netcdf") as data:
            assert data.snr_counts.dims == ("exptime", "mag", "filter", "snr")
            assert data.snr_counts.sel(exptime=30, mag=16.0, filter="r", snr=0.0) == 1
            assert math.isnan(data.snr[-1])
            assert data.dmag.attrs["units"] == data.mag.attrs["units"] == "mag"
            assert data.dmag.attrs["long_name"] == "difference"
            assert data["filter"].attrs["long_name"] == "band"
            assert data.snr_counts.attrs["long_name"] == "number of epochs by snr"
            assert sorted(data.source_name.values.tolist()) == ["a", "b", "ç d "]

    def test_defaults_and_empty_ones(self, tmp_path: Path) -> None:
        for counted in (Histogram(), small(), Histogram(SMALL_SCORES, [])):
            counted.save(tmp_path / "histogram.nc")
            loaded = Histogram.load(tmp_path / "histogram.nc")
            assert loaded == counted
            assert [axis.help or axis.name for axis in counted.shared] == [axis.help for axis in loaded.shared]
            assert (loaded + counted).data.sizes == counted.data.sizes

    def test_it_goes_on_after_loading(self, tmp_path: Path) -> None:
        filled().save(tmp_path / "histogram.nc")
        loaded, expected = Histogram.load(tmp_path / "histogram.nc"), filled()
        for counted in (loaded, expected):
            counted.add({"snr": [0.1, 7]}, HERE | {"exptime": [60, 5], "filter": ["ü", "z"]}, ["c"])
        assert loaded == expected

    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "stopped"])
    def test_the_old_file_stays_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        path = tmp_path / "histogram.nc"
        filled().save(path)
        write_bytes = Path.write_bytes

        def half(file: Path, data: memoryview) -> None:
            write_bytes(file, data[: len(data) // 2])
            raise error

        monkeypatch.setattr(Path, "write_bytes", half)
        with pytest.raises((ArchiveError, KeyboardInterrupt)):
            small().save(path)
        assert Histogram.load(path) == filled()
        assert list(tmp_path.iterdir()) == [path]

    def test_broken_and_foreign_files(self, tmp_path: Path) -> None:
        path = tmp_path / "histogram.nc"
        filled().save(path)
        whole = path.read_bytes()
        for wrong in (b"", b"text", whole[: len(whole) // 2], whole[:-100], b"\0" * 512 + whole[512:]):
            path.write_bytes(wrong)
            with pytest.raises(ArchiveError, match=re.escape(str(path))):
                Histogram.load(path)
        with pytest.raises(ArchiveError, match=r"none\.nc"):
            Histogram.load(tmp_path / "none.nc")

    def test_other_contents(self, tmp_path: Path) -> None:
        path = tmp_path / "histogram.nc"
        filled().save(path)
        data = xarray.load_dataset(path, engine="h5netcdf")
        foreign = [
            xarray.Dataset(),
            xarray.Dataset({"flux": ("time", [1.0, 2.0])}),
            data.drop_vars("source_name"),
            data.drop_vars("snr"),
            data.isel(snr=slice(3)),
            data.assign(snr_counts=data.snr_counts.astype(float)),
            data.assign(snr_counts=data.snr_counts.transpose()),
            data.assign_coords(mag=data.mag.assign_attrs(step=0.7)),
            data.assign_coords(mag=data.mag.assign_attrs(bins="other")),
        ]
        for wrong in foreign:
            path.write_bytes(wrong.to_netcdf(engine="h5netcdf"))
            with pytest.raises(ArchiveError, match=r"histogram\.nc: expected a histogram"):
                Histogram.load(path)

    def test_changed_bytes_are_seen_or_do_no_harm(self, tmp_path: Path) -> None:
        path = tmp_path / "histogram.nc"
        filled().save(path)
        whole = path.read_bytes()
        for place in np.random.default_rng(1).integers(0, len(whole), 10):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            try:
                loaded = Histogram.load(path)
            except ArchiveError:
                continue
            assert loaded.project("snr", []) == 5


class TestPlot:
    @pytest.mark.parametrize(("score", "against"), [("snr", "mag"), ("dmag", "exptime"), ("dmag", "filter")])
    def test_pictures(self, score: str, against: str) -> None:
        counted = filled()
        counted.add({"dmag": [0.0]}, HERE | {"filter": "$odd{"})
        picture = Image.open(io.BytesIO(counted.plot(score, against, Labels("Survey"))))
        assert (picture.format, picture.size) == ("PNG", (1350, 900))

    def test_more_epochs_are_darker(self) -> None:
        counted = Histogram([Axis("snr", 0, 4, 1)], [Axis("mag", 0, 4, 1)])
        counted.add({"snr": np.full(1000, 2.5)}, {"mag": 1.5})
        counted.add({"snr": np.full(10, -9.0)}, {"mag": 9.0})
        pixels = np.asarray(Image.open(io.BytesIO(counted.plot())).convert("RGB")).astype(int)[:, :1220]
        for share, (low_x, high_x), (low_y, high_y) in (
            (1.0, (380, 670), (230, 450)),  # the second column and the third row of four
            (1 / 3, (1160, 1220), (780, 840)),  # in the corner of all that is beyond, on a scale from 1 to 1000
        ):
            colour = np.array(COLOURS(share)[:3]) * 255
            y, x = np.nonzero(np.abs(pixels - colour).max(axis=-1) < 3)
            assert low_x < x.min() < x.max() < high_x
            assert low_y < y.min() < y.max() < high_y
            assert len(x) > 500

    def test_an_empty_one(self) -> None:
        assert small().plot("dmag", "filter").startswith(b"\x89PNG")

    def test_unknown_axes(self) -> None:
        with pytest.raises(ConfigError, match="airmass"):
            filled().plot(against="airmass")
        with pytest.raises(ConfigError, match="snr over snr, snr"):
            filled().plot(against="snr")
