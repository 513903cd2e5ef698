"""Compare the engines of photometry: both measure the same image, or the same frames of a dataset."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from obsarchive.errors import ConfigError, Unprocessable
from obsarchive.instruments.base import number
from obsarchive.science.arrays import Float64Array, IndexArray
from obsarchive.science.photometry.comparison import Comparison
from obsarchive.science.photometry.engine import EngineName, engine_of
from obsarchive.science.photometry.psf_fit import Frame
from obsarchive.science.photometry.psf_photometry import REACH_FWHM, isolated_stars
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.science.photometry.zero_point import INSTRUMENTAL, instrumental_magnitudes
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries.frame_table import (
    FITS_ERRORS,
    Info,
    Planes,
    frames_of,
    header_wcs,
    merged_header,
    read_info,
    read_planes,
)
from obsarchive.timeseries.names import CONFIGURATION
from obsarchive.timeseries.star_catalog import annulus

log = logging.getLogger(__name__)

KINDS = ("aperture", "PSF")
MATCH_FWHM = 0.5
"""Largest distance of the same star in both catalogues [FWHM]."""


@dataclass(frozen=True)
class Detector:
    """Properties of a detector that count more than the header.

    Parameters
    ----------
    gain_e_adu : float or None
        Electrons per unit of the image [e-/ADU]; None: EGAIN or GAIN of the header, or else 1.
    saturation_adu : float or None
        Level of saturated pixels [ADU]; None: SATURATE or MAXLIN of the header.
    """

    gain_e_adu: float | None = None
    saturation_adu: float | None = None


@dataclass(frozen=True)
class Exposure:
    """An image on which the engines are compared.

    Parameters
    ----------
    name : str
        File name.
    planes : Planes
        Its pixels.
    exposure_s : float
        Exposure time [s]; 1 where it is not known.
    radius_px : float
        Radius of the apertures [pixel]; 0: in units of the stars' FWHM.
    """

    name: str
    planes: Planes
    exposure_s: float
    radius_px: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What is measured on an exposure.

    Parameters
    ----------
    snr : float
        Least signal-to-noise ratio of a source.
    most : int
        Largest number of sources, the brightest ones.
    aperture_fwhm : float
        Radius of the apertures where the exposure has none, in units of the stars' FWHM.
    """

    snr: float = 10.0
    most: int = 1000
    aperture_fwhm: float = 1.5


@dataclass(frozen=True, eq=False)
class Measured:
    """Result of an engine: sources, and for each kind of photometry magnitudes and errors (n,)."""

    sources: Sources
    mag: Mapping[str, tuple[Float64Array, Float64Array]]


