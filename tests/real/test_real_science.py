"""Real data through single steps, against independent tools and published values."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import sep
from pack_nights import read_source
from scipy import ndimage, optimize

from obsarchive.config.model import Telescope
from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Observation
from obsarchive.io import psf_library
from obsarchive.io.fits_products import read_fits
from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.imaging.deconvolution import deconvolve
from obsarchive.science.psf.contrast import subtract_star
from obsarchive.science.psf.model import Optics, model_psf
from obsarchive.science.psf.subtraction import References, cut_stamp, subtraction_mask
from pipelines.extended_object import ExtendedObject
from pipelines.faint_star import FaintStar
from tests.pipelines.bench_of_steps import NIGHT, Bench

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ARCHIVER_TEST_DATA", PROJECT.parent / "shared" / "data"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no test data in {DATA}")]

NIRC2_WIDE = Telescope.model_validate(
    {
        "primary_m": 10.0,
        "secondary_m": 2.4,
        "plate_scale_arcsec": 0.039686,  # Yelda et al. (2010, ApJ 725, 331)
        "detector_px": [1024, 1024],
        "filters": {"Ks": {"wavelength_nm": 2146, "width_nm": 311}},
    }
)


def winpos(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """Windowed centroid of a star by SEP (Barbary 2016, JOSS 1, 58)."""
    flat = np.ascontiguousarray(np.nan_to_num(image))
    flat -= sep.Background(flat).back()
    x, y, flag = sep.winpos(flat, [x], [y], [2.0])
    assert flag[0] == 0
    return np.array([y[0], x[0]])


def test_dithered_frames_of_nirc2_are_registered(tmp_path: Path) -> None:
    folder = DATA / "ao_dither" / "nirc2_cosmos01"
    frames = [read_source(path)[1] for path in sorted((folder / "raw").glob("*.gz"))]
    dark, flat, bad = (
        read_source(folder / "cal" / f"{name}.fits.gz")[1].astype(np.float32)
        for name in ("drk_80_1_16_11apr", "flat_Ks_W_11apr", "badpix_12oct")
    )
    flat[(bad > 0) | (flat <= 0)] = np.nan
    bench = Bench(tmp_path, name="3_COSMOS01_NIRC2_Ks_o_20260314_053743.750000", telescope=NIRC2_WIDE)
    bench.expose(frames, len(frames))
    bench.calibrate(dark=dark, flat=flat)
    outcomes = bench.run(FaintStar)
    assert {name: outcome.event for name, outcome in outcomes.items()} == {
        "reduce": "succeed",
        "strehl": "succeed",
        "preview": "succeed",
        "pca": "lack",  # no other star in the library
    }
    results = outcomes["reduce"].record["results"]
    assert results["frames_used"] == 7
    assert results["calibration"] == "dark_6, flat_Ks"
    rows = np.loadtxt(bench.product("faint_star/shifts.txt"), usecols=(0, 1, 2, 3))
    shifts = rows[np.argsort(rows[:, 0]), 1:3]
    star = np.array([results["guide_star"]["y"], results["guide_star"]["x"]])
    calibration = Calibration.from_masters(dark, flat)
    found = [winpos(calibration.apply(frames[i].astype(np.float32)), *(star - shifts[i])) for i in range(7)]
    landed = np.array(found) + shifts
    assert np.ptp(shifts, axis=0).min() > 60
    assert np.abs(landed - np.median(landed, axis=0)).max() < 0.3


BETA_PIC = {"separation_px": 0.452 / 0.02719, "position_angle_deg": 211.2}
"""Absil et al. (2013, A&A 559, L12)."""
TRUE_NORTH_DEG = -104.84
"""Offset of NACO's angles in pupil tracking; with the data in the documentation of VIP."""
CENTRE = 51
"""The star behind the coronagraph: the mean of the planes is most symmetric about this pixel, within 0.1."""
N_COMPONENTS, LEAST_MOTION = 12, 0.3
"""Components, and how far the planet must have moved [FWHM]: the highest signal-to-noise ratio (13) of those tried."""


