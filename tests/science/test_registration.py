import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize

from obsarchive.errors import Unprocessable
from obsarchive.science.imaging.calibration import Calibration
from obsarchive.science.imaging.combining import combine
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.hot_pixels import (
    FIFTH,
    SHARPEST,
    SHARPEST_OF_BLOCKS,
    THIRD,
    remove_spikes,
    sharpest_star,
    without_spikes,
)
from obsarchive.science.psf.model import Optics, diffraction_limited_psf
from obsarchive.science.registration.frame_measure import LEAST_CORE_PX, FrameMeasure
from obsarchive.science.registration.frame_ranking import classify, cut, guide_star, locate, measure, rank_frames
from obsarchive.science.registration.pixel_phase import phase_error
from obsarchive.science.registration.position_noise import position_errors
from obsarchive.simulation import scenes
from obsarchive.simulation.emccd import Detector

DATA = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
CORE = 1.1


def gaussian(y, x, flux=1e4, sigma=CORE, shape=(96, 96)):
    rows, columns = np.indices(shape)
    return flux * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def ring(y, x, radius, width, flux, shape):
    rows, columns = np.indices(shape)
    profile = np.exp(-((np.hypot(rows - y, columns - x) - radius) ** 2) / (2 * width**2))
    return flux * profile / profile.sum()


def with_noise(image, seed=0, rms=3.0, sky=100.0):
    return (image + np.random.default_rng(seed).normal(sky, rms, image.shape)).astype(np.float32)


# guide star


def subsets(image, k=5, **kwargs):
    return np.stack([with_noise(image, seed, **kwargs) for seed in range(k)])


def test_guide_star_is_the_brightest_star():
    scene = gaussian(150.3, 60.7, 2e4, 1.3, (256, 256)) + gaussian(40, 200, 1e4, 1.3, (256, 256))
    star = guide_star(subsets(scene))
    assert (star.y, star.x) == pytest.approx((150.3, 60.7), abs=0.05)  # sigma / SNR is 0.01
    assert star.flux == pytest.approx(2e4, rel=0.03)
    assert star.scale_px == pytest.approx(1.3, rel=0.25)


def test_neither_hot_pixels_nor_tracks_nor_passers_by_guide():
    scene = gaussian(150, 60, 3e3, 1.3, (256, 256))
    images = subsets(scene)
    images[:, 30, 30] += 1e5  # hot pixel, in all medians
    images[:, 80:84, 200] += 1e4  # row of hot pixels
    images[:, :, 222] += 500  # hot column
    images[2] += gaussian(200, 200, 1e6, 3, (256, 256)).astype(np.float32)  # a satellite, in one
    star = guide_star(images)
    assert (star.y, star.x) == pytest.approx((150, 60), abs=0.2)


def test_a_gradient_is_no_star():
    rows = np.linspace(0, 4000, 512)[:, None] * np.ones(512)
    star = guide_star(subsets(gaussian(300, 100, 3e3, 1.3, (512, 512)) + rows))
    assert (star.y, star.x) == pytest.approx((300, 100), abs=0.2)


def test_excluded_parts_and_the_border_are_left_out():
    scene = gaussian(150, 60, 2e4, 1.3, (256, 256)) + gaussian(40, 200, 1e4, 1.3, (256, 256))
    scene += gaussian(0, 100, 1e6, 1.3, (256, 256))
    exclude = np.zeros((256, 256), bool)
    exclude[120:180, 30:90] = exclude[:16, 84:116] = True
    star = guide_star(subsets(scene), exclude=exclude)
    assert (star.y, star.x) == pytest.approx((40, 200), abs=0.2)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_an_empty_field_has_no_guide_star(k):
    with pytest.raises(Unprocessable, match=r"no guide star: brightest source has S/N [34]\.\d, needs 6"):
        guide_star(subsets(np.zeros((256, 256)), k))


def test_black_frames_and_nan_have_no_guide_star():
    for value in (0.0, np.nan):
        with pytest.raises(Unprocessable, match="no guide star"):
            guide_star(np.full((3, 64, 64), value))


