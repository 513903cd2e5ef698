"""How a dataset is reduced: ``reduction_config.yaml`` in its folder, and ``tom_config.yaml`` in any folder."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from astropy import units as u
from pydantic import AliasChoices, BeforeValidator, Field, PositiveFloat, model_validator

from obsarchive.config import yaml_files
from obsarchive.config.field_types import AnyPath, Lenient, none_as_nothing
from obsarchive.instruments.base import degrees
from obsarchive.science.photometry.engine import EngineName
from obsarchive.timeseries.names import CONFIGURATION


def _angle(unit: u.Unit, largest: float) -> Any:
    def checked(value: Any) -> float:
        found = degrees(value, unit)
        if found is None or not -largest <= found <= 360 or (unit is u.deg and abs(found) > largest):
            raise ValueError(f"an angle such as {'17:30:25.5' if unit is u.hourangle else '-25:30:30.5'} or degrees")
        return found

    return checked


def _nothing(value: Any) -> Any:
    """Read ``none`` and the placeholder of the published template as nothing."""
    is_placeholder = isinstance(value, str) and value.strip().lower() == "name_of_image.fits"
    return None if is_placeholder else none_as_nothing(value)


OptionalPath = Annotated[AnyPath | None, BeforeValidator(_nothing)]
OptionalText = Annotated[str | None, BeforeValidator(_nothing)]


class Target(Lenient):
    """Target of the dataset."""

    name: str = Field(min_length=1)
    ra_deg: Annotated[float, BeforeValidator(_angle(u.hourangle, 0.0))] = Field(
        validation_alias=AliasChoices("RA", "ra")
    )
    dec_deg: Annotated[float, BeforeValidator(_angle(u.deg, 90.0))] = Field(
        validation_alias=AliasChoices("Dec", "DEC", "dec")
    )


class Photometry(Lenient):
    """Settings of the photometry."""

    aperture_arcsec: PositiveFloat = Field(2.0, description="radius of the aperture [arcsec]")
    catalogue: OptionalPath = Field(None, description="local catalogue: a table of any usual form with ra, dec, mag")
    vizier: OptionalText = Field(
        None, description="address of VizieR's asu-tsv program, asked for Gaia DR3 where there is no local catalogue"
    )
    reference_image: OptionalText = Field(None, description="frame on which the star catalogue rests; none: the best")
    method: Literal["auto", "aperture", "psf"] = Field(
        "auto", description="for the target: auto fits the PSF where neighbours come close"
    )
    engine: EngineName = Field("fast", description="code that measures the frames: the archive's own, or photutils")
    detection_sigma: float = Field(5.0, ge=3.0, description="of stars that no catalogue holds")
    pointing_arcsec: PositiveFloat = Field(60.0, description="largest error of the frames' own coordinates [arcsec]")
    order: int = Field(2, ge=0, le=3, description="of the plate solutions; 2 and 3: with distortion")
    saturation: PositiveFloat | None = Field(None, description="level of saturated pixels, where headers do not say")
    max_stars: int = Field(50_000, ge=10, description="largest number of stars that are measured")


class Tom(Lenient):
    """Upload of the target's light curve."""

    upload: bool = False
    config_file: OptionalPath = None
    data_label: str = ""

    @model_validator(mode="after")
    def _complete(self) -> "Tom":
        if self.upload and self.config_file is None:
            raise ValueError("upload is on, but there is no config_file: the path of tom_config.yaml")
        return self


class ReductionConfig(Lenient):
    """The whole file."""

    target: Target
    photometry: Photometry = Photometry()
    tom: Tom = Tom()

    def digest(self) -> str:
        """Stands for all settings on which measurements depend."""
        catalogue = self.photometry.catalogue
        # the default engine does not count: measurements made before there was a choice stay valid
        excluded = {"catalogue", "engine"} if self.photometry.engine == "fast" else {"catalogue"}
        settings = self.photometry.model_dump_json(exclude=excluded)
        text = f"{self.target.ra_deg} {self.target.dec_deg} {settings} {catalogue.name if catalogue else ''}"
        file = catalogue.with_name(catalogue.name.partition("[")[0]) if catalogue else None  # without a table in it
        found = next((path for path in (catalogue, file) if path is not None and path.exists()), None)
        if found is not None:
            text += f" {found.stat().st_size} {found.stat().st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(folder: Path) -> ReductionConfig:
    """Read the configuration of a dataset.

    Raises
    ------
    ConfigError
        With file, line and key of what is wrong.
    """
    return yaml_files.load(folder / CONFIGURATION, ReductionConfig)
