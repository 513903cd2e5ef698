"""Reader of catalogues in HDF5: compound datasets, groups of columns, tables of pandas and astropy."""

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError
from obsarchive.io.table_readers import Raw, Source, as_word, distinct, native, no_table, units_of_yaml


@dataclass(frozen=True)
class _Place:
    """Location of a column in an HDF5 file: a dataset, a field of it, or an element of that.

    ``mask`` is the location of its mask, ``blank`` the mark of missing text.
    """

    dataset: str
    field: str = ""
    element: int | None = None
    mask: "_Place | None" = None
    blank: bytes | None = None

    def read(self, file: h5py.File, wanted: slice) -> NDArray[Any]:
        dataset = file[self.dataset]
        values: NDArray[Any] = (dataset.fields(self.field) if self.field else dataset)[wanted]
        return values if self.element is None else values[:, self.element]


def open_hdf5(path: Path, wanted: str | None = None) -> Source:
    """Return the first compound dataset of an HDF5 file, or its first group of datasets of equal length.

    `wanted` names the dataset or group.
    """
    with h5py.File(path) as file:
        places = _places(file, path, wanted)
        names = distinct(path, places)
        n_rows = len(file[places[names[0]].dataset])
        units = _hdf5_units(file, places)

    def read(names: list[str], wanted: slice) -> list[Raw]:
        with h5py.File(path) as file:
            return [_hdf5_column(file, places[name], wanted) for name in names]

    return Source(names, n_rows, read, units)


def _hdf5_units(file: h5py.File, places: Mapping[str, _Place]) -> dict[str, str]:
    """Return units: of the attribute ``unit`` of a dataset, or the description by astropy."""
    units: dict[str, str] = {}
    for name, place in places.items():
        attributes = {} if place.field else file[place.dataset].attrs
        stated = attributes.get("unit", attributes.get("units"))
        if stated is not None:
            units[name] = as_word(stated)
    described = file.get(f"{next(iter(places.values())).dataset}.__table_column_meta__")
    return units | units_of_yaml([] if described is None else [as_word(line) for line in described[()].tolist()])


def _hdf5_column(file: h5py.File, place: _Place, wanted: slice) -> Raw:
    stored = place.read(file, wanted)
    if place.mask:
        return native(stored), place.mask.read(file, wanted).astype(bool)
    return native(stored), None if place.blank is None else stored == place.blank


def _places(file: h5py.File, path: Path, wanted: str | None) -> dict[str, _Place]:
    if wanted is not None and wanted not in file:
        raise ConfigError(f"{path}: expected a table {wanted}, found {', '.join(file)}")
    start = file if wanted is None else file[wanted]
    items: list[h5py.Group | h5py.Dataset] = [start]
    if isinstance(start, h5py.Group):
        start.visititems(lambda _, item: items.append(item))
    groups = [item for item in items if isinstance(item, h5py.Group)]
    if any(group.attrs.get("pandas_type", b"") in (b"frame", b"series", "frame", "series") for group in groups):
        raise ConfigError(
            f"{path}: expected a table, found a pandas file of the fixed format, which only pandas reads; "
            'write it with to_hdf(..., format="table")'
        )
    for item in items:
        if isinstance(item, h5py.Dataset) and item.dtype.names and item.ndim == 1:
            return _of_compound(item)
    for group in groups:
        columns = {name: item for name, item in group.items() if _is_hdf5_column(name, item)}
        if columns and len({len(item) for item in columns.values()}) == 1:
            return _with_masks({name: _Place(item.name) for name, item in columns.items()})
    raise no_table(
        path, "a compound dataset or a group of one-dimensional ones of equal length", list(file) or "nothing"
    )


def _of_compound(dataset: h5py.Dataset) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for field in dataset.dtype.names:
        kind, blank = dataset.dtype[field], dataset.attrs.get(f"{field}_nan_rep")
        if kind.shape and f"{field}_kind" in dataset.attrs:
            names = _pandas_names(dataset.attrs[f"{field}_kind"])
            places |= {name: _Place(dataset.name, field, i, blank=blank) for i, name in enumerate(names)}
        elif _is_hdf5_scalar(kind):
            places[field] = _Place(dataset.name, field, blank=blank)
    return _with_masks(places)


def _pandas_names(pickled: bytes) -> list[str]:
    """Return the texts of a pickled list without unpickling it."""
    return [str(text) for operation, text, _ in pickletools.genops(pickled) if "UNICODE" in operation.name]


def _with_masks(places: dict[str, _Place]) -> dict[str, _Place]:
    """Return the columns with astropy's ``x.mask`` as the mask of ``x``."""
    masks = {name: places[f"{name}.mask"] for name in places if f"{name}.mask" in places}
    return {
        name: replace(place, mask=masks.get(name))
        for name, place in places.items()
        if name.removesuffix(".mask") not in masks or name in masks
    }


def _is_hdf5_column(name: str, item: object) -> bool:
    is_flat = isinstance(item, h5py.Dataset) and item.ndim == 1 and _is_hdf5_scalar(item.dtype)
    return is_flat and not name.endswith("__table_column_meta__")  # written by astropy


def _is_hdf5_scalar(kind: np.dtype[Any]) -> bool:
    return kind.kind in "biufS" or h5py.check_string_dtype(kind) is not None
