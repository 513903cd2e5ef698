"""Previews and plots: what is seen in the picture is compared with what was put into the image."""

import io
import itertools
import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage

from obsarchive.figures import plot_style
from obsarchive.figures.image_scaling import BLACK, NO_DATA, WHITE, Box, levels, stretch
from obsarchive.figures.plot_style import frame_quality, strehl_profile
from obsarchive.figures.previews import Labels, Mark, Sky, preview_cropped, preview_full, thumbnail

SKY = Sky(0.0347)
EMPTY = np.full((64, 64), np.nan, np.float32)
PLOT_SIZES = {"profile": (1200, 825), "quality": (1800, 750)}


def picture(png: bytes) -> Image.Image:
    """A PNG, read completely."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return image


def indices(png: bytes) -> np.ndarray:
    """Bytes of a preview, before the palette colours them."""
    image = picture(png)
    assert image.mode == "P"
    return np.asarray(image)


def field(
    shape: tuple[int, int] = (200, 200), *sources: tuple[float, float, float, float], noise: float = 1.0
) -> np.ndarray:
    """Sky of 100 and Gaussian sources (y, x, peak, sigma)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.random.default_rng(7).normal(100, noise, shape)
    for y0, x0, peak, sigma in sources:
        image += peak * np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma**2))
    return image


def brightest(tones: np.ndarray) -> tuple[float, float]:
    """Centre (row, column) of the brightest spot inside the annotations, edges of pixels at whole numbers."""
    row, column = np.ogrid[: tones.shape[0], : tones.shape[1]]
    inside = np.where(np.hypot(row - tones.shape[0] / 2, column - tones.shape[1] / 2) < 0.35 * len(tones), tones, 0)
    spot = np.where(inside >= 0.9 * inside.max(), inside, 0)
    row, column = ndimage.center_of_mass(spot)
    return row + 0.5, column + 0.5


def on_sky(sky: Sky, north: float, east: float) -> tuple[float, float]:
    """Displacement (dy, dx) in an image, worked out with complex numbers: 1 is right, 1j is up."""
    to_north = 1j * np.exp(1j * math.radians(sky.north_angle_deg))
    to_east = to_north * (1j if sky.east_left else -1j)
    step = north * to_north + east * to_east
    return step.imag, step.real


