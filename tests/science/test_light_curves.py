"""Light curves as numbers, against plain formulas, scipy and what was put in."""

import math
import re
from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from obsarchive.science.light_curves.event_templates import SHAPES, matched_filter, template, template_widths
from obsarchive.science.light_curves.events import find_events, signal_to_noise
from obsarchive.science.light_curves.features import features
from obsarchive.science.light_curves.light_curve import (
    AB_MICROJANSKY,
    CLIP_ROUNDS,
    Baseline,
    delta_magnitude,
    fluxes_of_magnitudes,
    magnitudes_of_fluxes,
    quiescent_level,
    seasons,
)

values = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0])


# ------------------------------------------------------------------------------------- magnitudes and fluxes


def test_magnitudes_and_fluxes_are_those_of_astropy():
    mag, err = np.array([-1.0, 15.0, 20.5, 23.9, 30.0]), np.array([0.01, 0.02, 0.1, 0.3, 1.0])
    flux, flux_err = fluxes_of_magnitudes(mag, err)
    assert_allclose(flux, (mag * u.ABmag).to_value(u.uJy), rtol=2e-5)  # 23.9 is 8.90 rounded, as everyone uses it
    assert flux[3] == pytest.approx(1.0, rel=1e-12)
    assert_allclose(flux_err / flux, err * np.log(10) / 2.5, rtol=1e-12)
    back = magnitudes_of_fluxes(flux, flux_err)
    assert_allclose(back, (mag, err), rtol=1e-12)


@given(st.floats(-5, 35), st.floats(0, 5), st.floats(15, 30))
def test_there_and_back_with_any_zero_point(mag, err, zero_point):
    flux = fluxes_of_magnitudes(np.array([mag]), np.array([err]), zero_point)
    assert flux[0][0] == pytest.approx(10 ** (-0.4 * (mag - zero_point)), rel=1e-9)
    again = magnitudes_of_fluxes(*flux, zero_point)
    assert (again[0][0], again[1][0]) == pytest.approx((mag, err), rel=1e-9, abs=1e-9)


def test_no_light_has_no_magnitude():
    mag, err = magnitudes_of_fluxes(np.array([0.0, -3.0, np.nan, 1.0]), np.ones(4))
    assert_array_equal(np.isnan(mag), [True, True, True, False])
    assert_array_equal(np.isnan(err), [True, True, True, False])
    assert mag[3] == AB_MICROJANSKY


@given(st.floats(-100, 1e5), st.floats(-100, 1e5), st.floats(0.01, 100), st.floats(0, 1e4))
def test_brighter_is_positive_also_below_zero(one, other, rms, mean):
    level = Baseline(mean, rms, 10)
    low, high = delta_magnitude(np.array([min(one, other), max(one, other)]), level)
    assert low <= high
    assert delta_magnitude(np.array([mean]), level)[0] == pytest.approx(0, abs=1e-12)
    assert (high > 0) == (max(one, other) > mean) or high == pytest.approx(0, abs=1e-9)


@given(st.floats(0.1, 10), st.floats(1, 1e4))
def test_brightening_is_in_ordinary_magnitudes_where_there_is_light(factor, mean):
    level = Baseline(mean, 1e-4 * mean, 10)
    found = delta_magnitude(np.array([factor * mean]), level)[0]
    # asinh(x) - ln(2x) is 1 / (4 x^2), and x is at least 500 times 0.1
    assert found == pytest.approx(2.5 * np.log10(factor), abs=2e-4)


def test_brightening_without_any_scatter_or_light():
    assert delta_magnitude(np.array([200.0]), Baseline(100.0, 0.0, 5))[0] == pytest.approx(2.5 * np.log10(2))
    found = delta_magnitude(np.array([-1.0, 0.0, 1.0]), Baseline(0.0, 0.0, 5))
    assert np.isfinite(found).all()
    assert_array_equal(np.sign(found), [-1, 0, 1])


# ------------------------------------------------------------------------------------------------ quiescent level


