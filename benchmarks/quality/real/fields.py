"""Star fields: detection, positions, photometry and plate solutions beside SExtractor, PSFEx, SCAMP and photutils."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture
from scipy import optimize
from scipy.spatial import cKDTree

from benchmarks.quality import astromatic
from benchmarks.quality.compared import Compared, version_of
from benchmarks.quality.real.data import FOLDER, LOWELL, LOWELL_GAIN, SCIENCE, lowell_frame, plain_pixels
from obsarchive.science.astrometry.plate_solution import PlateSolution, project
from obsarchive.science.astrometry.star_matching import Uncertainty, match_stars
from obsarchive.science.photometry.aperture import Apertures, aperture_photometry
from obsarchive.science.photometry.background import flat_background
from obsarchive.science.photometry.centroid_errors import windowed_errors
from obsarchive.science.photometry.psf_fit import Frame
from obsarchive.science.photometry.psf_photometry import isolated_stars, psf_photometry
from obsarchive.science.photometry.source_detection import Sources, detect
from tests.real.pack_nights import read_source

NTT, FIELD = "NTT field", "Lowell 42-inch, 300 s"
APERTURE_FWHM = 1.5
SATURATION = 50_000.0
BRIGHT_SNR = 20.0
"""Peak over noise of sources that any program should find."""
WINDOW_PX = 0.012
"""By how much centres of undersampled stars differ with the size of the window."""
ATMOSPHERE_PX = 0.008
"""Motion of stars relative to each other in five minutes (9 mas), compare Zacharias (1996, PASP 108, 1135)."""
ORDER = 3
"""Of the plate solutions."""
SCALE_ARCSEC = 1.107
UNDERSAMPLED = "stars are 2 pixels wide: any PSF is known to 0.5 to 1 % only, also that of PSFEx"
STAR_WIDTH = 0.12
"""Relative deviation of the width from the usual one up to which a source is a star."""
INNER = slice(200, -200), slice(200, -250)
"""Part of the Lowell frames without vignetting and ghosts."""
COLUMNS = (
    "XWIN_IMAGE",
    "YWIN_IMAGE",
    "X_IMAGE",
    "Y_IMAGE",
    "ERRAWIN_IMAGE",
    "FLUX_APER",
    "FLUXERR_APER",
    "FLUX_MAX",
    "FLUX_RADIUS",
    "SNR_WIN",
    "ELONGATION",
    "FLAGS",
)


@dataclass(frozen=True, eq=False)
class Measured:
    """An image as the archive's step measures it: sources and apertures."""

    image: np.ndarray
    variance: np.ndarray
    sources: Sources
    apertures: Apertures
    radius: float
    annulus: tuple[float, float]

    @property
    def fwhm(self) -> float:
        return float(np.median(self.sources.fwhm_px))

    @property
    def xy(self) -> np.ndarray:
        return np.stack([self.sources.x, self.sources.y], axis=1)

    @property
    def is_star(self) -> np.ndarray:
        """Whether a source is as wide as stars are, and not disturbed."""
        return (np.abs(self.sources.fwhm_px / self.fwhm - 1) < STAR_WIDTH) & (self.apertures.flags == 0)

    @cached_property
    def position_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Errors of the positions, y and x [pixel]."""
        level = np.float32(np.median(self.image))
        return windowed_errors(self.image - level, self.variance, self.sources)


def measured(image: np.ndarray, gain: float = 0.0) -> Measured:
    """Measure an image as the step ``photometry:measure`` does."""
    sources, background = detect(image, threshold=10.0), flat_background(image)
    fwhm = float(np.median(sources.fwhm_px))
    variance = np.full_like(image, background.noise**2)
    if gain > 0:
        variance += np.maximum(image - background.level, 0) / gain
    radius = APERTURE_FWHM * fwhm
    inner = radius + max(3.0, 1.5 * fwhm)
    annulus = inner, inner + 8.0
    apertures = aperture_photometry(image, variance, (sources.y, sources.x), (radius,), annulus, SATURATION)
    return Measured(image, variance, sources, apertures, radius, annulus)


@cache
def ntt() -> Measured:
    """Return the field of the NTT."""
    return measured(plain_pixels(FOLDER / "images" / "sep" / "image.fits"))


@cache
def lowell(number: int) -> Measured:
    """Return an exposure of the asteroid field."""
    return measured(np.ascontiguousarray(lowell_frame(number)[INNER]), LOWELL_GAIN)


def with_sextractor(field: Measured, gain: float, *, with_psf: bool = False) -> np.ndarray:
    """Return the catalogue by SExtractor; with fluxes of a PSF that PSFEx makes, if wanted."""
    settings = {
        "GAIN": gain,
        "SATUR_LEVEL": SATURATION,
        "PHOT_APERTURES": 2 * field.radius,
        "BACKPHOTO_TYPE": "LOCAL",
        "DETECT_THRESH": 2.0,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not with_psf:
            return astromatic.sextractor(field.image, folder, COLUMNS, **settings)
        astromatic.sextractor(field.image, folder, [*COLUMNS, "VIGNET(35,35)"], **settings)
        model = astromatic.psfex(folder)
        columns = [*COLUMNS, "FLUX_PSF", "FLUXERR_PSF"]
        return astromatic.sextractor(field.image, folder, columns, PSF_NAME=model, **settings)


def paired(field: Measured, xy: np.ndarray, reach_px: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return which sources are within reach of a position of another list, and the nearest of each."""
    distance, other = cKDTree(xy).query(field.xy)
    return distance < reach_px, other