@pytest.mark.parametrize("radius", [8, 20, 30])
def test_a_defocused_star_is_one_object(radius):
    scene = ring(140.4, 120.8, radius, 2.5, 4e5, (300, 280))
    star = guide_star(subsets(scene))
    assert (star.y, star.x) == pytest.approx((140.4, 120.8), abs=1)
    assert radius / 2 < star.scale_px < radius


def test_a_single_frame_with_cosmic_rays():
    frame = with_noise(gaussian(150.3, 60.7, 2e4, 1.3, (256, 256)))
    for i in range(12):  # a diagonal staircase, two pixels wide
        frame[40 + i, 100 + i] += 3e4
        frame[40 + i, 101 + i] += 4e4
    frame[200, 20:29] += 5e4
    star = locate(frame)
    assert (star.y, star.x) == pytest.approx((150.3, 60.7), abs=0.1)


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(0.72, 4), y=st.floats(15, 17), x=st.floats(15, 17))
def test_no_star_is_taken_for_a_spike(sigma, y, x):
    star = gaussian(y, x, 1e4, sigma, (32, 32)).astype(np.float32)
    np.testing.assert_array_equal(without_spikes(star, 1.0), star)
    np.testing.assert_array_equal(remove_spikes(star.copy(), 1.0, SHARPEST, SHARPEST_OF_BLOCKS), star)


def diffraction_limited(pixel_arcsec, y, x, side=64):
    """A star of 1e5 counts on pixels of a 2.1 m telescope at 765 nm, and half of lambda / D in them."""
    optics = Optics(2.1, 0.5, 765.0)
    star = 1e5 * diffraction_limited_psf(optics, pixel_arcsec, side, (1.0,), (y, x))
    return star.astype(np.float32), optics.lambda_over_d_arcsec / pixel_arcsec / 2


@settings(max_examples=20, deadline=None)
@given(pixel=st.floats(0.03, 0.1), y=st.floats(-0.5, 0.5), x=st.floats(-0.5, 0.5))
def test_no_star_on_wide_pixels_is_taken_for_a_spike(pixel, y, x):
    star, core = diffraction_limited(pixel, y, x)
    inner = (slice(30, 35),) * 2
    limits = [sharpest_star(core, rank) for rank in (THIRD, FIFTH)]
    np.testing.assert_array_equal(remove_spikes(star.copy(), 50.0, *limits)[inner], star[inner])
    hot = star.copy()
    hot[10, 12] = 5000
    assert without_spikes(hot, 50.0, sharpest_star(core))[10, 12] < 50


@pytest.mark.parametrize("blob", [[(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0), (0, 1), (1, 1)]])
@pytest.mark.parametrize("place", [(38, 37), (45, 50)])
def test_a_cosmic_ray_that_outshines_the_star_is_not_taken_for_it(place, blob):
    window, core = diffraction_limited(0.0347, 0.3, -0.2)
    window += np.random.default_rng(1).normal(0, 20, window.shape).astype(np.float32)
    expected = measure(window, core, 4.0)
    for dy, dx in blob:
        window[place[0] + dy, place[1] + dx] += 3 * window.max()
    found = measure(window, core, 4.0)
    assert (found.y, found.x) == pytest.approx((expected.y, expected.x), abs=0.05)
    assert (found.peak, found.flux) == pytest.approx((expected.peak, expected.flux), rel=0.05)


@settings(max_examples=30, deadline=None)
@given(fwhm=st.floats(1.5, 6), core=st.floats(0.1, 2.0), y=st.floats(15, 17), x=st.floats(15, 17))
def test_no_star_is_taken_for_a_cosmic_ray(fwhm, core, y, x):
    window = gaussian(y, x, 1e5, fwhm / 2.3548, (32, 32)).astype(np.float32)
    window += np.random.default_rng(1).normal(0, 3, window.shape).astype(np.float32)
    found = measure(window, core)
    assert (found.y, found.x) == pytest.approx((y, x), abs=0.2)


