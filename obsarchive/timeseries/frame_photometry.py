"""Photometry of one frame: where it is on the sky, then the light of every star of the catalogue."""

import hashlib
import json
import logging
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.io import atomic
from obsarchive.io.dataset_lock import require_run
from obsarchive.io.wcs_headers import plate_cards, plate_of_cards
from obsarchive.science.arrays import Float64Array
from obsarchive.science.astrometry.plate_solution import PlateSolution
from obsarchive.science.astrometry.star_matching import Match
from obsarchive.science.astrometry.times import julian_year
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.engine import engine_of
from obsarchive.science.photometry.psf_fit import Frame
from obsarchive.science.photometry.psf_photometry import REACH_FWHM, isolated_stars
from obsarchive.timeseries.config import ReductionConfig
from obsarchive.timeseries.frame_apertures import star_apertures
from obsarchive.timeseries.frame_pixels import files_beside
from obsarchive.timeseries.frame_table import Info, Planes, header_wcs, read_info, read_planes, stem_of
from obsarchive.timeseries.names import RAW_FLUX, SIDECARS, STAR_CATALOGUE
from obsarchive.timeseries.star_catalog import NEAR_FWHM, Stars, bright_sources, load, solve

log = logging.getLogger(__name__)

VERSION = 3
"""Of the measurements: older ones are made again."""
RADII = (1.0, 0.7, 1.4, 2.0)
"""Of the apertures, in units of the main one, which comes first."""


@dataclass(frozen=True)
class FrameTask:
    """A frame to be measured.

    Parameters
    ----------
    folder : Path
        The dataset.
    path : Path
        The frame.
    config : ReductionConfig
        Of the dataset.
    signature : str
        Stands for all that the measurements rest on, see :func:`signature_of`.
    run : str, optional
        The run that must hold the dataset when they are written.
    """

    folder: Path
    path: Path
    config: ReductionConfig
    signature: str
    run: str = ""


def signature_of(path: Path, config_digest: str, stars_digest: str) -> str:
    """Return a hash of what a frame's measurements depend on.

    Parameters
    ----------
    path : Path
        The frame; its size and time of change count, and those of its weight and mask beside it.
    config_digest : str
        Hash of the configuration.
    stars_digest : str
        Hash of the star catalogue.

    Returns
    -------
    str
        20 hexadecimal digits.
    """
    files = [path.stat(), *(other.stat() for _, other in sorted(files_beside(path).items()))]
    versions = " ".join(f"{status.st_size} {status.st_mtime_ns}" for status in files)
    text = f"{VERSION} {versions} {config_digest} {stars_digest}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, eq=False)
class Measured:
    """Measurements of a frame, star by star in the order of the catalogue.

    Attributes
    ----------
    info : dict
        Facts of the frame.
    y, x : ndarray (n,)
        [pixel].
    flux, flux_error : ndarray (n, k)
        In the apertures of `RADII` [unit of the frame per second].
    psf_flux, psf_error : ndarray (n,)
        By fitting; NaN where it was not done.
    sky : ndarray (n,)
        [unit of the frame per second and pixel].
    flags : ndarray (n,)
        Of the main aperture.
    """

    info: dict[str, Any]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    psf_flux: NDArray[np.float64]
    psf_error: NDArray[np.float64]
    sky: NDArray[np.float64]
    flags: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with atomic.atomic_path(path) as part, part.open("wb") as file:
            np.savez(file, info=np.array(json.dumps(self.info)), **arrays)


_ARRAYS = ("y", "x", "flux", "flux_error", "psf_flux", "psf_error", "sky", "flags")


