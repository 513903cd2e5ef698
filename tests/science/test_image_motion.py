"""Image motion of faint stars: counts of a simulated EMCCD whose photons and shifts are known."""

import numpy as np
import pytest

from obsarchive.science.registration.alignment import Alignment, align
from obsarchive.science.registration.image_motion import align_star, image_motion
from obsarchive.science.registration.pixel_noise import MultipliedElectrons, multiplied_electrons

GAIN, READ_NOISE, SKY_E = 300.0, 20.0, 0.12
HALO_FWHM_PX, CORE_SHARE = 29.2, 0.09
COMPANION_PX = np.array([9.0, 4.0])


def star(side: int, position: np.ndarray, core_fwhm_px: float) -> np.ndarray:
    """Light of a star of 1 with a core in a halo, at a distance from the middle."""
    y, x = np.mgrid[:side, :side] - side // 2
    squares = (y - position[0]) ** 2 + (x - position[1]) ** 2

    def gaussian(fwhm: float) -> np.ndarray:
        variance = (fwhm / 2.3548) ** 2
        return np.exp(-squares / 2 / variance) / (2 * np.pi * variance)

    return CORE_SHARE * gaussian(core_fwhm_px) + (1 - CORE_SHARE) * gaussian(HALO_FWHM_PX)


def wandering(n: int, rms_px: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Positions (n, 2) of an autoregressive motion."""
    positions = rms_px * rng.standard_normal((n, 2))
    for i in range(1, n):
        positions[i] = correlation * positions[i - 1] + np.sqrt(1 - correlation**2) * positions[i]
    return positions


def sequence(
    flux_e: float,
    seed: int,
    n: int = 60,
    core_fwhm_px: float = 3.0,
    correlation: float = 0.0,
    side: int = 96,
    companion: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, side, side) of an EMCCD, and the shifts that bring the star back to the middle."""
    rng = np.random.default_rng(seed)
    positions = wandering(n, 1.9, correlation, rng)
    frames = np.empty((n, side, side), np.float32)
    for i, position in enumerate(positions):
        light = star(side, position, core_fwhm_px) + companion * star(side, position + COMPANION_PX, core_fwhm_px)
        electrons = rng.poisson(flux_e * light + SKY_E)
        counts = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1), GAIN), 0.0)
        frames[i] = counts + READ_NOISE * rng.standard_normal(counts.shape)
    return frames, -positions


