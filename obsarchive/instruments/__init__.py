"""Instrument adapters: what a raw file is, which observation it belongs to, what its header says."""

from obsarchive.instruments.base import (
    Instrument,
    Kind,
    RawFile,
    Sectioned,
    coordinates,
    degrees,
    frame_shape,
    no_raw_file,
    number,
    stem,
)
from obsarchive.instruments.dates import DateError, Start, exposure_start
from obsarchive.instruments.header_driven import HeaderDriven
from obsarchive.instruments.robo_ao import RoboAO

__all__ = [
    "DateError",
    "HeaderDriven",
    "Instrument",
    "Kind",
    "RawFile",
    "RoboAO",
    "Sectioned",
    "Start",
    "coordinates",
    "degrees",
    "exposure_start",
    "frame_shape",
    "no_raw_file",
    "number",
    "stem",
]