def plain_level(numbers, good):
    kept = np.asarray(numbers, float)[good]
    kept = kept[np.isfinite(kept)]
    for _ in range(CLIP_ROUNDS):
        if len(kept) < 3:
            break
        inside = kept[np.abs(kept - np.median(kept)) <= 3 * 1.4826 * stats.median_abs_deviation(kept)]
        if len(inside) < 2:
            break
        kept = inside
    return (float(np.mean(kept)), float(np.std(kept)), len(kept)) if len(kept) else (np.nan, np.nan, 0)


@given(st.lists(st.tuples(values, st.booleans()), max_size=40))
@example([])
@example([(math.nan, True)] * 3)
@example([(0.0, True)] * 30 + [(1e6, True)])
def test_the_quiet_level_is_what_is_left_after_clipping(epochs):
    numbers = np.array([number for number, _ in epochs], float)
    good = np.array([is_good for _, is_good in epochs], bool)
    found = quiescent_level(numbers, good)
    wanted = plain_level(numbers, good)
    assert found.n == wanted[2]
    assert (found.mean, found.rms) == pytest.approx(wanted[:2], rel=1e-9, abs=1e-6, nan_ok=True)


def test_outliers_do_not_move_the_quiet_level():
    rng = np.random.default_rng(5)
    flux = rng.normal(100, 2, 1000)
    flux[::50] += 500
    level = quiescent_level(flux.astype(np.float32))
    assert level.mean == pytest.approx(100, abs=5 * 2 / np.sqrt(1000))
    # clipping at 3 sigma takes 0.3 to 0.9 % of the noise, and 1 to 3 % of its scatter, with it
    assert level.rms == pytest.approx(2, rel=0.08)
    assert 950 < level.n <= 980


def test_a_long_event_does_not_become_the_quiet_level():
    rng = np.random.default_rng(6)
    flux = rng.normal(100, 2, 500)
    flux[100:250] += 60
    level = quiescent_level(flux)
    assert level.mean == pytest.approx(100, abs=5 * 2 / np.sqrt(350))
    assert level.rms == pytest.approx(2, rel=0.15)


# ---------------------------------------------------------------------------------------------------- seasons


@given(st.lists(st.floats(0, 1000), max_size=40), st.floats(0.1, 300))
def test_seasons_are_as_long_as_the_gaps_are_short(times, gap):
    mjd = np.sort(np.array(times, float))
    found = seasons(mjd, gap)
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(len(mjd)))
    for part in found:
        assert part.stop > part.start
        assert (np.diff(mjd[part]) <= gap).all()
    for before, after in pairwise(found):
        assert mjd[after.start] - mjd[before.stop - 1] > gap


def test_a_gap_that_is_just_as_long_ends_no_season():
    mjd = np.array([0.0, 40.0, 80.1, 81.0])
    assert seasons(mjd, 40.0) == [slice(0, 2), slice(2, 4)]
    assert seasons(mjd[:1], 40.0) == [slice(0, 1)]
    assert seasons(mjd[:0], 40.0) == []


# ----------------------------------------------------------------------------------------------------- events


def test_signal_to_noise_takes_the_larger_noise():
    flux, error = np.array([110.0, 90, 110, 110, np.nan]), np.array([1.0, 5.0, np.nan, 0.0, 1.0])
    assert_allclose(signal_to_noise(flux, error, 100.0, 2.0), [5.0, -2.0, 5.0, 5.0, np.nan])
    assert_allclose(signal_to_noise(flux, error, 100.0, 0.0), [10.0, -2.0, np.nan, np.nan, np.nan])


def plain_events(snr, good, threshold, edge, min_epochs, bridge):
    """Events by a regular expression: one sign for each epoch that counts."""
    places = [i for i in range(len(snr)) if good[i] and np.isfinite(snr[i])]
    signs = "".join("+" if snr[i] > edge else "-" if snr[i] < -edge else "0" for i in places)
    found = []
    for run in re.finditer(rf"\+(?:0{{0,{bridge}}}\+)*|-(?:0{{0,{bridge}}}-)*", signs):
        epochs = places[run.start() : run.end()]
        peak = max(epochs, key=lambda i: (abs(snr[i]), -i))
        n_epochs = len(run[0].replace("0", ""))
        if abs(snr[peak]) >= threshold and n_epochs >= min_epochs:
            found.append((epochs[0], epochs[-1] + 1, peak, float(snr[peak]), n_epochs))
    return sorted(found, key=lambda event: -abs(event[3]))