def _share(found: np.ndarray) -> tuple[float, float]:
    """Return a share, and half of how much may be missing: one in a hundred, and one more [per cent]."""
    return 100 * float(np.mean(found)), 50 * (0.01 + 1 / len(found))


def _detection(
    name: str, field: Measured, catalog: np.ndarray, real: tuple[np.ndarray, np.ndarray]
) -> Iterator[Compared]:
    """Compare the lists of bright sources, both ways; `real` sources of field and catalogue are no cosmic rays."""
    program = astromatic.version("source-extractor")
    xy = np.stack([catalog["XWIN_IMAGE"], catalog["YWIN_IMAGE"]], axis=1) - 1
    noise = float(np.sqrt(field.variance.min()))
    is_bright = real[1] & (catalog["FLUX_MAX"] > BRIGHT_SNR * noise) & (catalog["FLAGS"] == 0)
    away, _ = cKDTree(field.xy).query(xy[is_bright])
    text = f"bright sources (peak S/N > {BRIGHT_SNR:g})"
    share, tolerance = _share(away < 2)
    yield Compared(name, f"{text} of theirs found by Archiver", program, share, np.nan, 100.0, 0.0, "%", tolerance)
    own, _ = paired(field, xy, 2)
    share, tolerance = _share(own[real[0] & field.is_star & (field.sources.snr > BRIGHT_SNR)])
    yield Compared(name, f"{text} of Archiver's found by theirs", program, share, np.nan, 100.0, 0.0, "%", tolerance)


def _positions_and_apertures(name: str, field: Measured, catalog: np.ndarray) -> Iterator[Compared]:
    """Compare positions and aperture fluxes with SExtractor and photutils."""
    program = astromatic.version("source-extractor")
    near, j = paired(field, np.stack([catalog["XWIN_IMAGE"], catalog["YWIN_IMAGE"]], axis=1) - 1)
    good = near & field.is_star & (catalog["FLAGS"][j] == 0)
    row, sources = catalog[j[good]], field.sources
    places, errors = np.stack([sources.x, sources.y], axis=1)[good], np.stack(field.position_errors[::-1], axis=1)[good]
    theirs = np.stack([row["XWIN_IMAGE"], row["YWIN_IMAGE"]], axis=1) - 1
    # windows of other sizes see the middle of a star that is not symmetric elsewhere
    theirs += np.median(places - theirs, axis=0)
    their_error = np.hypot(row["ERRAWIN_IMAGE"], WINDOW_PX)
    for axis, key in enumerate("xy"):
        ours = places[:, axis], errors[:, axis]
        yield Compared(name, f"{key} of stars", program, *ours, theirs[:, axis], their_error, "px")
    apertures = field.apertures
    ours = apertures.flux[good, 0], apertures.flux_error[good, 0]
    yield Compared(name, "aperture flux of stars", program, *ours, row["FLUX_APER"], row["FLUXERR_APER"], "ADU")
    yield _by_photutils(name, field)