def test_beta_pictoris_b_is_where_the_literature_has_it() -> None:
    """Each plane is subtracted with those in which the field has turned; what is left of a planet is fitted to them."""
    folder = DATA / "psfsub" / "naco_betapic_third"
    cube, angles, psf = (
        read_source(folder / f"naco_betapic_{name}.fits")[1].astype(float) for name in ("third_cube", "third_pa", "psf")
    )
    fwhm = 2 * np.sqrt(np.sum(psf > psf.max() / 2) / np.pi)
    half = 49
    cube = cube[:, CENTRE - half : CENTRE + half + 1, CENTRE - half : CENTRE + half + 1]
    star = np.pad(psf / psf.max(), half - len(psf) // 2)
    turned = np.radians(angles + TRUE_NORTH_DEG)

    def place(separation: float, angle_deg: float) -> np.ndarray:
        angle = np.radians(angle_deg) - turned
        return separation * np.stack([np.cos(angle), -np.sin(angle)], axis=1)

    left, components = [], []
    for i, plane in enumerate(cube):
        moved = 2 * BETA_PIC["separation_px"] * np.abs(np.sin((turned - turned[i]) / 2))
        chosen = References(cube[moved > LEAST_MOTION * fwhm].astype(np.float32), subtraction_mask(plane, 5))
        components.append(chosen.components())
        left.append(np.nan_to_num(components[-1].subtract(plane, [N_COMPONENTS])[0]))
    guess = tuple(BETA_PIC.values())
    yy, xx = np.mgrid[-half : half + 1, -half : half + 1]
    near = np.array([np.hypot(yy - dy, xx - dx) < 1.5 * fwhm for dy, dx in place(*guess)])
    pixels = np.array(left)[near]

    def misfit(where: np.ndarray) -> np.ndarray:
        moved = [ndimage.shift(star, shift, order=3) for shift in place(*where)]
        model = [c.subtract(planet, [N_COMPONENTS])[0] for c, planet in zip(components, moved, strict=True)]
        expected = np.nan_to_num(np.array(model))[near]
        misfit.flux = expected @ pixels / (expected @ expected)
        return pixels - misfit.flux * expected

    fit = optimize.least_squares(misfit, guess, diff_step=0.003)
    separation, angle = fit.x
    assert misfit.flux > 5 * np.std(fit.fun) / np.sqrt(len(cube))
    assert separation == pytest.approx(BETA_PIC["separation_px"], abs=0.5)
    assert angle == pytest.approx(BETA_PIC["position_angle_deg"], abs=1.0)


def test_psfs_of_robo_ao_make_a_library(tmp_path: Path) -> None:
    """Each of the fifteen is subtracted with the others: as a rule better than with their mean."""
    layout = Layout(tmp_path)
    stamps = {}
    for path in sorted((DATA / "psfsub" / "roboao_psf").glob("*.fits")):
        image = read_source(path)[1].astype(float)
        stamps[path.stem] = cut_stamp(image, np.unravel_index(np.argmax(image), image.shape), 81)
    with psf_library.changed(layout) as library:
        for name, stamp in stamps.items():
            star = f"3_{name}_VIC_Si_o_20140614_000000.000000"
            library.add(psf_library.Entry(star, NIGHT, "Palomar_P60", "Si", "100p", 0.0215), stamp, "administrator")
    library = psf_library.PsfLibrary.read(layout)
    assert len(library.entries) == 15
    improved = []
    for name, stamp in stamps.items():
        others = library.select(
            telescope="Palomar_P60",
            filter="Si",
            stack="100p",
            pixel_arcsec=0.0215,
            but=Observation({"_id": f"3_{name}_VIC_Si_o_20260314_010101.000000"}),
        )
        assert len(others.entries) == 14
        found = subtract_star(stamp, others.stamps, 5.0)
        ring = np.isfinite(found.residual)
        mean = np.nan_to_num(stamp - others.stamps.mean(axis=0))[ring]
        improved.append(np.std(mean) / np.std(found.residual[ring]))
        assert np.all(np.isfinite(found.curve.magnitudes))
    assert np.median(improved) > 1.03


MOON_CAMERA = Telescope.model_validate(
    {  # the telescope is not known: a usual one
        "primary_m": 0.2,
        "secondary_m": 0.07,
        "plate_scale_arcsec": 0.4,
        "detector_px": [960, 1280],
        "north_angle_deg": None,
        "filters": {"R": {"wavelength_nm": 640, "width_nm": 150}},
    }
)


def video(path: Path) -> list[np.ndarray]:
    reader, frames = cv2.VideoCapture(str(path)), []
    while True:
        found, frame = reader.read()
        if not found:
            return frames
        frames.append(np.ascontiguousarray(frame[::-1, :, 0]).astype(np.uint16))


def detail_contrast(image: np.ndarray) -> float:
    """Standard deviation between Gaussians of 2 and 6 pixels over the mean."""
    inner = image[200:-200, 200:-200]
    return float(np.std(ndimage.gaussian_filter(inner, 2) - ndimage.gaussian_filter(inner, 6)) / inner.mean())


def test_a_video_of_the_moon_becomes_sharper(tmp_path: Path) -> None:
    frames = video(DATA / "rapid_frames" / "moon_short_video.avi")
    assert len(frames) == 101
    bench = Bench(tmp_path, name="3_Moon_ASI_R_o_20260314_120427.040901", telescope=MOON_CAMERA)
    bench.expose(frames, len(frames))
    outcomes = bench.run(ExtendedObject)
    assert {outcome.event for outcome in outcomes.values()} == {"succeed"}
    results = outcomes["reduce"].record["results"]
    assert (results["frames_used"], results["best_frames"]) == (101, 71)
    mean, _ = read_fits(bench.product("extended_object/{id}_registered.fits"))
    sharp, _ = read_fits(bench.product("extended_object/{id}_deconvolved.fits"))
    single = ndimage.zoom(np.mean(frames, axis=0), 2, order=1)
    assert detail_contrast(np.nan_to_num(mean)) > detail_contrast(single)
    assert detail_contrast(sharp) > 1.3 * detail_contrast(np.nan_to_num(mean))


def test_neptune_is_deconvolved_without_rings(tmp_path: Path) -> None:
    """A processed image twice, with its noise made anew: more of the light falls on the disc."""
    image = read_source(DATA / "planetary" / "neptune_nirc2_H_20170725_stack.fits.gz")[1].astype(float)
    image = np.nan_to_num(image)
    rng = np.random.default_rng(1)
    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    halves = [(image + noise * rng.standard_normal(image.shape)).astype(np.float32) for _ in range(2)]
    optics = Optics(10.0, 2.4, 1633, 296)
    psf = model_psf(optics, 0.009942, 101, (1.0,), (0.4, 40.0))
    found = deconvolve(*halves, psf)
    mean = np.mean(halves, axis=0)
    disc = ndimage.gaussian_filter(mean, 3) > 0.3 * np.percentile(mean, 99)
    outside = ~ndimage.binary_dilation(disc, iterations=25)
    assert found.iterations >= 2
    assert detail_contrast(found.image) > detail_contrast(mean)
    assert found.image[disc].sum() / found.image.sum() > 1.02 * mean[disc].sum() / mean.sum()
    assert found.image[outside].mean() < 0.1 * found.image[disc].mean()
