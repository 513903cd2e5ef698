"""What few frames with wide pixels leave uncertain is what stacks of perfect stars at random places scatter by."""

import numpy as np
import pytest

from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.coverage_scatter import CoverageScatter, coverage_scatter
from obsarchive.science.psf.model import Optics, diffraction_limited_psf, drizzled_response
from obsarchive.science.psf.stack_noise import StackNoise
from obsarchive.science.psf.strehl import measure_strehl

OPTICS, PIXEL_ARCSEC, SIDE = Optics(2.1, 0.5, 765.0), 0.07, 96


def stack(n: int, rng: np.random.Generator) -> Drizzle:
    """The same star in all frames, where its shifts say."""
    made = Drizzle((SIDE, SIDE), 2, 0.6)
    for _ in range(n):
        shift = rng.uniform(-0.5, 0.5, 2)
        made.add(diffraction_limited_psf(OPTICS, PIXEL_ARCSEC, SIDE, (1.0,), tuple(-shift)).astype(np.float32), *shift)
    return made


@pytest.mark.parametrize("n", [12, 40])
def test_stacks_of_perfect_stars_scatter_as_they_should(n: int) -> None:
    rng = np.random.default_rng(9)
    response = drizzled_response(2, 0.6)
    expected = coverage_scatter(OPTICS, PIXEL_ARCSEC / 2, response, n)
    found = []
    for _ in range(30):
        made = stack(n, rng)
        centre = made.output_position(SIDE // 2, SIDE // 2)
        noise = StackNoise(1e-12, 1e-12, n_frames=n)
        star = measure_strehl(made.image(), OPTICS, PIXEL_ARCSEC / 2, response, centre=centre, noise=noise)
        found.append([star.ratio, star.fwhm_arcsec, star.y - centre[0], star.x - centre[1]])
        assert star.ratio_error == pytest.approx(expected.peak * star.ratio, rel=0.1)
    ratio, fwhm, y, x = np.transpose(found)
    # thirty of them tell a scatter to 13 %
    assert np.std(ratio) == pytest.approx(expected.peak, rel=0.4)
    assert np.std(fwhm) / np.mean(fwhm) == pytest.approx(expected.width, rel=0.4)
    assert PIXEL_ARCSEC / 2 * np.std([y, x]) / np.mean(fwhm) == pytest.approx(expected.place, rel=0.3)


def test_narrow_pixels_sample_all_light() -> None:
    assert coverage_scatter(OPTICS, 0.0347 / 2, drizzled_response(2, 0.6), 4) == CoverageScatter()
    few, many = (coverage_scatter(OPTICS, 0.035, drizzled_response(2, 0.6), n) for n in (10, 1005))
    assert many.place == pytest.approx(few.place * np.sqrt(5 / 1000))
    # a plain image has no drops, whose weights may be uneven
    assert coverage_scatter(OPTICS, 0.06, (1.0,), 1).lift == 0