scores = st.integers(-8, 8).map(float) | st.just(math.nan)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(scores, st.sampled_from([True, True, True, False])), max_size=30),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_events_are_runs_to_one_side(epochs, threshold, edge, min_epochs, bridge):
    snr = np.array([score for score, _ in epochs], float)
    good = np.array([is_good for _, is_good in epochs], bool)
    found = find_events(snr, good, threshold, edge, min_epochs, bridge)
    assert [tuple(vars(event).values()) for event in found] == plain_events(
        snr, good, threshold, edge, min_epochs, bridge
    )


def test_rises_and_dips_the_strongest_first():
    """Purely negative events were never reported by the published package."""
    snr = np.array([0.0, 6, 7, 0, 0, -4, -9, 0, 4, 0])
    good = np.ones(10, bool)
    found = find_events(snr, good, 5, 3)
    assert [(event.start, event.stop, event.peak, event.score, event.n_epochs) for event in found] == [
        (5, 7, 6, -9.0, 2),
        (1, 3, 2, 7.0, 2),
    ]
    assert find_events(-snr, good, 5, 3)[0].score == 9.0
    assert find_events(snr, good, 10, 3) == []
    assert find_events(np.full(4, np.nan), good[:4], 5, 3) == []
    assert find_events(snr[:0], good[:0], 5, 3) == []


def test_bad_epochs_are_passed_over():
    snr = np.array([6.0, 99, 6, np.nan, 6, 0])
    good = np.array([True, False, True, True, True, True])
    [event] = find_events(snr, good, 5, 3)
    assert (event.start, event.stop, event.n_epochs, event.score) == (0, 5, 3, 6.0)


def test_single_quiet_epochs_are_bridged_only_if_wanted():
    snr = np.array([6.0, 0, 6, 0, 0, 6, -6, 6])
    good = np.ones(8, bool)
    assert [event.n_epochs for event in find_events(snr, good, 5, 3)] == [1] * 5
    assert sorted(event.n_epochs for event in find_events(snr, good, 5, 3, bridge=1)) == [1, 1, 1, 2]
    assert sorted(event.n_epochs for event in find_events(snr, good, 5, 3, bridge=2)) == [1, 1, 3]
    assert [event.n_epochs for event in find_events(snr, good, 5, 3, 2, bridge=2)] == [3]


# ------------------------------------------------------------------------------------------------- templates


def test_templates_are_1_at_their_peak_and_have_their_formulas():
    x = np.linspace(-3, 3, 61)
    assert_allclose(template("gaussian", x), stats.norm.pdf(x) / stats.norm.pdf(0), rtol=1e-12)
    assert_array_equal(template("box", x), (np.abs(x) <= 1).astype(float))
    u0 = np.sqrt(0.1**2 + (x / 2) ** 2)  # Paczynski (1986), impact parameter 0.1
    magnification = (u0**2 + 2) / (u0 * np.sqrt(u0**2 + 4))
    assert_allclose(template("microlensing", x), (magnification - 1) / (magnification[30] - 1), rtol=1e-9)
    for shape in SHAPES:
        assert template(shape, np.zeros(1))[0] == pytest.approx(1.0, rel=1e-12)
        assert len(template(shape, np.empty(0))) == 0


def test_widths_go_from_the_cadence_to_the_longest():
    mjd = np.arange(0, 400, 2.0)
    for per_octave in (1, 2, 4):
        widths = template_widths(mjd, 30.0, per_octave)
        assert widths[0] == pytest.approx(2.0)
        assert widths[-1] == pytest.approx(30.0)
        ratio = widths[1:] / widths[:-1]
        assert_allclose(ratio, ratio[0])
        assert 1 < ratio[0] <= 2 ** (1 / per_octave) * (1 + 1e-12)
    assert template_widths(mjd, 1e9)[-1] == pytest.approx(398 / 6)  # the whole template has to fit
    assert_allclose(template_widths(mjd, 1.0), [2.0])
    assert template_widths(mjd[:1], 30.0).size == 0
    assert template_widths(np.full(5, 3.0), 30.0).size == 0
    assert_allclose(template_widths(np.repeat(mjd, 2), 30.0), template_widths(mjd, 30.0))


