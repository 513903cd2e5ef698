"""Photometry of one image: its sources, measured in apertures, and the zero point of a catalogue."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat
from scipy.spatial import cKDTree

from obsarchive.figures.time_series import measured_sources
from obsarchive.io import fits_products
from obsarchive.io.wcs_headers import plate_of_header
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.remote import gaia, star_catalogs
from obsarchive.remote.star_catalogs import Catalog
from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.astrometry.plate_solution import PlateSolution
from obsarchive.science.astrometry.times import julian_year, mjd_of
from obsarchive.science.photometry.aperture import Apertures, Flag
from obsarchive.science.photometry.background import Background, noise_correlation
from obsarchive.science.photometry.crowded_apertures import CrowdedImage, Radii, without_neighbours
from obsarchive.science.photometry.engine import EngineName, engine_of
from obsarchive.science.photometry.filled_pixels import light_at_stake
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.science.photometry.zero_point import POGSON, ZeroPoint, find_zero_point, instrumental_magnitudes
from pipelines.shared.preview_step import labels_of
from pipelines.shared.product_headers import FILLED

MATCH_FWHM, LEAST_MATCH_PX = 0.7, 2.0
LIMIT_SIGMA = 5.0
STAR_REACH_FWHM = 2.5
"""Radius around a source within which its light is no noise."""
MOST_LOST = 0.3
"""Of the error of a flux: what filled pixels may cost without a flag."""
DEFAULT_FWHM_PX = 3.0
"""Of an image without a source that has a width."""
COLUMNS = (
    *(("x_px", "y_px"), ("ra_deg", "dec_deg")),
    ("flux_adu", "flux_error_adu"),
    ("mag", "mag_error"),
    ("sky_adu", "fwhm_px"),
    ("x_error_px", "y_error_px"),
    ("sky_error_adu",),
)


@dataclass(frozen=True)
class PhotometrySettings:
    """Settings of the photometry."""

    engine: EngineName = field(
        default="fast", metadata={"help": "code that measures the image: fast, the archive's own, or photutils"}
    )
    aperture_fwhm: PositiveFloat = field(
        default=1.5, metadata={"help": "radius of the apertures, in units of the stars' FWHM"}
    )
    detection_snr: PositiveFloat = field(
        default=10.0, metadata={"help": "least signal-to-noise ratio of a source in the smoothed image"}
    )
    gain_e_adu: NonNegativeFloat = field(
        default=0.0,
        metadata={
            "help": "electrons of a unit of the image, for photon noise; 0: EGAIN of the image, if it is there [e-/ADU]"
        },
    )
    saturation_adu: NonNegativeFloat = field(
        default=0.0, metadata={"help": "level of saturated pixels; 0: SATURATE of the image, if it is there [ADU]"}
    )
    catalogue: str = field(
        default="", metadata={"help": "file with ra, dec [deg], mag, for the zero point; relative to the archive"}
    )
    vizier: str = field(
        default="",
        metadata={"help": "address of VizieR's asu-tsv program, asked for Gaia DR3 without a file; empty: never"},
    )


class Photometry(Pipeline):
    """Sources and aperture photometry of an observation's best image."""

    name = "photometry"

    @step(
        makes=["{id}_photometry.fits", "{id}_photometry.png"],
        reads=[
            "astrometry/{id}_wcs.fits",
            "ccd/{id}_stack.fits",
            "faint_star/{id}_summed.fits",
            "bright_star/100p.fits",
        ],
        uses=[],
        settings=PhotometrySettings,
    )
    def measure(self, work: Workspace) -> dict[str, Any]:
        """Measure every source of the best image; an image without sources is a valid result."""
        settings: PhotometrySettings = work.settings
        image, header = fits_products.read_fits(work.source())
        settings = replace(
            settings,
            saturation_adu=settings.saturation_adu or _positive(header, "SATURATE"),
            gain_e_adu=settings.gain_e_adu or _positive(header, "EGAIN"),
        )
        measured = measure_image(image, settings)
        filled = fits_products.read_table(work.source(), FILLED)
        if filled is not None:
            measured = with_filled_pixels(measured, filled)
        sources, apertures, radius = measured.sources, measured.apertures, measured.radius_px
        plate = plate_of_header(header, image.shape)
        zero_point, n_catalogue, origin = _calibrated(work, image.shape, sources, apertures, plate)
        table = _table(measured, plate, zero_point)
        cards = {
            "ENGINE": (settings.engine, "code that measured the image"),
            "APRADIUS": (radius, "[pixel] of the apertures"),
            "ZEROPT": (zero_point.value, "[mag] zero point"),
        }
        work.publish_fits("{id}_photometry.fits", {"": None, "SOURCES": table}, cards)
        positions = sources.y, sources.x, radius
        plot = measured_sources(image, positions, (table["mag"], table["mag_error"]), labels_of(work))
        work.publish("{id}_photometry.png", plot)
        return {
            "image": work.source_name,
            "n_sources": len(sources),
            "fwhm_px": measured.fwhm_px,
            "aperture_px": radius,
            "sky_adu": _median(apertures.sky),
            "is_calibrated": zero_point.n_stars > 0,
            "zero_point_mag": zero_point.value,
            "zero_point_error_mag": zero_point.error,
            "zero_point_scatter_mag": zero_point.scatter,
            "zero_point_stars": zero_point.n_stars,
            "limit_mag": _limit(measured, zero_point),
            "gain_e_adu": settings.gain_e_adu or None,
            "noise_correlation": measured.noise_correlation,
            "n_catalogue": n_catalogue,
            "catalogue": origin,
        }


