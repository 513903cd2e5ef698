"""The star catalogue of a dataset: every star has a number that it keeps, and the target is number 0."""

import hashlib
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from obsarchive.errors import ArchiveError, Unprocessable
from obsarchive.io import atomic
from obsarchive.remote import gaia, star_catalogs
from obsarchive.remote.star_catalogs import Catalog
from obsarchive.science.arrays import AnyArray, Float64Array
from obsarchive.science.astrometry.plate_solution import PlateSolution, project
from obsarchive.science.astrometry.star_matching import Match, Uncertainty, refine_plate
from obsarchive.science.astrometry.times import julian_year
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.engine import EngineName, engine_of
from obsarchive.science.photometry.psf_photometry import REACH_FWHM, isolated_stars
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.timeseries.config import ReductionConfig
from obsarchive.timeseries.frame_table import Info, Planes, header_wcs, read_planes
from obsarchive.timeseries.target_position import target_outside

log = logging.getLogger(__name__)

TARGET = 0
TARGET_ARCSEC = 0.7
"""A star so close to the target is the target."""
SAME_ARCSEC = 0.5
"""A star so close to one of an older catalogue keeps its number."""
MARGIN = 0.05
"""How far beyond the reference frame stars are looked for, as a share of its side: frames do not lie exactly there."""
LEAST_SNR = 2.0
COMPARISON_STARS = 100
NEAR_FWHM = 10.0
"""Stars around the target that are fitted with it."""
BRIGHT_SNR = 60.0
ENOUGH_BRIGHT = 40
MATCH_PX = 3.0
MAX_RMS_PX = 1.0
LEAST_FRACTION = 0.15
"""Plate solutions with larger residuals, or of a smaller share of the stars, are none."""
DISTORTION_PAYS = 0.9
"""A plate solution with distortion must have residuals so much smaller."""
ANNULUS_AREA_PX = 500.0


