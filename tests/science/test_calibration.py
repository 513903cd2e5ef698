import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from obsarchive.errors import Unprocessable
from obsarchive.science.imaging import combining
from obsarchive.science.imaging.calibration import Calibration, bad_pixels, calibrate, central_part, dark_mode_for
from obsarchive.science.imaging.combining import Clip, combine
from obsarchive.science.imaging.master_flats import frame_levels, master_flat

BIAS, READ_NOISE = 1000.0, 8.0


def rows_of(cube):
    return lambda y0, y1: cube[:, y0:y1]


def dark_cube(n, shape=(64, 64), seed=0):
    noise = np.random.default_rng(seed).normal(BIAS, READ_NOISE, (n, *shape))
    return noise.round().astype(np.uint16)


@pytest.mark.parametrize("n", [10, 50])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, ">i2"])
def test_master_dark_is_as_good_as_the_noise_allows(n, dtype):
    cube = dark_cube(n).astype(dtype)
    master = combine(rows_of(cube), n, (64, 64))
    error = (master.image - BIAS).std()
    # 4096 pixels: the error of the rms itself is 1 %; clipping good values costs 1 % more
    assert error == pytest.approx(READ_NOISE / np.sqrt(n), rel=0.05)
    # the clipped scatter of n values is biased low by sqrt(1 - 1/n) and 1.5 %
    assert np.mean(master.noise) == pytest.approx(READ_NOISE, rel=0.1)
    assert master.level == pytest.approx(BIAS, abs=0.2)
    assert master.used_fraction > 0.99
    assert master.image.dtype == master.noise.dtype == np.float32


@pytest.mark.parametrize("hits", [1, 2])
def test_cosmic_rays_among_ten_frames_leave_no_trace(hits):
    """The plain rule never rejects one of ten: an outlier cannot stand more than 2.85 sigma out."""
    cube = dark_cube(10)
    clean = combine(rows_of(cube), 10, (64, 64)).image
    cube[:hits, 20, 30] = [60000, 9000][:hits]
    master = combine(rows_of(cube), 10, (64, 64))
    # without the hits a mean of 8 or 9 values remains: three of its standard errors
    assert abs(master.image[20, 30] - BIAS) < 3 * READ_NOISE / np.sqrt(10 - hits)
    others = np.ones((64, 64), bool)
    others[20, 30] = False
    assert_array_equal(master.image[others], clean[others])


def test_agrees_with_ccdproc():
    """Same rule (mean, standard deviation, 3 sigma); differences come from the robust start only."""
    ccdproc = pytest.importorskip("ccdproc")
    from astropy.nddata import CCDData

    cube = dark_cube(50)
    frames = [CCDData(frame.astype(np.float32), unit="adu") for frame in cube]
    theirs = ccdproc.combine(frames, method="average", sigma_clip=True, dtype=np.float32)
    ours = combine(rows_of(cube), 50, (64, 64))
    assert np.std(ours.image - theirs.data) < 0.01


def test_iterating_clips_no_less():
    cube = dark_cube(50)
    once = combine(rows_of(cube), 50, (64, 64))
    often = combine(rows_of(cube), 50, (64, 64), clip=Clip(max_iterations=5))
    assert often.used_fraction < once.used_fraction


def test_nan_is_ignored_and_a_pixel_of_nan_stays_nan():
    cube = dark_cube(12).astype(np.float32)
    cube[3, 5, 5] = cube[:, 7, 7] = np.nan
    master = combine(rows_of(cube), 12, (64, 64))
    assert np.isnan(master.image[7, 7])
    assert np.isfinite(np.delete(master.image.ravel(), 7 * 64 + 7)).all()
    assert master.image[5, 5] == pytest.approx(np.nanmean(cube[:, 5, 5]), abs=READ_NOISE)


def test_offset_scale_and_left_out_frames():
    rng = np.random.default_rng(1)
    pattern = rng.uniform(1, 2, (16, 16))
    dark = rng.uniform(100, 200, (16, 16))
    levels = np.array([10.0, 20.0, 40.0, 1e6])
    cube = dark + levels[:, None, None] * pattern
    scale = 1 / levels
    scale[3] = np.nan
    master = combine(rows_of(cube), 4, (16, 16), scale=scale, offset=dark)
    assert_allclose(master.image, pattern, rtol=1e-5)  # float32 of the dark
    assert master.used_fraction == pytest.approx(0.75)


