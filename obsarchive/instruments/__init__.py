"""Instrument adapters: what a raw file is, which observation it belongs to, what its header says."""

from obsarchive.instruments.base import (
    Instrument,
    Kind,
    RawFile,
    Sectioned,
    coordinates,
    degrees,
    frame_shape,
    number,
    stem,
)
from obsarchive.instruments.header_driven import HeaderDriven
from obsarchive.instruments.robo_ao import RoboAO

__all__ = [
    "HeaderDriven",
    "Instrument",
    "Kind",
    "RawFile",
    "RoboAO",
    "Sectioned",
    "coordinates",
    "degrees",
    "frame_shape",
    "number",
    "stem",
]
