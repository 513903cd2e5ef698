"""Coordinates in headers of other people's programs: evaluated to a tenth of a pixel, or refused."""

from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.polynomial import chebyshev, legendre

from obsarchive.io.wcs_headers import plate_cards, plate_of_cards, plate_of_header
from obsarchive.science.astrometry.plate_solution import PlateSolution, deproject

SIDE = 2000
STEP = 1 / 3600
BASE = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 150.0,
    "CRVAL2": 2.0,
    "CRPIX1": 1000.0,
    "CRPIX2": 1000.0,
    "CD1_1": -STEP,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": STEP,
    "CUNIT1": "deg",
    "CUNIT2": "deg",
}
CUBIC = {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 0.1, "PV2_7": 0.1, "PV1_9": 0.1, "PV2_9": 0.1}
LINEAR = {"PV1_0": 0.0, "PV1_1": 1.0, "PV1_2": 0.0, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_2": 0.0}
K = 0.1 / 3600**2
SIP = {"A_ORDER": 3, "B_ORDER": 3, "A_3_0": K, "A_1_2": K, "B_0_3": K, "B_2_1": K}
Y, X = (axis.ravel().astype(float) for axis in np.mgrid[0 : SIDE - 1 : 21j, 0 : SIDE - 1 : 21j])


def header(code: str = "TAN", **cards: Any) -> fits.Header:
    names = {} if code == "TAN" else {"CTYPE1": f"RA---{code}", "CTYPE2": f"DEC--{code}"}
    return fits.Header([*{**BASE, **names, **cards}.items()])


def without(*keys: str) -> fits.Header:
    return fits.Header([(key, value) for key, value in BASE.items() if key not in keys])


def residual_px(plate: PlateSolution | None, ra: np.ndarray, dec: np.ndarray) -> float:
    assert plate is not None
    y, x = plate.pixels(ra, dec)
    kept = plate_of_cards(plate_cards(plate)).pixels(ra, dec)
    np.testing.assert_allclose(kept, (y, x), atol=1e-6)
    return float(np.hypot(y - Y, x - X).max())


def wat(axis: int, text: str) -> dict[str, str]:
    return {f"WAT{axis}_{n // 68 + 1:03d}": text[n : n + 68] for n in range(0, len(text), 68)}


@pytest.mark.parametrize(
    ("made", "read_as"),
    [
        (header(), header()),
        (header("TAN-SIP", **SIP), header("TAN-SIP", **SIP)),
        (header("TPV", **CUBIC), header("TPV", **CUBIC)),
        (header(**CUBIC), header("TPV", **CUBIC)),  # SCAMP until 2012
        (header(**{**CUBIC, "PV1_10": 0.01}), header("TPV", **CUBIC, PV1_10=0.01)),
        (header("TPV", PV1_7=0.1, PV2_9=0.1), header("TPV", PV1_1=1.0, PV2_1=1.0, PV1_7=0.1, PV2_9=0.1)),
        (header(PV1_4=0.02), header("TPV", PV1_1=1.0, PV2_1=1.0, PV1_4=0.02)),
        (header(**LINEAR), header()),
        (header(PV1_0=0.0, PV1_1=0.0, PV1_2=90.0), header()),  # the default of the standard, written down
        (header("ZPN", PV2_1=1.0, PV2_3=300.0), header("ZPN", PV2_1=1.0, PV2_3=300.0)),
        (header("SIN"), header("SIN")),
        (header(CRPIX1=-8000.0, CRPIX2=9000.0), header(CRPIX1=-8000.0, CRPIX2=9000.0)),  # a chip of a mosaic
    ],
)
def test_any_projection_and_distortion_is_kept(made: fits.Header, read_as: fits.Header) -> None:
    ra, dec = WCS(read_as).all_pix2world(X, Y, 0)
    plate = plate_of_header(made, (SIDE, SIDE))
    assert residual_px(plate, ra, dec) < 0.1


def test_a_header_without_distortion_stays_linear() -> None:
    plate = plate_of_header(header(**LINEAR), (1000, 1000))
    assert plate is not None
    assert plate.distortion == {}
    np.testing.assert_allclose(plate.sky(999, 999), (150.0, 2.0), atol=1e-5)


def surface(kind: int, cross: int, x: np.ndarray, y: np.ndarray, values: list[float]) -> np.ndarray:
    """Evaluate a surface of IRAF of 3 x 3 terms between -0.3 and 0.3."""
    places = {0: [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)], 1: [(i, j) for j in range(3) for i in range(3)]}
    places[2] = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2)]
    base = {1: chebyshev.chebval2d, 2: legendre.legval2d, 3: np.polynomial.polynomial.polyval2d}[kind]
    terms = np.zeros((3, 3))
    for place, value in zip(places[cross], values, strict=True):
        terms[place] = value
    scale = 1.0 if kind == 3 else 1 / 0.3
    return base(x * scale, y * scale, terms)


