"""Light curves that lie in a folder as files, one for each source: an observatory without a service.

Use it in a project::

    project:
      name: novae
      obs_names: [FILES]
    observatories:
      FILES: {folder: /data/novae, format: atlas}
"""

import glob
import re
from bisect import bisect_left
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from obsarchive.errors import ConfigError, Unprocessable
from surveys.formats.light_curve_files import read_raw_light_curve
from surveys.formats.photometry_formats import format_named
from surveys.observatory.base import Fetched, VirtualObservatory
from surveys.observatory.origin import Origin
from surveys.observatory.parameters import ParsObservatory
from surveys.observatory.raw_storage import Row
from surveys.provenance import hash_of

_FACTS = ("filter", "time_scale", "time_offset", "time_system", "zero_point", "columns", "units", "good_flags")
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\0]')


class ParsFiles(ParsObservatory):
    """What is known of the files."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.folder = add("folder", ".", str, "folder of the files", critical=False)
        self.files = add("files", "{name}.*", str, "name of the file of a source, with {name} and wildcards")
        self.format = add("format", "", str, "format of the files, such as atlas; empty: recognised by the columns")
        self.filter = add("filter", "", str, "filter of files that name none")
        self.columns = add(
            "columns",
            {},
            (dict, list),
            "names of columns by meaning (time, mag, …), or of all columns of files without names",
        )
        self.units = add("units", {}, dict, "units of columns that declare none, by name or meaning")
        self.time_scale = add("time_scale", "", str, "kind of the times: mjd, jd, hjd, bjd, bmjd, unix or date")
        self.time_system = add("time_system", "", str, "scale of the times: utc, tai, tt, tdb or tcb")
        self.time_offset = add("time_offset", None, (None, float), "what is added to the times", unit="d")
        self.zero_point = add("zero_point", None, (None, float), "magnitude of flux 1", unit="mag")
        self.good_flags = add("good_flags", [], list, "values of the quality column that mean a good epoch")


class VirtualFiles(VirtualObservatory):
    """Files of light curves in a folder; a source without a file has no data."""

    pars_class = ParsFiles
    name = "FILES"

    def _complete(self) -> None:
        super()._complete()
        if self.pars.format:
            format_named(self.pars.format)
        if "{name}" not in self.pars.files:
            raise ConfigError(f"{self.name}: files: expected {{name}} in it, found {self.pars.files!r}")

    def fetch_data_from_observatory(self, cat_row: Row, **_: Any) -> Fetched:
        """Return what the file of a source holds; nothing if there is none.

        Parameters
        ----------
        cat_row : mapping
            ``name`` of the source; signs that file names cannot have are underscores there.
        **_
            Ignored.

        Returns
        -------
        data : dict of ndarray (n,) or None
            Columns of the file.
        altdata : dict
            What file and parameters tell of them, and the name of the file.

        Raises
        ------
        ConfigError
            There is no such folder.
        Unprocessable
            Several files, or one that is not understood.
        """
        self._check_folder()
        found = self._files_of(str(cat_row["name"]))
        if not found:
            return None, {}
        if len(found) > 1:
            own, names = _file_name(str(cat_row["name"])), ", ".join(path.name for path in found[:5])
            raise Unprocessable(
                f"{self._folder}: expected one file of {own!r}, found {names}; set 'files', such as {{name}}.csv"
            )
        facts = {name: getattr(self.pars, name) for name in _FACTS}
        columns, altdata = read_raw_light_curve(found[0], self.pars.format, facts)
        told = {key: value for key, value in altdata.items() if key not in ("ra", "dec")}  # the catalogue has them
        return columns, {**told, "file": found[0].name}

    def origin(self, name: str) -> Origin:
        """Return the state of the files of a source, and the parameters with which they are read.

        Parameters
        ----------
        name : str
            Name of the source.

        Returns
        -------
        Origin
        """
        parameters = {key: getattr(self.pars, key) for key in ("files", "format", *_FACTS)}
        states = [(path.name, path.stat()) for path in self._files_of(name)]
        return Origin(
            hash_of({**parameters, "folder": str(self._folder.absolute())}),
            "; ".join(f"{file} {state.st_size} {state.st_mtime_ns}" for file, state in states),
        )

    def altered(self, names: Sequence[str]) -> set[str]:
        """Return the sources whose files, or the parameters with which they are read, have changed.

        Parameters
        ----------
        names : sequence of str
            Only these sources.

        Returns
        -------
        set of str

        Raises
        ------
        ConfigError
            There is no such folder: what was read from another one must not be lost.
        """
        self._check_folder()
        return super().altered(names)

    def _check_folder(self) -> None:
        if not self._folder.is_dir():
            raise ConfigError(f"no folder {self._folder.absolute()}: correct 'folder' of the observatory {self.name}")

    @property
    def _folder(self) -> Path:
        return Path(self.pars.folder).expanduser()

    def _files_of(self, name: str) -> list[Path]:
        own, folder = _file_name(name), self._folder
        pattern = self.pars.files.replace("{name}", glob.escape(own))
        found = iter(folder.glob(pattern))
        if self.pars.files.startswith("{name}") and "/" not in pattern and folder.is_dir():
            names = _listed(folder, folder.stat().st_mtime_ns)  # a folder of many sources is listed once
            alike = takewhile(lambda file: file.startswith(own), islice(names, bisect_left(names, own), None))
            found = (folder / file for file in alike if fnmatchcase(file, pattern))
        return sorted(path for path in found if path.is_file())


@lru_cache(maxsize=4)
def _listed(folder: Path, mtime_ns: int) -> list[str]:  # noqa: ARG001 - a key of the cache
    """Return the sorted names of the files of a folder, which `mtime_ns` tells from its earlier states."""
    return sorted(path.name for path in folder.iterdir())


def _file_name(name: str) -> str:
    return _NO_FILE_NAME.sub("_", name)