def compass(tones: np.ndarray) -> dict[str, np.ndarray]:
    """Directions (down, right) of the arrows in a picture that is empty but for the compass."""
    labelled, _ = ndimage.label(tones > (BLACK + WHITE) // 2, np.ones((3, 3)))
    parts = sorted(ndimage.find_objects(labelled), key=lambda part: tones[part].size)
    arrows, letters = parts[-1], parts[:-1]
    assert len(letters) == 2
    middle = {}
    for part in letters:
        stroke = tones[part] > (BLACK + WHITE) // 2
        # both sides of an N are strokes, but an E is open to the right
        middle["N" if stroke[:, -2:].any(axis=1).mean() > 0.8 else "E"] = np.array(
            [(s.start + s.stop) / 2 for s in part]
        )
    along = middle["N"] - middle["E"]
    length = np.hypot(*along) / math.sqrt(2)
    between = (middle["N"] + middle["E"]) / 2
    body = labelled[arrows] == labelled[arrows].max()
    bisector = between - np.array(ndimage.center_of_mass(body)) - [s.start for s in arrows] - 0.5
    origin = between - length / math.sqrt(2) * bisector / np.hypot(*bisector)
    return {letter: (place - origin) / length for letter, place in middle.items()}


@pytest.mark.parametrize("east_left", [True, False])
@pytest.mark.parametrize("north_angle_deg", [0.0, 23.0, 90.0, -130.0, 180.0])
def test_the_compass_points_where_the_sky_does(north_angle_deg: float, east_left: bool) -> None:
    sky = Sky(10.0, north_angle_deg, east_left)
    arrows = compass(indices(preview_full(EMPTY, Sky(1e9, north_angle_deg, east_left), size_px=1000)))
    for (north, east), expected in (
        ((1, 0), arrows["N"]),
        ((0, 1), arrows["E"]),
        ((1, 1), (arrows["N"] + arrows["E"]) / math.sqrt(2)),
    ):
        dy, dx = on_sky(sky, north, east)
        image = field((200, 200), (99.5 + 60 * dy / math.hypot(dy, dx), 99.5 + 60 * dx / math.hypot(dy, dx), 1e4, 3))
        row, column = brightest(indices(preview_full(image, Sky(1e9), size_px=400)))
        seen = np.array([row - 200, column - 200]) / 120
        np.testing.assert_allclose(seen, expected, atol=0.06)  # letters are drawn on whole pixels: 2 of 80


@pytest.mark.parametrize("size_px", [800, 1200])
def test_letters_are_read_on_a_phone(size_px: int) -> None:
    """Where pictures are 355 points wide, capitals need 7."""
    tones = indices(preview_full(EMPTY, Sky(1e9), size_px=size_px))
    labelled, _ = ndimage.label(tones > (BLACK + WHITE) // 2, np.ones((3, 3)))
    *letters, _ = sorted(ndimage.find_objects(labelled), key=lambda part: tones[part].size)
    heights = [(rows.stop - rows.start) * 355 / size_px for rows, _ in letters]
    assert len(heights) == 2
    assert min(heights) > 7


def test_north_is_up_and_east_is_left_by_default() -> None:
    arrows = compass(indices(preview_full(EMPTY, Sky(1e9), size_px=1000)))
    np.testing.assert_allclose(arrows["N"], [-1, 0], atol=0.06)
    np.testing.assert_allclose(arrows["E"], [0, -1], atol=0.06)


@pytest.mark.parametrize(("turns", "mirrored"), list(itertools.product(range(4), [False, True])))
def test_thumbnails_have_one_orientation(turns: int, mirrored: bool) -> None:
    image = field((64, 64), (45, 20, 500, 3), (20, 30, 3000, 3))
    upright = indices(thumbnail(image, SKY, (31.5, 31.5), 64)).astype(int)
    # rows run upwards, so numpy turns clockwise as seen; all angles but the nearest quarter are left as they are
    turned = np.rot90(image[:, ::-1] if mirrored else image, -turns)
    sky = Sky(0.0347, 90.0 * turns + 20, east_left=not mirrored)
    found = indices(thumbnail(turned, sky, (31.5, 31.5), 64)).astype(int)
    assert np.abs(found - upright).max() <= 6  # the noise is sampled at other pixels, so levels differ a little


@pytest.mark.parametrize("scale_arcsec", [0.0173, 0.0347, 0.2, 1.1, 40.0])
@pytest.mark.parametrize("size_px", [400, 1200])
def test_the_scale_bar_has_a_round_length(scale_arcsec: float, size_px: int) -> None:
    tones = indices(preview_full(np.full((256, 256), np.nan), Sky(scale_arcsec), size_px=size_px))
    row = tones[size_px - round(0.025 * size_px) - 1, : size_px // 2]
    length_px = np.count_nonzero(row == WHITE)
    pixel_arcsec = scale_arcsec * 256 / size_px
    lengths = np.array([m * 10.0**e for e in range(-2, 2) for m in (1, 2, 5)] + [60, 120, 300, 600, 1200, 3600])
    misses_px = np.abs(lengths / pixel_arcsec - length_px)
    assert misses_px.min() <= 0.5
    assert size_px / 12 < length_px <= size_px / 4


def test_no_scale_bar_without_a_suitable_length() -> None:
    tones = indices(preview_full(EMPTY, Sky(1e6), size_px=600))
    assert not np.any(tones[300:, :300] != NO_DATA)


@pytest.mark.parametrize(("side", "size_px"), [(31.0, 400), (140.0, 100)], ids=["enlarged", "reduced"])
def test_a_star_is_where_it_belongs(side: float, size_px: int) -> None:
    image = field((220, 200), (120.3, 71.6, 1e4, 2.5))
    tones = indices(preview_cropped(image, Sky(1e9), (122.0, 70.0), side, size_px=size_px))
    row, column = brightest(tones)
    zoom = size_px / side
    expected = (size_px / 2 + (122.0 - 120.3) * zoom, size_px / 2 + (71.6 - 70.0) * zoom)
    np.testing.assert_allclose((row, column), expected, atol=max(0.1 * zoom, 0.3))


def test_marks_are_circles_around_their_place() -> None:
    labels = Labels(marks=[Mark(150, 40), Mark(-500, 3), Mark(math.nan, 3)])
    marked = indices(preview_full(field(), SKY, labels, size_px=800)) > WHITE
    rows, columns = np.nonzero(marked)
    assert (rows.min() + rows.max() + 1) / 2 == pytest.approx((199.5 - 150) * 4, abs=1)
    assert (columns.min() + columns.max() + 1) / 2 == pytest.approx((40 + 0.5) * 4, abs=1)
    assert not marked[round(49.5 * 4), 40 * 4 + 2]


def test_the_crop_box_is_outlined() -> None:
    marked = indices(preview_full(field(), SKY, crop_box=Box((120, 80), 40), size_px=800)) > WHITE
    rows, columns = np.nonzero(marked)
    expected = [(199.5 - 140) * 4, (199.5 - 100) * 4, 60.5 * 4, 100.5 * 4]
    np.testing.assert_allclose([rows.min(), rows.max(), columns.min(), columns.max()], expected, atol=2)


def test_missing_pixels_have_their_own_colour() -> None:
    image = field()
    image[100:, :] = np.nan
    image[10, 10], image[12, 12] = np.inf, 3.4e38
    tones = indices(thumbnail(image, SKY, (99.5, 99.5), 200, size_px=200))
    assert np.all(tones[:99] == NO_DATA)
    assert tones[200 - 11, 10] == tones[200 - 13, 12] == NO_DATA
    assert np.all(tones[101:150] >= BLACK)
    wide = indices(thumbnail(field((50, 100)), SKY, (24.5, 49.5), 100, size_px=100))
    assert np.all(wide[:24] == NO_DATA)
    assert np.all(wide[76:] == NO_DATA)
    assert np.all(wide[26:74] >= BLACK)


def test_text_says_what_the_labels_say() -> None:
    east = datetime(2016, 9, 25, 4, 4, 27, tzinfo=timezone(timedelta(hours=-7)))
    labels = Labels("351\nYrsa", "lp600", east, 90.0, 12.34)
    assert labels.lines == ("351\nYrsa", "lp600, 90 s", "2016-09-25 11:04:27 UTC")
    assert labels.strehl == "Strehl 12.3 %"
    assert Labels(date_utc=datetime(2016, 9, 25, 11, 4, 27)).lines[2] == labels.lines[2]  # noqa: DTZ001 - that is the case
    assert Labels(strehl_percent=math.nan).strehl == Labels().strehl == ""
    plain, written = (indices(preview_full(field(), SKY, some)) for some in (Labels(), labels))
    differs = plain != written
    assert differs[:150, :400].any()
    assert differs[:80, 900:].any()
    assert not differs[200:].any()


def test_text_is_readable_on_white() -> None:
    tones = indices(preview_full(np.vstack([np.zeros((50, 100)), np.ones((50, 100))]), SKY, Labels("Yrsa")))
    title = tones[30:60, 30:110]
    assert title.min() < BLACK + 10
    assert title.max() == WHITE


def test_long_names_stay_inside() -> None:
    tones = indices(preview_full(EMPTY, SKY, Labels("Name " * 99, strehl_percent=10.0), size_px=600))
    assert np.all(tones[:, -8:] == NO_DATA)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1)),
        np.full((5, 3), np.nan),
        np.full((40, 40), 7, np.uint16),
        np.full((40, 40), -1e30),
        np.eye(300, dtype=">f4"),
        -field(),
        np.arange(3000.0).reshape(1, 3000),
        np.ones((9, 9), bool),
    ],
    ids=["one pixel", "all missing", "constant", "huge", "big-endian", "negative", "line", "mask"],
)
def test_any_image_makes_a_picture(image: np.ndarray) -> None:
    assert picture(preview_full(image, SKY, Labels("Yrsa"))).size == (1200, 1200)
    assert picture(preview_cropped(image, SKY, (1, 1), 4.5)).size == (800, 800)
    assert picture(thumbnail(image, SKY, (1e6, -3), 10)).size == (240, 240)


