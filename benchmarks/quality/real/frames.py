"""Frames of adaptive optics: positions, shifts, widths and Strehl ratios beside photutils and image_registration."""

import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import sep
from image_registration import chi2_shift
from photutils.aperture import CircularAnnulus, CircularAperture
from photutils.centroids import centroid_2dg
from photutils.profiles import RadialProfile
from scipy import fft

from benchmarks.quality.compared import Compared, version_of
from benchmarks.quality.real.data import FOLDER, pixels_of, plain_pixels
from obsarchive.config.model import Telescope
from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.psf.model import Optics
from obsarchive.science.psf.strehl import StrehlResult, measure_strehl
from pipelines.bright_star import BrightStar
from pipelines.faint_star import FaintStar
from tests.pipelines.bench_of_steps import Bench

HD1160, COSMOS, ROBO_AO = "HD 1160, NIRC2 H", "COSMOS 01, NIRC2 Ks", "PSFs of Robo-AO"
NARROW = Telescope.model_validate(
    {
        "primary_m": 10.0,
        "secondary_m": 2.4,
        "plate_scale_arcsec": 0.009971,  # Service et al. (2016, PASP 128, 095004)
        "detector_px": [1024, 1024],
        "filters": {"H": {"wavelength_nm": 1633, "width_nm": 296}},
    }
)
WIDE = Telescope.model_validate(
    {
        "primary_m": 10.0,
        "secondary_m": 2.4,
        "plate_scale_arcsec": 0.039686,  # Yelda et al. (2010, ApJ 725, 331)
        "detector_px": [1024, 1024],
        "filters": {"Ks": {"wavelength_nm": 2146, "width_nm": 311}},
    }
)
KECK_H = Optics(10.0, 2.4, 1633, 296)
PALOMAR_I = Optics(1.524, 0.61, 765, 150)
ROBO_AO_ARCSEC = 0.02158
"""Plate scale of Robo-AO's drizzled images (Baranec et al. 2014, ApJ 790, L8) [arcsec/pixel]."""
PEAK_PX = 0.2
"""By how much definitions of the centre of a star with lopsided speckles differ."""
PROFILE_SHARE = 0.02
"""Relative error of a width from a radial profile in bins of half a pixel, as of model PSFs."""
PUPIL_PX, FINE = 256, 3
"""Points across the pupil, and samples across a pixel."""


def perfect_pixels(optics: Optics, pixel_arcsec: float, side: int, offset: tuple[float, float]) -> np.ndarray:
    """Return the diffraction-limited PSF on pixels, of flux 1, by direct Fourier sums over a pupil of points.

    Parameters
    ----------
    optics : Optics
        Diameters and filter.
    pixel_arcsec : float
        Plate scale.
    side : int
        Side of the image [pixel].
    offset : (float, float)
        Position (y, x) of the star from the middle pixel [pixel].
    """
    edge = (np.arange(PUPIL_PX) + 0.5) / PUPIL_PX - 0.5
    radius = np.hypot(edge[:, np.newaxis], edge) * optics.primary_m
    pupil = ((radius <= optics.primary_m / 2) & (radius >= optics.secondary_m / 2)).astype(float)
    total = np.zeros((side, side))
    for share in (np.arange(9) + 0.5) / 9 - 0.5:
        wavelength = 1e-9 * (optics.wavelength_nm + share * optics.width_nm)
        # places of the samples within the pixels, in cycles over the pupil
        places = (np.arange(side * FINE) + 0.5) / FINE - 0.5 - side // 2
        y, x = ((places - each) * np.radians(pixel_arcsec / 3600) * optics.primary_m / wavelength for each in offset)
        field = np.exp(-2j * np.pi * np.outer(y, edge)) @ pupil @ np.exp(-2j * np.pi * np.outer(edge, x))
        step = np.radians(pixel_arcsec / 3600 / FINE) * optics.primary_m / wavelength
        # Parseval: the light of the whole plane is that of the pupil
        light = np.abs(field) ** 2 * step**2 / (pupil.sum() * PUPIL_PX**2)
        total += light.reshape(side, FINE, side, FINE).sum(axis=(1, 3)) / 9
    return total


