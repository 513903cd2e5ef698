"""Which datasets are reduced: the file ``reduction_manager_config.yaml``."""

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Field, PositiveInt, model_validator

from obsarchive.config import yaml_files
from obsarchive.config.field_types import AnyPath, Lenient, none_as_nothing
from obsarchive.errors import ConfigError, Unprocessable
from obsarchive.io.dataset_lock import holder
from obsarchive.science.astrometry.times import mjd_of
from obsarchive.timeseries.frame_table import frames_of, read_info
from obsarchive.timeseries.names import CONFIGURATION

log = logging.getLogger(__name__)


class Selection(Lenient):
    """Which of the datasets."""

    group: Literal["all", "date", "recent", "file"]
    file: Annotated[AnyPath | None, BeforeValidator(none_as_nothing)] = None
    start_date: Annotated[date | None, BeforeValidator(none_as_nothing)] = None
    end_date: Annotated[date | None, BeforeValidator(none_as_nothing)] = None
    ndays: Annotated[float | None, BeforeValidator(none_as_nothing)] = Field(None, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> "Selection":
        needed = {"date": ("start_date", "end_date"), "recent": ("ndays",), "file": ("file",)}.get(self.group, ())
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise ValueError(f"group {self.group!r} needs {' and '.join(missing)}")
        if self.group == "date" and self.start_date and self.end_date and self.start_date > self.end_date:
            raise ValueError(f"start_date {self.start_date} must not come after end_date {self.end_date}")
        return self

    def span(self, now: datetime) -> tuple[float, float] | None:
        """Return the range of observing times [MJD, UTC]; both days of a range of dates count as a whole."""
        if self.group == "recent" and self.ndays is not None:
            return mjd_of(now) - self.ndays, mjd_of(now)
        if self.group == "date" and self.start_date and self.end_date:
            start, end = (
                datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (self.start_date, self.end_date)
            )
            return mjd_of(start), mjd_of(end + timedelta(days=1))
        return None


class ManagerConfig(Lenient):
    """The whole file; ``software_dir`` of older files means nothing any more."""

    of_older_programs = ("software_dir",)

    log_dir: AnyPath
    data_reduction_dir: AnyPath
    instrument_list: tuple[str, ...] = Field(min_length=1)
    dataset_selection: Selection = Field(validation_alias=AliasChoices("dataset_selection", "data_selection"))
    max_parallel: PositiveInt = 1


def load(path: Path) -> ManagerConfig:
    """Read the file; `ConfigError` tells file, line and key of what is wrong."""
    return yaml_files.load(path, ManagerConfig)


def select(config: ManagerConfig, now: datetime) -> list[Path]:
    """Return the datasets to reduce, without those that are locked.

    Parameters
    ----------
    config : ManagerConfig
        The selection.
    now : datetime
        Present time [UTC].

    Returns
    -------
    list of Path
        Folders of the datasets.
    """
    chosen = config.dataset_selection
    folders = _listed(config) if chosen.group == "file" else list(_all(config))
    span = chosen.span(now)
    return [folder for folder in folders if _is_free(folder) and (span is None or _observed_within(folder, span))]


def datasets_below(root: Path) -> Iterator[Path]:
    """Yield every dataset ``target/instrument/filter`` below a folder that has a configuration."""
    for path in sorted(root.glob(f"*/*/*/{CONFIGURATION}")):
        yield path.parent


def _all(config: ManagerConfig) -> Iterator[Path]:
    wanted = {name.lower() for name in config.instrument_list}
    yield from (folder for folder in datasets_below(config.data_reduction_dir) if folder.parent.name.lower() in wanted)


def _listed(config: ManagerConfig) -> list[Path]:
    """Datasets that a file lists, relative to the folder of all."""
    path = config.dataset_selection.file
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: the list of datasets cannot be read: {err}") from err
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for name in names:
        folder = config.data_reduction_dir / name
        if (folder / CONFIGURATION).is_file():
            found.append(folder)
        else:
            log.warning("%s lists %s, which is no dataset: there is no %s", path, name, folder / CONFIGURATION)
    return found


def _is_free(folder: Path) -> bool:
    who = holder(folder)
    if who is not None:
        log.info("%s is skipped: locked by %s", folder, who)
    return who is None


def _observed_within(folder: Path, span: tuple[float, float]) -> bool:
    """Whether a frame of a dataset was taken within a range of time."""
    for path in frames_of(folder):
        try:
            info = read_info(path)
        except Unprocessable as err:
            log.debug("%s", err)
            continue
        if span[0] <= info.start_mjd < span[1]:
            return True
    return False
