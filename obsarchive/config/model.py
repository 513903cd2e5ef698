"""``config.json`` as frozen models: unknown keys are refused, secrets come from outside, paths become absolute."""

import hashlib
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from obsarchive.config.field_types import (
    AnyPath,
    ClassName,
    Clock,
    Day,
    RuleText,
    Secret,
    Section,
    WebAddress,
    matching,
    renamed,
)
from obsarchive.config.release_policy import ReleasePolicy
from obsarchive.core.citation import Licence, Publisher


class SkyService(Section):
    """A service that cuts pictures out of a sky survey; asked only where it is configured."""

    survey: str = Field("DSS2 red", description="name of the survey, as shown")
    url: Annotated[
        str,
        matching(
            r"^https?://[^{}/?#@\s]+/\S*\Z",
            "an address such as https://example.org/cutout?ra={ra}&dec={dec}&size={size}&pixels={pixels}",
        ),
    ] = Field(description="address with {ra}, {dec} [deg], {size} [deg] and {pixels}")
    field_arcsec: PositiveFloat = Field(60.0, description="side of the picture [arcsec]")
    pixels: int = Field(400, ge=50, le=2000)
    timeout_s: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        try:
            self.url.format(ra=0.0, dec=0.0, size=1.0, pixels=1)
        except (AttributeError, KeyError, IndexError, ValueError) as err:
            raise ValueError("url may hold {ra}, {dec}, {size} and {pixels} only") from err
        return self


class Server(Section):
    """The portal."""

    name: str = "Archiver"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: WebAddress | None = Field(None, description="address users type, when a proxy stands in front")
    trusted_proxies: int = Field(0, ge=0, description="number of reverse proxies in front of the portal")
    secret_key: Secret = None
    session_hours: PositiveFloat = Field(12.0, description="idle life of a session [h]")
    require_totp: bool = Field(False, description="administrators must set up a two-step login")
    metrics_token: Secret = Field(
        None, description="what programs that read /metrics must send; null: only programs of this machine are answered"
    )
    pages: tuple[str, ...] = Field((), description="blueprints of pages of one's own, as module.bp")
    target_radius_arcsec: float = Field(
        5.0, ge=0, le=3600, description="observations this near belong to one target whatever their names [arcsec]"
    )
    sky: SkyService | None = Field(None, description="where pictures of the sky come from; null: none")
    vizier: WebAddress | None = Field(
        None, description="address of VizieR's asu-tsv program, asked for Gaia DR3 near a source; null: never"
    )
    aladin_lite: AnyPath | None = Field(None, description="folder of the npm package aladin-lite; null: no sky viewer")
    sky_survey: WebAddress | None = Field(
        None, description="address of a HiPS, which browsers fetch as background of the sky viewer; null: none"
    )

    @property
    def aladin_script(self) -> Path | None:
        """The one file of Aladin Lite that is served; None if it is not configured or not there."""
        script = self.aladin_lite / "dist" / "aladin.js" if self.aladin_lite else None
        return script if script and script.is_file() else None

    @property
    def address(self) -> str:
        """Address of the portal as users type it, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")


class RawRoot(Section):
    """A folder of nightly directories and who understands its files."""

    path: AnyPath
    instrument: ClassName = "obsarchive.instruments.RoboAO"
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str | Path) else value


class Paths(Section):
    """Folders."""

    raw: tuple[RawRoot, ...] = Field(min_length=1)
    archive: AnyPath
    tmp: AnyPath
    logs: AnyPath

    @model_validator(mode="after")
    def _folders_of_their_own(self) -> Self:
        names = {self.archive: "archive"}
        for name, folder in (("tmp", self.tmp), *(("raw", root.path) for root in self.raw)):
            if names.setdefault(folder, name) != name:
                raise ValueError(f"{folder} is both {names[folder]} and {name}: give each a folder of its own")
        if twice := [str(path) for path, count in Counter(root.path for root in self.raw).items() if count > 1]:
            raise ValueError(f"raw names {' and '.join(twice)} more than once: its nights would be looked at again")
        return self


class Database(Section):
    """MongoDB: started by Archiver (embedded) or already running (external)."""

    mode: Literal["embedded", "external"] = "embedded"
    db: Annotated[str, matching(r"^[A-Za-z0-9_-]{1,38}\Z", "a name of at most 38 letters, digits, - and _")] = (
        "archiver"
    )
    uri: Annotated[str, matching(r"^mongodb(\+srv)?://", "an address such as mongodb://host:27017")] | None = None
    user: str | None = None
    password: Secret = None
    replicaset: str | None = None
    mongod: AnyPath | None = Field(None, description="mongod binary of the embedded database")
    folder: AnyPath | None = Field(None, description="local folder of the embedded database")

    @model_validator(mode="after")
    def _external_needs_uri(self) -> Self:
        if self.mode == "external" and self.uri is None:
            raise ValueError('mode "external" needs a uri such as "mongodb://host:27017"')
        return self


class ClusterClass(Section):
    """A Dask cluster made by class, such as ``dask_jobqueue.SLURMCluster``."""

    cls: ClassName = Field(alias="class")
    settings: dict[str, Any] = Field(default_factory=dict)


class Parallel(Section):
    """The Dask cluster."""

    n_workers: PositiveInt = 2
    threads_per_worker: PositiveInt = 1
    memory_limit_gb: PositiveFloat = Field(2.0, description="memory of one running step [GB]")
    job_timeout_s: PositiveFloat = Field(1800.0, description="a step that runs longer is killed [s]")
    scheduler: str | ClusterClass | None = None


class QuietHours(Section):
    """Hours of the day at which nothing new is begun, because the machines observe."""

    start: Clock
    stop: Clock
    frame: Literal["local", "UTC"] = "local"

    def covers(self, now: datetime) -> bool:
        """Whether the aware time `now` falls into these hours, which may pass midnight."""
        clock = (now.astimezone() if self.frame == "local" else now.astimezone(UTC)).time()
        if self.start <= self.stop:
            return self.start <= clock < self.stop
        return clock >= self.start or clock < self.stop


class Daemon(Section):
    """Settings of the daemon."""

    archiving_start_date: Day = date(2000, 1, 1)
    max_retries: int = Field(3, ge=0, description="times a failed step is tried again")
    retry_delay_s: PositiveFloat = Field(30.0, description="wait before the first retry; doubles each time [s]")
    logging_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    loop_interval_s: PositiveFloat = Field(10.0, description="pause between two looks at the disk [s]")
    settle_time_s: float = Field(20.0, ge=0, description="a raw file must be this long unchanged [s]")
    audit_interval_s: PositiveFloat = Field(600.0, description="pause between two looks at all products [s]")
    checksum_days: PositiveFloat = Field(30.0, description="everything is read again within this time [d]")
    checksum_mb_s: PositiveFloat = Field(5.0, description="rate of reading for that [MB/s]")
    min_free_gb: float = Field(1.0, ge=0, description="no new work below this free space [GB]")
    arrives_within_h: float = Field(
        2.0, ge=0, description="a night whose newest observation is younger may get more: its references wait [h]"
    )
    quiet_hours: QuietHours | None = renamed(None, "quiet_hours", "nap")


class Filter(Section):
    """A filter's passband."""

    wavelength_nm: PositiveFloat
    width_nm: PositiveFloat