@pytest.mark.parametrize("kind", [1, 2, 3])
@pytest.mark.parametrize("cross", [0, 1, 2])
@pytest.mark.parametrize("code", ["TNX", "ZPX"])
def test_iraf_surfaces_of_every_kind_are_evaluated(kind: int, cross: int, code: str) -> None:
    """Astropy evaluates one of them, and flattens the others without a word."""
    values = [1e-4, 2e-3, -1e-3, 3e-4, 2e-4, 5e-4, -4e-4, 1e-4, 2e-4][: {0: 5, 1: 9, 2: 6}[cross]]
    text = f"{kind}. 3. 3. {cross}. -0.3 0.3 -0.3 0.3 " + " ".join(map(str, values)) + " "
    radial = " projp1=1.0 projp3=337.74" if code == "ZPX" else ""
    ra_text = f'wtype={code.lower()} axtype=ra{radial} lngcor = "{text}"'
    dec_text = f'wtype={code.lower()} axtype=dec{radial} latcor = "{text}"'
    made = header(code, WAT0_001="system=image", **wat(1, ra_text), **wat(2, dec_text))
    xi, eta = -STEP * (X + 1 - 1000), STEP * (Y + 1 - 1000)
    change = surface(kind, cross, xi, eta, values)
    if code == "ZPX":
        plane = header("ZPN", PV2_1=1.0, PV2_3=337.74)
        ra, dec = WCS(plane).all_pix2world(X - change / STEP, Y + change / STEP, 0)
    else:
        ra, dec = deproject(3600 * (xi + change), 3600 * (eta + change), (150.0, 2.0))
    assert residual_px(plate_of_header(made, (SIDE, SIDE)), ra, dec) < 0.1


@pytest.mark.parametrize(
    "text", ['lngcor = "3. 3. 3. 2. 0 1 0 1 0.1"', 'lngcor = "9. 1. 1. 2. 0 1 0 1 0"', 'lngcor="a"']
)
def test_a_surface_that_cannot_be_read_is_refused(text: str) -> None:
    assert plate_of_header(header("TNX", WAT1_001=f"wtype=tnx axtype=ra {text}"), (SIDE, SIDE)) is None


@pytest.mark.parametrize(
    "strings",
    [
        ["CD1_1"],
        ["CRVAL1", "CRPIX2"],
        ["CD1_1", "CD1_2", "CD2_1", "CD2_2"],
        [key for key, value in BASE.items() if isinstance(value, float)],
    ],
)
@pytest.mark.parametrize("form", ["{}", " {} ", "'{}'"])
def test_numbers_may_be_given_as_text(strings: list[str], form: str) -> None:
    made = header(**{key: form.format(BASE[key]).replace("e", "D") for key in strings})
    plate = plate_of_header(made, (1000, 1000))
    assert plate is not None
    np.testing.assert_allclose(plate.sky(999, 999), (150.0, 2.0), atol=1e-5)
    assert plate.scale_arcsec == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(
    "made",
    [
        header(CRVAL1="10:00:00"),
        header(CD1_1="unknown"),
        header(CRPIX1="nan"),
        header(CD1_1="", CD1_2="", CD2_1="", CD2_2=""),
        header(CD1_1=0.0, CD2_2=0.0),
        header(CD2_2=0.0),
        header(CRVAL2=95.0),
        header(CTYPE2="GLAT-TAN"),
        header(CTYPE1="PIXEL", CTYPE2="PIXEL"),
        header(CPDIS1="LOOKUP"),
        header("XYZ"),
        header("ZPX", WAT1_001="wtype=zpx projp3=x"),
        header(CD1_1=3.0, CD2_2=3.0),
        without("CD1_1", "CD1_2", "CD2_1", "CD2_2"),
        without("CD2_1", "CD2_2"),
        without("CD1_2", "CD2_1", "CD2_2"),
        fits.Header(),
    ],
)
def test_what_gives_no_place_is_refused(made: fits.Header) -> None:
    assert plate_of_header(made, (SIDE, SIDE)) is None