def shifted_frames(flux_e: float, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames (n, 96, 96) of an EMCCD with a star at these positions."""
    frames = np.empty((len(positions), 96, 96), np.float32)
    for i, position in enumerate(positions):
        electrons = rng.poisson(flux_e * star(96, position, 3.0) + SKY_E)
        counts = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1), GAIN), 0.0)
        frames[i] = counts + READ_NOISE * rng.standard_normal(counts.shape)
    return frames


def rms(found: np.ndarray, truth: np.ndarray) -> float:
    difference = found - truth
    return float(np.sqrt(np.mean((difference - np.median(difference, axis=0)) ** 2)))


def claimed(found: Alignment) -> float:
    return float(np.sqrt(np.mean(found.errors**2)))


@pytest.mark.parametrize(
    ("flux_e", "core_fwhm_px", "correlation", "limit_px"),
    [
        (358.0, 3.0, 0.0, 0.65),
        (358.0, 4.5, 0.0, 0.9),
        (150.0, 3.0, 0.9, 0.9),
        (1000.0, 3.0, 0.5, 0.35),
        (5000.0, 3.0, 0.0, 0.15),
    ],
)
def test_faint_stars_are_registered_and_errors_are_true(
    flux_e: float, core_fwhm_px: float, correlation: float, limit_px: float
) -> None:
    """The limits are a fifth above what the posteriors give with the true star as template."""
    made, said = [], []
    for seed in (11, 12):
        frames, truth = sequence(flux_e, seed, core_fwhm_px=core_fwhm_px, correlation=correlation)
        found = align_star(frames)
        made.append(rms(found.shifts, truth))
        said.append(claimed(found))
    error = float(np.sqrt(np.mean(np.square(made))))
    assert error < limit_px
    assert 0.75 < error / float(np.sqrt(np.mean(np.square(said)))) < 1.3


@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (0.5, 0.5), (0.2, -0.4)])
def test_sharp_stars_are_registered_wherever_in_a_pixel_they_stand(y: float, x: float) -> None:
    """The bound of 2 x variance / light of the core is 0.14 pixel; without registration it would be 0.3."""
    rng = np.random.default_rng(23)
    positions = 0.3 * rng.standard_normal((200, 2)) + (y, x)
    frames = np.empty((200, 96, 96), np.float32)
    for i, position in enumerate(positions):
        hits = position + np.where(rng.random((150, 1)) < 0.5, 2.0 / 2.3548, 12.0) * rng.standard_normal((150, 2))
        edges = np.arange(97) - 48.5
        electrons = np.histogram2d(*hits.T, bins=(edges, edges))[0] + rng.poisson(SKY_E, (96, 96))
        counts = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1), GAIN), 0.0)
        frames[i] = counts + READ_NOISE * rng.standard_normal(counts.shape)
    found = align_star(frames)
    assert rms(found.shifts, -positions) < 0.18
    assert 0.75 < rms(found.shifts, -positions) / claimed(found) < 1.25


@pytest.mark.parametrize("scatter", [0.1, 0.3])
def test_clouds_make_no_noise(scatter: float) -> None:
    """A star of 8000 electrons on a CCD, whose light scatters from frame to frame, is registered as a constant one."""
    found, said = [], []
    for seed, wide in ((31, 0.0), (31, scatter)):
        rng = np.random.default_rng(seed)
        positions, light = 1.5 * rng.standard_normal((60, 2)), 8000 * np.exp(wide * rng.standard_normal(60))
        y, x = np.mgrid[:64, :64] - 32
        squares = (y - positions[:, :1, None]) ** 2 + (x - positions[:, 1:, None]) ** 2
        variance = (4.0 / 2.3548) ** 2
        stars = light[:, None, None] * np.exp(-squares / 2 / variance) / (2 * np.pi * variance)
        frames = rng.poisson(stars + 1.0) + 3.0 * rng.standard_normal(stars.shape)
        motion = align_star(frames.astype(np.float32))
        found.append(rms(motion.shifts, -positions))
        said.append(claimed(motion))
    assert found[1] < 1.2 * found[0]
    assert 0.75 < found[1] / said[1] < 1.3


def test_correlation_with_the_mean_confirms_itself() -> None:
    """A wide core in much halo: shifts by correlation with the frames' own mean are wrong and claim to be right."""
    frames, truth = sequence(358.0, 3, core_fwhm_px=6.0, side=160)
    plain, found = align(frames), align_star(frames)
    assert rms(plain.shifts, truth) > 5 * float(np.median(plain.errors))
    assert rms(found.shifts, truth) < 0.8 * rms(plain.shifts, truth)
    assert np.polyfit(truth.ravel(), found.shifts.ravel(), 1)[0] > 0.5


@pytest.mark.parametrize("flux_e", [0.0, 30.0])
def test_frames_without_light_are_not_moved_by_their_noise(flux_e: float) -> None:
    frames, truth = sequence(flux_e, 5)
    assert rms(align_star(frames).shifts, truth) < 1.05 * rms(np.zeros_like(truth), truth)


def test_the_law_of_the_motion_is_learnt() -> None:
    frames, _ = sequence(1500.0, 6, n=150, correlation=0.8)
    motion = image_motion((frames,), 12.0)
    assert motion.rms_px == pytest.approx(1.9, rel=0.25)
    assert motion.correlation == pytest.approx(0.8, abs=0.1)


def test_a_double_star_is_not_round() -> None:
    frames, truth = sequence(1000.0, 7, companion=0.8)
    found = align_star(frames)
    assert rms(found.shifts, truth) < 0.4


def test_a_frame_that_slipped_far_is_seen_and_the_others_keep_their_place() -> None:
    frames, truth = sequence(20000.0, 8, n=30, side=160)
    frames[10] = np.roll(frames[10], 28, axis=1)
    found = align_star(frames)
    assert found.shifts[10, 1] - truth[10, 1] == pytest.approx(-28, abs=0.5)
    assert found.reasons()[10].startswith("slipped")
    others = np.delete(np.arange(30), 10)
    assert rms(found.shifts[others], truth[others]) < 0.1


def test_cosmic_rays_draw_no_frame_away() -> None:
    frames, truth = sequence(5000.0, 9)
    for i in (4, 17, 40):
        frames[i, 60:62, 30] += 60000.0
    found = align_star(frames)
    assert np.abs(found.shifts - truth - np.median(found.shifts - truth, axis=0)).max() < 0.7


@pytest.mark.parametrize("rms_px", [0.7, 1.9])
@pytest.mark.parametrize("n_darks", [10, 40])
def test_the_noise_of_the_master_dark_does_not_hold_the_frames(n_darks: int, rms_px: float) -> None:
    errors, errors_claimed = [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        positions = wandering(60, rms_px, 0.0, rng)
        dark = 3 / np.sqrt(n_darks) * rng.standard_normal((96, 96))
        light = np.array([star(96, position, 3.0) for position in positions])
        frames = rng.poisson(5000 * light + 1) + 3 * rng.standard_normal(light.shape) - dark
        found = align_star(frames.astype(np.float32))
        errors.append(rms(found.shifts, -positions))
        errors_claimed.append(claimed(found))
    # without darks 0.10; held where they are, frames would be wrong by their motion, with a tenth of it claimed
    assert max(errors) < 0.14
    assert np.mean(errors) == pytest.approx(np.mean(errors_claimed), rel=0.25)


@pytest.mark.parametrize("n_frames", [5, 8, 9])
def test_nor_does_it_hold_few_frames(n_frames: int) -> None:
    pulls = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        positions = wandering(n_frames, 1.2, 0.0, rng)
        dark = 3 / np.sqrt(10) * rng.standard_normal((96, 96))
        light = np.array([star(96, position, 3.0) for position in positions])
        frames = rng.poisson(5000 * light + 1) + 3 * rng.standard_normal(light.shape) - dark
        found = align_star(frames.astype(np.float32))
        pulls.append(rms(found.shifts, -positions) / claimed(found))
    # 8 to 30, as the frames were held where they are
    assert np.mean(pulls) < 1.5


def with_pattern(pattern: np.ndarray, seed: int) -> tuple[float, float]:
    """Rms error and claimed error of shifts of frames of a CCD, of 3 electrons of noise, with a pattern."""
    rng = np.random.default_rng(seed)
    positions = wandering(60, 1.9, 0.0, rng)
    light = np.array([star(96, position, 3.0) for position in positions])
    frames = rng.poisson(5000 * light + 1) + 3 * rng.standard_normal(light.shape) + pattern
    found = align_star(frames.astype(np.float32))
    return rms(found.shifts, -positions), claimed(found)


def rows_of(kind: str) -> np.ndarray:
    """Counts (96,) of the rows of a detector."""
    rng, rows = np.random.default_rng(7), np.arange(96)
    if kind == "noise":
        return 0.95 * rng.standard_normal(96)
    if kind == "walk":
        walk = np.cumsum(rng.standard_normal(96))
        return 2 * (walk - walk.mean()) / walk.std()
    return np.sin(2 * np.pi * rows / 4 + 1) if kind == "wave" else np.where(rows == 49, 6.0, 0.0)


@pytest.mark.parametrize("kind", ["noise", "walk", "wave", "one"])
@pytest.mark.parametrize("shape", [(96, 1), (1, 96)])
def test_rows_and_columns_of_the_detector_do_not_hold_the_frames(kind: str, shape: tuple[int, int]) -> None:
    error, said = with_pattern(rows_of(kind).reshape(shape), 3)
    # 0.10 without them
    assert error < 0.125
    assert 0.8 < error / said < 1.25


def on_a_ccd(light_e: np.ndarray, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames (n, 64, 64) of a CCD with a Gaussian star of 4 pixels FWHM, which gives this light to each."""
    y, x = np.mgrid[:64, :64] - 32
    squares = (y - positions[:, :1, None]) ** 2 + (x - positions[:, 1:, None]) ** 2
    variance = (4.0 / 2.3548) ** 2
    stars = light_e[:, None, None] * np.exp(-squares / 2 / variance) / (2 * np.pi * variance)
    return np.asarray(rng.poisson(stars + 8.0) + 5.0 * rng.standard_normal(stars.shape), np.float32)


@pytest.mark.parametrize("lost", [slice(20, 32), slice(3, None, 8)], ids=["a block", "every eighth"])
def test_frames_that_lost_the_star_do_not_spoil_the_others(lost: slice) -> None:
    rng = np.random.default_rng(41)
    positions = np.cumsum(0.15 * rng.standard_normal((60, 2)), axis=0) + 0.5 * rng.standard_normal((60, 2))
    light, dark = np.full(60, 2e4), 0.65 * rng.standard_normal((64, 64)).astype(np.float32)
    light[lost] = 0.0
    found = align_star(on_a_ccd(light, positions, rng) + dark)
    np.testing.assert_array_equal(found.is_black, light == 0)
    kept = ~found.is_black
    error, said = rms(found.shifts[kept], -positions[kept]), float(np.sqrt(np.mean(found.errors[kept] ** 2)))
    # photons, sky and read-out allow 0.018 pixel
    assert error < 0.024
    assert 0.75 < error / said < 1.3


@pytest.mark.parametrize("light_e", [3000.0, 2e4])
def test_good_frames_behind_clouds_are_not_poor(light_e: float) -> None:
    rng = np.random.default_rng(42)
    light = light_e * (0.35 + 0.65 * np.abs(np.cos(np.arange(60) / 9)))
    found = align_star(on_a_ccd(light, 0.7 * rng.standard_normal((60, 2)), rng))
    assert not any(found.reasons())


def test_what_noise_leaves_of_a_correlation_is_expected() -> None:
    """Of a star of which noise hides half, not of cosmic rays, each in another place and of another shape."""
    rng = np.random.default_rng(43)
    for light in (1000.0, 3000.0, 2e4):
        found = align_star(on_a_ccd(np.full(5, light), rng.normal(0, 1, (5, 2)), rng))
        assert np.median(found.quality / found.expected) == pytest.approx(1, abs=0.07)
    hits = on_a_ccd(np.zeros(5), np.zeros((5, 2)), rng)
    for frame in hits:
        for y, x in rng.integers(8, 56, (4, 2)):
            frame[y, x : x + rng.integers(1, 4)] += rng.uniform(300, 2000)
    found = align_star(hits)
    assert np.median(found.quality / found.expected) < 0.8


@pytest.mark.parametrize("n", [3, 5, 8])
def test_errors_of_few_frames_of_a_bright_star_are_true(n: int) -> None:
    pulls = []
    for seed in range(60 // n):
        rng = np.random.default_rng(500 + seed)
        positions = 0.7 * rng.standard_normal((n, 2))
        found = align_star(on_a_ccd(np.full(n, 3e5), positions, rng))
        difference = found.shifts + positions
        pulls.extend(((difference - difference.mean(axis=0)) / found.errors[:, np.newaxis]).ravel())
    # of differences from the mean of few; 120 values
    assert 0.6 < np.std(pulls) / np.sqrt(1 - 1 / n) < 1.3


def test_rows_that_differ_from_frame_to_frame_are_noise() -> None:
    error, said = with_pattern(0.6 * np.random.default_rng(7).standard_normal((60, 96, 1)), 3)
    assert error < 0.125
    assert 0.8 < error / said < 1.25


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("flux_e", [1000.0, 20000.0])
def test_few_frames_are_as_good_as_on_their_mean_and_errors_are_true(n: int, flux_e: float) -> None:
    pulls, made, plain = [], [], []
    for seed in range(40 // n):
        frames, truth = sequence(flux_e, 300 + seed, n=n, core_fwhm_px=4.5, side=80)
        found = align_star(frames)
        difference = found.shifts - truth
        difference -= difference.mean(axis=0)
        pulls.extend((difference / found.errors[:, np.newaxis]).ravel())
        made.append(rms(found.shifts, truth))
        plain.append(rms(align(frames).shifts, truth))
    # 80 values that are not independent
    assert 0.65 < np.std(pulls) < 1.35
    assert np.mean(np.square(made)) < 1.2 * np.mean(np.square(plain))


def test_one_frame_stays_where_it_is() -> None:
    frames, _ = sequence(5000.0, 10, n=1)
    np.testing.assert_array_equal(align_star(frames).shifts, 0.0)


def test_stars_are_registered_together() -> None:
    """Three stars of 150 electrons tell as much as one of 450."""
    together, alone = [], []
    for seed in (21, 22, 23):
        frames, truth = sequence(150.0, seed)
        rng = np.random.default_rng(1000 + seed)
        others = [shifted_frames(150.0, -truth, rng) for _ in range(2)]
        together.append(rms(align_star(frames, others).shifts, truth))
        alone.append(rms(align_star(frames).shifts, truth))
    # with the true stars as templates the posterior is 0.37 pixel wide
    assert np.sqrt(np.mean(np.square(together))) < 1.3 * 0.37
    assert np.sqrt(np.mean(np.square(together))) < 0.75 * np.sqrt(np.mean(np.square(alone)))


@pytest.mark.parametrize("shape", [(16, 16), (16, 40), (17, 20), (40, 16)])
def test_stars_in_the_smallest_windows_are_registered(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    positions = rng.uniform(-1, 1, (12, 2))
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array(shape)[:, np.newaxis, np.newaxis] // 2
    light = [np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * 1.4**2)) for dy, dx in positions]
    found = align_star(300 * np.array(light) + rng.standard_normal((12, *shape)))
    assert rms(found.shifts, -positions) < 0.05


@pytest.mark.parametrize("level", [0.0, 7.0, np.nan])
def test_windows_without_light_tell_nothing_of_the_motion(level: float) -> None:
    frames, _ = sequence(3000.0, 4, n=12, side=64)
    found, alone = align_star(frames, [np.full_like(frames, level)]), align_star(frames)
    np.testing.assert_array_equal(found.shifts, alone.shifts)
    np.testing.assert_array_equal(found.errors, alone.errors)


def test_electrons_of_an_emccd_are_told_from_counts_of_a_ccd() -> None:
    rng = np.random.default_rng(4)
    electrons = rng.poisson(0.3, (40, 2000))
    multiplied = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1), GAIN), 0.0)
    found = multiplied_electrons(multiplied + READ_NOISE * rng.standard_normal(electrons.shape))
    assert found is not None
    assert found.gain == pytest.approx(GAIN, rel=0.1)
    assert found.read_noise == pytest.approx(READ_NOISE, rel=0.05)
    assert found.sky_e == pytest.approx(0.3, rel=0.1)
    for sky_e, read_noise in ((0.3, 5.0), (5.0, 5.0), (50.0, 1.0)):
        counts = rng.poisson(sky_e, (40, 2000)) + read_noise * rng.standard_normal((40, 2000))
        assert multiplied_electrons(counts) is None
    # stars at the rim of a CCD are in the same pixels of all frames
    stars = np.where(rng.random(2000) < 0.02, rng.exponential(200.0, 2000), 0.0)
    assert multiplied_electrons(stars + 5.0 * rng.standard_normal((40, 2000))) is None


def test_the_likelihood_of_electrons_is_a_short_sum() -> None:
    """Terms times weights are the logarithm of the ratio of two distributions that were drawn from."""
    rng = np.random.default_rng(5)
    noise = MultipliedElectrons(0.0, READ_NOISE, GAIN, 0.2, 5.0)

    def counts(level_e: float) -> np.ndarray:
        electrons = rng.poisson(level_e, 400_000)
        multiplied = np.where(electrons > 0, rng.gamma(np.maximum(electrons, 1), GAIN), 0.0)
        return multiplied + READ_NOISE * rng.standard_normal(electrons.shape)

    dark, lit = counts(0.2), counts(1.5)
    edges = np.array([-60.0, -20.0, 20.0, 100.0, 300.0, 600.0, 1200.0])
    ratio = np.log(np.histogram(lit, edges)[0] / np.histogram(dark, edges)[0])
    light = np.array(1.3 * GAIN)

    def evidence(values: np.ndarray) -> np.ndarray:
        return np.tensordot(noise.weights(light), noise.statistics(values.astype(np.float32)), 1)

    offset = float(np.mean(np.exp(evidence(dark))))
    for low, high, expected in zip(edges[:-1], edges[1:], ratio, strict=True):
        inside = dark[(dark >= low) & (dark < high)]
        assert np.log(np.mean(np.exp(evidence(inside))) / offset) == pytest.approx(expected, abs=0.12)


def of_changing_shape(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (20, 2) of the shifts of the frames that have two cores, of three times as many, and what is claimed."""
    rng = np.random.default_rng(seed)
    positions = wandering(60, 1.9, 0.0, rng)
    y, x = np.mgrid[:64, :64] - 32.0

    def gaussian(place: np.ndarray, fwhm: float) -> np.ndarray:
        variance = (fwhm / 2.3548) ** 2
        return np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 2 / variance) / (2 * np.pi * variance)

    is_double, frames = np.arange(60) % 3 == 0, np.empty((60, 64, 64), np.float32)
    for i, position in enumerate(positions):
        angle = rng.uniform(0, np.pi)
        away = 2.3 * np.array([np.sin(angle), np.cos(angle)]) * is_double[i]
        core = (gaussian(position + away, 3.0) + gaussian(position - away, 3.0)) / 2
        light = 2000 * (0.2 * core + 0.8 * gaussian(position, 20.0))
        frames[i] = rng.poisson(light + 0.5) + 2 * rng.standard_normal(light.shape)
    found = align_star(frames)
    off = found.shifts + positions
    off -= off[~is_double].mean(axis=0)
    return off[is_double], found.errors[is_double]


def test_frames_whose_shape_is_not_that_of_the_mean_claim_larger_errors() -> None:
    """By the curvature of the likelihood alone actual errors are 1.6 times the claimed ones."""
    off, errors = (np.concatenate(each) for each in zip(*map(of_changing_shape, range(6)), strict=True))
    assert 0.8 < np.std(off / errors[:, np.newaxis]) < 1.4
