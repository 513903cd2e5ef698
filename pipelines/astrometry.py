"""Astrometry: a plate solution of an observation's best image, and its world coordinates for all of its products."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from astropy.io import fits
from pydantic import Field, NonNegativeFloat, PositiveFloat

from obsarchive.errors import Unprocessable
from obsarchive.figures.astrometry import plate_solution
from obsarchive.io import fits_products
from obsarchive.io.wcs_headers import plate_cards
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.remote import gaia, star_catalogs
from obsarchive.remote.star_catalogs import Catalog
from obsarchive.science.arrays import Float64Array, FloatArray
from obsarchive.science.astrometry.plate_solution import PlateSolution, project
from obsarchive.science.astrometry.star_matching import Match, Uncertainty, match_stars
from obsarchive.science.astrometry.times import julian_year, mjd_of
from obsarchive.science.photometry.source_detection import Sources, detect
from pipelines.shared.preview_step import labels_of
from pipelines.shared.product_headers import FILLED, pointing_wcs

log = logging.getLogger(__name__)

SkyPositions = tuple[Float64Array, Float64Array]
"""Right ascension and declination (n,) [deg]."""

EDGE_FWHM = 1.0
"""Sources nearer to an edge, in units of their FWHM, are cut off by it."""
LEAST_SNR = 5.0
"""Of a source's peak: the noise of drizzled images is correlated and would pass for faint sources."""


@dataclass(frozen=True)
class SolveSettings:
    """Settings of the plate solution."""

    catalogue: str = field(
        default="",
        metadata={"help": "file with ra, dec [deg], mag, pmra, pmdec [mas/yr], epoch; relative to the archive"},
    )
    vizier: str = field(
        default="",
        metadata={"help": "address of VizieR's asu-tsv program, asked for Gaia DR3 without a file; empty: never"},
    )
    pointing_arcsec: PositiveFloat = field(
        default=30.0, metadata={"help": "largest error of the telescope's pointing [arcsec]"}
    )
    scale_error: PositiveFloat = field(default=0.02, metadata={"help": "largest relative error of the plate scale"})
    rotation_deg: NonNegativeFloat = field(default=3.0, metadata={"help": "largest error of the orientation [deg]"})
    match_arcsec: PositiveFloat = field(default=0.4, metadata={"help": "reach of the first match [arcsec]"})
    order: Annotated[int, Field(ge=0, le=3)] = field(
        default=1, metadata={"help": "0: shift, turn, scale; 1: linear; 2, 3: with distortion (SIP)"}
    )


class Astrometry(Pipeline):
    """World coordinates from the stars of a catalogue."""

    name = "astrometry"

    @step(
        makes=["{id}_matches.csv", "{id}_astrometry.png"],
        may_make=["{id}_wcs.fits"],
        reads=["ccd/{id}_stack.fits", "faint_star/{id}_summed.fits", "bright_star/100p.fits"],
        uses=[],
        settings=SolveSettings,
    )
    def solve(self, work: Workspace) -> dict[str, Any]:
        """Match the stars of the best image with a catalogue; no solution is a valid result."""
        settings: SolveSettings = work.settings
        image, header = fits_products.read_fits(work.source())
        guess = _guess(work, header, image.shape)
        sources = _stars(image)
        half_deg = guess.scale_arcsec * float(np.hypot(*image.shape)) / 2 / 3600
        catalog = _catalog(work, guess.centre, half_deg + settings.pointing_arcsec / 3600)
        radec = catalog.at(julian_year(mjd_of(work.observation.date_utc)))
        uncertainty = Uncertainty(
            settings.pointing_arcsec, settings.scale_error, settings.rotation_deg, settings.match_arcsec
        )
        found = match_stars((sources.y, sources.x), radec, guess, uncertainty, settings.order)
        work.publish("{id}_matches.csv", _table(found, sources, radec).encode())
        work.publish("{id}_astrometry.png", _plot(work, image, sources, radec, found))
        results: dict[str, Any] = {
            "solved": found is not None,
            "n_sources": len(sources),
            "n_catalogue": len(catalog),
            "catalogue": catalog.origin,
            "image": work.source_name,
        }
        if found is None:
            reason = (
                f"no solution: {len(sources)} sources and {len(catalog)} stars of {catalog.origin} do not agree "
                f"within {settings.pointing_arcsec:g} arcsec of the pointing, {100 * settings.scale_error:g} % of the "
                f"scale and {settings.rotation_deg:g} deg of the orientation: check plate_scale_arcsec, "
                "north_angle_deg and east_left of the telescope, or allow more in steps.solve"
            )
            return {**results, "reason": reason}
        cards = _cards(found)
        full = header.copy()
        _without_wcs(full)
        full.update(cards)
        images = {"": image, FILLED: fits_products.read_table(work.source(), FILLED)}
        work.publish_fits("{id}_wcs.fits", images, full)
        amended = _amend(work, cards, header, image.shape)
        return {**results, **_measured(found, guess), "amended": amended}