def test_a_distortion_that_no_order_reproduces_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    wild = header("TPV", **{**CUBIC, "PV1_7": 100.0, "PV1_9": 100.0, "PV2_7": 100.0})
    assert plate_of_header(wild, (SIDE, SIDE)) is None
    assert "no plate solution reproduces them" in caplog.text or "not all of the image" in caplog.text


def test_half_a_matrix_has_the_defaults_of_the_standard() -> None:
    plate = plate_of_header(without("CD1_2", "CD2_1"), (SIDE, SIDE))
    assert plate is not None
    assert plate.scale_arcsec == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "galactic"),
        ({"RADESYS": "FK4", "EQUINOX": 1950.0}, "fk4"),
        ({"EQUINOX": 1950.0}, "fk4"),
        ({"RADESYS": "FK5", "EQUINOX": 2000.0}, "icrs"),
        ({"RADESYS": "ICRS"}, "icrs"),
        ({"RADESYS": "GAPPT"}, "icrs"),
    ],
)
def test_other_frames_are_converted(cards: dict[str, Any], frame: str) -> None:
    plate = plate_of_header(header(**cards), (1000, 1000))
    assert plate is not None
    wanted = SkyCoord(150.0, 2.0, unit="deg", frame=frame).icrs
    ra, dec = plate.sky(999, 999)
    assert SkyCoord(ra, dec, unit="deg").separation(wanted).arcsec < 0.5


def test_axes_may_be_swapped() -> None:
    made = header(CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=2.0, CRVAL2=150.0, CD1_1=STEP, CD2_2=-STEP)
    plate = plate_of_header(made, (1000, 1000))
    assert plate is not None
    np.testing.assert_allclose(plate.sky(999, 999), (150.0, 2.0), atol=1e-5)
    np.testing.assert_allclose(plate.sky(999, 1099)[1], 2.0 + 100 * STEP, atol=1e-5)


def test_a_digitized_plate_is_evaluated() -> None:
    plate_cards_of_dss = {
        **{"PLTRAH": 16, "PLTRAM": 36, "PLTRAS": 26.33, "PLTDECSN": "-", "PLTDECD": 75, "PLTDECM": 6, "PLTDECS": 10.6},
        **{"EQUINOX": 2000.0, "PLTSCALE": 67.2, "XPIXELSZ": 25.3, "YPIXELSZ": 25.3, "CNPIX1": 7000, "CNPIX2": 6500},
        **{f"PPO{n}": 177500.0 if n in (3, 6) else 0.0 for n in range(1, 7)},
        **{f"AMD{axis}{n}": 0.0 for axis in "XY" for n in range(1, 21)},
        **{"AMDX1": 67.2, "AMDX2": 0.5, "AMDX3": -300.0, "AMDX4": 1e-4, "AMDX8": 1e-6},
        **{"AMDY1": 67.2, "AMDY2": -0.5, "AMDY3": -200.0, "AMDY4": 2e-5, "AMDY8": 1e-6},
    }
    x, y = (177500 - 25.3 * (X + 7000.5)) / 1000, (25.3 * (Y + 6500.5) - 177500) / 1000
    xi, eta = (
        67.2 * x + 0.5 * y - 300 + 1e-4 * x**2 + 1e-6 * x**3,
        67.2 * y - 0.5 * x - 200 + 2e-5 * y**2 + 1e-6 * y**3,
    )
    centre = 15 * (16 + 36 / 60 + 26.33 / 3600), -(75 + 6 / 60 + 10.6 / 3600)
    plate = plate_of_header(fits.Header([*plate_cards_of_dss.items()]), (SIDE, SIDE))
    assert residual_px(plate, *deproject(xi, eta, centre)) < 0.1


@pytest.mark.parametrize(
    "cards",
    [
        {"CUNIT1": "degree", "CUNIT2": "Degrees"},
        {"CTYPE1": "ra---tan", "CTYPE2": "dec--tan "},
        {"EQUINOX": "J2000.0"},
        {"PV1_1": 0.0, "PV1_2": 0.0, "PV2_1": 0.0, "PV2_2": 0.0},
        {"PV2_1": 0.0},
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_0": 0.0, "PV2_0": 0.0},
    ],
)
def test_words_and_zeros_that_change_nothing(cards: dict[str, Any]) -> None:
    ra, dec = WCS(header()).all_pix2world(X, Y, 0)
    assert residual_px(plate_of_header(header(**cards), (SIDE, SIDE)), ra, dec) < 1e-3