@settings(max_examples=20, deadline=None)
@given(y=st.floats(-0.5, 0.5), x=st.floats(-0.5, 0.5))
def test_positions_on_wide_pixels_do_not_depend_on_the_place_in_a_pixel(y, x):
    window, core = diffraction_limited(0.0694, y, x)
    assert phase_error(core, LEAST_CORE_PX) == pytest.approx(0.071, abs=0.001)
    result = measure(window, core)
    # 0.085 without the correction; the obstruction of the pupil raises the error by a tenth
    assert (result.y - 32, result.x - 32) == pytest.approx((y, x), abs=0.02)
    # that of a star between a middle and a corner, where nothing is folded back: up to 0.11 more or less without
    neither = measure(diffraction_limited(0.0694, 0.25, 0.25)[0], core)
    assert result.peak == pytest.approx(neither.peak, rel=0.035)
    assert phase_error(1.0, 1.0) == 0


def on_wide_pixels(place, core, sigma):
    """Measure a star of Gaussian light in a halo at a place (y, x) from the middle, with hardly any noise."""
    fine = (np.arange(640) + 0.5) / 10 - 0.5
    squared = (fine[:, np.newaxis] - 32 - place[0]) ** 2 + (fine - 32 - place[1]) ** 2
    light = 0.3 * np.exp(-squared / 2 / sigma**2) / sigma**2 + 0.01 * (1 + squared / 100) ** (-11 / 6)
    window = 1e5 * light.reshape(64, 10, 64, 10).mean(axis=(1, 3))
    return measure(window + np.random.default_rng(1).standard_normal(window.shape), core, 6.0)


@pytest.mark.parametrize(
    ("core", "sigma", "most"),
    [(0.35, 0.6, 0.04), *((core, sigma, 0.004) for core in (0.35, 0.54, 0.67) for sigma in (0.8, 1.0, 1.4, 2.0))],
)
def test_stars_on_wide_pixels_that_are_wider_than_diffraction_stay_where_they_are(core, sigma, most) -> None:
    peaks = []
    for y in (-0.4, -0.2, -0.1, 0.1, 0.3):
        found = on_wide_pixels((y, -y / 2), core, sigma)
        # up to 0.14, 0.07 and 0.025 with the error of a diffraction-limited core
        assert (found.y - 32, found.x - 32) == pytest.approx((y, -y / 2), abs=most)
        peaks.append(found.peak)
    # a tenth with what is folded back of a diffraction-limited core
    assert np.ptp(peaks) / np.mean(peaks) < 1.1 * most + 0.002


@pytest.mark.parametrize(("core", "sigma"), [(0.35, 0.5), (0.35, 0.6), (0.54, 0.5), (0.54, 0.6), (0.67, 0.6)])
@pytest.mark.parametrize("y", [-0.4, -0.2, -0.1, 0.1, 0.3])
def test_errors_on_wide_pixels_hold_the_doubt_how_much_a_core_is_blurred(core, sigma, y) -> None:
    """A little blur may be the speckles': it is wrong by up to 0.11 pixels not to believe it, where noise is 0.002."""
    found = on_wide_pixels((y, -y / 2), core, sigma)
    (errors,) = position_errors([found.noise])
    pulls = np.array([found.y - 32 - y, found.x - 32 + y / 2]) / errors
    assert np.abs(pulls).max() < 2


def test_windows_are_moved_inwards_at_the_border():
    image = np.arange(100 * 80).reshape(100, 80)
    for y, x in [(0, 0), (99, 79), (50.4, 3.6)]:
        window, (y0, x0) = cut(image, y, x, 16)
        assert window.shape == (32, 32)
        assert window[0, 0] == image[y0, x0]
    assert cut(image, 50, 50, 64)[0].shape == (100, 80)


# one frame