def load_measured(path: Path) -> Measured | None:
    """Read what was measured; None if there is nothing, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return Measured(json.loads(str(saved["info"])), *(saved[name] for name in _ARRAYS))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile) as err:
        log.warning("%s cannot be read (%s) and is measured again", path, err)
        return None


def place(folder: Path, stem: str) -> Path:
    """Return the path of the measurements of a frame.

    Parameters
    ----------
    folder : Path
        Folder of the dataset.
    stem : str
        Name of the frame without suffixes.

    Returns
    -------
    Path
        A file ``.npz``, which need not exist.
    """
    return folder / RAW_FLUX / f"{stem}.npz"


def is_measured(task: FrameTask) -> bool:
    """Whether the frame was measured just so before."""
    try:
        with np.load(place(task.folder, stem_of(task.path)), allow_pickle=False) as saved:
            return bool(json.loads(str(saved["info"])).get("signature") == task.signature)
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return False


def measure(task: FrameTask) -> dict[str, float]:
    """Measure a frame and write what is found beside it; the frame itself is only read.

    Returns
    -------
    dict of str to float
        ``seeing_arcsec``, ``n_matched`` and ``rms_arcsec`` of the plate solution, ``sky``: for the log.

    Raises
    ------
    Unprocessable
        The frame is of no use; says why.
    """
    info = read_info(task.path)
    loaded = load(task.folder / STAR_CATALOGUE)
    if loaded is None:
        raise ArchiveError(f"{task.folder / STAR_CATALOGUE} is gone")
    stars = loaded[0]
    planes = read_planes(info, task.config.photometry.saturation)
    try:
        match, fwhm = _solved(info, planes, stars, task.config)
    except Unprocessable as err:
        raise Unprocessable(f"{task.path.name}: {err}") from err
    found = _photometry(info, planes, stars, match, fwhm, task)
    require_run(task.folder, task.run)
    write_sidecar(task.folder / SIDECARS / f"{info.stem}.wcs", match)
    found.save(place(task.folder, info.stem))
    facts = found.info
    return {
        "seeing_arcsec": facts["fwhm_px"] * facts["scale_arcsec"],
        "n_matched": facts["n_matched"],
        "rms_arcsec": match.rms_arcsec,
        "sky": facts["sky"],
    }


def _solved(info: Info, planes: Planes, stars: Stars, config: ReductionConfig) -> tuple[Match, float]:
    sources = bright_sources(planes, config.photometry.engine)
    year = julian_year(info.mjd_middle)
    order = np.argsort(stars.mag, kind="stable")
    ra, dec = stars.at(year)
    match = solve(sources, (ra[order], dec[order]), header_wcs(info, planes.image.shape), planes.image.shape, config)
    return match, float(np.median(sources.fwhm_px[match.stars]))


def _photometry(info: Info, planes: Planes, stars: Stars, match: Match, fwhm: float, task: FrameTask) -> Measured:
    y, x = match.solution.pixels(*stars.at(julian_year(info.mjd_middle)))
    scale, settings = match.solution.scale_arcsec, task.config.photometry
    radius, engine = settings.aperture_arcsec / scale, engine_of(settings.engine)
    apertures = star_apertures(planes, (y, x), tuple(radius * factor for factor in RADII), fwhm, engine)
    frame = Frame(planes.image, planes.variance, y, x, planes.saturation)
    wanted = _fitted_stars(stars, (y, x), radius, fwhm, settings.method)
    psf = engine.psf_photometry(frame, apertures, _psf_stars(frame, apertures, stars, fwhm), wanted, fwhm)
    facts = {
        "signature": task.signature,
        "mjd": info.mjd_middle,
        "exposure_s": info.exposure_s,
        "fwhm_px": psf.fwhm_px if psf.fwhm_px is not None else fwhm,
        "scale_arcsec": scale,
        "n_matched": float(len(match.stars)),
        "rms_px": match.rms_arcsec / scale,
        "sky": float(np.nanmedian(apertures.sky)) / info.exposure_s if np.isfinite(apertures.sky).any() else math.nan,
    }
    seconds = info.exposure_s
    return Measured(
        facts,
        y,
        x,
        apertures.flux / seconds,
        apertures.flux_error / seconds,
        psf.flux / seconds,
        psf.flux_error / seconds,
        apertures.sky / seconds,
        apertures.flags,
    )


def _psf_stars(frame: Frame, apertures: Apertures, stars: Stars, fwhm: float) -> NDArray[np.intp]:
    """Return the comparison stars from which the PSF of this frame is built: those without a fault on it."""
    flux = apertures.flux[:, 0]
    good = stars.is_comparison & (apertures.flags == 0) & np.isfinite(flux)
    if not good.any():
        return np.empty(0, np.intp)
    return isolated_stars((frame.y, frame.x), flux, good, REACH_FWHM * fwhm)


def _fitted_stars(
    stars: Stars, pixels: tuple[Float64Array, Float64Array], radius: float, fwhm: float, method: str
) -> NDArray[np.intp]:
    """Stars that are measured by fitting: the target and what is around it, and the stars to compare them with."""
    distance = np.hypot(pixels[0] - pixels[0][stars.target], pixels[1] - pixels[1][stars.target])
    crowded = np.sum(distance < radius + 2 * fwhm) > 1
    if method == "aperture" or (method == "auto" and not crowded):
        return np.empty(0, np.intp)
    return np.flatnonzero(stars.is_comparison | (distance < NEAR_FWHM * fwhm))


def write_sidecar(path: Path, match: Match) -> None:
    """Write a frame's plate solution to a FITS header beside it, distortion as SIP.

    Parameters
    ----------
    path : Path
        File to write.
    match : Match
        The plate solution and its stars.
    """
    header = plate_cards(match.solution)
    header["ASTNMAT"] = (len(match.stars), "stars of the plate solution")
    header["ASTRMS"] = (match.rms_arcsec, "[arcsec] rms of their residuals along an axis")
    with atomic.atomic_path(path) as part:
        fits.PrimaryHDU(header=header).writeto(part)


def read_sidecar(path: Path) -> PlateSolution:
    """Read a frame's coordinates."""
    return plate_of_cards(fits.getheader(path))
