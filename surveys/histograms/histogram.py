"""Additive histograms of the scores of light curves: numbers of epochs, with underflow, overflow and NaN."""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.io.atomic import atomic_write
from surveys.display import card, line
from surveys.histograms.axes import DEFAULT_SCORES, DEFAULT_SHARED, MOST_BINS, Axis

if TYPE_CHECKING:
    import xarray

    from obsarchive.figures.previews import Labels

Codes = NDArray[np.int64]
Label = str | float | None
"""Lower edge of a bin of a dynamic axis, or its text; None for NaN, which does not equal itself."""

MOST_PENDING, MOST_CELLS = 2**17, 2**30
"""Largest numbers of epochs in the buffer, and of counts in a dense array (4 GiB)."""


class Histogram:
    """Counts of epochs by score, for each score against axes that all scores share.

    Histograms of different sources are added with ``+``, ``+=`` and ``sum``. Only bins that are not empty are stored,
    and new epochs wait in a buffer until counts are read.

    Parameters
    ----------
    scores, shared : sequence of Axis, optional
        An axis for each score, which must be fixed, and those against which all of them are counted.

    Raises
    ------
    ConfigError
        Two axes have one name, an axis of a score is not fixed, or there are too many bins.
    """

    def __init__(self, scores: Sequence[Axis] = DEFAULT_SCORES, shared: Sequence[Axis] = DEFAULT_SHARED) -> None:
        self.scores, self.shared = tuple(scores), tuple(shared)
        names = [axis.name for axis in (*scores, *shared)]
        if not scores or len({*names, *(f"{axis.name}_counts" for axis in scores)}) < len(names) + len(scores):
            raise ConfigError(f"expected scores and other axes with different names, found {', '.join(names)}")
        for axis in scores:
            if axis.kind != "fixed":
                raise ConfigError(f"expected a fixed axis for the score {axis.name}, found a {axis.kind} one")
        self._fixed = [axis for axis in shared if axis.kind == "fixed"]
        self._grown = [axis for axis in shared if axis.kind != "fixed"]
        self._size = {axis.name: math.prod(a.n_bins for a in (*self._fixed, axis)) for axis in scores}
        if max(self._size.values()) > MOST_BINS:
            raise ConfigError(f"expected at most {MOST_BINS} bins, found {max(self._size.values())}: use larger steps")
        self._groups: dict[tuple[Label, ...], int] = {}
        self._counts = {axis.name: (np.empty(0, np.int64), np.empty(0, np.uint64)) for axis in scores}
        self._texts: dict[str, int] = {}
        self._pending: list[tuple[NDArray[np.float64], list[bool]]] = []
        self._n_pending = 0
        self._sources: set[str] = set()

    def _facts(self) -> dict[str, Any]:
        scores = {axis.name: f"{sum(map(int, self._folded_counts(axis.name)))} epochs" for axis in self.scores}
        return {**scores, "against": [axis.name for axis in self.shared], "sources": len(self._sources)}

    def _folded_counts(self, score: str) -> NDArray[np.uint64]:
        self._fold()
        return self._counts[score][1]

    __repr__ = line
    _repr_html_ = card

    @property
    def sources(self) -> AbstractSet[str]:
        """Names of the sources that were counted."""
        return self._sources

    def has(self, name: str) -> bool:
        """Return whether a source was counted."""
        return name in self._sources

    def add(self, scores: Mapping[str, Any], shared: Mapping[str, Any], sources: Iterable[str] = ()) -> None:
        """Count the epochs of a light curve; nothing is counted if any argument is wrong.

        Parameters
        ----------
        scores : mapping of ndarray (n,)
            Values by the name of the score; some may be missing. Masked values count as NaN.
        shared : mapping of ndarray (n,), float or str
            A value for each epoch or one for all, for each of the shared axes; None and NaN count as empty text.
        sources : iterable of str
            Sources of these epochs; the caller must add each only once, see `has`.

        Raises
        ------
        ConfigError
            An axis is missing or unknown.
        ArchiveError
            Arrays of different lengths, or values that are no numbers or texts.
        """
        names = {
            _storable(name, "the name of a source") for name in ([sources] if isinstance(sources, str) else sources)
        }
        if scores:
            known, expected = self._counts.keys(), {axis.name for axis in self.shared}
            if not known >= scores.keys() or shared.keys() != expected:
                found = f"{', '.join(scores)} against {', '.join(shared)}"
                raise ConfigError(f"expected {', '.join(known)} against {', '.join(sorted(expected))}, found {found}")
            n = np.size(next(iter(scores.values())))
            block = np.full((len(self.scores) + len(self.shared), n), np.nan)
            for row, axis in zip(block, self.scores, strict=False):
                if axis.name in scores:
                    row[:] = _numbers(axis, scores[axis.name], [(n,)])
            for row, axis in zip(block[len(self.scores) :], self.shared, strict=True):
                numbers = self._text_codes if axis.kind == "text" else _numbers
                row[:] = numbers(axis, shared[axis.name], [(n,), ()])
            self._pending += [(block, [axis.name in scores for axis in self.scores])] if n else []
            self._n_pending += n
        self._sources |= names
        if self._n_pending > MOST_PENDING:
            self._fold()

    def _text_codes(self, axis: Axis, values: Any, shapes: Sequence[tuple[int, ...]]) -> list[int]:
        if isinstance(values, str):
            return [self._text_code(axis, values)]
        texts = np.asanyarray(values)  # tolist() of a masked array has None
        _check_shape(axis, texts.shape, shapes)
        return [self._text_code(axis, text) for text in (texts.tolist() if texts.shape else [texts.item()])]

    def _text_code(self, axis: Axis, value: Any) -> int:
        code = self._texts.get(value)
        if code is None:
            text = value.decode(errors="replace") if isinstance(value, bytes) else "" if pandas.isna(value) else value
            code = self._texts.setdefault(_storable(text, axis.name), len(self._texts))
        return code

    def _fold(self) -> None:
        """Count the epochs of the buffer."""
        if not self._pending:
            return
        rows = np.concatenate([block for block, _ in self._pending], axis=1)
        lengths = [block.shape[1] for block, _ in self._pending]
        present = np.repeat(np.array([are for _, are in self._pending]), lengths, axis=0)
        of_axis = dict(zip((axis.name for axis in (*self.scores, *self.shared)), rows, strict=True))
        codes = self._group_codes([self._labelled(axis, of_axis[axis.name]) for axis in self._grown], rows.shape[1])
        for axis in self._fixed:
            codes = codes * axis.n_bins + axis.bins(of_axis[axis.name])
        counts = {}
        for axis, chosen in zip(self.scores, present.T, strict=True):
            counted = codes[chosen] * axis.n_bins + axis.bins(of_axis[axis.name][chosen])
            counts[axis.name] = self._with(axis.name, *np.unique(counted, return_counts=True))
        self._counts, self._pending, self._n_pending = (
            counts,
            [],
            0,
        )  # at once, so that an exception above changes nothing

    def _labelled(self, axis: Axis, row: NDArray[np.float64]) -> tuple[list[Label], Codes]:
        """Return the labels of the bins that occur in a row, and the index of the label of each value."""
        found, index = np.unique(row if axis.kind == "text" else axis.steps(row), return_inverse=True)
        if axis.kind == "text":
            texts = list(self._texts)
            return [texts[int(code)] for code in found], index
        return [None if math.isnan(k) else axis.edge(k) for k in found.tolist()], index

    def _group_codes(self, columns: Sequence[tuple[Sequence[Label], Codes]], n: int) -> Codes:
        """Return the numbers (n,) of groups: combinations of bins of the dynamic axes."""
        combined = np.zeros(n, np.int64)
        keys: list[tuple[Label, ...]] = [()]
        for labels, index in columns:
            found, combined = np.unique(combined * len(labels) + index, return_inverse=True)
            keys = [(*keys[code // len(labels)], labels[code % len(labels)]) for code in found.tolist()]
        return self._numbered(keys)[combined]

    def _numbered(self, keys: Iterable[tuple[Label, ...]]) -> Codes:
        return np.array([self._groups.setdefault(key, len(self._groups)) for key in keys], np.int64)

    def _with(self, name: str, codes: Codes, counts: NDArray[Any]) -> tuple[Codes, NDArray[np.uint64]]:
        """Return the counts of a score with others added."""
        mine, my_counts = self._counts[name]
        return _summed(np.concatenate([mine, codes]), np.concatenate([my_counts, counts.astype(np.uint64)]))

    def _of_other(self, other: "Histogram", name: str) -> tuple[Codes, NDArray[np.uint64]]:
        """Return the counts of another histogram with the group numbers of this one."""
        codes, counts = other._counts[name]
        group, rest = np.divmod(codes, self._size[name])
        return _summed(self._numbered(other._groups)[group] * self._size[name] + rest, counts)

    def __iadd__(self, other: "Histogram") -> "Histogram":
        if not isinstance(other, Histogram):
            return NotImplemented
        for ours in ((self.scores, other.scores), (self.shared, other.shared)):
            for mine, theirs in zip_longest(*ours):
                if mine != theirs:
                    name, found = (mine or theirs).name, f"{mine} and {theirs}"
                    raise ConfigError(f"axis {name}: expected the same one in both histograms, found {found}")
        twice = self._sources & other._sources
        if twice:
            few = ", ".join(sorted(twice)[:5]) + (", ..." if len(twice) > 5 else "")
            raise ArchiveError(f"expected histograms of different sources, found {len(twice)} that are in both: {few}")
        self._fold()
        other._fold()
        self._counts = {name: self._with(name, *self._of_other(other, name)) for name in self._counts}
        self._sources |= other._sources
        return self

    def __add__(self, other: "Histogram") -> "Histogram":
        if not isinstance(other, Histogram):
            return NotImplemented
        total = Histogram(self.scores, self.shared)
        total += self
        total += other
        return total

    def __radd__(self, other: int) -> "Histogram":
        is_start = isinstance(other, int) and other == 0  # sum() starts with 0
        return self + Histogram(self.scores, self.shared) if is_start else NotImplemented

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        self._fold()
        other._fold()
        mine, theirs = ((h.scores, h.shared, h._sources, h._groups.keys()) for h in (self, other))
        return mine == theirs and all(
            np.array_equal(a, b)
            for name in self._counts
            for a, b in zip(self._counts[name], self._of_other(other, name), strict=True)
        )

    @property
    def data(self) -> "xarray.Dataset":
        """All counts, for each score an array ``<score>_counts`` over the shared axes and the score.

        Coordinates are the lower edges of the bins: on a fixed axis -inf (underflow), from its low end to its high one
        (overflow), and NaN; a dynamic axis has the bins that are not empty, in order. Counts have 32 bits, or 64
        if one needs them.

        Raises
        ------
        ArchiveError
            An array would have more than `MOST_CELLS` numbers.
        """
        import xarray  # late, as in the whole class: counting does not need it

        others = [axis.name for axis in self.shared]
        arrays = {f"{axis.name}_counts": self.project(axis.name, [*others, axis.name]) for axis in self.scores}
        return xarray.Dataset(arrays, attrs={"title": "histograms of the scores of light curves"})

    def project(self, score: str, onto: Sequence[str]) -> "xarray.DataArray":
        """Return the counts of a score over some of its axes, summed over the others.

        Parameters
        ----------
        score : str
            Name of the score.
        onto : sequence of str
            Names of the axes, in the order of the dimensions; coordinates as of `data`.

        Returns
        -------
        DataArray
            Counts; its dimensions are `onto`.

        Raises
        ------
        ConfigError
            The score or an axis is unknown, or an axis is given twice.
        ArchiveError
            The array would have more than `MOST_CELLS` numbers.
        """
        import xarray

        axes = {axis.name: axis for axis in (*self.shared, *(axis for axis in self.scores if axis.name == score))}
        if score not in self._counts or len(set(onto) & axes.keys()) < len(onto):
            found = f"{score} over {', '.join(onto)}"
            raise ConfigError(
                f"expected one of {', '.join(self._counts)} over some of {', '.join(axes)}, found {found}"
            )
        self._fold()
        coordinates = {name: self._coordinate(axes[name]) for name in onto}
        shape = tuple(map(len, coordinates.values()))
        if math.prod(shape) > MOST_CELLS:
            sizes = " x ".join(map(str, shape))
            raise ArchiveError(
                f"{score}: expected at most {MOST_CELLS} bins, found {sizes}: use larger steps or fewer axes"
            )
        codes, counts = self._counts[score]
        indices = self._indices(axes[score], codes)
        flat = np.zeros(len(codes), np.int64)
        for name, size in zip(onto, shape, strict=True):
            flat = flat * size + indices[name]
        flat, counts = _summed(flat, counts)
        dense = np.zeros(math.prod(shape), np.uint32 if counts.max(initial=0) < 2**32 else np.uint64)
        dense[flat] = counts
        return xarray.DataArray(
            dense.reshape(shape),
            {name: (name, values, axes[name].attrs) for name, values in coordinates.items()},
            list(onto),
            f"{score}_counts",
            {"long_name": f"number of epochs by {axes[score].label}", "units": "1"},
        )

    def _labels(self, axis: Axis) -> list[Label]:
        """Return the labels of the bins of a dynamic axis, in order."""
        place = self._grown.index(axis)
        return sorted({key[place] for key in self._groups}, key=lambda label: (label is None, label))

    def _coordinate(self, axis: Axis) -> NDArray[Any]:
        if axis.kind == "fixed":
            return axis.edges
        return np.array(self._labels(axis), str if axis.kind == "text" else np.float64)

    def _indices(self, score: Axis, codes: Codes) -> dict[str, Codes]:
        """Return the index along each axis of the entries of `_counts`."""
        indices = {}
        for axis in (score, *reversed(self._fixed)):
            codes, indices[axis.name] = np.divmod(codes, axis.n_bins)
        for place, axis in enumerate(self._grown):
            order = {label: i for i, label in enumerate(self._labels(axis))}
            indices[axis.name] = np.array([order[key[place]] for key in self._groups], np.int64)[codes]
        return indices

    def plot(self, score: str = "snr", against: str = "mag", labels: "Labels | None" = None) -> bytes:
        """Return a plot of the counts of a score against another axis.

        Parameters
        ----------
        score, against : str
            Names of the axes.
        labels : Labels, optional
            Title and annotation.

        Returns
        -------
        bytes
            PNG.

        Raises
        ------
        ConfigError, ArchiveError
            As of `project`.
        """
        from obsarchive.figures.previews import NO_LABELS  # late: both import matplotlib
        from surveys.histograms.plot import scores_plot

        axes = {axis.name: axis for axis in (*self.shared, *self.scores)}
        counts = self.project(score, [score, against])
        return scores_plot(counts, axes[score], axes[against], labels or NO_LABELS)

    def save(self, path: Path) -> None:
        """Write a netCDF file as a whole.

        Raises
        ------
        ArchiveError
            No space left, or an array would be too large.
        """
        data = self.data.assign(source_name=("source", np.array(sorted(self._sources), str)))
        data.source_name.attrs = {"long_name": "sources whose epochs were counted"}
        packed = {"zlib": True, "complevel": 4, "shuffle": True, "fletcher32": True}
        encoding: dict[Any, dict[str, Any]] = {name: packed for name in data.data_vars}
        # fixed length: text of variable length is not compressed, which makes 500 times the size
        encoding["source_name"] = packed | {"dtype": "S1"}
        # no fill value: NaN is the coordinate of a bin
        numbers = [axis.name for axis in (*self.scores, *self.shared) if axis.kind != "text"]
        encoding |= dict.fromkeys(numbers, packed | {"_FillValue": None})
        # made in memory, as the error of HDF5 for a full disk looks like any other
        atomic_write(path, data.to_netcdf(engine="h5netcdf", encoding=encoding))

    @classmethod
    def load(cls, path: Path) -> "Histogram":
        """Return the histogram of a file of `save`.

        Raises
        ------
        ArchiveError
            The file is missing, damaged or no histogram.
        """
        import xarray

        try:
            with xarray.open_dataset(path, engine="h5netcdf", decode_times=False) as data:
                return cls._of_data(data.load())
        except (ArchiveError, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as err:
            raise ArchiveError(f"{path}: expected a histogram of scores, found none or a damaged one: {err}") from err

    @classmethod
    def _of_data(cls, data: "xarray.Dataset") -> "Histogram":
        arrays = {name.removesuffix("_counts"): data[name] for name in map(str, data) if name != "source_name"}
        if not arrays:
            raise ArchiveError("no counts")
        names = [str(name) for name in next(iter(arrays.values())).dims[:-1]]
        axes = {name: Axis.from_attrs(name, data[name].attrs) for name in (*names, *arrays)}
        read = cls([axes[name] for name in arrays], [axes[name] for name in names])
        for axis in axes.values():
            if axis.kind == "fixed" and not np.array_equal(data[axis.name], axis.edges, equal_nan=True):
                raise ArchiveError(f"the bins of {axis.name} are not those of its ends and step")
        for name, counts in arrays.items():
            if counts.dims != (*names, name) or counts.dtype.kind != "u":
                raise ArchiveError(f"{name} is counted as {counts.dtype} over {', '.join(map(str, counts.dims))}")
            read._count_dense(axes[name], counts)
        read._sources.update(map(str, data["source_name"].values.tolist()))
        return read

    def _count_dense(self, score: Axis, counts: "xarray.DataArray") -> None:
        places = np.nonzero(counts.values)
        if not len(places[0]):
            return
        index = dict(zip(counts.dims, places, strict=True))
        columns: list[tuple[list[Label], Codes]] = []
        for axis in self._grown:
            labels = counts[axis.name].values.tolist()
            columns.append(([None if pandas.isna(label) else label for label in labels], index[axis.name]))
        codes = self._group_codes(columns, len(places[0]))
        for axis in (*self._fixed, score):
            codes = codes * axis.n_bins + index[axis.name]
        self._counts[score.name] = self._with(score.name, codes, counts.values[places])


def _summed(codes: Codes, counts: NDArray[np.uint64]) -> tuple[Codes, NDArray[np.uint64]]:
    """Return sorted codes, each once, with the sum of their counts."""
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return codes[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def _numbers(axis: Axis, values: Any, shapes: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    try:
        is_masked = isinstance(values, np.ma.MaskedArray)
        numbers = np.asarray(values.astype(np.float64).filled(np.nan) if is_masked else values, np.float64)
    except (TypeError, ValueError) as err:
        raise ArchiveError(f"expected numbers for {axis.name}, found {values!r:.100}") from err
    _check_shape(axis, numbers.shape, shapes)
    return numbers


def _check_shape(axis: Axis, shape: tuple[int, ...], expected: Sequence[tuple[int, ...]]) -> None:
    if shape not in expected:
        raise ArchiveError(f"expected an array of shape {expected[0]} for {axis.name}, found {shape}")


def _storable(text: object, what: str) -> str:
    """Return a text after a check that a file can hold it."""
    if not isinstance(text, str) or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ArchiveError(f"expected text without NUL and lone surrogates as {what}, found {text!r}")
    return text