FLOATS = st.floats(width=32)


@settings(max_examples=60, deadline=None)
@given(
    image=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=FLOATS),
    centre=st.tuples(*[st.floats(-1e9, 1e9) | st.floats(-5, 15)] * 2),
    side=st.floats(1e-3, 1e9) | st.floats(1, 20),
    size_px=st.integers(1, 130),
    angle=st.floats(-720, 720),
)
def test_nothing_makes_it_fail(
    image: np.ndarray, centre: tuple[float, float], side: float, size_px: int, angle: float
) -> None:
    sky, labels = Sky(0.1, angle, east_left=size_px % 2 == 0), Labels("x", marks=[Mark(*centre, "B")])
    pictures = [
        preview_full(image, sky, labels, crop_box=Box(centre, side), size_px=size_px),
        preview_cropped(image, sky, centre, side, labels, size_px=size_px),
        thumbnail(image, sky, centre, side, size_px),
    ]
    assert all(picture(png).size == (size_px, size_px) for png in pictures)
    shown = levels(image)
    assert shown.black < shown.white
    assert shown.soft > 0
    tones = stretch(image)
    assert np.array_equal(np.isnan(tones), ~(np.abs(image) < 1e30))
    assert np.all((tones >= 0) & (tones <= 1) | np.isnan(tones))