def _guess(work: Workspace, header: fits.Header, shape: tuple[int, ...]) -> PlateSolution:
    """Plate solution of the telescope's pointing; not that of the header, which may hold an earlier solution."""
    middle = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    claimed = pointing_wcs(work, middle, float(header["PIXSCALE"]))
    if not claimed:
        raise Unprocessable(
            "pointing or orientation are not known: the raw header has no right ascension and declination, or the "
            "telescope no north_angle_deg"
        )
    matrix = 3600 * np.array([[claimed[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)], float)
    return PlateSolution((claimed["CRVAL1"], claimed["CRVAL2"]), middle, matrix)


def _stars(image: FloatArray) -> Sources:
    """Sources that stand out of the noise, away from the edges."""
    found = detect(image)
    if not len(found):
        return found
    ny, nx = image.shape
    margin = min(EDGE_FWHM * float(np.median(found.fwhm_px)), min(ny, nx) / 10)
    inside = (found.y > margin) & (found.y < ny - 1 - margin) & (found.x > margin) & (found.x < nx - 1 - margin)
    return found.chosen(inside & (found.snr >= LEAST_SNR))


def _catalog(work: Workspace, centre: tuple[float, float], radius_deg: float) -> Catalog:
    settings: SolveSettings = work.settings
    if settings.catalogue:
        path = Path(settings.catalogue)
        found = star_catalogs.read_catalog(path if path.is_absolute() else work.layout.root / path)
        return found.around(*centre, radius_deg)
    if settings.vizier:
        return gaia.gaia_around(centre, radius_deg, settings.vizier, work.task.tmp / "catalogs")
    raise Unprocessable(
        "no catalogue: set steps.solve.catalogue of the pipeline astrometry to a file with ra, dec, mag, "
        "or steps.solve.vizier to the address of a VizieR service"
    )


def _cards(found: Match) -> fits.Header:
    header = plate_cards(found.solution)
    header["ASTNMAT"] = (len(found.stars), "stars of the plate solution")
    header["ASTRMS"] = (found.rms_arcsec, "[arcsec] rms of their residuals along an axis")
    for key, (_, value, comment) in zip(("ASTERR", "ASTSCERR", "ASTROERR"), _errors(found)[:3], strict=True):
        if value is not None:
            header[key] = (value, comment)
    return header


def _without_wcs(header: fits.Header) -> None:
    """Remove the linear terms of an earlier solution, and what the provenance writes again."""
    for key in ("CDELT1", "CDELT2", "CROTA2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "EXTEND"):
        header.remove(key, ignore_missing=True)


def _amend(work: Workspace, cards: fits.Header, header: fits.Header, shape: tuple[int, ...]) -> list[str]:
    """Write the solution into the header of the image, and of its pipeline's other products on the same pixels."""
    pipeline, _, _ = work.source_name.partition("/")
    folder = work.source().parent
    amended = []
    for path in sorted(folder.glob("*.fits")):
        other = fits.getheader(path)
        same = (other.get("NAXIS2"), other.get("NAXIS1"), other.get("PIXSCALE")) == (*shape, header.get("PIXSCALE"))
        if same and other.get("GUIDEX") == header.get("GUIDEX") and other.get("GUIDEY") == header.get("GUIDEY"):
            work.amend_fits(pipeline, path.name, cards)
            amended.append(f"{pipeline}/{path.name}")
    return amended


def _measured(found: Match, guess: PlateSolution) -> dict[str, Any]:
    solution = found.solution
    east, north = project(*solution.centre, guess.centre)
    return {
        **{name: value for name, value, _ in _errors(found)},
        "n_matched": len(found.stars),
        "rms_arcsec": found.rms_arcsec,
        "false_alarm": found.false_alarm,
        "ra_deg": solution.centre[0],
        "dec_deg": solution.centre[1],
        "scale_arcsec": solution.scale_arcsec,
        "north_angle_deg": solution.north_angle_deg,
        "pointing_error_arcsec": [float(east), float(north)],
        "order": max((i + j for i, j in solution.distortion), default=1),
    }


def _errors(found: Match) -> list[tuple[str, float | None, str]]:
    """Standard errors of the solution, with names and comments; None where there are too few stars for one."""
    errors = found.errors
    values: list[float] = []
    if errors is not None:
        centre = float(errors.of_sky(*found.solution.reference))
        values = [centre, errors.scale_arcsec, errors.north_angle_deg, errors.star_arcsec]
    known = [value if np.isfinite(value) else None for value in values] or [None] * 4
    names = ("centre_error_arcsec", "scale_error_arcsec", "north_angle_error_deg", "star_error_arcsec")
    comments = (
        "[arcsec] error of CRVAL along an axis",
        "[arcsec/pixel] error of the plate scale",
        "[deg] error of the orientation",
        "[arcsec] error of one star along an axis",
    )
    return list(zip(names, known, comments, strict=True))


def _table(found: Match | None, sources: Sources, radec: SkyPositions) -> str:
    lines = [
        "x_px,y_px,flux_adu,snr,fwhm_px,ra_deg,dec_deg,catalogue_ra_deg,catalogue_dec_deg,east_mas,north_mas,error_mas"
    ]
    if found is None:
        return lines[0] + "\n"
    ra, dec = found.solution.sky(sources.y, sources.x)
    errors = _star_errors(found, sources)
    matched = dict(zip(found.stars.tolist(), range(len(found.stars)), strict=True))
    for i in range(len(sources)):
        start = (
            f"{sources.x[i]:.3f},{sources.y[i]:.3f},{sources.flux[i]:.1f},{sources.snr[i]:.1f},{sources.fwhm_px[i]:.2f}"
        )
        rest = ",,,"
        if i in matched:
            k = matched[i]
            j = found.catalog[k]
            east, north = 1000 * found.residuals_arcsec[k]
            rest = f"{radec[0][j]:.7f},{radec[1][j]:.7f},{east:.1f},{north:.1f}"
        lines.append(f"{start},{ra[i]:.7f},{dec[i]:.7f},{rest},{errors[i]}")
    return "\n".join(lines) + "\n"


def _star_errors(found: Match, sources: Sources) -> list[str]:
    """Errors along an axis of the sky positions of the sources, by the plate and by the position in the image [mas]."""
    if found.errors is None or not np.isfinite(found.errors.star_arcsec):
        return [""] * len(sources)
    error = np.hypot(found.errors.of_sky(sources.y, sources.x), found.errors.star_arcsec)
    return [f"{1000 * value:.1f}" for value in error]


def _plot(work: Workspace, image: FloatArray, sources: Sources, radec: SkyPositions, found: Match | None) -> bytes:
    marks = {"sources": (sources.y, sources.x)}
    if found is None:
        return plate_solution(image, marks, np.empty((0, 2)), None, labels_of(work))
    y, x = _pixels(found.solution, radec)
    inside = (y > 0) & (y < image.shape[0]) & (x > 0) & (x < image.shape[1])
    marks |= {"catalogue": (y[inside], x[inside]), "matched": (sources.y[found.stars], sources.x[found.stars])}
    return plate_solution(image, marks, found.residuals_arcsec, found.rms_arcsec, labels_of(work))


def _pixels(solution: PlateSolution, radec: SkyPositions) -> tuple[Float64Array, Float64Array]:
    """Pixels (y, x) of positions on the sky, without distortion: good enough for a plot."""
    standard = np.stack(project(*radec, solution.centre))
    u, v = np.linalg.solve(solution.matrix, np.nan_to_num(standard, nan=1e9))
    return v + solution.reference[0], u + solution.reference[1]
