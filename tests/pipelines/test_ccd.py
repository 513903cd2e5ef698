"""Stacks of ordinary exposures: cosmic rays and hot pixels leave no sources, and stars their light."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from obsarchive.config.model import Telescope
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