def test_the_same_image_makes_the_same_bytes() -> None:
    image, labels = (
        field((100, 100), (50, 50, 900, 2)),
        Labels("Yrsa", "Si", datetime(2016, 9, 25, tzinfo=UTC), 90, 9.1),
    )
    for draw in (
        lambda: preview_full(image, SKY, labels),
        lambda: strehl_profile(image - 100, image, 0.02, labels),
        lambda: frame_quality(image[0], [""] * 100, labels),
    ):
        assert draw() == draw()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: Sky(0.0),
        lambda: Sky(0.1, math.inf),
        lambda: preview_full(np.zeros((0, 5)), SKY),
        lambda: preview_full(np.zeros((2, 5, 5)), SKY),
        lambda: preview_full(EMPTY, SKY, size_px=0),
        lambda: preview_full(EMPTY, SKY, crop_box=Box((math.nan, 0), 4)),
        lambda: preview_cropped(EMPTY, SKY, (5, math.nan), 10),
        lambda: thumbnail(EMPTY, SKY, (5, 5), -1),
        lambda: frame_quality(np.ones(3), ["", ""]),
    ],
)
def test_nonsense_is_refused(draw) -> None:
    with pytest.raises(ValueError, match="expected"):
        draw()


def test_levels_follow_background_noise_and_star() -> None:
    image = field((400, 400), (200, 200, 5e4, 4), noise=3.0)
    image[50, 50] = 1e6  # a hot pixel
    shown = levels(image)
    # commonest value and spread of 57 600 sampled pixels: errors of a few per cent of the noise
    assert shown.black == pytest.approx(100 - 2 * 3, abs=0.6)
    assert shown.soft == pytest.approx(3 * 3, rel=0.1)
    assert 0.9 * 5e4 < shown.white < 5.05e4  # the faintest of four pixels, at most 2 pixels from the peak
    tones = stretch(image, shown)
    assert np.all(np.diff(tones[200, 200:215]) <= 0)
    assert 0.03 < np.median(tones) < 0.15


def test_an_empty_field_stays_dark() -> None:
    tones = stretch(field((300, 300)))
    assert np.median(tones) < 0.25
    assert np.percentile(tones, 99) < 0.5


def test_a_disc_is_shown_nearly_linearly() -> None:
    y, x = np.mgrid[:300, :300] - 150
    disc = np.where(np.hypot(y, x) < 60, 1000.0 - 5 * np.hypot(y, x), 0)  # 1000 to 700
    tones = stretch(disc + field((300, 300)))
    assert tones[150, 150] > 0.97
    assert 0.6 < tones[150, 205] < 0.85  # 725 of 1000; on the logarithmic scale of a star 0.95


def test_a_disc_that_fills_the_image_has_shades() -> None:
    y, x = np.mgrid[:200, :200]
    tones = stretch(1000 + 50 * np.sin(x / 9) * np.cos(y / 9))
    assert np.ptp(tones) > 0.9
    assert 0.2 < np.median(tones) < 0.8


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Sg", "g"),
        ("Sr", "r"),
        ("i'", "i"),
        ("sdss_z", "z"),
        ("ip", "i"),
        ("LP600", "lp600"),
        ("lp600", "lp600"),
        ("c", "c"),
        ("Nir", "c"),
        ("", "c"),
    ],
)
def test_filters_keep_their_colours(name: str, key: str) -> None:
    assert plot_style.filter_colour(name) == plot_style.FILTER_COLOURS[key]


def test_the_radial_profile_is_that_of_the_star() -> None:
    star = field((101, 121), (50, 60, 1e4, 5), noise=0.0) - 100
    star[50, 75:] = np.nan
    star[70, 60] = 1e3  # a companion does not change a median
    radius, rings = plot_style._radial_profile(star)
    assert len(radius) == 51
    # rings are one pixel wide: a median over a ring is the value half a pixel off at the most
    steep = np.exp(-0.5 * (np.maximum(radius - 0.5, 0) / 5) ** 2), np.exp(-0.5 * ((radius + 0.5) / 5) ** 2)
    assert np.all(rings[1] <= 1e4 * steep[0] + 1e-9)
    assert np.all(rings[1] >= 1e4 * steep[1] - 1e-9)


@pytest.mark.parametrize("star", [np.zeros((21, 21)), np.full((21, 21), np.nan), -np.ones((3, 30)), np.ones((1, 1))])
@pytest.mark.parametrize("strehl_percent", [None, 0.0, 12.0])
def test_a_profile_without_a_star_is_still_a_plot(star: np.ndarray, strehl_percent: float | None) -> None:
    perfect = field((31, 31), (15, 15, 1, 2), noise=0.0) - 100
    labels = Labels("$Yrsa_", "Si", strehl_percent=strehl_percent)
    png = strehl_profile(star, perfect, 0.02, labels, core_fwhm_arcsec=0.1, halo_fwhm_arcsec=math.nan)
    assert picture(png).size == PLOT_SIZES["profile"]


def test_frame_quality_of_few_or_no_frames() -> None:
    for quality, reasons in (
        (np.array([]), []),
        (np.array([np.nan, 3.0]), ["black: no star", "saturated: 65535"]),
        (np.array([1.0, 2.0, np.nan]), ["", "", ""]),
        (np.zeros(4), [""] * 4),
    ):
        assert picture(frame_quality(quality, reasons)).size == PLOT_SIZES["quality"]