@settings(max_examples=30, deadline=None)
@given(y=st.floats(40, 56), x=st.floats(40, 56), sigma=st.floats(1, 3))
def test_position_and_peak_between_the_pixels(y, x, sigma):
    result = measure(gaussian(y, x, 1e4, sigma).astype(np.float32) + 50, CORE)
    # what is left is aliasing of a star of sigma 1 px and the float32 transform
    assert (result.y, result.x) == pytest.approx((y, x), abs=2e-3)
    assert result.peak == pytest.approx(1e4 / (2 * np.pi * (sigma**2 + CORE**2)), rel=2e-3)
    assert result.flux == pytest.approx(1e4, rel=0.02)
    assert result.background == pytest.approx(50, abs=0.1)
    assert result.sharpness == pytest.approx(2 * CORE**2 / (sigma**2 + CORE**2), rel=0.02)


def test_errors_are_those_of_the_noise():
    measures = [measure(with_noise(gaussian(48.2, 47.7, 3000), seed), CORE) for seed in range(60)]
    # King 1983: sqrt(8 pi) sigma^2 rms / flux in the limit of background noise
    expected = np.sqrt(8 * np.pi) * CORE**2 * 3 / 3000
    assert np.std([m.y for m in measures]) == pytest.approx(expected, rel=0.3)
    assert np.std([m.flux for m in measures]) == pytest.approx(measures[0].flux_error, rel=0.3)
    assert np.std([m.peak for m in measures]) == pytest.approx(measures[0].peak / measures[0].snr, rel=0.3)


def test_core_of_an_adaptive_optics_image_wins_over_its_halo():
    halo = gaussian(50, 47, 95_000, 9)  # Strehl of a few percent, core off the centre of the halo
    result = measure(with_noise(halo + gaussian(48.3, 47.6, 5_000)), CORE, scale_px=9)
    assert (result.y, result.x) == pytest.approx((48.3, 47.6), abs=0.15)


@pytest.mark.parametrize("radius", [6, 12])
def test_ring_is_measured_at_its_centre(radius):
    window = with_noise(ring(46.3, 49.1, radius, 2, 2e5, (96, 96)))
    window[int(46 - radius), 49] += 200  # noise makes the brightest point
    result = measure(window, CORE, scale_px=0.7 * radius)
    assert (result.y, result.x) == pytest.approx((46.3, 49.1), abs=0.5)
    assert result.sharpness < 0.5


def test_cosmic_ray_does_not_attract():
    window = with_noise(gaussian(48.2, 47.7, 3000))
    window[20:27, 30] += 5000
    assert measure(window, CORE).y == pytest.approx(48.2, abs=0.1)


def test_windows_without_a_star():
    assert measure(with_noise(np.zeros((64, 64))), CORE).snr < 5
    assert measure(np.zeros((64, 64), np.float32), CORE).snr == 0
    assert measure(np.full((64, 64), np.nan), CORE).snr == 0


# all frames


def star_at(y, x, peak=100.0, flux=1000.0, snr=50.0):
    return FrameMeasure(y, x, peak, flux, 5.0, 0.0, snr, 1.0, 2 * peak)


def test_grades_name_what_is_wrong():
    rng = np.random.default_rng(4)
    measures = [star_at(*rng.normal(50, 2, 2), peak=100 + i) for i in range(40)]
    measures[3] = star_at(50, 50, snr=1.0)
    measures[7] = replace(measures[7], brightest=60000.0)
    measures[11] = star_at(10, 90)
    measures[12] = replace(measures[12], peak=np.nan, flux=np.nan, snr=0.0)
    ranking = rank_frames(measures, saturation=50000)
    assert {i: r.split(":")[0] for i, r in enumerate(ranking.reasons) if r} == {
        3: "black", 7: "saturated", 11: "slipped", 12: "black",
    }  # fmt: skip
    assert ranking.order[0] == 39
    assert len(ranking.order) == ranking.kept.sum() == 36
    assert list(ranking.best(0.2)) == [39, 38, 37, 36, 35, 34, 33]
    assert (ranking.shifts[~ranking.kept] == 0).all()
    moved = np.array([(m.y, m.x) for m in measures])[ranking.kept] + ranking.shifts[ranking.kept]
    np.testing.assert_allclose(moved, np.broadcast_to(ranking.reference, moved.shape))
    assert classify(ranking) == "high_flux"