def _fine_peak(image: np.ndarray, cutoff: float, zoom: int = 8) -> float:
    """Return the highest value of an image interpolated by its Fourier transform, up to a frequency [1/pixel]."""
    n = len(image)
    taper = np.hanning(n + 2)[1:-1] ** 0.25
    frequency = fft.fftshift(fft.fftfreq(n))
    # what the telescope does not transmit is noise; a step more, as the edges of the window spread the spectrum
    passed = np.hypot(frequency[:, np.newaxis], frequency) <= cutoff + 1 / n
    spectrum = fft.fftshift(fft.fft2(image * np.outer(taper, taper))) * passed
    padding = (zoom - 1) * n // 2
    return float(fft.ifft2(fft.ifftshift(np.pad(spectrum, padding))).real.max() * zoom**2)


def second_strehl(image: np.ndarray, y: float, x: float, optics: Optics, pixel_arcsec: float) -> tuple[float, float]:
    """Return Strehl ratio and FWHM [pixel], with apertures and profiles of photutils.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Pixels.
    y, x : float
        Approximate position of the star [pixel].
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale.
    """
    radius = min(2.5 / pixel_arcsec, (min(image.shape) - 1) / 2 / 1.4)
    with warnings.catch_warnings(action="ignore"):
        row, column = round(y), round(x)
        cut = image[row - 6 : row + 7, column - 6 : column + 7]
        fitted_x, fitted_y = centroid_2dg(cut - np.median(image))
    y, x = row - 6 + fitted_y, column - 6 + fitted_x
    sky_ring = CircularAnnulus((x, y), radius, 1.4 * radius).to_mask(method="center")
    sky = float(np.median(sky_ring.get_values(image)))
    flux = float(CircularAperture((x, y), radius).do_photometry(image - sky)[0][0])
    row, column, half = round(y), round(x), 16
    cutoff = np.radians(pixel_arcsec / 3600) * optics.primary_m / (1e-9 * (optics.wavelength_nm - optics.width_nm / 2))
    peak = _fine_peak(image[row - half : row + half, column - half : column + half] - sky, cutoff)
    side = 2 * int(radius) + 3
    perfect = perfect_pixels(optics, pixel_arcsec, side, (y - row, x - column))
    middle = side // 2
    best = _fine_peak(perfect[middle - half : middle + half, middle - half : middle + half], cutoff)
    best_flux = float(CircularAperture((middle + x - column, middle + y - row), radius).do_photometry(perfect)[0][0])
    return peak / flux * best_flux / best, _fwhm(image - sky, y, x, peak)


def _fwhm(image: np.ndarray, y: float, x: float, peak: float) -> float:
    """Return twice the radius at which the radial profile falls to half of the peak [pixel]."""
    profile = RadialProfile(image, (x, y), np.arange(0, 16, 0.5))
    values, radius = np.append(peak, profile.profile), np.append(0.0, profile.radius)
    below = int(np.argmax(values < peak / 2))
    return float(2 * np.interp(-peak / 2, -values[below - 1 : below + 1], radius[below - 1 : below + 1]))


def _strehl_rows(
    data: str, found: list[StrehlResult], second: list[tuple[float, float]], pixel_arcsec: float
) -> Iterator[Compared]:
    ratios, widths = np.array(second).T
    program = version_of("photutils") + ", Fourier sums of the pupil"
    errors = [one.ratio_error for one in found]
    yield Compared(data, "Strehl ratio", program, [one.ratio for one in found], errors, ratios)
    ours = np.array([one.fwhm_arcsec for one in found]) * 1e3
    own_error = [getattr(one, "fwhm_error_arcsec", np.nan) * 1e3 for one in found]
    tolerance = 0.03 * float(np.median(ours))
    program = version_of("photutils") + ", radial profile"
    theirs = widths * pixel_arcsec * 1e3
    yield Compared(data, "FWHM", program, ours, own_error, theirs, PROFILE_SHARE * theirs, "mas", tolerance)


