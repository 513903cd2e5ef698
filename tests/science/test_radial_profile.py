"""Background and flux of stars whose wings are known."""

import numpy as np
import pytest

from obsarchive.science.psf.radial_profile import StarProfile

HALF, APERTURE, CORE, LIGHT, SIGMA = 210, 144.0, 13.0, 1e6, 0.05
ROWS, COLUMNS = np.ogrid[-HALF : HALF + 1, -HALF : HALF + 1]
RADIUS = np.hypot(ROWS, COLUMNS)


def wings(exponent: float) -> np.ndarray:
    """A star of wings of this exponent on a background of 10."""
    light = (1 + (RADIUS / 8) ** 2) ** (exponent / 2)
    return LIGHT * light / light[RADIUS < APERTURE].sum() + 10


def profile(image: np.ndarray, seed: int = 0) -> StarProfile:
    noise = SIGMA * np.random.default_rng(seed).standard_normal(image.shape)
    return StarProfile(image + noise, (HALF, HALF), APERTURE, CORE)


def error(star: StarProfile) -> float:
    return star.flux_error(np.full(star.box.shape, SIGMA**2)) / LIGHT


@pytest.mark.parametrize("exponent", [-3.05, -10 / 3, -3.6])
def test_the_exponent_of_bright_wings_is_that_of_the_image(exponent):
    star = profile(wings(exponent))
    # an exponent of -10/3 for all is wrong by 5 or 3 thousandths, and has an error of 3
    assert star.flux / LIGHT == pytest.approx(1, abs=1e-3)
    assert abs(star.flux / LIGHT - 1) < 2 * error(star)
    assert error(star) < 2e-3


def test_the_light_of_rays_is_that_of_the_star():
    angle = np.arctan2(ROWS, COLUMNS)
    rays = 1 + 0.3 * np.exp(-0.5 * (np.sin(2 * angle) / 0.15) ** 2)
    image = (wings(-10 / 3) - 10) * rays
    truth = image[RADIUS < APERTURE].sum()
    star = profile(image)
    # the middle half of the sectors lacks them
    assert star.flux == pytest.approx(truth, rel=1e-3)


def test_a_bright_sector_that_is_left_out_counts_in_the_error():
    star, image = profile(wings(-10 / 3)), wings(-10 / 3)
    speckle = 0.02 * LIGHT / (2 * np.pi * 4**2) * np.exp(-0.5 * ((ROWS - 40) ** 2 + (COLUMNS - 15) ** 2) / 4**2)
    spotted = profile(image + speckle)
    assert spotted.flux == pytest.approx(star.flux, rel=3e-3)
    assert error(spotted) == pytest.approx(0.02, rel=0.15)
    # and in that of the halo, ring by ring
    radius, *_, doubts = spotted.samples(0.0, 0.0, np.ones(spotted.box.shape))
    halo = radius >= CORE
    expected = 0.02 * LIGHT * np.array([1.0, np.hypot(40, 15)])
    light = 2 * np.pi * radius * doubts
    assert len(doubts) == 1
    assert not doubts[:, ~halo].any()
    assert [light[0, halo].sum(), light[0, halo] @ radius[halo]] == pytest.approx(expected, rel=0.1)
    *_, none = star.samples(0.0, 0.0, np.ones(star.box.shape))
    assert not len(none)


def test_light_of_neighbours_that_was_subtracted_counts_in_the_error():
    image = wings(-10 / 3)
    alone = StarProfile(image, (HALF, HALF), APERTURE, CORE)
    star = StarProfile(image, (HALF, HALF), APERTURE, CORE, [0.012 * (image - 10), 0.005 * (image - 10)])
    assert error(alone) < 2e-3
    assert error(star) == pytest.approx(0.013, rel=0.1)
    *_, doubts = star.samples(0.0, 0.0, np.ones(star.box.shape))
    radius, value, *_ = star.samples(0.0, 0.0, np.ones(star.box.shape))
    assert np.allclose(doubts[0][radius < 30], 0.012 * value[radius < 30], rtol=0.05)