class Telescope(Section):
    """A telescope with its camera; valid for a range of dates and some cameras."""

    valid_from: Day | None = None
    valid_until: Day | None = None
    cameras: tuple[str, ...] | None = Field(None, description="cameras it is valid for; null: all")
    primary_m: PositiveFloat
    secondary_m: float = Field(0.0, ge=0)
    vane_m: float = Field(0.0, ge=0, description="width of each of the four vanes that hold the secondary [m]")
    plate_scale_arcsec: PositiveFloat = Field(description="of a raw pixel [arcsec/px]")
    detector_px: tuple[PositiveInt, PositiveInt] = Field(description="full detector, (y, x)")
    north_angle_deg: float | None = Field(0.0, description="of north, from up, counterclockwise [deg]; null: unknown")
    east_left: bool = True
    saturation_adu: PositiveFloat | None = None
    nonlinearity: float = Field(0.0, ge=0, le=0.1, description="share of a signal of 65535 ADU that is lost")
    latitude_deg: float | None = Field(None, ge=-90, le=90, description="of the site [deg]; null: unknown")
    longitude_deg: float | None = Field(None, ge=-360, le=360, description="of the site, to the east [deg]")
    filters: dict[str, Filter] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if self.secondary_m >= self.primary_m:
            raise ValueError("secondary_m must be smaller than primary_m")
        if self.vane_m >= self.primary_m / 4:
            raise ValueError("vane_m must be smaller than a quarter of primary_m")
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError(f"valid_until {self.valid_until} must be later than valid_from {self.valid_from}")
        return self

    @property
    def place_deg(self) -> tuple[float, float] | None:
        """Latitude and longitude of the site; None when they are not known."""
        if self.latitude_deg is None or self.longitude_deg is None:
            return None
        return self.latitude_deg, self.longitude_deg

    @property
    def compass_deg(self) -> tuple[float, float] | None:
        """Directions of north and of east, counterclockwise from up [deg]; None when they are not known."""
        north = self.north_angle_deg
        return None if north is None else (north, north + (90 if self.east_left else -90))

    def applies_to(self, camera: str, day: date) -> bool:
        """Return whether an observation was made with this telescope.

        Parameters
        ----------
        camera : str
            Name of the camera.
        day : date
            Date of the observation [UTC].

        Returns
        -------
        bool
            Whether the camera is one of ``cameras`` and ``valid_from`` <= `day` < ``valid_until``.
        """
        return (
            (self.cameras is None or camera in self.cameras)
            and (self.valid_from is None or day >= self.valid_from)
            and (self.valid_until is None or day < self.valid_until)
        )


class Calibration(Section):
    """Master darks and flats."""

    required: bool = Field(True, description="science waits for its master dark and flat")
    min_darks: PositiveInt = Field(10, description="dark files needed for a mode")
    min_flats: PositiveInt = Field(5, description="flat files needed for a filter")
    frames_per_file: PositiveInt = Field(10, description="frames that count as a file, where files hold many")
    sigma: PositiveFloat = Field(3.0, description="clipping limit [standard deviations]")