def plain_filter(mjd, deviation, noise, widths, shape):
    """The formula as it stands in the description, written with whole arrays."""
    best = np.zeros((3, len(mjd)))
    for w in widths:
        score, amplitude = np.zeros(len(mjd)), np.zeros(len(mjd))
        for i, centre in enumerate(mjd):
            near = np.abs(mjd - centre) <= 3 * w
            t, d, e = template(shape, (mjd[near] - centre) / w), deviation[near], noise[near]
            rest = np.arange(len(t)) != np.argmax(np.abs(d * t / e**2))
            if np.sum((t / e)[rest] ** 2) <= 1e-9 * np.sum((t / e) ** 2):
                continue
            both = [
                np.sum(x * t[k] / e[k] ** 2) / np.sqrt(np.sum((t[k] / e[k]) ** 2))
                for k, x in ((rest, d[rest]), (..., d))
            ]
            if both[0] * both[1] > 0:
                score[i] = min(both, key=abs)
                amplitude[i] = np.sum(d * t / e**2) / np.sum((t / e) ** 2)
        score /= max(1.0, 1.4826 * np.median(np.abs(score)))
        better = np.abs(score) > np.abs(best[0])
        best[:, better] = np.array([score, np.full(len(mjd), w), amplitude])[:, better]
    return best


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 5, 60])
def test_the_matched_filter_is_its_formula(shape, n):
    rng = np.random.default_rng(n)
    mjd = np.sort(rng.uniform(0, 100, n))
    deviation, noise = rng.normal(size=n) * 3, rng.uniform(0.5, 2, n)
    widths = np.array([0.01, 1.0, 4.0, 20.0])
    found = matched_filter(mjd, deviation, noise, widths, shape)
    score, width, amplitude = plain_filter(mjd, deviation, noise, widths, shape)
    assert_allclose(found.score, score, atol=1e-9)
    if n > 10:  # where a template reaches two epochs only, its width makes no difference
        assert_allclose((found.width_d, found.amplitude), (width, amplitude), atol=1e-9)


def test_the_matched_filter_of_nothing():
    found = matched_filter(np.empty(0), np.empty(0), np.empty(0), np.array([1.0]))
    assert found.score.shape == (0,)
    assert not matched_filter(np.arange(5.0), np.ones(5), np.ones(5), np.empty(0)).score.any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(10))
def test_an_event_too_faint_for_single_epochs_is_found_in_its_place(seed, sign):
    rng = np.random.default_rng(seed)
    mjd = np.sort(rng.uniform(0, 400, 400))
    noise = np.full(400, 2.0)
    centre, width, amplitude = 230.0, 8.0, 5.0
    event = sign * amplitude * np.exp(-0.5 * ((mjd - centre) / width) ** 2)
    deviation = rng.normal(0, 2, 400) + event
    found = matched_filter(mjd, deviation, noise, template_widths(mjd, 30.0))
    peak = int(np.argmax(np.abs(found.score)))
    # its S/N is 2.5 sqrt(sum T^2), about 9.4, of which the strongest epoch and the widths take some
    assert 5 < sign * found.score[peak] < 13
    assert mjd[peak] == pytest.approx(centre, abs=width)
    assert found.amplitude[peak] == pytest.approx(sign * amplitude, abs=0.5 * amplitude)
    assert width / 2.5 < found.width_d[peak] < width * 2.5
    far = np.abs(mjd - centre) > 5 * width
    assert np.abs(found.score[far]).max() < 5


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outlier_alone_is_no_event(shape):
    rng = np.random.default_rng(7)
    mjd = np.arange(200.0)
    widths = template_widths(mjd, 30.0)
    alone = np.zeros(200)
    alone[77] = 50.0
    assert not matched_filter(mjd, alone, np.ones(200), widths, shape).score.any()
    noisy = rng.normal(size=200)
    before = np.abs(matched_filter(mjd, noisy, np.ones(200), widths, shape).score).max()
    noisy[77] += 50.0
    after = np.abs(matched_filter(mjd, noisy, np.ones(200), widths, shape).score).max()
    assert after < max(before, 4.0)


