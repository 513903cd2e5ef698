"""What is to be fetched from which archive: the file ``data_download.yaml``."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from obsarchive.config import yaml_files
from obsarchive.config.field_types import AnyPath, Section, matching

LAST_DAY = timedelta(hours=24)
SINCE_LAST = "since_last"


def _as_list(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list | tuple) else value


def _as_time(value: Any) -> Any:
    """Read ``2024-07-01 00:00`` (UTC); ``none`` anywhere in the text means the last day, ``since_last`` is kept."""
    if value is None or "none" in str(value).lower():
        return None
    if isinstance(value, str) and value.strip().lower() == SINCE_LAST:
        return SINCE_LAST
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError as err:
        raise ValueError(f"a time such as '2024-07-01 00:00', 'none' or 'since_last' is needed, not {value!r}") from err
    return found if found.tzinfo else found.replace(tzinfo=UTC)


Moment = Annotated[datetime | str | None, BeforeValidator(_as_time)]


class Levels(Section):
    """Reduction levels that are fetched."""

    image: int | None = 91
    spectrum: int | None = 91

    @property
    def all(self) -> list[int]:
        """Both, each once."""
        return sorted({level for level in (self.image, self.spectrum) if level is not None})


class ArchiveRequest(Section):
    """One archive and what is wanted of it."""

    name: str
    active: bool = True
    url: Annotated[str, matching(r"^https?://[^\s@?#]+\Z", "a web address such as https://archive.example.org/api")]
    token_envvar: str | None = None
    proposals: Annotated[list[str], BeforeValidator(_as_list)] = Field(min_length=1)
    reduction_level: Levels = Levels()
    client: str = Field(
        "obsarchive.timeseries.download.lco.LcoArchive", description="class that speaks the archive's language"
    )


class Request(Section):
    """The whole file."""

    archives: dict[str, ArchiveRequest]
    log_dir: AnyPath
    frame_list: AnyPath | None = None
    data_download_dir: AnyPath
    data_reduction_dir: AnyPath
    start_datetime: Moment = None
    end_datetime: Moment = None
    default_red_config: AnyPath | None = None
    streams: PositiveInt = Field(4, description="files fetched at the same time")
    timeout_s: PositiveFloat = Field(60.0, description="longest silence of the archive [s]")
    overlap_h: PositiveFloat = Field(48.0, description="how far since_last reaches back before the last success [h]")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        start, end = self.start_datetime, self.end_datetime
        if isinstance(start, datetime) and isinstance(end, datetime) and start >= end:
            raise ValueError(
                f"start_datetime {start:%Y-%m-%d %H:%M} must come before end_datetime {end:%Y-%m-%d %H:%M}"
            )
        return self

    @property
    def frame_list_path(self) -> Path:
        """Path of the list of fetched frames."""
        return self.frame_list or self.log_dir / "main_data_list.txt"

    def window(self, now: datetime, last_success: datetime | None) -> tuple[datetime, datetime]:
        """Return the range of observing times to ask for.

        Parameters
        ----------
        now : datetime
            Present time.
        last_success : datetime, optional
            End of the latest range that was fetched without a failure.

        Returns
        -------
        start, end : datetime
            First and last time [UTC].
        """
        start, end = self.start_datetime, self.end_datetime
        if SINCE_LAST in (start, end):
            since = last_success - timedelta(hours=self.overlap_h) if last_success else now - LAST_DAY
            return since, end if isinstance(end, datetime) else now
        if not isinstance(start, datetime) or not isinstance(end, datetime):
            return now - LAST_DAY, now
        return start, end


def load(path: Path | str) -> Request:
    """Read ``data_download.yaml``.

    Raises
    ------
    ConfigError
        With file, line and key of what is wrong.
    """
    return yaml_files.load(Path(path), Request)