class Reserved(Section):
    """A section whose settings come with the part of the archive that reads them."""


class IntakeJob(Section):
    """Frames of online archives, and the light curves that are made of them."""

    download: AnyPath | None = Field(None, description="data_download.yaml: what is fetched; null: nothing")
    every_h: PositiveFloat = Field(6.0, description="pause between two questions to the archives [h]")
    reduce: bool = Field(True, description="datasets with new frames are reduced")
    max_parallel: PositiveInt = Field(1, description="datasets that are reduced side by side")


class SurveyJob(Section):
    """Light curves of surveys."""

    data: AnyPath | None = Field(None, description="folder of survey data; null: $RETRIEVER_DATA, or .surveys")


class Mail(Section):
    """The mail server that takes alerts."""

    host: str = "localhost"
    port: int = Field(25, ge=1, le=65535)
    sender: Annotated[str, matching(r"^\S+@\S+\Z", "an e-mail address such as archiver@example.org")] = (
        "archiver@localhost"
    )
    security: Literal["none", "starttls", "tls"] = "none"
    user: str | None = None
    password: Secret = None


class Recipient(Section):
    """A recipient of messages: a webhook or addresses, and what they are about."""

    programs: tuple[str, ...] | Literal["all"] = Field(description="programmes the messages are about")
    events: tuple[Literal["new data", "failed", "rejected", "not understood"], ...] = (
        *("new data", "failed", "not understood"),
    )
    webhook: (
        Annotated[str, matching(r"^https?://[^/?#@\s]+\S*\Z", "a web address such as https://example.org/hook")] | None
    ) = Field(None, description="address that is sent JSON")
    secret: Secret = Field(None, description="signs what is sent to the webhook")
    email: tuple[str, ...] = Field((), description="addresses that messages are mailed to")

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if (self.webhook is None) == (not self.email):
            raise ValueError("a recipient is a webhook or addresses under email: give one of the two")
        return self


class Alerts(Section):
    """Messages about new data and failures; none without recipients."""

    recipients: tuple[Recipient, ...] = renamed((), "recipients", "tell")
    batch_window_s: PositiveFloat = renamed(
        600.0, "batch_window_s", "gather_s", description="what happens within this time makes one message [s]"
    )
    mail: Mail = Mail()
    watch_hosts: tuple[str, ...] = Field((), description="hosts of webhooks that users may have messages sent to")
    watch_domains: tuple[str, ...] = Field((), description="domains of e-mail addresses that users may choose")


class PipelineEntry(Section):
    """A pipeline: its class, the observations it is for, its settings."""

    cls: ClassName = Field(alias="class")
    when: RuleText = "True"
    settings: dict[str, Any] = Field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Config(Section):
    """The whole of ``config.json``."""

    server: Server = Server()
    paths: Paths
    database: Database = Database()
    parallel: Parallel = Parallel()
    daemon: Daemon = renamed(Daemon(), "daemon", "misc")
    telescope: dict[str, Telescope] = Field(default_factory=dict)
    calibration: Calibration = Calibration()
    seeing: Reserved = Reserved()
    pipelines: tuple[PipelineEntry, ...]
    intake: IntakeJob = IntakeJob()
    surveys: SurveyJob = SurveyJob()
    alerts: Alerts = Alerts()
    release: ReleasePolicy = ReleasePolicy()
    source: Path = Field(Path("config.json"), exclude=True)

    @classmethod
    def standalone(cls, archive: Path, logs: Path) -> Self:
        """Return a configuration for the use without an archive: the database is kept beside the data.

        Parameters
        ----------
        archive : Path
            Folder of the data.
        logs : Path
            Folder of logs and scratch files.

        Returns
        -------
        Config
            A configuration without pipelines.
        """
        paths = {"raw": [str(logs)], "archive": str(archive), "tmp": str(logs / "tmp"), "logs": str(logs)}
        return cls.model_validate({"paths": paths, "pipelines": []})

    def telescope_of(self, camera: str, day: date) -> str | None:
        """Return the name of the telescope that observed.

        Parameters
        ----------
        camera : str
            Name of the camera.
        day : date
            Date of the observation [UTC].

        Returns
        -------
        str or None
            The first telescope that applies; None when there is none.
        """
        for name, telescope in self.telescope.items():
            if telescope.applies_to(camera, day):
                return name
        return None

    @property
    def database_folder(self) -> Path:
        """Folder of the embedded database and the portal's secrets."""
        return self.database.folder or self.paths.archive / ".db"

    @property
    def publisher(self) -> Publisher:
        """The archive as its citations name it."""
        terms = self.release
        licence = Licence(terms.licence, terms.licence_url)
        return Publisher(self.server.name, self.server.address, licence, terms.acknowledgement)

    @property
    def digest(self) -> str:
        """Hash of the settings that determine the pixels of products: pipelines, calibration and telescopes."""
        text = self.model_dump_json(include={"pipelines", "calibration", "telescope"}, by_alias=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