def _by_photutils(name: str, field: Measured) -> Compared:
    good = field.is_star
    places = field.xy[good]
    aperture = CircularAperture(places, field.radius)
    sky = ApertureStats(field.image, CircularAnnulus(places, *field.annulus), sum_method="center")
    sums, errors = aperture.do_photometry(field.image.astype(float), np.sqrt(field.variance.astype(float)))
    errors = np.hypot(errors, aperture.area * sky.std / np.sqrt(sky.center_aper_area.value))
    apertures = field.apertures
    ours = apertures.flux[good, 0], apertures.flux_error[good, 0]
    program = version_of("photutils")
    # the median of the annulus, without clipping
    return Compared(name, "aperture flux of stars", program, *ours, sums - aperture.area * sky.median, errors, "ADU")


def ntt_rows() -> Iterator[Compared]:
    """Compare the field of the NTT."""
    field = ntt()
    catalog = with_sextractor(field, 0.0)
    yield from _detection(NTT, field, catalog, (np.ones(len(field.xy), bool), np.ones(len(catalog), bool)))
    yield from _positions_and_apertures(NTT, field, catalog)


def lowell_rows() -> Iterator[Compared]:
    """Compare an exposure of the asteroid field."""
    field, other = lowell(150), lowell(142)
    catalog, again = (with_sextractor(each, LOWELL_GAIN) for each in (field, other))
    # the telescope moved by half a pixel only
    places, there = (np.stack([each["X_IMAGE"], each["Y_IMAGE"]], axis=1) for each in (catalog, again))
    repeated, _ = _twice()
    yield from _detection(FIELD, field, catalog, (repeated, cKDTree(there).query(places)[0] < 1.5))
    yield from _positions_and_apertures(FIELD, field, catalog)