def _table(path: Path) -> dict[str, np.ndarray]:
    """Return the columns of a table of frames by their names, in the order of the frames."""
    lines = path.read_text().splitlines()
    names = [line for line in lines if line.startswith("#")][-1].strip("# ").split()[:-1]
    rows = np.array([line.split()[: len(names)] for line in lines if line and not line.startswith("#")], float)
    return dict(zip(names, rows[np.argsort(rows[:, 0])].T, strict=True))


@cache
def _hd1160() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the frames, the position (y, x) of the star in each by the step of the pipeline, and its errors."""
    frames = [pixels_of(path) for path in sorted((FOLDER / "ao_dither" / "nirc2_hd1160").glob("*.gz"))]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), name="3_HD1160_NIRC2_H_o_20260314_053743.750000", telescope=NARROW)
        bench.expose([frame.astype(np.float32) for frame in frames], len(frames))
        bench.run(BrightStar, only=["reduce"])
        found = _table(bench.product("bright_star/frames.txt"))
    unknown = np.full(len(frames), np.nan)
    errors = [found.get(f"{axis}_error", unknown) for axis in "yx"]
    return frames, np.stack([found["y"], found["x"]], axis=1), np.stack(errors, axis=1)


def _moves(positions: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the frames are shifted from the first one, in y and x, and the errors [pixel]."""
    return (positions[1:] - positions[0]).ravel(), np.hypot(errors[1:], errors[0]).ravel()


def shift_rows() -> Iterator[Compared]:
    """Compare positions in the frames of a bright star."""
    frames, ours, errors = _hd1160()
    theirs = []
    for frame, (y, x) in zip(frames, np.rint(ours).astype(int), strict=True):
        near = frame[y - 5 : y + 6, x - 5 : x + 6] - np.median(frame)
        fitted = centroid_2dg(near)
        theirs.append((y - 5 + fitted[1], x - 5 + fitted[0]))
    program = version_of("photutils") + ", Gaussian"
    # a Gaussian and a peak differ in a PSF that is not symmetric, and not alike in each frame
    moves, own_error = _moves(ours, errors)
    others, _ = _moves(np.array(theirs), errors)
    yield Compared(HD1160, "shifts of the frames", program, moves, own_error, others, PEAK_PX, "px", PEAK_PX)
    others, their_error = _by_image_registration(frames, ours)
    program = version_of("image_registration")
    their_error = np.hypot(their_error, PEAK_PX)
    yield Compared(HD1160, "shifts of the frames", program, moves, own_error, others, their_error, "px", PEAK_PX)


def strehl_rows() -> Iterator[Compared]:
    """Compare Strehl ratio and width of a bright star in each frame."""
    frames, ours, _ = _hd1160()
    found, second = [], []
    for frame, (y, x) in zip(frames, ours, strict=True):
        found.append(measure_strehl(frame, KECK_H, NARROW.plate_scale_arcsec, centre=(float(y), float(x))))
        second.append(second_strehl(frame, y, x, KECK_H, NARROW.plate_scale_arcsec))
    yield from _strehl_rows(HD1160, found, second, NARROW.plate_scale_arcsec)


