"""Real data through single steps, against independent tools and published values."""

import os
from pathlib import Path

import numpy as np
import pytest
import sep
from pack_nights import read_source
from scipy import ndimage, optimize

from obsarchive import psflib
from obsarchive.config import Telescope
from obsarchive.layout import Layout
from obsarchive.science.calibration import Calibration
from obsarchive.science.contrast import subtract_star
from obsarchive.science.subtraction import References, cut_stamp, subtraction_mask
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
        "pca": "reject",  # no other star in the library
    }
    results = outcomes["reduce"].manifest["results"]
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
    with psflib.changed(layout) as library:
        for name, stamp in stamps.items():
            star = f"3_{name}_VIC_Si_o_20140614_000000.000000"
            library.add(psflib.Entry(star, NIGHT, "Palomar_P60", "Si", "100p", 0.0215), stamp, "administrator")
    library = psflib.PsfLibrary.read(layout.psf_library)
    assert len(library.entries) == 15
    improved = []
    for name, stamp in stamps.items():
        others = library.select(
            telescope="Palomar_P60", filter="Si", stack="100p", but=f"3_{name}_VIC_Si_o_20260314_010101.000000"
        )
        assert len(others.entries) == 14
        found = subtract_star(stamp, others.stamps, 5.0)
        ring = np.isfinite(found.residual)
        mean = np.nan_to_num(stamp - others.stamps.mean(axis=0))[ring]
        improved.append(np.std(mean) / np.std(found.residual[ring]))
        assert np.all(np.isfinite(found.curve.magnitudes))
    assert np.median(improved) > 1.03
