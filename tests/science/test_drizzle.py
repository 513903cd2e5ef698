import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.coverage import uneven_coverage

SHAPE = (40, 50)
shifts = st.floats(-6, 6)


def noise_frames(n, seed=0):
    return np.random.default_rng(seed).normal(1000, 30, (n, *SHAPE)).astype(np.float32)


def gaussian_star(y, x, sigma=2.0, shape=SHAPE):
    rows, columns = np.indices(shape)
    star = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return star.astype(np.float32)


def centroid(image):
    rows, columns = np.indices(image.shape)
    filled = np.nan_to_num(image)
    return (filled * rows).sum() / filled.sum(), (filled * columns).sum() / filled.sum()


@pytest.mark.parametrize("kernel", ["turbo", "square"])
@pytest.mark.parametrize(("scale", "pixfrac"), [(2, 0.45), (2, 1.0), (3, 0.6), (1, 0.8)])
def test_agrees_with_stsci_drizzle(kernel, scale, pixfrac):
    resample = pytest.importorskip("drizzle.resample")
    rng = np.random.default_rng(1)
    frames, moves = noise_frames(4), rng.normal(0, 3, (4, 2))
    weights = [1.0, 0.5, 2.0, 1.0]
    ours = Drizzle(SHAPE, scale, pixfrac)
    theirs = resample.Drizzle(
        kernel=kernel, out_shape=(scale * SHAPE[0], scale * SHAPE[1]), fillval=np.nan, disable_ctx=True
    )
    y, x = np.indices(SHAPE, dtype=float)
    for frame, (dy, dx), weight in zip(frames, moves, weights, strict=True):
        ours.add(frame, dy, dx, weight)
        out_y, out_x = ours.output_position(y + dy, x + dx)
        theirs.add_image(
            frame,
            1.0,
            np.stack([out_x, out_y], axis=-1),
            pixel_scale_ratio=1 / scale,
            pixfrac=pixfrac,
            wht_scale=weight,
        )
    # at the border STScI leaves out drops whose centre is outside; inside, float32 is the only difference
    inner = np.s_[10 * scale : -10 * scale, 10 * scale : -10 * scale]
    covered = ours.weights()[inner] > 1e-4
    assert covered.mean() > 0.9
    assert_allclose(ours.surface_brightness()[inner][covered], theirs.out_img[inner][covered], rtol=1e-5)
    assert_allclose(ours.weights()[inner][covered], theirs.out_wht[inner][covered], rtol=1e-3, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(dy=shifts, dx=shifts, scale=st.integers(1, 4))
def test_a_star_lands_where_it_should(dy, dx, scale):
    # whole pixels are shared out in proportion, which keeps the centroid of a single frame
    stack = Drizzle(SHAPE, scale, pixfrac=1)
    stack.add(gaussian_star(20.3, 24.6), dy, dx)
    landed = centroid(stack.surface_brightness() * stack.weights())
    assert_allclose(landed, stack.output_position(20.3 + dy, 24.6 + dx), atol=1e-3 * scale)


def test_a_star_lands_where_it_should_with_small_drops():
    stack = Drizzle(SHAPE)
    for dy, dx in np.random.default_rng(5).normal(0, 3, (100, 2)):
        stack.add(gaussian_star(20.3 - dy, 24.6 - dx), dy, dx)
    # drops smaller than a pixel are rounded to the grid: the error averages out with the dithering
    assert_allclose(centroid(stack.image()), stack.output_position(20.3, 24.6), atol=0.03)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.integers(1, 3))
def test_flux_is_kept(seed, scale):
    rng = np.random.default_rng(seed)
    stack = Drizzle(SHAPE, scale)
    for _ in range(60):
        dy, dx = rng.normal(0, 2, 2)
        stack.add(1e5 * gaussian_star(20 - dy, 25 - dx), dy, dx)
    # sampling of the star by 60 random phases; a constant frame is exact, see below
    assert np.nansum(stack.image()) == pytest.approx(1e5, rel=0.02)


def test_a_constant_frame_stays_constant():
    stack = Drizzle(SHAPE)
    for dy, dx in np.random.default_rng(2).normal(0, 5, (7, 2)):
        stack.add(np.full(SHAPE, 12.0, np.float32), dy, dx, weight=0.7)
    assert_allclose(stack.surface_brightness()[np.isfinite(stack.image())], 12, rtol=1e-5)
    assert_allclose(stack.image(), stack.surface_brightness() / 4)


def test_pixels_that_are_not_finite_have_no_weight():
    frames, moves = noise_frames(3), [(0.3, -1.2), (-2.1, 0.4), (1.7, 0.1)]
    frames[1, 15, 20], frames[2, 18, 5:9] = np.nan, np.inf
    stack, gaps, filled = Drizzle(SHAPE), Drizzle(SHAPE), Drizzle(SHAPE)
    for frame, (dy, dx) in zip(frames, moves, strict=True):
        good = np.isfinite(frame)
        stack.add(frame, dy, dx)
        # the same by linearity: weights are what a frame of ones and zeros deposits
        gaps.add(good.astype(np.float32), dy, dx)
        filled.add(np.where(good, frame, 0), dy, dx)
    expected = gaps.surface_brightness() * gaps.weights()
    assert_allclose(stack.weights(), np.nan_to_num(expected), atol=1e-5)
    both = stack.weights() > 1e-3
    deposited = filled.surface_brightness() * filled.weights()
    assert_allclose((stack.surface_brightness() * stack.weights())[both], deposited[both], rtol=1e-4)