@settings(max_examples=15, deadline=None)
@given(block_bytes=st.integers(1, 10**5), n=st.integers(1, 12))
def test_the_size_of_the_bands_does_not_matter(block_bytes, n):
    cube = dark_cube(n, (17, 13))
    whole = combine(rows_of(cube), n, (17, 13))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(combining, "BLOCK_BYTES", block_bytes)
        banded = combine(rows_of(cube), n, (17, 13))
    assert_array_equal(whole.image, banded.image)
    assert whole.used_fraction == banded.used_fraction


def test_memory_follows_the_band_not_the_number_of_frames():
    def read_rows(y0, y1):
        return np.full((2000, y1 - y0, 512), 7, np.uint16)

    tracemalloc.start()
    combine(read_rows, 2000, (128, 512))  # 262 MB in all
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # one band and the results


def test_nothing_to_combine():
    with pytest.raises(Unprocessable, match="no frames"):
        combine(rows_of(np.empty((0, 4, 4))), 0, (4, 4))
    with pytest.raises(Unprocessable, match="expected rows of shape"):
        combine(lambda _y0, _y1: np.zeros((3, 2, 4)), 3, (4, 4))


def flat_field(shape, seed=0):
    field = 1 + 0.05 * np.random.default_rng(seed).standard_normal(shape)
    return field * np.linspace(0.9, 1.1, shape[1])


def test_flat_of_frames_of_different_levels():
    rng = np.random.default_rng(2)
    truth = flat_field((64, 64))
    dark = rng.uniform(500, 600, (64, 64))
    levels = np.linspace(5000, 30000, 12)
    cube = rng.normal(dark + levels[:, None, None] * truth, np.sqrt(levels)[:, None, None])
    cube[2] = 65535  # saturated
    cube[5] = dark  # shutter closed
    cube[:2, 9, 9] += 1e5
    flat = master_flat(rows_of(cube), 12, (64, 64), dark, saturation=60000)
    assert flat.image.mean() == pytest.approx(1, abs=1e-5)
    # ten frames of S/N 70 to 170 per pixel, mean of the noise / sqrt(10): below 0.4 %
    assert np.std(flat.image / (truth / truth.mean()) - 1) < 0.004


def test_levels_are_medians_above_the_dark():
    dark = np.full((100, 80), 50.0)
    cube = dark + np.array([10.0, 200.0])[:, None, None]
    cube[:, 3, :] = 1e5
    assert_allclose(frame_levels(rows_of(cube), 2, (100, 80), dark), [10, 200])


def test_flats_without_light_are_refused():
    cube = np.full((5, 16, 16), 100.0)
    with pytest.raises(Unprocessable, match="no exposed flat among 5"):
        master_flat(rows_of(cube), 5, (16, 16), np.full((16, 16), 100.0))


def test_bad_pixels_are_hot_dead_or_not_finite():
    rng = np.random.default_rng(3)
    dark = rng.normal(BIAS, 1, (64, 64)) + np.linspace(0, 500, 64)  # a strong glow is no fault
    flat = flat_field((64, 64))
    dark[10, 10], dark[0, 63], dark[20, 20] = 1400, 2500, np.nan
    flat[30, 30], flat[31, 31], flat[32, 32] = 0.05, np.nan, 9
    expected = {(10, 10), (0, 63), (20, 20), (30, 30), (31, 31), (32, 32)}
    assert set(map(tuple, np.argwhere(bad_pixels(dark, flat)).tolist())) == expected
    assert bad_pixels(None, flat).sum() == 3
    with pytest.raises(ValueError, match="dark or a flat"):
        bad_pixels(None, None)


def test_central_part():
    image = np.arange(1024 * 1024).reshape(1024, 1024)
    assert_array_equal(central_part(image, (256, 256)), image[384:640, 384:640])
    assert central_part(image, (1024, 1024)).shape == (1024, 1024)
    with pytest.raises(Unprocessable, match="does not cover"):
        central_part(image, (1025, 10))


FULL, QUARTER = (1024, 1024), (256, 256)


@pytest.mark.parametrize(
    ("mode", "shape", "available", "expected"),
    [
        ("6", FULL, {"6": FULL, "64": QUARTER}, "6"),
        ("6", QUARTER, {"6": FULL, "64": QUARTER}, "64"),
        ("6", QUARTER, {"6": QUARTER, "64": QUARTER}, "64"),
        ("6", QUARTER, {"6": QUARTER}, "6"),
        ("6", QUARTER, {"6": FULL}, None),
        ("64", QUARTER, {"6": FULL, "64": QUARTER}, "64"),
        ("6", FULL, {"64": FULL}, None),
        ("0", FULL, {}, None),
    ],
)
def test_dark_of_a_mode(mode, shape, available, expected):
    assert dark_mode_for(mode, shape, available) == expected


images = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed))


@settings(max_examples=25, deadline=None)
@given(rng=images, shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=20))
def test_calibration_undoes_the_detector(rng, shape):
    scene = rng.uniform(0, 5e4, shape)
    flat = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    dark = rng.uniform(0, 1000, shape).astype(np.float32)
    raw = scene * flat + dark
    calibrated = calibrate(raw, dark, 1 / flat, None)
    assert_allclose(calibrated, scene, atol=0.05)  # float32 of 5e4 has steps of 0.004
    counts = np.round(raw).astype(np.int32)
    assert_allclose(calibrate(counts, dark, 1 / flat, None), scene, atol=1.1)  # half a count over 0.5


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_what_is_missing_is_not_applied(dtype):
    frame = np.arange(12).reshape(3, 4).astype(dtype)
    dark, gain = np.full((3, 4), 20, np.float32), np.full((3, 4), 2, np.float32)
    assert_array_equal(Calibration().apply(frame), frame)
    assert_array_equal(Calibration(dark=dark).apply(frame), frame.astype(float) - 20)  # no wrap below zero
    assert_array_equal(Calibration(inverse_flat=gain).apply(frame), frame * 2.0)


def test_a_small_dark_current_is_subtracted_and_the_flat_applied_to_it():
    rng = np.random.default_rng(1)
    dark, flat = 500 + rng.normal(0, 1, (20, 30)), np.full((20, 30), 1.0)
    dark[5, 6], dark[7, 20], flat[5, 6], flat[12, 12] = 800, 1600, 0.8, 0.1
    ready = Calibration.from_masters(dark, flat, harmless_adu=400)
    assert set(map(tuple, np.argwhere(ready.bad).tolist())) == {(7, 20), (12, 12)}
    light = rng.uniform(90, 110, (20, 30))
    light[5, 6] = 5000
    assert ready.apply(light * flat + dark)[5, 6] == pytest.approx(5000, rel=1e-5)


def test_bad_pixels_are_filled_from_good_neighbours():
    y, x = np.indices((9, 9))
    plane = (3.0 * y + 2 * x).astype(np.float32)
    bad = np.zeros((9, 9), bool)
    bad[4, 4] = bad[0, 0] = True
    frame = np.where(bad, np.float32(1e6), plane)
    filled = calibrate(frame, None, None, bad)
    assert filled[4, 4] == pytest.approx(plane[4, 4])
    assert 0 < filled[0, 0] < 6
    assert np.isnan(calibrate(frame, None, None, bad, fill_bad=False)[bad]).all()
    assert np.isnan(calibrate(frame, None, None, np.ones((9, 9), bool))).all()


def test_a_window_is_calibrated_like_the_whole_frame():
    rng = np.random.default_rng(5)
    dark, flat = rng.uniform(90, 110, (40, 50)), flat_field((40, 50))
    dark[20, 20] = 5000
    ready = Calibration.from_masters(dark, flat)
    raw = rng.integers(100, 1000, (40, 50)).astype(np.uint16)
    out = np.empty((20, 30), np.float32)
    window = ready.apply(raw[10:30, 5:35], out, origin=(10, 5))
    assert window is out
    assert_array_equal(window, ready.apply(raw)[10:30, 5:35])


def test_masters_of_another_shape_are_refused():
    ready = Calibration.from_masters(np.zeros((8, 8)), None)
    with pytest.raises(Unprocessable, match="shape"):
        ready.apply(np.zeros((9, 9)))


def test_what_the_amplifier_loses_is_restored():
    scene = np.linspace(0, 60_000, 64, dtype=np.float32).reshape(8, 8)
    dark, flat = np.full((8, 8), 500, np.float32), np.full((8, 8), 1.25, np.float32)
    light = scene * flat * 0.8
    raw = dark + light * (1 - 0.02 / 65535 * light)
    assert np.abs(Calibration.from_masters(dark, flat).apply(raw) - 0.8 * scene).max() > 500
    linear = replace(Calibration.from_masters(dark, flat), loss=0.02 / 65535)
    assert_allclose(linear.apply(raw), 0.8 * scene, atol=2)
    # without a dark the zero of the signal is not known
    assert_array_equal(Calibration(loss=0.1).apply(raw), raw)