def _psf_fluxes(field: Measured, stars: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return PSF fluxes, their errors, and the stars from which the PSF was made."""
    sources, flux = field.sources, field.apertures.flux[:, 0]
    usable = stars & (sources.snr > 50)
    chosen = isolated_stars((sources.y, sources.x), flux, usable, 3.5 * field.fwhm)
    frame = Frame(field.image, field.variance, sources.y, sources.x, SATURATION)
    found = psf_photometry(frame, field.apertures, chosen, np.arange(len(sources)), field.fwhm)
    return found.flux, found.flux_error, chosen


def _twice() -> tuple[np.ndarray, np.ndarray]:
    """Return which sources of one exposure are in another as well, at the same place, and which ones they are there."""
    one, two = lowell(150), lowell(142)
    pairs = cKDTree(two.xy).query(one.xy)
    offset = np.median((two.xy[pairs[1]] - one.xy)[pairs[0] < 1.5], axis=0)
    distance, other = cKDTree(two.xy - offset).query(one.xy)
    return distance < 0.8, other


def psf_rows() -> Iterator[Compared]:
    """Compare PSF photometry with that of PSFEx and SExtractor; stars are what is in two exposures, not cosmic rays."""
    field = lowell(150)
    repeated, _ = _twice()
    flux, error, chosen = _psf_fluxes(field, repeated & field.is_star)
    catalog = with_sextractor(field, LOWELL_GAIN, with_psf=True)
    near, j = paired(field, np.stack([catalog["XWIN_IMAGE"], catalog["YWIN_IMAGE"]], axis=1) - 1)
    theirs, theirs_error = catalog["FLUX_PSF"][j].astype(float), catalog["FLUXERR_PSF"][j].astype(float)
    # PSFEx normalises by the light in the aperture, the archive by that of the whole PSF
    unit = float(np.median(flux[chosen] / theirs[chosen]))
    # of some faint stars the other program has no fit
    good = near & repeated & field.is_star & (catalog["FLAGS"][j] == 0) & (theirs > 0)
    program = f"{astromatic.version('psfex')}, {astromatic.version('source-extractor')}"
    for regime, low, high in (("faint", 0, 50), ("bright", 50, np.inf)):
        own = good & (field.sources.snr > low) & (field.sources.snr <= high)
        yield Compared(
            FIELD,
            f"PSF flux of {regime} stars",
            program,
            flux[own],
            error[own],
            unit * theirs[own],
            unit * theirs_error[own],
            "ADU",
            note=UNDERSAMPLED if regime == "bright" else "",
        )


def repeated_rows() -> Iterator[Compared]:
    """Compare two exposures of the same stars with each other: the noise is independent."""
    one, two = lowell(150), lowell(142)
    repeated, other = _twice()
    program = "another exposure"
    pairs = (("aperture flux", *((f.apertures.flux[:, 0], f.apertures.flux_error[:, 0]) for f in (one, two))),)
    pairs += (("PSF flux", _psf_fluxes(one, repeated & one.is_star)[:2], _psf_fluxes(two, two.is_star)[:2]),)
    for quantity, (flux, error), (flux2, error2) in pairs:
        good = repeated & one.is_star & two.is_star[other]
        ratio = flux2[other] / flux
        bright = good & (one.sources.snr > 50)
        unit = float(np.median(ratio[bright]))
        for regime, low, high in (("faint", 0, 50), ("bright", 50, np.inf)):
            own = good & (one.sources.snr > low) & (one.sources.snr <= high)
            yield Compared(
                FIELD,
                f"{quantity} of {regime} stars",
                program,
                flux[own],
                error[own],
                flux2[other][own] / unit,
                error2[other][own] / unit,
                "ADU",
                note=UNDERSAMPLED if (quantity, regime) == ("PSF flux", "bright") else "",
            )


def repeated_position_rows() -> Iterator[Compared]:
    """Compare the positions in two exposures of the same stars, but for a map of second order."""
    one, two = lowell(150), lowell(142)
    repeated, other = _twice()
    good = repeated & one.is_star & two.is_star[other]
    middle = (one.image.shape[0] - 1) / 2, (one.image.shape[1] - 1) / 2
    terms = _terms(one.sources.y[good], one.sources.x[good], middle, 2)
    first, second = (np.stack(field.position_errors[::-1], axis=1) for field in (one, two))
    for axis, key in enumerate("xy"):
        ours, theirs = one.xy[good, axis], two.xy[other][good, axis]
        error, their_error = first[good, axis], np.hypot(second[other][good, axis], ATMOSPHERE_PX)
        weight = 1 / np.hypot(error, their_error)
        moved = optimize.least_squares(
            lambda c, w=weight, d=ours - theirs: w * (d - terms @ c), np.zeros(terms.shape[1]), loss="soft_l1"
        ).x
        program = "another exposure, atmosphere"
        yield Compared(FIELD, f"{key} of stars", program, ours, error, theirs + terms @ moved, their_error, "px")


def _published_wcs(number: int) -> WCS:
    """Return the plate solution in the header of a raw frame, for the pixels of the inner part."""
    header = read_source(LOWELL / "5945" / f"20190326.{number:04d}.fits.gz")[0]
    clean = fits.Header()
    for key in header:
        if key.startswith("CUNIT"):
            clean[key] = header[key]
        elif key.startswith(("CRVAL", "CRPIX", "CD1_", "CD2_", "PV1_", "PV2_")):
            clean[key] = float(header[key])
    clean["CTYPE1"], clean["CTYPE2"] = "RA---TPV", "DEC--TPV"
    clean["CRPIX1"] -= SCIENCE.start + INNER[1].start
    clean["CRPIX2"] -= INNER[0].start
    return WCS(clean)


def wcs_rows() -> Iterator[Compared]:
    """Compare the plate solution of an exposure, from another's published positions, with those of SCAMP."""
    field = lowell(150)
    ra, dec, mag = _reference()
    middle = (field.image.shape[0] - 1) / 2, (field.image.shape[1] - 1) / 2
    matrix = np.array([[-SCALE_ARCSEC, 0.0], [0.0, SCALE_ARCSEC]])
    # as well as a telescope points
    guess = PlateSolution((float(np.mean(ra)) + 0.01, float(np.mean(dec)) - 0.005), middle, matrix)
    stars = field.sources.chosen(field.is_star & (field.sources.snr > BRIGHT_SNR))
    found = match_stars((stars.y, stars.x), (ra, dec), guess, Uncertainty(90.0, 0.02, 3.0, 3.0), ORDER)
    if found is None:
        raise RuntimeError("no plate solution of the Lowell field")
    grid = tuple(axis.ravel() for axis in np.mgrid[50:900:6j, 50:850:6j])
    terms, wanted = (_terms(*places, middle, ORDER) for places in ((stars.y[found.stars], stars.x[found.stars]), grid))
    leverage = np.einsum("ij,jk,ik->i", wanted, np.linalg.inv(terms.T @ terms), wanted)
    error = found.rms_arcsec * np.sqrt(leverage)
    yield from _against(found.solution, error, _published_wcs(150), grid, "SCAMP, as published in the header")
    yield from _against(found.solution, error, _scamp_wcs(guess, (ra, dec, mag)), grid, astromatic.version("scamp"))


def _reference() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions [deg] and magnitudes of the stars of the other exposure, by SExtractor, the brightest first."""
    other = lowell(142)
    catalog = with_sextractor(other, LOWELL_GAIN)
    stars = cKDTree(other.xy[other.is_star]).query(np.stack([catalog["X_IMAGE"], catalog["Y_IMAGE"]], axis=1) - 1)
    own = catalog[(stars[0] < 1) & (catalog["FLAGS"] == 0)]
    own = own[np.argsort(-own["FLUX_APER"])]
    ra, dec = _published_wcs(142).all_pix2world(own["XWIN_IMAGE"], own["YWIN_IMAGE"], 1)
    return ra, dec, 25 - 2.5 * np.log10(own["FLUX_APER"])


def _scamp_wcs(guess: PlateSolution, reference: tuple[np.ndarray, np.ndarray, np.ndarray]) -> WCS:
    """Return the plate solution by SCAMP from the same start, of the sources by SExtractor."""
    (y, x), (ra, dec) = guess.reference, guess.centre
    (a, b), (c, d) = guess.matrix / 3600
    rough = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"})
    rough.update({"CRVAL1": ra, "CRVAL2": dec, "CRPIX1": x + 1, "CRPIX2": y + 1, "EQUINOX": 2000.0})
    rough.update({"CD1_1": a, "CD1_2": b, "CD2_1": c, "CD2_2": d, "EXPTIME": 300.0, "DATE-OBS": "2019-03-26"})
    columns = ["XWIN_IMAGE", "YWIN_IMAGE", "ERRAWIN_IMAGE", "ERRBWIN_IMAGE", "ERRTHETAWIN_IMAGE", "FLUX_AUTO"]
    columns += ["FLUXERR_AUTO", "MAG_AUTO", "MAGERR_AUTO", "FLAGS", "FLUX_RADIUS", "ELONGATION", "SNR_WIN"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"DETECT_THRESH": 5.0, "GAIN": LOWELL_GAIN, "SATUR_LEVEL": SATURATION}
        astromatic.sextractor(lowell(150).image, folder, columns, rough, **settings)
        return WCS(astromatic.scamp(folder, reference, DISTORT_DEGREES=ORDER, POSITION_MAXERR=3))


def _terms(y: np.ndarray, x: np.ndarray, middle: tuple[float, float], order: int) -> np.ndarray:
    """Return the terms of a polynomial of positions (n, k)."""
    v, u = (np.asarray(y) - middle[0]) / middle[0], (np.asarray(x) - middle[1]) / middle[1]
    return np.stack([u**i * v ** (n - i) for n in range(order + 1) for i in range(n + 1)], axis=1)


def _against(
    solution: PlateSolution, error: np.ndarray, theirs: WCS, grid: tuple[np.ndarray, ...], program: str
) -> Iterator[Compared]:
    """Compare positions of pixels in the tangent plane [arcsec]; the error stands for both, of the same stars."""
    # windows of other sizes see the middle of a star that is not symmetric elsewhere
    dx, dy = _centroid_offset()
    sky = theirs.all_pix2world(grid[1] + dx, grid[0] + dy, 0)
    own, other = solution.to_standard_coordinates(*grid), project(*sky, solution.centre)
    for axis, a, b in zip(("east", "north"), own, other, strict=True):
        yield Compared(FIELD, f"position on the sky, {axis}", program, a, error, b, error, "arcsec")


def _centroid_offset() -> np.ndarray:
    """Return the median (x, y) of the stars by SExtractor, minus those by the archive [pixel]."""
    field, catalog = lowell(150), with_sextractor(lowell(150), LOWELL_GAIN)
    xy = np.stack([catalog["XWIN_IMAGE"], catalog["YWIN_IMAGE"]], axis=1) - 1
    near, j = paired(field, xy)
    good = near & field.is_star & (field.sources.snr > BRIGHT_SNR)
    return np.median(xy[j[good]] - field.xy[good], axis=0)