def test_clouds_do_not_pass_for_bad_seeing():
    sharp_but_cloudy, blurred = star_at(50, 50, peak=60, flux=400), star_at(50, 50, peak=80, flux=1000)
    ranking = rank_frames([sharp_but_cloudy, blurred])
    assert ranking.order[0] == 0


def test_a_sum_of_frames_among_frames_is_rejected():
    measures = [star_at(50, 50)] * 8 + [star_at(50, 50, peak=800, flux=8000), star_at(50, 50, peak=1e-3, flux=1e-2)]
    measures[-1] = replace(measures[-1], flux_error=1e-5)
    ranking = rank_frames(measures)
    assert ranking.reasons[8] == "bright: 8 times the usual light"
    assert ranking.reasons[9] == "black: 0.001 % of the usual light"
    assert ranking.kept[:8].all()
    cloudy = rank_frames([star_at(50, 50, flux=200)] * 7 + [star_at(50, 50)] * 3)
    assert cloudy.kept.all()


def test_a_steady_drift_and_dithers_are_kept():
    drift = rank_frames([star_at(50 + i, 50 - i) for i in range(40)])
    assert drift.kept.all()
    dithers = rank_frames([star_at(364, 124), star_at(123, 370), star_at(364, 368)])
    assert dithers.kept.all()
    origins = np.array([(332, 92), (91, 338), (332, 336)])
    windows = rank_frames([star_at(32, 32)] * 3, origins)
    np.testing.assert_array_equal(windows.shifts, np.subtract(windows.reference, origins + 32))


def test_classes():
    assert classify(rank_frames([])) == "zero_flux"
    assert classify(rank_frames([star_at(5, 5, snr=0.3)] * 9)) == "zero_flux"
    assert classify(rank_frames([star_at(5, 5, snr=7)] * 9)) == "faint"
    assert classify(rank_frames([star_at(5, 5)] * 9, saturation=100)) == "failed"


# a whole observation


@pytest.fixture(scope="module")
def observation():
    scene = scenes.Scene(
        stars=(scenes.Star(), scenes.Star(0.9, 0.7, 2.0)),
        zero_flux_e=2e4,
    )
    instrument = scenes.Instrument(detector=Detector(shape=(256, 256)))
    faults = scenes.Faults(black=(11,), slipped=(30,), saturated=(41,))
    return scenes.SimulatedObservation(scene, 70, instrument, faults=faults, seed=3)


@pytest.fixture(scope="module")
def reduced(observation):
    shape = observation.instrument.detector.read_shape
    darks = np.stack(list(scenes.dark_frames(observation.instrument, 30)))
    dark = combine(lambda y0, y1: darks[:, y0:y1], 30, shape)
    calibration = Calibration.from_masters(dark.image, observation.truth.flat)
    raw = np.stack(list(observation.frames()))
    frames = np.stack([calibration.apply(frame) for frame in raw])
    star = guide_star(np.stack([np.median(frames[i::5], axis=0) for i in range(5)]))
    windows = [cut(frame, star.y, star.x, star.half_window_px) for frame in frames]
    optics = observation.instrument.optics
    core = 0.5 * optics.lambda_over_d_arcsec / observation.instrument.pixel_arcsec
    measures = [measure(window, core, star.scale_px) for window, _ in windows]
    ranking = rank_frames(measures, np.array([origin for _, origin in windows]), saturation=60000)
    return frames, ranking


def stacked(frames, ranking, chosen):
    stack = Drizzle(frames[0].shape)
    for i in chosen:
        stack.add(frames[i], *ranking.shifts[i])
    return stack


def core_fraction(image, centre, radius):
    """Highest pixel near the centre over the flux within the radius, a Strehl ratio up to a constant."""
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    return image[distance < 8].max() / image[distance < radius].sum()


def test_faults_are_recognised(reduced):
    _, ranking = reduced
    assert np.flatnonzero(~ranking.kept).tolist() == [11, 30, 41]
    assert classify(ranking) == "high_flux"