@pytest.mark.parametrize("width", [2.0, 10.0, 30.0])
def test_correlated_noise_makes_no_events(width):
    """It does not average out over many epochs, and would have scores of 10 and more."""
    rng = np.random.default_rng(8)
    mjd, widths = np.arange(1000.0), np.array([width])
    white = matched_filter(mjd, rng.normal(size=1000), np.ones(1000), widths).score
    assert 0.4 < np.std(white) < 1.1
    assert np.abs(white).max() < 5
    slow = np.convolve(rng.normal(size=1100), np.ones(20) / np.sqrt(20), "valid")[:1000]
    found = matched_filter(mjd, slow, np.ones(1000), widths).score
    assert 1.4826 * np.median(np.abs(found)) == pytest.approx(1.0)
    assert np.abs(found).max() < 5


# --------------------------------------------------------------------------------------------------- features


def observed(n=60, seed=0):
    rng = np.random.default_rng(seed)
    mjd = np.sort(rng.uniform(58000, 58100, n))
    err = rng.uniform(0.01, 0.05, n)
    return mjd, 17 + 0.3 * np.sin(mjd / 5) + rng.normal(0, err), err


def test_features_are_their_formulas():
    t, m, e = observed()
    found = features(t, m, e)
    n = len(m)
    mean = np.average(m, weights=e**-2)
    assert found["n"] == n
    assert found["span_d"] == t[-1] - t[0]
    assert found["median_mag"] == pytest.approx(np.median(m))
    assert found["mean_mag"] == pytest.approx(mean)
    lower, upper = np.quantile(m, (0.25, 0.75), method="median_unbiased")
    scatter = (upper - lower) / np.diff(stats.norm.ppf([0.25, 0.75]))[0]
    assert found["scatter_mag"] == pytest.approx(scatter, rel=1e-4)  # 1.4826 is rounded
    low, high = np.quantile(m, (0.05, 0.95), method="median_unbiased")
    assert found["amplitude_mag"] == pytest.approx((high - low) / 2)
    assert found["reduced_chi2"] == pytest.approx(sum(((m - mean) / e) ** 2) / (n - 1))
    assert found["excess_mag"] == pytest.approx(np.sqrt(scatter**2 - np.median(e) ** 2), rel=1e-4)
    assert found["skewness"] == pytest.approx(stats.skew(m))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(m))
    steps = [(m[i + 1] - m[i]) ** 2 for i in range(n - 1)]
    assert found["von_neumann"] == pytest.approx(np.mean(steps) / np.var(m))
    delta = [math.sqrt(n / (n - 1)) * (m[i] - mean) / e[i] for i in range(n)]
    pairs = [delta[i] * delta[i + 1] for i in range(n - 1)]
    assert found["stetson_j"] == pytest.approx(np.mean([math.copysign(math.sqrt(abs(pair)), pair) for pair in pairs]))
    assert found["stetson_k"] == pytest.approx(np.mean(np.abs(delta)) / math.sqrt(np.mean(np.square(delta))))
    assert found["beyond_1_sigma"] == pytest.approx(np.mean(np.abs(stats.zscore(m)) > 1))
    assert found["slope_mag_per_d"] == pytest.approx(stats.linregress(t, m).slope)
    slopes = [abs((m[i + 1] - m[i]) / (t[i + 1] - t[i])) for i in range(n - 1)]
    assert found["max_slope_mag_per_d"] == pytest.approx(max(slopes))