def _usual_fwhm_px(sources: Sources) -> float:
    """Median width of the sources that have one; artefacts may have none."""
    known = sources.fwhm_px[np.isfinite(sources.fwhm_px) & (sources.fwhm_px > 0)]
    return float(np.median(known)) if len(known) else DEFAULT_FWHM_PX


def _positive(header: fits.Header, key: str) -> float:
    """Return a positive number that the header of a stack holds; 0 if it holds none."""
    value = header.get(key)
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


@dataclass(frozen=True, eq=False)
class ImagePhotometry:
    """Sources of an image and their photometry.

    Parameters
    ----------
    sources : Sources
        Sources, brightest first.
    y_error_px, x_error_px : ndarray (n,)
        Errors of their positions [pixel].
    apertures : Apertures
        Their photometry in one aperture.
    background : Background
        Background of the image.
    radius_px, fwhm_px : float
        Radius of the aperture, and usual width of the sources [pixel].
    noise_correlation : float
        Noise of the background within the aperture, in units of that of independent pixels.
    """

    sources: Sources
    y_error_px: Float64Array
    x_error_px: Float64Array
    apertures: Apertures
    background: Background
    radius_px: float
    fwhm_px: float
    noise_correlation: float


def measure_image(image: FloatArray, settings: PhotometrySettings) -> ImagePhotometry:
    """Detect and measure all sources of an image.

    The errors hold the noise of the background, as it adds up over the aperture, that of the sky level and, if the gain
    is known, that of the photons.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; NaN marks bad pixels.
    settings : PhotometrySettings
        Settings, with gain and level of saturation where these are known.

    Returns
    -------
    ImagePhotometry
        Sources and their photometry; empty without any.
    """
    engine = engine_of(settings.engine)
    sources, background = engine.detect(image, threshold=settings.detection_snr), engine.background(image)
    fwhm = _usual_fwhm_px(sources)
    radius = settings.aperture_fwhm * fwhm
    side = max(round(np.sqrt(np.pi) * radius), 2)
    correlation = noise_correlation(image, background, side, (sources.y, sources.x, STAR_REACH_FWHM * fwhm))
    photons = np.zeros_like(image)
    if settings.gain_e_adu > 0:
        photons = np.nan_to_num(np.maximum(image - background.level, 0)) / settings.gain_e_adu
    inner, saturation = radius + max(3.0, 1.5 * fwhm), settings.saturation_adu or np.inf
    variance = np.asarray((correlation * background.noise) ** 2 + photons, image.dtype)

    def measure(pixels: FloatArray, noise: FloatArray, stars: Sources, radii: Radii) -> Apertures:
        annulus = inner, inner + 8.0
        return engine.aperture_photometry(pixels, noise, (stars.y, stars.x), radii, annulus, saturation)

    crowd = CrowdedImage(image, variance, sources, fwhm, (radius,), inner + 8.0, settings.gain_e_adu, saturation)
    apertures = without_neighbours(crowd, measure(image, variance, sources, crowd.radii_px), measure)
    apertures = _with_correlated_sky(apertures, np.pi * radius**2, correlation)
    errors = engine.centroid_errors(image - background.level, variance, sources)
    return ImagePhotometry(sources, *errors, apertures, background, radius, fwhm, correlation)


def with_filled_pixels(measured: ImagePhotometry, filled: NDArray[np.void]) -> ImagePhotometry:
    """Flag sources in whose light filled pixels may be wrong by more than a part of its error.

    Parameters
    ----------
    measured : ImagePhotometry
        Photometry of a stack.
    filled : structured ndarray
        Its filled pixels, see :func:`.filled_pixels`.

    Returns
    -------
    ImagePhotometry
        With `Flag.BAD_PIXEL` where it applies.
    """
    sources, apertures = measured.sources, measured.apertures
    places = sources.y, sources.x
    lost = light_at_stake(filled, places, apertures.flux[:, 0], measured.fwhm_px, measured.radius_px)
    flags = np.where(
        lost > MOST_LOST * apertures.flux_error[:, 0], apertures.flags | int(Flag.BAD_PIXEL), apertures.flags
    )
    return replace(measured, apertures=replace(apertures, flags=flags))