def _by_image_registration(frames: list[np.ndarray], places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shifts of windows around the star, and their errors [pixel]."""
    corners = np.rint(places).astype(int) - 32
    windows = [frame[y : y + 64, x : x + 64] for frame, (y, x) in zip(frames, corners, strict=True)]
    noise = 1.4826 * np.median(np.abs(frames[0] - np.median(frames[0])))
    moves, errors = [], []
    for window, corner in zip(windows[1:], corners[1:], strict=True):
        dx, dy, ex, ey = chi2_shift(windows[0], window, noise, return_error=True, upsample_factor="auto")
        moves += [*(corner - corners[0] + (dy, dx))]
        errors += [ey, ex]
    return np.array(moves), np.array(errors)


def cosmos_rows() -> Iterator[Compared]:
    """Compare the shifts of dithered frames with those of single stars."""
    folder = FOLDER / "ao_dither" / "nirc2_cosmos01"
    frames = [pixels_of(path).astype(np.float32) for path in sorted((folder / "raw").glob("*.gz"))]
    dark, flat, bad = (
        pixels_of(folder / "cal" / f"{name}.fits.gz").astype(np.float32)
        for name in ("drk_80_1_16_11apr", "flat_Ks_W_11apr", "badpix_12oct")
    )
    flat[(bad > 0) | (flat <= 0)] = np.nan
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), name="3_COSMOS01_NIRC2_Ks_o_20260314_053743.750000", telescope=WIDE)
        bench.expose(frames, len(frames))
        bench.calibrate(dark=dark, flat=flat)
        outcome = bench.run(FaintStar, only=["reduce"])["reduce"]
        rows = _table(bench.product("faint_star/shifts.txt"))
    star = outcome.record["results"]["guide_star"]
    shifts, errors = np.stack([rows["dy"], rows["dx"]], axis=1), rows["error"]
    calibration = Calibration.from_masters(dark, flat)
    places, theirs, claimed = np.array([star["y"], star["x"]]) - shifts, [], []
    clean = [np.nan_to_num(calibration.apply(frame), nan=0.0) for frame in frames]
    for frame, (y, x) in zip(clean, places, strict=True):
        found, error = _windowed(frame, y, x)
        theirs.append(found)
        claimed.append(error)
    ours = -(shifts - np.mean(shifts, axis=0))
    others = np.array(theirs) - np.mean(theirs, axis=0)
    own_error = np.repeat(errors[:, np.newaxis], 2, axis=1)
    their_error = np.repeat(np.array(claimed)[:, np.newaxis], 2, axis=1)
    program = version_of("sep") + ", windowed centroid of the star"
    yield Compared(
        COSMOS,
        "shifts of the frames",
        program,
        ours.ravel(),
        own_error.ravel(),
        others.ravel(),
        their_error.ravel(),
        "px",
    )


def _windowed(frame: np.ndarray, y: float, x: float) -> tuple[tuple[float, float], float]:
    """Return the windowed centroid (y, x) of a star by SEP, and its error from the noise of the background [pixel]."""
    flat = np.ascontiguousarray(frame, np.float32)
    background = sep.Background(flat)
    flat -= background.back()
    radius, _ = sep.flux_radius(flat, [x], [y], [8.0], 0.5)
    sigma = 2 * float(radius[0]) / 2.355
    found_x, found_y, _ = sep.winpos(flat, [x], [y], [sigma])
    top, left = round(y) - 12, round(x) - 12
    yy, xx = np.mgrid[top : top + 25, left : left + 25]
    # variance of a weighted mean of positions (Bertin & Arnouts 1996); a factor of 2 as the centroid is 2 sum/weight
    weight = np.exp(-((yy - found_y[0]) ** 2 + (xx - found_x[0]) ** 2) / (2 * sigma**2))
    light = float(np.sum(weight * flat[top : top + 25, left : left + 25]))
    variance = np.sum((weight * (yy - found_y[0])) ** 2) * background.globalrms**2
    return (float(found_y[0]), float(found_x[0])), 2 * float(np.sqrt(variance)) / light


def robo_ao_rows() -> Iterator[Compared]:
    """Compare Strehl ratio and width of PSF estimates of Robo-AO."""
    found, second = [], []
    for path in sorted((FOLDER / "psfsub" / "roboao_psf").glob("*.fits")):
        image = plain_pixels(path).astype(float)
        y, x = np.unravel_index(np.argmax(image), image.shape)
        found.append(measure_strehl(image, PALOMAR_I, ROBO_AO_ARCSEC, centre=(float(y), float(x))))
        second.append(second_strehl(image, float(y), float(x), PALOMAR_I, ROBO_AO_ARCSEC))
    yield from _strehl_rows(ROBO_AO, found, second, ROBO_AO_ARCSEC)
