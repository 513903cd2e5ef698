"""Stacks of ordinary exposures: cosmic rays and hot pixels leave no sources, and stars their light."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.config.model import Telescope
from obsarchive.science.astrometry.plate_solution import deproject
from pipelines.astrometry import Astrometry
from pipelines.ccd import CcdStack
from pipelines.photometry import Photometry
from tests.pipelines.bench_of_steps import Bench

SIDE, SIZE_PX = 200, 1.5
GAIN, READ_NOISE_E, BIAS_ADU, SKY_E = 1.5, 6.0, 1000.0, 400.0
CAMERA = Telescope.model_validate({"primary_m": 0.6, "plate_scale_arcsec": 0.6, "detector_px": [SIDE, SIDE]})
PLACES = [(88, 106), (41, 60.3), (55.8, 150.2), (142.4, 74.1), (96.7, 52.3), (120.2, 160.7), (150.3, 125.4), (47, 104)]
STARS = [(y, x, flux) for (y, x), flux in zip(PLACES, np.geomspace(3e5, 2e4, 8), strict=True)]
"""y, x [pixel] and electrons; no two near each other."""


def light_of(stars: list[tuple[float, float, float]], dy: float = 0.0, dx: float = 0.0) -> np.ndarray:
    """Electrons of stars, as they fall on pixels."""
    y, x = np.indices((SIDE, SIDE))
    square = [(y - star_y - dy) ** 2 + (x - star_x - dx) ** 2 for star_y, star_x, _ in stars]
    terms = (
        flux / (2 * np.pi * SIZE_PX**2) * np.exp(-r / (2 * SIZE_PX**2))
        for (_, _, flux), r in zip(stars, square, strict=True)
    )
    return sum(terms, np.zeros((SIDE, SIDE)))


def counts(rng: np.random.Generator, electrons: np.ndarray) -> np.ndarray:
    read = rng.poisson(electrons) + rng.normal(0, READ_NOISE_E, electrons.shape)
    return np.clip(np.rint(read / GAIN + BIAS_ADU), 0, 65535).astype(np.uint16)


def measured(bench: Bench) -> np.ndarray:
    for pipeline, step in ((CcdStack, "stack"), (Photometry, "measure")):
        outcome = bench.run(pipeline, only=[step])[step]
        assert outcome.event == "succeed", outcome.message
    return fits.getdata(bench.product("photometry/{id}_photometry.fits"), "SOURCES")


@pytest.mark.parametrize("drift_px", [0.1, 0.7])
def test_many_exposures_are_cleaned_of_cosmic_rays(tmp_path: Path, drift_px: float) -> None:
    rng, n = np.random.default_rng(5), 24
    frames = []
    for i in range(n):
        electrons = light_of(STARS, drift_px * i, -drift_px * i) + SKY_E
        for y, x in rng.integers(4, SIDE - 6, (2, 2)):
            electrons[y, x : x + 2] += 4000
        frames.append(counts(rng, electrons))
    bench = Bench(tmp_path, telescope=CAMERA)
    bench.expose(frames, n)
    stars = measured(bench)
    assert len(stars) == len(STARS)
    assert bench.document["pipelined"]["ccd"]["steps"]["stack"]["results"]["cosmic_ray_pixels"] > 1.5 * 2 * n
    # the sharp cores of stars are no cosmic rays: their light is whole, by one factor
    ratio = stars["flux_adu"] / np.array([star[2] for star in STARS])
    assert np.abs(ratio / np.median(ratio) - 1).max() < 0.01


def with_hot_pixels(folder: Path, hot: dict[tuple[int, int], float], n: int = 5, gain: float | None = GAIN) -> Bench:
    """Exposures on a camera with pixels of a dark current [electrons], and its master dark."""
    rng, current = np.random.default_rng(8), np.zeros((SIDE, SIDE))
    for place, electrons in hot.items():
        current[place] = electrons
    bench = Bench(folder, telescope=CAMERA, document={} if gain is None else {"gain": gain})
    steps = [0.1 * i for i in range(n)]
    bench.expose([counts(rng, light_of(STARS, step, -step) + SKY_E + current) for step in steps], n)
    bench.calibrate(dark=np.mean([counts(rng, current) for _ in range(25)], axis=0))
    return bench


def pulls(stars: np.ndarray) -> np.ndarray:
    """Errors of the fluxes in units of those claimed, in the order of the stars."""
    nearest = [np.argmin(np.hypot(stars["y_px"] - y, stars["x_px"] - x)) for y, x, _ in STARS]
    flux, error = stars["flux_adu"][nearest], stars["flux_error_adu"][nearest]
    ratio = flux * GAIN / [star[2] for star in STARS]
    return (ratio / np.median(ratio) - 1) * flux / error


def test_hot_pixels_whose_dark_current_is_known_leave_stars_their_light(tmp_path: Path) -> None:
    hot = {(round(y) + dy, round(x) + dx): 400.0 for y, x, _ in STARS[:3] for dy, dx in ((0, 0), (1, -1), (20, 5))}
    bench = with_hot_pixels(tmp_path, hot)
    stars = measured(bench)
    assert len(stars) == len(STARS)
    assert not stars["flags"].any()
    assert np.abs(pulls(stars)).max() < 4


@pytest.mark.parametrize(("electrons", "gain"), [(20000.0, GAIN), (400.0, None)])
def test_stars_whose_pixels_are_filled_are_flagged(tmp_path: Path, electrons: float, gain: float | None) -> None:
    # on the core of one star, beside another, and in the sky
    hot = {(88, 106): electrons, (59, 60): electrons, (20, 20): electrons, (180, 60): electrons}
    stars = measured(with_hot_pixels(tmp_path, hot, gain=gain))
    assert len(stars) == len(STARS)
    is_filled = np.hypot(stars["y_px"] - 88, stars["x_px"] - 106) < 2
    assert stars["flags"].tolist() == [2 if there else 0 for there in is_filled]


def test_an_image_with_a_plate_solution_keeps_its_filled_pixels(tmp_path: Path) -> None:
    bench = with_hot_pixels(tmp_path, {(88, 106): 20000.0})
    y, x, flux = np.array(STARS).T
    scale, middle = CAMERA.plate_scale_arcsec, (SIDE - 1) / 2
    ra, dec = deproject(scale * (middle - x), scale * (y - middle), (155.0, 20.0))
    rows = (f"{a},{d},{20 - 2.5 * np.log10(f)}" for a, d, f in zip(ra, dec, flux, strict=True))
    catalogue = tmp_path / "stars.csv"
    catalogue.write_text("\n".join(["ra,dec,mag", *rows]))
    bench.run(CcdStack, only=["stack"])
    assert bench.run(Astrometry, steps={"solve": {"catalogue": str(catalogue)}})["solve"].record["results"]["solved"]
    outcome = bench.run(Photometry)["measure"]
    assert outcome.record["results"]["image"].startswith("astrometry/")
    stars = fits.getdata(bench.product("photometry/{id}_photometry.fits"), "SOURCES")
    assert stars["flags"].tolist() == [2, *[0] * (len(STARS) - 1)]