def _with_correlated_sky(apertures: Apertures, area: float, correlation: float) -> Apertures:
    """Return the photometry with the error of the sky level that correlated pixels give."""
    more = np.sqrt(correlation**2 - 1) * apertures.sky_error * area
    flux_error = np.hypot(apertures.flux_error, more[:, np.newaxis])
    return replace(apertures, flux_error=flux_error, sky_error=correlation * apertures.sky_error)


def _calibrated(
    work: Workspace, shape: tuple[int, ...], sources: Sources, apertures: Apertures, plate: PlateSolution | None
) -> tuple[ZeroPoint, int, str]:
    """Zero point from the stars of the catalogue, the number of those in the field, and the catalogue's name."""
    settings: PhotometrySettings = work.settings
    if plate is None or not (settings.catalogue or settings.vizier) or not len(sources):
        return ZeroPoint(), 0, ""
    catalog = _catalog(work, plate, plate.scale_arcsec * float(np.hypot(shape[0], shape[1])) / 2 / 3600)
    y, x = plate.pixels(*catalog.at(julian_year(mjd_of(work.observation.date_utc))))
    inside = np.flatnonzero((y > -0.5) & (x > -0.5) & (y < shape[0] - 0.5) & (x < shape[1] - 0.5))
    if not len(inside):
        return ZeroPoint(), 0, catalog.origin
    reach = max(MATCH_FWHM * _usual_fwhm_px(sources), LEAST_MATCH_PX)
    distance, star = cKDTree(np.stack([y[inside], x[inside]], axis=1)).query(
        np.stack([sources.y, sources.x], axis=1), distance_upper_bound=reach
    )
    matched = np.isfinite(distance)
    magnitude = np.full(len(sources), np.nan)
    magnitude[matched] = catalog.magnitudes_in(work.observation.filter)[inside[star[matched]]]
    mag, error = instrumental_magnitudes(apertures.flux[:, 0], apertures.flux_error[:, 0])
    good = apertures.flags == 0
    return find_zero_point(np.where(good, mag, np.nan), error, magnitude), len(inside), catalog.origin


def _catalog(work: Workspace, plate: PlateSolution, radius_deg: float) -> Catalog:
    settings: PhotometrySettings = work.settings
    if settings.catalogue:
        path = Path(settings.catalogue)
        found = star_catalogs.read_catalog(path if path.is_absolute() else work.layout.root / path)
        return found.around(*plate.centre, radius_deg)
    return gaia.gaia_around(plate.centre, radius_deg, settings.vizier, work.task.tmp / "catalogs")


def _table(measured: ImagePhotometry, plate: PlateSolution | None, zero_point: ZeroPoint) -> NDArray[np.void]:
    """Table of the sources, brightest first; pixels from 0."""
    sources, apertures = measured.sources, measured.apertures
    names = [name for group in COLUMNS for name in group]
    table = np.zeros(len(sources), [*((name, "f8") for name in names), ("flags", "i4")])
    mag, error = instrumental_magnitudes(apertures.flux[:, 0], apertures.flux_error[:, 0])
    table["x_px"], table["y_px"], table["fwhm_px"] = sources.x, sources.y, sources.fwhm_px
    table["x_error_px"], table["y_error_px"] = measured.x_error_px, measured.y_error_px
    table["ra_deg"], table["dec_deg"] = plate.sky(sources.y, sources.x) if plate is not None else (np.nan, np.nan)
    table["flux_adu"], table["flux_error_adu"] = apertures.flux[:, 0], apertures.flux_error[:, 0]
    table["mag"], table["mag_error"] = mag + zero_point.value, error
    table["sky_adu"], table["sky_error_adu"] = apertures.sky, apertures.sky_error
    table["flags"] = apertures.flags & ~int(Flag.PSF_FIT)
    return table


def _limit(measured: ImagePhotometry, zero_point: ZeroPoint) -> float:
    """Limiting magnitude: a star of five sigma in the aperture."""
    pixel = measured.noise_correlation * float(np.median(measured.background.noise))
    noise = pixel * np.sqrt(np.pi) * measured.radius_px
    return float(zero_point.value - POGSON * np.log(LIMIT_SIGMA * noise)) if noise > 0 else float("nan")


def _median(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")