def test_noise_has_the_features_of_noise():
    """Values known from theory: for Gaussian noise; five standard errors."""
    n = 20_000
    rng = np.random.default_rng(9)
    found = features(np.arange(n), 17 + rng.normal(0, 0.02, n), np.full(n, 0.02))
    root = np.sqrt(n)
    assert found["reduced_chi2"] == pytest.approx(1, abs=5 * np.sqrt(2) / root)
    assert found["von_neumann"] == pytest.approx(2, abs=10 / root)
    assert found["skewness"] == pytest.approx(0, abs=5 * np.sqrt(6) / root)
    assert found["kurtosis"] == pytest.approx(0, abs=5 * np.sqrt(24) / root)
    assert found["stetson_k"] == pytest.approx(np.sqrt(2 / np.pi), abs=5 / root)
    assert found["stetson_j"] == pytest.approx(0, abs=5 / root)
    assert found["beyond_1_sigma"] == pytest.approx(2 * stats.norm.sf(1), abs=5 * 0.47 / root)
    assert found["excess_mag"] < 0.004


@given(st.floats(-5, 5), st.floats(-1000, 1000))
def test_features_move_with_the_magnitudes_and_times(shift, later):
    t, m, e = observed(30)
    before, after = features(t, m, e), features(t + later, m + shift, e)
    assert set(before) == set(after)
    for name, value in before.items():
        moved = value + shift if name in ("median_mag", "mean_mag") else value
        assert after[name] == pytest.approx(moved, rel=1e-5, abs=1e-6), name


def test_features_of_few_or_strange_epochs():
    t, m, e = observed(5)
    assert features(t[:2], m[:2], e[:2]) == {}
    assert features(t[:0], m[:0], e[:0]) == {}
    bad = np.array([True, False, False, False, False])
    for spoilt in (np.where(bad, np.nan, m), np.where(bad, np.inf, m)):
        assert features(t, spoilt, e) == features(t[1:], m[1:], e[1:])
    for error in (0.0, -1.0, np.nan):
        assert features(t, m, np.where(bad, error, e)) == features(t[1:], m[1:], e[1:])
    assert features(t[:3], m[:3], np.full(3, np.nan)) == {}
    same = features(np.full(4, 5.0), np.full(4, 17.0), np.full(4, 0.1))
    assert same["n"] == 4
    assert same["scatter_mag"] == same["reduced_chi2"] == same["stetson_k"] == 0
    assert {"skewness", "slope_mag_per_d", "max_slope_mag_per_d"}.isdisjoint(same)


@given(
    hnp.arrays(float, st.shared(st.integers(0, 12), key="n"), elements=values),
    hnp.arrays(
        float,
        st.shared(st.integers(0, 12), key="n"),
        elements=st.floats(1e-6, 1) | st.sampled_from([math.nan, 0.0, -1.0]),
    ),
)
def test_features_of_anything_are_finite(mag, err):
    mjd = np.arange(len(mag), dtype=float)
    found = features(mjd, mag, err)
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert bool(found) == (np.sum(np.isfinite(mag) & np.isfinite(err) & (err > 0)) >= 3)


def test_gaussian_templates_are_as_exact_as_rounding() -> None:
    """A single bright epoch: the best amplitude at its neighbours is the template there."""
    mjd = np.arange(9.0)
    deviation = np.zeros(9)
    deviation[4] = 1.0
    width = 1.7
    found = matched_filter(mjd, deviation, np.ones(9), np.array([width]))
    t = np.where(
        np.abs(mjd - mjd[:, np.newaxis]) <= 3 * width, np.exp(-((mjd - mjd[:, np.newaxis]) ** 2) / 2 / width**2), 0
    )
    # a single epoch alone is no event: the score is that without it, and all other epochs are quiet
    assert_allclose(found.score, 0, atol=1e-12)
    wide = matched_filter(mjd, deviation + 0.1, np.ones(9), np.array([width]))
    expected = (t @ (deviation + 0.1)) / (t**2).sum(axis=1)
    assert_allclose(wide.amplitude[wide.score > 0], expected[wide.score > 0], rtol=1e-12)
    assert (wide.score > 0).sum() >= 5