@dataclass(frozen=True, eq=False)
class Stars:
    """The star catalogue.

    Attributes
    ----------
    number : ndarray (n,)
        Of each star, for good; 0 is the target.
    ra, dec : ndarray (n,)
        Positions at `epoch` [deg].
    pm_ra, pm_dec : ndarray (n,)
        Proper motions [mas/year].
    mag, colour : ndarray (n,)
        Of the catalogue; NaN for others.
    y, x : ndarray (n,)
        On the reference frame [pixel].
    is_known : ndarray (n,)
        Whether the reference catalogue holds it.
    is_comparison : ndarray (n,)
        Bright and isolated: such stars tell what the image of a star is.
    epoch : float
        Julian year.
    origin : str
        The reference catalogue.
    is_gaia : bool
        Whether magnitudes are Gaia's G.
    reference : str
        Reference frame.
    """

    number: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    pm_ra: NDArray[np.float64]
    pm_dec: NDArray[np.float64]
    mag: NDArray[np.float64]
    colour: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    is_known: NDArray[np.bool_]
    is_comparison: NDArray[np.bool_]
    epoch: float
    origin: str
    is_gaia: bool
    reference: str

    def __len__(self) -> int:
        return len(self.number)

    def at(self, year: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions at an epoch [deg]."""
        return self._as_catalog().at(year)

    def magnitudes_in(self, filter_name: str) -> NDArray[np.float64]:
        """Magnitudes of the catalogue in the band of a filter."""
        return self._as_catalog().magnitudes_in(filter_name)

    def _as_catalog(self) -> Catalog:
        return Catalog(
            self.ra, self.dec, self.mag, self.pm_ra, self.pm_dec, self.epoch, self.origin, self.colour, self.is_gaia
        )

    @property
    def target(self) -> int:
        """Row of the target."""
        return int(np.flatnonzero(self.number == TARGET)[0])

    def digest(self) -> str:
        """Stands for the positions and numbers."""
        return hashlib.sha256(b"".join(a.tobytes() for a in (self.number, self.ra, self.dec))).hexdigest()[:16]

    def save(self, path: Path, digest: str) -> None:
        """Write the catalogue as FITS.

        Parameters
        ----------
        path : Path
            File to write.
        digest : str
            Hash of the configuration that the catalogue was made with.
        """
        columns = [
            fits.Column(field.name, {"f": "D", "i": "K", "b": "L"}[value.dtype.kind], array=value)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        ]
        table = fits.BinTableHDU.from_columns(columns, name="STARS")
        table.header["EPOCH"] = (self.epoch, "Julian year of the positions")
        table.header["ORIGIN"], table.header["ISGAIA"] = self.origin[:60], self.is_gaia
        table.header["REFFRAME"], table.header["CONFHASH"] = self.reference[:60], digest
        with atomic.atomic_path(path) as part:
            fits.HDUList([fits.PrimaryHDU(), table]).writeto(part, checksum=True)


def load(path: Path) -> tuple[Stars, str] | None:
    """Read a catalogue and the digest of its configuration; None if there is none, or it is damaged."""
    try:
        with fits.open(path, memmap=False) as hdus:
            data, header = hdus["STARS"].data, hdus["STARS"].header
            arrays: dict[str, Any] = {
                name: np.array(data[name]).astype(data[name].dtype.newbyteorder("=")) for name in data.columns.names
            }
            facts = header["EPOCH"], header["ORIGIN"], header["ISGAIA"], header["REFFRAME"]
            return Stars(**arrays, **dict(zip(("epoch", "origin", "is_gaia", "reference"), facts, strict=True))), str(
                header["CONFHASH"]
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError) as err:
        log.warning("%s cannot be read (%s) and is made again", path, err)
        return None


def bright_sources(planes: Planes, engine: EngineName) -> Sources:
    """Return the sources on which a plate solution rests; many of them, if there are."""
    detect = engine_of(engine).detect
    found = detect(planes.image, threshold=BRIGHT_SNR)
    return found if len(found) >= ENOUGH_BRIGHT else detect(planes.image)


def solve(
    sources: Sources,
    sky: tuple[Float64Array, Float64Array],
    guess: PlateSolution,
    shape: tuple[int, ...],
    config: ReductionConfig,
) -> Match:
    """Return the plate solution of a frame from stars of known positions.

    Parameters
    ----------
    sources : Sources
        Stars of the frame, brightest first.
    sky : tuple of (n,) ndarray of float
        Right ascension and declination of the known stars [deg], brightest first.
    guess : PlateSolution
        Approximate solution, such as that of the header.
    shape : (ny, nx)
        Shape of the frame [pixel].
    config : ReductionConfig
        Error of the pointing [arcsec] and order of the distortion.

    Returns
    -------
    Match
        The solution and its stars.

    Raises
    ------
    Unprocessable
        There is none that is good enough.
    """
    scale, settings = guess.scale_arcsec, config.photometry
    inside = _inside(sky, guess, shape, settings.pointing_arcsec / scale)
    uncertainty = Uncertainty(settings.pointing_arcsec, 0.03, 3.0, MATCH_PX * scale)
    found = None
    for order in sorted({min(1, settings.order), settings.order}):
        tried = refine_plate((sources.y, sources.x), (sky[0][inside], sky[1][inside]), guess, uncertainty, order)
        if tried is not None and (found is None or tried.rms_arcsec < DISTORTION_PAYS * found.rms_arcsec):
            found = tried
    counts = f"{len(sources)} sources and {len(inside)} stars of the catalogue"
    if found is None:
        raise Unprocessable(f"no plate solution: {counts} do not agree")
    rms_px = found.rms_arcsec / scale
    fraction = len(found.stars) / max(1, min(len(sources), len(_inside(sky, found.solution, shape, 0.0))))
    if rms_px > MAX_RMS_PX or fraction < LEAST_FRACTION:
        raise Unprocessable(f"no plate solution: of {counts} {fraction:.0%} agree within {rms_px:.2f} px rms")
    return Match(found.solution, found.stars, inside[found.catalog], found.residuals_arcsec, found.false_alarm)


def _inside(
    sky: tuple[Float64Array, Float64Array], plate: PlateSolution, shape: tuple[int, ...], margin_px: float
) -> NDArray[np.intp]:
    """Numbers of the positions that lie on a frame."""
    y, x = plate.pixels(*sky)
    on_y = (y > -0.5 - margin_px) & (y < shape[0] - 0.5 + margin_px)
    return np.flatnonzero(on_y & (x > -0.5 - margin_px) & (x < shape[1] - 0.5 + margin_px))


def annulus(radius_px: float, fwhm_px: float) -> tuple[float, float]:
    """Return the radii of the sky annulus around an aperture.

    Parameters
    ----------
    radius_px : float
        Radius of the aperture [pixel].
    fwhm_px : float
        Full width at half maximum of stars [pixel].

    Returns
    -------
    inner, outer : float
        Radii [pixel].
    """
    inner = radius_px + max(3.0, 1.5 * fwhm_px)
    return inner, float(max(np.sqrt(inner**2 + ANNULUS_AREA_PX / np.pi), inner + 4))


def build(info: Info, config: ReductionConfig, cache: Path, older: Stars | None) -> Stars:
    """Return the star catalogue of a dataset, made from a reference frame.

    Parameters
    ----------
    info : Info
        Header of the reference frame.
    config : ReductionConfig
        Configuration of the dataset.
    cache : Path
        Folder for the answers of online catalogues.
    older : Stars, optional
        A catalogue whose numbers are kept.

    Returns
    -------
    Stars
        The target in row 0, then stars of the catalogue and detections on the frame.

    Raises
    ------
    Unprocessable
        The frame cannot be a reference frame.
    """
    planes = read_planes(info, config.photometry.saturation)
    guess = header_wcs(info, planes.image.shape)
    sources = bright_sources(planes, config.photometry.engine)
    radius = guess.scale_arcsec * float(np.hypot(*planes.image.shape)) / 2 + config.photometry.pointing_arcsec
    catalog = reference_catalogue(config, guess.centre, radius / 3600, cache)
    plate, year = guess, julian_year(info.mjd_middle)
    if catalog is not None:
        plate = solve(sources, catalog.at(year), guess, planes.image.shape, config).solution
    fwhm = float(np.median(sources.fwhm_px)) if len(sources) else 4.0
    _check_target(config, plate, planes.image.shape)
    parts = _known(catalog, plate, planes.image.shape, year)
    parts = _with_detections(parts, planes, plate, fwhm, config)
    parts = _with_target(parts, config, plate)
    found, y, x = _numbered(parts, older), parts["y"], parts["x"]
    radius_px = config.photometry.aperture_arcsec / plate.scale_arcsec
    apertures = engine_of(config.photometry.engine).aperture_photometry(
        planes.image, planes.variance, (y, x), (radius_px,), annulus(radius_px, fwhm), planes.saturation
    )
    snr = apertures.flux[:, 0] / apertures.flux_error[:, 0]
    kept = ~(snr < LEAST_SNR) | (found == TARGET)
    comparison = _comparison((y, x), apertures, fwhm)
    stars = Stars(
        **{name: values[kept] for name, values in parts.items()},
        number=found[kept],
        is_comparison=comparison[kept],
        epoch=year,
        origin=catalog.origin if catalog is not None else f"detections on {info.path.name}",
        is_gaia=catalog is not None and catalog.is_gaia,
        reference=info.path.name,
    )
    log.info("%s: %d stars, %d of them of %s", info.path.name, len(stars), stars.is_known.sum(), stars.origin)
    return stars


def _check_target(config: ReductionConfig, plate: PlateSolution, shape: tuple[int, ...]) -> None:
    """Refuse a target that is farther from the reference frame than frames of a dataset are from each other."""
    target = config.target
    y, x = (float(axis[0]) for axis in plate.pixels(np.array([target.ra_deg]), np.array([target.dec_deg])))
    if not (-shape[0] < y < 2 * shape[0] and -shape[1] < x < 2 * shape[1]):
        corners = plate.sky(np.array([0, 0, shape[0], shape[0]]), np.array([0, shape[1], 0, shape[1]]))
        raise Unprocessable(target_outside((target.ra_deg, target.dec_deg), corners))


def reference_catalogue(
    config: ReductionConfig, centre: tuple[float, float], radius_deg: float, cache: Path
) -> Catalog | None:
    """Return the reference stars of a field.

    Parameters
    ----------
    config : ReductionConfig
        Names a local file or a VizieR service for Gaia DR3.
    centre : tuple of float
        Right ascension and declination of the centre [deg].
    radius_deg : float
        Radius of the field [deg].
    cache : Path
        Folder for the answers of the service.

    Returns
    -------
    Catalog or None
        None when neither is configured.

    Raises
    ------
    ArchiveError
        The catalogue cannot be read or fetched.
    """
    settings = config.photometry
    if settings.catalogue is not None:
        return star_catalogs.read_catalog(settings.catalogue).around(*centre, radius_deg, settings.max_stars)
    if settings.vizier:
        try:
            return gaia.gaia_around(centre, radius_deg, settings.vizier, cache, settings.max_stars)
        except Unprocessable as err:  # no fault of the frame: the others would fare no better
            raise ArchiveError(str(err)) from err
    log.warning("no catalogue is configured: coordinates are those of the frame's header, magnitudes instrumental")
    return None


def _known(catalog: Catalog | None, plate: PlateSolution, shape: tuple[int, ...], year: float) -> dict[str, AnyArray]:
    """Stars of the catalogue on and around the reference frame."""
    if catalog is None:
        return {name: np.empty(0) for name in ("ra", "dec", "pm_ra", "pm_dec", "mag", "colour", "y", "x")} | {
            "is_known": np.empty(0, bool)
        }
    sky = catalog.at(year)
    chosen = _inside(sky, plate, shape, MARGIN * max(shape))
    y, x = plate.pixels(sky[0][chosen], sky[1][chosen])
    some = catalog.chosen(chosen)
    parts = {"pm_ra": some.pm_ra, "pm_dec": some.pm_dec, "mag": some.magnitude, "colour": some.colour}
    return {
        **{"ra": sky[0][chosen], "dec": sky[1][chosen], "y": y, "x": x, "is_known": np.ones(len(chosen), bool)},
        **parts,
    }


def _appended(
    parts: dict[str, AnyArray], ra: Float64Array, dec: Float64Array, y: Float64Array, x: Float64Array
) -> dict[str, AnyArray]:
    """Return the catalogue with stars of which only the position is known."""
    n = len(ra)
    new = {"ra": ra, "dec": dec, "y": y, "x": x, "pm_ra": np.zeros(n), "pm_dec": np.zeros(n)}
    new |= {"mag": np.full(n, np.nan), "colour": np.full(n, np.nan), "is_known": np.zeros(n, bool)}
    return {name: np.concatenate([values, new[name]]) for name, values in parts.items()}


def _with_detections(
    parts: dict[str, AnyArray], planes: Planes, plate: PlateSolution, fwhm: float, config: ReductionConfig
) -> dict[str, AnyArray]:
    """Add the sources that the catalogue does not hold."""
    settings = config.photometry
    sources = engine_of(settings.engine).detect(planes.image, fwhm, settings.detection_sigma, settings.max_stars)
    new = np.ones(len(sources), bool)
    if len(parts["y"]) and len(sources):
        distance, _ = cKDTree(np.stack([parts["y"], parts["x"]], axis=1)).query(
            np.stack([sources.y, sources.x], axis=1)
        )
        new = distance > max(0.75 * fwhm, 2.0)
    # what is much sharper than a star is a cosmic ray or a hot pixel
    new &= sources.fwhm_px > 0.5 * fwhm
    new &= np.arange(len(sources)) < settings.max_stars - len(parts["y"])
    y, x = sources.y[new], sources.x[new]
    return _appended(parts, *plate.sky(y, x), y, x)


def _with_target(parts: dict[str, AnyArray], config: ReductionConfig, plate: PlateSolution) -> dict[str, AnyArray]:
    """Make sure that the target is there, and put it first."""
    place = config.target.ra_deg, config.target.dec_deg
    if len(parts["ra"]):
        xi, eta = project(parts["ra"], parts["dec"], place)
        distance = np.where(np.isfinite(xi), np.hypot(xi, eta), np.inf)
        nearest = int(np.argmin(distance))
        if distance[nearest] <= TARGET_ARCSEC:
            order = np.concatenate([[nearest], np.delete(np.arange(len(distance)), nearest)])
            return {name: values[order] for name, values in parts.items()}
    y, x = plate.pixels(*place)
    added = _appended(parts, *(np.atleast_1d(value) for value in (*place, y, x)))
    return {name: np.roll(values, 1) for name, values in added.items()}


def _numbered(parts: dict[str, AnyArray], older: Stars | None) -> NDArray[np.int64]:
    """Return the numbers of the stars: those of an older catalogue where it holds the star, else new ones."""
    n = len(parts["ra"])
    if older is None:
        return np.arange(n)
    place = float(parts["ra"][0]), float(parts["dec"][0])
    old, new = (
        np.nan_to_num(np.stack(project(ra, dec, place), axis=1), nan=1e9)
        for ra, dec in ((older.ra, older.dec), (parts["ra"], parts["dec"]))
    )
    distance, nearest = cKDTree(old).query(new)
    _, back = cKDTree(new).query(old)
    same = (distance <= SAME_ARCSEC) & (back[nearest] == np.arange(n)) & (older.number[nearest] != TARGET)
    found = np.where(same, older.number[nearest], -1)
    found[0] = TARGET
    missing = np.flatnonzero(found < 0)
    found[missing] = int(older.number.max()) + 1 + np.arange(len(missing))
    return found


def _comparison(stars: tuple[Float64Array, Float64Array], apertures: Apertures, fwhm: float) -> NDArray[np.bool_]:
    """Return which stars are comparison stars: bright and isolated."""
    found = np.zeros(len(stars[0]), bool)
    good = (apertures.flags == 0) & np.isfinite(apertures.flux[:, 0])
    found[isolated_stars(stars, apertures.flux[:, 0], good, REACH_FWHM * fwhm, COMPARISON_STARS)] = True
    return found