def test_a_pixel_bad_in_every_frame_is_nan():
    frame = noise_frames(1)[0]
    frame[10, 10] = np.nan
    stack = Drizzle(SHAPE)
    stack.add(frame, 0, 0)
    assert np.isnan(stack.image()[20:22, 20:22]).all()
    assert np.isnan(stack.image()).sum() == 4


def test_merging_equals_adding():
    frames = noise_frames(6)
    frames[4, 3, 3] = np.nan
    moves = np.random.default_rng(3).normal(0, 2, (6, 2))
    whole, best, rest = Drizzle(SHAPE), Drizzle(SHAPE), Drizzle(SHAPE)
    for i, (frame, (dy, dx)) in enumerate(zip(frames, moves, strict=True)):
        whole.add(frame, dy, dx)
        (best if i < 2 else rest).add(frame, dy, dx)
    alone = best.image()
    rest += best
    assert_allclose(rest.image(), whole.image(), rtol=1e-5)
    assert_allclose(rest.weights(), whole.weights(), atol=1e-6)
    assert_array_equal(best.image(), alone)
    assert rest.n_frames == 6


def test_a_frame_moved_out_of_the_grid_adds_nothing():
    stack = Drizzle(SHAPE)
    stack.add(noise_frames(1)[0], 1000.2, -1000.3)
    assert (stack.weights() == 0).all()
    assert np.isnan(stack.image()).all()


@pytest.mark.parametrize(("scale", "pixfrac"), [(0, 0.5), (1.5, 0.5), (2, 0), (2, 1.1)])
def test_impossible_geometry(scale, pixfrac):
    with pytest.raises(ValueError, match="must be"):
        Drizzle(SHAPE, scale, pixfrac)


def test_what_does_not_fit_is_refused():
    stack = Drizzle(SHAPE)
    with pytest.raises(ValueError, match="shape"):
        stack.add(np.zeros((3, 3), np.float32), 0, 0)
    with pytest.raises(ValueError, match="finite"):
        stack.add(noise_frames(1)[0], np.nan, 0)
    with pytest.raises(ValueError, match="cannot merge"):
        stack += Drizzle(SHAPE, 3)


def test_stars_of_few_frames_are_where_their_coverage_puts_them():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:48, :48]
    found, told = [], []
    for _ in range(12):
        place, shifts = rng.uniform(23, 25, 2), rng.normal(0, 2, (8, 2))
        stack = Drizzle((48, 48), 2, 0.6)
        for dy, dx in shifts:
            square = (y - place[0] + dy) ** 2 + (x - place[1] + dx) ** 2
            stack.add((np.exp(-square / 1.8) + 0.05 * (1 + square / 40) ** -3).astype(np.float32), dy, dx)
        image = np.nan_to_num(stack.image())
        centre = expected = np.array(stack.output_position(*place))
        rows, columns = np.indices(image.shape)
        for _ in range(10):
            weight = image * np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / 7.2)
            centre = 2 * np.array([np.sum(weight * rows), np.sum(weight * columns)]) / weight.sum() - centre
        found.append(centre - expected)
        told.append(uneven_coverage(shifts, np.ones(8), tuple(place), 1.0, 2, 0.6).offset)
    assert np.std(found) > 0.015
    # the core is not quite that of the star
    assert np.std(np.subtract(found, told)) < 0.4 * np.std(found)


def test_peaks_of_few_frames_are_as_high_as_their_coverage_makes_them():
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:48, :48]
    place = (24.2, 23.7)

    def peak(shifts, heights):
        stack = Drizzle((48, 48), 2, 0.6)
        for (dy, dx), height in zip(shifts, heights, strict=True):
            square = (y - place[0] + dy) ** 2 + (x - place[1] + dx) ** 2
            stack.add((height * np.exp(-square / 2)).astype(np.float32), dy, dx)
        # a telescope does not transmit what differs from pixel to pixel
        smooth = ndimage.gaussian_filter(np.nan_to_num(stack.image().astype(float)), 1.2)
        return ndimage.map_coordinates(smooth, np.reshape(stack.output_position(*place), (2, 1)))[0]

    even = peak(rng.uniform(0, 1, (600, 2)), np.ones(600))
    found, told = [], []
    for _ in range(16):
        shifts, heights = rng.normal(0, 2, (8, 2)), rng.uniform(0.7, 1.3, 8)
        found.append(peak(shifts, heights) / heights.mean() / even - 1)
        told.append(uneven_coverage(shifts, heights, place, 1.0, 2, 0.6).peak)
    assert np.std(found) > 0.003
    assert np.std(np.subtract(found, told)) < 0.4 * np.std(found)
    assert abs(np.mean(told) - np.mean(found)) < 2e-3
