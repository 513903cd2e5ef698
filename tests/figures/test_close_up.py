"""Close-ups for comparison: the same sky at the same pixels, however the images were taken."""

import io

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image
from scipy import ndimage

from obsarchive.errors import Unprocessable
from obsarchive.figures.close_up import close_up
from obsarchive.io.fits_products import tan_wcs

HALF, SIZE = 1.5, 480
FWHM_ARCSEC = 0.12


def scene(view: tuple, separation_arcsec: float = 0.8, angle_deg: float = 49.0) -> tuple[np.ndarray, fits.Header]:
    """A star with a companion at a separation and position angle; the truth is in these numbers."""
    scale, north, east_left, star, flux = view
    y, x = np.mgrid[:300, :320].astype(float)
    sigma, separation = FWHM_ARCSEC / 2.3548 / scale, separation_arcsec / scale
    # position angle runs from north through east; north lies `north` counterclockwise from up
    direction = np.radians(north + (angle_deg if east_left else -angle_deg))
    companion = star[0] + separation * np.cos(direction), star[1] - separation * np.sin(direction)
    places = ((*star, 1.0), (*companion, 0.1))
    image = sum(peak * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * sigma**2)) for py, px, peak in places)
    header = tan_wcs(150.0, 20.0, (100.0, 90.0), scale, north, east_left)
    header["GUIDEY"], header["GUIDEX"] = star[0] + 1.6, star[1] + 0.5  # as a header has it: rounded
    return flux * image + 7.0, header


def pixels(image: np.ndarray, header: fits.Header, half: float = HALF) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(close_up(image, header, half, SIZE))).convert("L"), dtype=float)


def peak_near(picture: np.ndarray, y: float, x: float) -> tuple[float, float]:
    top, left = round(y) - 15, round(x) - 15
    part = picture[top : top + 31, left : left + 31]
    dy, dx = ndimage.center_of_mass(np.clip(part - 0.7 * part.max(), 0, None))
    return top + dy, left + dx


VIEWS = [
    (0.0174, 0.0, True, (150.3, 160.7), 1000.0),
    (0.0174, 23.7, True, (141.1, 170.2), 50.0),
    (0.0087 * 1.5, -160.0, False, (120.9, 150.4), 3e4),
    (0.025, 91.0, False, (160.5, 140.5), 1.0),
]


@pytest.mark.parametrize("view", VIEWS)
def test_star_and_companion_lie_where_the_sky_has_them(view: tuple) -> None:
    picture = pixels(*scene(view))
    middle = (SIZE - 1) / 2
    assert peak_near(picture, middle, middle) == pytest.approx((middle, middle), abs=0.5)
    per_arcsec = SIZE / (2 * HALF)
    dy, dx = -0.8 * np.cos(np.radians(49)) * per_arcsec, -0.8 * np.sin(np.radians(49)) * per_arcsec
    assert peak_near(picture, middle + dy, middle + dx) == pytest.approx((middle + dy, middle + dx), abs=0.5)


def test_pictures_of_one_sky_can_be_laid_over_each_other() -> None:
    first, *others = (pixels(*scene(view)) for view in VIEWS[:3])
    bright = first > first.max() / 3
    for other in others:
        assert np.abs(first - other)[bright].mean() < 6, "one stretch whatever the exposure"


def test_what_cannot_be_shown_says_why() -> None:
    image, header = scene(VIEWS[0])
    with pytest.raises(Unprocessable, match="world coordinates"):
        close_up(image, fits.Header({"GUIDEX": 1, "GUIDEY": 1}), HALF)
    without_star = header.copy()
    del without_star["GUIDEX"]
    with pytest.raises(Unprocessable, match="where the star is"):
        close_up(image, without_star, HALF)
    with pytest.raises(Unprocessable):
        close_up(np.full_like(image, 3.0), header, HALF)
    header["GUIDEX"] = 1e6
    with pytest.raises(Unprocessable):
        close_up(image, header, HALF)