def read_image(path: Path, detector: Detector) -> Exposure:
    """Read an image; no card of its header is required.

    Parameters
    ----------
    path : Path
        FITS file.
    detector : Detector
        Properties that count more than the header.

    Returns
    -------
    Exposure
        The image.

    Raises
    ------
    ConfigError
        There is no such file, or no image in it that can be measured.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file or folder; a FITS image or a dataset is needed")
    try:
        with warnings.catch_warnings(action="ignore"), fits.open(path, memmap=False) as hdus:
            header = merged_header(hdus)
        planes = _planes(Info(path, math.nan, math.nan, header), detector)
    except (*FITS_ERRORS, Unprocessable) as err:
        raise ConfigError(f"{path}: no FITS image that can be measured: {err}") from err
    exposure = number(header.get("EXPTIME", header.get("EXPOSURE"))) or 0.0
    return Exposure(path.name, planes, exposure if exposure > 0 else 1.0)


def read_frames(folder: Path, most: int, detector: Detector) -> Iterator[Exposure]:
    """Read some frames of a dataset, evenly chosen; those that cannot be read are skipped.

    Parameters
    ----------
    folder : Path
        Folder of the dataset.
    most : int
        Number of frames.
    detector : Detector
        Properties that count more than header and configuration.

    Yields
    ------
    Exposure
        A frame; the radius of its apertures is that of the dataset.

    Raises
    ------
    ConfigError
        The folder is no dataset, or no frame can be measured.
    """
    if not (folder / CONFIGURATION).is_file():
        raise ConfigError(f"{folder} is no dataset: it needs a {CONFIGURATION}")
    settings = configuration.load(folder).photometry
    if detector.saturation_adu is None:
        detector = replace(detector, saturation_adu=settings.saturation)
    paths = frames_of(folder)
    chosen = {round(i) for i in np.linspace(0, len(paths) - 1, most)} if paths else set()
    n_read = 0
    for path in (paths[i] for i in sorted(chosen)):
        try:
            info = read_info(path)
            planes = _planes(info, detector)
            scale = header_wcs(info, planes.image.shape).scale_arcsec
        except Unprocessable as err:
            log.warning("rejected: %s", err)
            continue
        n_read += 1
        yield Exposure(path.name, planes, info.exposure_s, settings.aperture_arcsec / scale)
    if not n_read:
        raise ConfigError(f"{folder}: there is no FITS image that can be measured in this folder")


def _planes(info: Info, detector: Detector) -> Planes:
    if detector.gain_e_adu is not None:
        info = replace(info, header={**info.header, "EGAIN": detector.gain_e_adu})
    return read_planes(info, detector.saturation_adu)


def compare(exposure: Exposure, limits: Limits) -> tuple[dict[str, int], dict[str, Comparison]]:
    """Measure an image with both engines.

    Parameters
    ----------
    exposure : Exposure
        The image.
    limits : Limits
        What is measured.

    Returns
    -------
    (dict of str to int, dict of str to Comparison)
        Number of sources by engine; comparison by kind of photometry.
    """
    names: tuple[EngineName, ...] = get_args(EngineName)
    sources = [engine_of(name).detect(exposure.planes.image, threshold=limits.snr, most=limits.most) for name in names]
    counts: dict[str, int] = dict(zip(names, map(len, sources), strict=True))
    if not all(counts.values()):
        return counts, dict.fromkeys(KINDS, Comparison(*(np.empty(0) for _ in range(3))))
    if not exposure.radius_px:
        exposure = replace(exposure, radius_px=limits.aperture_fwhm * float(np.median(sources[0].fwhm_px)))
    first, second = (_measured(name, exposure, found) for name, found in zip(names, sources, strict=True))
    rows, others = _matched(first.sources, second.sources)
    common = {}
    for kind in KINDS:
        (mag, error), (other, other_error) = first.mag[kind], second.mag[kind]
        difference, both = other[others] - mag[rows], np.hypot(error[rows], other_error[others])
        good = np.isfinite(difference) & (both > 0)
        common[kind] = Comparison(mag[rows][good], difference[good], both[good])
    return counts, common


def _measured(name: EngineName, exposure: Exposure, sources: Sources) -> Measured:
    """Photometry of an engine, NaN where a star has a fault."""
    engine, planes, stars = engine_of(name), exposure.planes, (sources.y, sources.x)
    fwhm = float(np.median(sources.fwhm_px))
    apertures = engine.aperture_photometry(
        planes.image,
        planes.variance,
        stars,
        (exposure.radius_px,),
        annulus(exposure.radius_px, fwhm),
        planes.saturation,
    )
    flux = apertures.flux[:, 0]
    good = (apertures.flags == 0) & np.isfinite(flux)
    chosen = isolated_stars(stars, flux, good, REACH_FWHM * fwhm) if good.any() else np.empty(0, np.intp)
    frame = Frame(planes.image, planes.variance, *stars, planes.saturation)
    psf = engine.psf_photometry(frame, apertures, chosen, np.flatnonzero(good), fwhm)
    fluxes = {"aperture": (np.where(good, flux, np.nan), apertures.flux_error[:, 0]), "PSF": (psf.flux, psf.flux_error)}
    mags = {}
    for kind, (light, light_error) in fluxes.items():
        mag, error = instrumental_magnitudes(light / exposure.exposure_s, light_error / exposure.exposure_s)
        mags[kind] = (INSTRUMENTAL + mag, error)
    return Measured(sources, mags)


def _matched(first: Sources, second: Sources) -> tuple[IndexArray, IndexArray]:
    """Sources that are each other's nearest."""
    one, other = (np.stack([found.y, found.x], axis=1) for found in (first, second))
    distance, there = cKDTree(other).query(one)
    _, back = cKDTree(one).query(other)
    reach = MATCH_FWHM * float(np.median(first.fwhm_px))
    rows = np.flatnonzero((distance <= reach) & (back[there] == np.arange(len(one))))
    return rows, there[rows]