def test_stacks_are_as_sharp_as_the_ideal(observation, reduced):
    """Noise-free frames moved by the measured shifts, against the same moved by their own peaks."""
    frames, ranking = reduced
    noiseless = [observation.noiseless(i) for i in range(len(frames))]
    radius = 40  # output pixels, inside the companion's separation
    ratios = {}
    for fraction in (1.0, 0.2):
        stack = stacked(noiseless, ranking, ranking.best(fraction))
        ideal = scenes.ideal_stack(observation, fraction)
        reached = core_fraction(stack.image(), stack.output_position(*ranking.reference), radius)
        best = core_fraction(ideal, [n // 2 for n in ideal.shape], radius)
        ratios[fraction] = reached, best
    assert ratios[1.0][0] > 0.95 * ratios[1.0][1]
    assert ratios[0.2][0] > 1.3 * ratios[1.0][0]


def test_companion(observation, reduced):
    """The primary itself is the PSF: it is fitted to its companion, less the halo turned by 180 degrees."""
    frames, ranking = reduced
    stack = stacked(frames, ranking, ranking.order)
    image = stack.image()
    peak = np.array(stack.output_position(*ranking.reference)).round().astype(int)
    truth, scale = observation.truth, observation.instrument.pixel_arcsec / stack.scale
    star = observation.scene.stars[1]
    near = np.round(peak + np.array([star.dy_arcsec, star.dx_arcsec]) / scale).astype(int)

    half = 12
    primary = image[tuple(slice(c - half, c + half + 1) for c in peak)]
    opposite = image[tuple(slice(2 * p - c - half, 2 * p - c + half + 1) for p, c in zip(peak, near, strict=True))]
    patch = image[tuple(slice(c - half, c + half + 1) for c in near)] - opposite[::-1, ::-1]
    inner = np.s_[5:-5, 5:-5]

    def residual(p):
        return (p[2] * ndimage.shift(primary, p[:2], order=3) - patch)[inner].ravel()

    start = (0.5, 0.5, 0.2)  # steps are relative to it
    dy, dx, ratio = optimize.least_squares(residual, start, diff_step=1e-3).x
    separation = (near - peak + (dy, dx)) * scale
    assert np.hypot(*separation) == pytest.approx(truth.separations_arcsec[0], abs=0.005)
    angle = np.degrees(np.arctan2(-separation[1], separation[0])) % 360
    assert angle == pytest.approx(truth.position_angles_deg[0], abs=0.3)
    assert -2.5 * np.log10(ratio) == pytest.approx(truth.delta_mags[0], abs=0.1)


# real frames


def real_frames(folder):
    files = sorted((DATA / folder).glob("*.fits*" if "c8" not in folder else "*.gz"))
    if not files:
        pytest.skip(f"no test data in {DATA / folder}")
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        # the stray block at the end of some files is not read
        with fits.open(io.BytesIO(content), ignore_missing_end=True, lazy_load_hdus=True) as hdus:
            yield file.name, hdus[0].data.astype(np.float32)


def sep_centroid(frame):
    sep = pytest.importorskip("sep")
    level = np.median(frame)
    noise = 1.4826 * np.median(np.abs(frame - level))
    found = sep.extract(np.ascontiguousarray(frame - level), 3.0, err=noise, minarea=30, deblend_cont=1.0)
    star = found[np.argmax(found["flux"])]
    return star["y"], star["x"]


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
@pytest.mark.parametrize(
    ("folder", "core", "tolerance"),
    [
        ("rapid_frames/dct_focus_2s", 1.3, 0.25),  # seeing 1 arcsec: coma and guiding make core and light differ
        ("rapid_frames/c8_focus", 1.5, 1.3),  # rings up to 60 px across
        ("ao_dither/nirc2_hd1160", 1.43, 1.6),  # the core, at the edge of a structured halo of 30 px
    ],
)
def test_real_stars_are_where_sep_finds_them(folder, core, tolerance):
    for name, frame in real_frames(folder):
        star = locate(frame)
        window, origin = cut(frame, star.y, star.x, star.half_window_px)
        result = measure(window, core, star.scale_px)
        y, x = sep_centroid(frame)
        offset = np.hypot(origin[0] + result.y - y, origin[1] + result.x - x)
        assert offset < tolerance, name
