"""Do contrast curves and errors of companions mean what they say: noise of known statistics, planets of known flux."""

import numpy as np
import pytest
from scipy import ndimage

from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.psf.companion_detection import (
    aperture_flux,
    least_fluxes,
    least_snr,
    noise_tail,
    significance,
    snr_at,
    snr_map,
)
from obsarchive.science.psf.companion_fit import fit_companion
from obsarchive.science.psf.contrast import LEAST_LIKENESS, subtract_star
from obsarchive.science.psf.injected_companions import Place
from obsarchive.science.psf.subtraction import central, cut_stamp, radii

SIDE, HALF, FWHM_PX = 101, 50, 4.0
PSF = np.exp(-4 * np.log(2) * (radii(SIDE) / FWHM_PX) ** 2)
PSF /= PSF.sum()


def noise(rng: np.random.Generator, rms: float = 1.0, shape: float = np.inf) -> np.ndarray:
    """Noise correlated like speckles; of a gamma distribution of this shape, if finite."""
    white = rng.standard_normal((SIDE, SIDE))
    if np.isfinite(shape):
        white = (rng.gamma(shape, size=(SIDE, SIDE)) - shape) / np.sqrt(shape)
    smooth = ndimage.gaussian_filter(white, FWHM_PX / 2.35)
    return rms * smooth / smooth.std()


def planet(dy: float, dx: float) -> np.ndarray:
    y, x = np.indices((SIDE, SIDE)) - HALF
    image = np.exp(-4 * np.log(2) * ((y - dy) ** 2 + (x - dx) ** 2) / FWHM_PX**2)
    return image / image.sum()


def test_least_snr_is_that_of_five_sigma() -> None:
    radius = np.array([7.0, 20.0, 60.0])
    for tail in (1.0, 1.3):
        assert significance(least_snr(radius, FWHM_PX, tail), radius, FWHM_PX, tail) == pytest.approx(5.0, abs=1e-6)
    assert np.all(np.diff(least_snr(radius, FWHM_PX)) < 0), "close to the star there are fewer apertures"


def test_the_tail_of_noise_is_measured() -> None:
    rng = np.random.default_rng(1)
    gaussian, skewed = (
        np.mean([noise_tail(snr_map(noise(rng, shape=shape), FWHM_PX), FWHM_PX, 6.0) for _ in range(8)])
        for shape in (np.inf, 0.25)
    )
    assert 1 <= gaussian < 1.15
    assert skewed > gaussian + 0.15
    assert noise_tail(np.full((SIDE, SIDE), np.nan), FWHM_PX, 6.0) == 1


def test_the_tail_of_a_mixture_of_noise_is_longer_and_companions_hardly_change_it() -> None:
    rng = np.random.default_rng(5)
    quiet, mixed, with_planets = [], [], []
    y, x = np.indices((SIDE, SIDE)) - HALF
    for _ in range(8):
        image = noise(rng)
        quiet.append(noise_tail(snr_map(image, FWHM_PX), FWHM_PX, 6.0))
        # symmetric, and of the same scatter on each ring: three times the noise in a sixth of all directions
        loud = np.where(np.abs(np.arctan2(y, x)) < np.pi / 6, 3.0, 1.0)
        mixed.append(noise_tail(snr_map(loud * image, FWHM_PX), FWHM_PX, 6.0))
        planets = sum(6 * planet(dy, dx) / planet(0, 0).max() for dy, dx in ((20, 5), (-30, 8)))
        with_planets.append(noise_tail(snr_map(image + planets, FWHM_PX), FWHM_PX, 6.0))
    assert np.mean(mixed) > np.mean(quiet) + 0.3
    # in a stamp of a quarter of the usual area
    assert np.mean(with_planets) < np.mean(quiet) + 0.3


def test_the_flux_that_a_place_needs_gives_it_the_signal_to_noise_ratio_wanted() -> None:
    image, radius = noise(np.random.default_rng(6)), 20
    snr = snr_map(image, FWHM_PX)[HALF, HALF + radius]
    flux = aperture_flux(image, FWHM_PX)
    assert least_fluxes(flux, radius, FWHM_PX, float(snr))[0] == pytest.approx(0, abs=1e-4)
    needed = least_fluxes(flux, radius, FWHM_PX, 12.0)[0]
    brighter = image + needed / aperture_flux(planet(0, radius), FWHM_PX)[HALF, HALF + radius] * planet(0, radius)
    assert snr_at(brighter, image, (0.0, float(radius)), FWHM_PX) == pytest.approx(12, rel=0.01)


def test_noise_is_no_star() -> None:
    rng = np.random.default_rng(8)
    stamp, *references = (1 / SIDE**2 + noise(rng, 1e-3) for _ in range(4))
    stamp[HALF - 2 : HALF + 3, HALF - 2 : HALF + 3] += 1e-3
    assert not subtract_star(stamp, np.array(references), FWHM_PX).holds_star
    star = [PSF + noise(rng, 1e-4 * PSF.max()) for _ in range(4)]
    assert subtract_star(star[0], np.array(star[1:]), FWHM_PX).holds_star


def test_a_ring_around_a_dark_middle_is_no_star() -> None:
    rng = np.random.default_rng(9)
    y, x = np.indices((SIDE, SIDE)) - HALF
    distance = np.hypot(y, x)
    ring = np.exp(-((distance - 25) ** 2) / 50) - 0.05 * np.exp(-(distance**2) / 20)
    stamp = ring / ring.sum() + noise(rng, 1e-7)
    references = [PSF + noise(rng, 1e-4 * PSF.max()) for _ in range(3)]
    found = subtract_star(stamp, np.array(references), FWHM_PX)
    assert np.isnan(found.curve.magnitudes).all()
    assert not found.holds_star


def test_signal_to_noise_ratio_between_the_pixels_is_that_of_the_map_on_them() -> None:
    image = noise(np.random.default_rng(2))
    assert snr_at(image, image, (11.0, -17.0), FWHM_PX) == pytest.approx(
        snr_map(image, FWHM_PX)[HALF + 11, HALF - 17], 1e-4
    )
    assert np.isnan(snr_at(image, image, (49.0, 30.0), FWHM_PX))


def test_errors_of_flux_and_position_are_true() -> None:
    rng = np.random.default_rng(3)
    pulls = []
    for _ in range(150):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(15, 40)
        dy, dx = radius * np.sin(angle), radius * np.cos(angle)
        image = noise(rng, 0.06 * PSF.max()) + planet(dy, dx)
        fit = fit_companion(image, planet, (round(HALF + dy), round(HALF + dx)), FWHM_PX)
        off = np.array([fit.dy - dy, fit.dx - dx])
        along = off @ [np.sin(angle), np.cos(angle)] / fit.radial_error_px
        across = off @ [np.cos(angle), -np.sin(angle)] / fit.tangential_error_px
        pulls.append(((fit.flux_ratio - 1) / fit.flux_ratio_error, along, across))
    assert np.std(pulls, axis=0) == pytest.approx([1, 1, 1], abs=0.2)
    assert np.mean(pulls, axis=0) == pytest.approx([0, 0, 0], abs=0.3)


def test_errors_of_a_bright_companion_hold_its_photons_and_those_of_the_star() -> None:
    """Behind a register, which doubles the variance: nothing but photons, on the ring few of them."""
    rng, side, star_e = np.random.default_rng(14), 71, 3e5
    y, x = np.indices((side, side)) - side // 2

    def star(dy: float, dx: float) -> np.ndarray:
        distance = np.hypot(y - dy, x - dx)
        return 0.3 * np.exp(-4 * np.log(2) * (distance / FWHM_PX) ** 2) / 18.1 + 0.7 * np.exp(-distance / 12) / 905

    others = np.stack([star(0, 0) + rng.normal(0, 1e-7, (side, side)) for _ in range(3)])
    pulls, claimed = [], []
    for turn in range(36):
        ratio, radius = 10 ** (-0.4 * rng.uniform(0.2, 2)), rng.uniform(17, 24)
        dy, dx = radius * np.sin(turn), radius * np.cos(turn)
        seen = rng.standard_gamma(rng.poisson(star_e * (star(0, 0) + ratio * star(dy, dx)))) / star_e
        found = subtract_star(seen.astype(np.float32), others, FWHM_PX).detections[0]
        assert np.hypot(found.dy - dy, found.dx - dx) < 1
        pulls.append((found.flux_ratio - ratio) / found.flux_ratio_error)
        known = subtract_star(seen.astype(np.float32), others, FWHM_PX, photon_variance=2 / star_e).detections[0]
        claimed.append(found.flux_ratio_error / known.flux_ratio_error)
    assert np.std(pulls) == pytest.approx(1, abs=0.25)
    assert abs(np.mean(pulls)) < 0.4
    assert np.median(claimed) == pytest.approx(1, abs=0.15)


def test_the_places_of_the_frames_in_their_pixels_do_not_change_a_magnitude_difference() -> None:
    rng, side, sigma_px, apart = np.random.default_rng(15), 64, 0.95, np.array([4.3, 12.6])
    pixels = np.arange(side)
    found = []
    for _ in range(8):
        stack = Drizzle((side, side), 2, 0.45)
        for dy, dx in rng.normal(0, 2, (24, 2)):
            frame = np.zeros((side, side))
            for (y, x), light in (((0, 0), 1.0), (apart, 0.5)):
                column, row = (np.exp(-((pixels - c) ** 2) / (2 * sigma_px**2)) for c in (28.2 + y + dy, 24.7 + x + dx))
                frame += light * np.outer(column, row)
            stack.add(frame.astype(np.float32), -dy, -dx)
        stamp = cut_stamp(stack.image(), stack.output_position(28.2, 24.7), 61)
        core = stamp * (radii(61) < 12)
        pixel = tuple(np.rint(30 + 2 * apart).astype(int).tolist())
        fit = fit_companion(stamp, lambda dy, dx, core=core: ndimage.shift(core, (dy, dx)), pixel, 4.5)
        found.append(-2.5 * np.log10(2 * fit.flux_ratio))
    assert np.std(found) < 0.001
    assert abs(np.mean(found)) < 0.002


def test_white_noise_does_not_make_a_companion_unlike_a_star() -> None:
    rng = np.random.default_rng(7)

    def likeness(light: np.ndarray) -> float:
        fit = fit_companion(rng.standard_normal((SIDE, SIDE)) + light, planet, (HALF + 12, HALF - 20), FWHM_PX)
        return fit.likeness

    # a signal-to-noise ratio of 7.5 in an aperture
    faint = [likeness(7.5 * np.sqrt(np.pi) * FWHM_PX * planet(12.2, -19.6)) for _ in range(60)]
    assert np.median(faint) == pytest.approx(1.0, abs=0.1)
    assert np.mean(np.array(faint) > LEAST_LIKENESS) > 0.95
    spike = np.zeros((SIDE, SIDE))
    spike[HALF + 12, HALF - 20] = 100.0
    assert likeness(spike) < LEAST_LIKENESS


def test_half_of_the_planets_at_the_curve_are_found_and_nearly_all_at_seven_sigma() -> None:
    rng = np.random.default_rng(4)
    star = (PSF + 0.02 * PSF.max() * np.exp(-radii(SIDE) / 10)).astype(np.float32)
    found: dict[float, list[bool]] = {1.0: [], 1.4: []}
    n_false = 0
    for _ in range(30):
        stamp, *references = (star + noise(rng, 1e-4 * PSF.max()) for _ in range(4))
        empty = subtract_star(stamp, np.array(references), FWHM_PX)
        n_false += len(empty.detections)
        for level, outcomes in found.items():
            radius, angle = rng.uniform(8, 45), rng.uniform(0, 2 * np.pi)
            dy, dx = radius * np.sin(angle), radius * np.cos(angle)
            contrast = level * np.interp(radius, empty.curve.radius_px, empty.curve.contrast)
            seen = subtract_star(stamp + contrast * planet(dy, dx), np.array(references), FWHM_PX)
            outcomes.append(any(np.hypot(item.dy - dy, item.dx - dx) < FWHM_PX for item in seen.detections))
    # 30 trials: twice the binomial error is 18 %
    assert np.mean(found[1.0]) == pytest.approx(0.5, abs=0.2)
    assert np.mean(found[1.4]) > 0.88
    assert n_false <= 1


def in_the_field(rng: np.random.Generator, side: int, *planets: tuple[float, float, float]) -> np.ndarray:
    """A star of flux 1 with planets (dy, dx, flux ratio) in photon noise."""
    y, x = np.indices((side, side)) - side // 2
    halo = 2e-5 / (1 + (np.hypot(y, x) / 15) ** 2)
    image = rng.normal(0, 2e-5, (side, side)) + halo
    for dy, dx, ratio in ((0.0, 0.0, 1.0), *planets):
        image += ratio * PSF.max() * np.exp(-4 * np.log(2) * ((y - dy) ** 2 + (x - dx) ** 2) / FWHM_PX**2)
    return image.astype(np.float32)


def test_companions_are_searched_beyond_the_references_with_true_fluxes() -> None:
    rng, margin = np.random.default_rng(11), 14
    others = np.stack([in_the_field(rng, SIDE) for _ in range(6)])
    star = in_the_field(rng, SIDE + 2 * margin)
    alone, whole = (subtract_star(stamp, others, FWHM_PX) for stamp in (central(star, SIDE), star))
    inside = alone.curve.radius_px < HALF - FWHM_PX
    shared = whole.curve.contrast[: len(inside)][inside]
    assert shared == pytest.approx(alone.curve.contrast[inside], rel=1e-3), "the same where references are"
    assert alone.curve.radius_px[-1] < HALF < HALF + margin - FWHM_PX <= whole.curve.radius_px[-1]
    assert whole.detections == ()
    found, pulls = 0, []
    for radius in (50.0, 53.0, 58.0):
        for turn in range(4):
            dy, dx = radius * np.sin(turn + 0.3), radius * np.cos(turn + 0.3)
            ratio = 1.6 * float(np.interp(radius, whole.curve.radius_px, whole.curve.contrast))
            seen = subtract_star(in_the_field(rng, SIDE + 2 * margin, (dy, dx, ratio)), others, FWHM_PX).detections
            near = [item for item in seen if np.hypot(item.dy - dy, item.dx - dx) < FWHM_PX / 2]
            found += len(near)
            assert len(seen) == len(near)
            pulls += [(item.flux_ratio - ratio) / item.flux_ratio_error for item in near]
    assert found >= 11
    assert abs(np.mean(pulls)) < 0.8
    assert np.std(pulls) < 1.6


def test_a_stamp_with_a_margin_is_the_same_inside() -> None:
    image = in_the_field(np.random.default_rng(12), 181) + 1e-3
    plain, with_margin = (cut_stamp(image, (92.0, 89.0), SIDE, margin) for margin in (0, 20))
    assert with_margin.shape == (SIDE + 40, SIDE + 40)
    assert np.array_equal(central(with_margin, SIDE), plain)
    near_the_edge = cut_stamp(image[60:], (32.0, 89.0), SIDE, 20)
    assert np.isnan(near_the_edge[:30]).all()
    assert np.isfinite(central(near_the_edge, SIDE)).mean() > 0.5


@pytest.mark.parametrize(
    "companions",
    [((12.0, 9.0, 0.63),), ((7.0, -3.0, 0.4),), ((12.0, 9.0, 0.4), (-20.0, 19.0, 0.063))],
    ids=["0.5 mag", "1 mag, close", "two"],
)
def test_a_companion_is_no_part_of_the_star_that_models_others(
    companions: tuple[tuple[float, float, float], ...],
) -> None:
    """The curve is that of the star alone, also at twice the separation, where a copy of a copy would lie."""
    others = np.stack([in_the_field(np.random.default_rng([21, k]), SIDE) for k in range(6)])
    alone, beside = (
        subtract_star(in_the_field(np.random.default_rng(99), SIDE + 28, *seen), others, FWHM_PX)
        for seen in ((), companions)
    )
    assert alone.detections == ()
    assert len(beside.detections) == len(companions)
    for found, (dy, dx, ratio) in zip(beside.detections, companions, strict=True):
        assert np.hypot(found.dy - dy, found.dx - dx) < 0.02
        assert found.flux_ratio == pytest.approx(ratio, rel=3e-3)
    elsewhere = np.ones(len(alone.curve.radius_px), bool)
    for dy, dx, _ in companions:
        elsewhere &= abs(alone.curve.radius_px - np.hypot(dy, dx)) > FWHM_PX
    lost = (alone.curve.magnitudes - beside.curve.magnitudes)[elsewhere]
    # the noise of the star is in its model: the square of a ratio adds to the variance, its square again, and so on
    noise = -1.25 * np.log10(1 - sum(ratio**2 for _, _, ratio in companions))
    assert abs(np.median(lost)) < noise + 0.1
    assert np.abs(lost).max() < 0.5


def test_the_halo_of_a_bright_companion_leaves_no_rim_where_its_model_ends() -> None:
    rng, side, apart = np.random.default_rng(23), 155, (11.0, -18.0)
    y, x = np.indices((side, side)) - side // 2

    def seen(ratio: float) -> np.ndarray:
        image = rng.normal(0, 3e-6, (side, side))
        for (dy, dx), light in (((0.0, 0.0), 1.0), (apart, ratio)):
            distance = np.hypot(y - dy, x - dx)
            image += light * (0.3 * np.exp(-4 * np.log(2) * (distance / FWHM_PX) ** 2) / 18.1)
            image += light * 0.7 / (1 + (distance / 20) ** 2) ** 2 / (np.pi * 20**2)
        return image.astype(np.float32)

    others = np.stack([seen(0.0) for _ in range(6)])
    alone, beside = (subtract_star(seen(ratio), others, FWHM_PX) for ratio in (0.0, 0.6))
    assert len(beside.detections) == 1
    lost = alone.curve.magnitudes - beside.curve.magnitudes
    # 0.24 mag are the noise of the model; filtered after it fades, the halo costs 1.8 mag
    assert np.median(lost) < 0.6
    assert lost[abs(alone.curve.radius_px - np.hypot(*apart)) > FWHM_PX].max() < 1


def test_in_the_halo_of_a_companion_only_what_stands_out_of_its_noise_is_listed() -> None:
    rng, star = np.random.default_rng(24), (12.0, 9.0, 0.63)
    others = np.stack([in_the_field(rng, SIDE) for _ in range(6)])
    # 7.4 FWHM from the companion
    for ratio, n_expected in ((0.02, 2), (0.004, 1)):
        target = in_the_field(rng, SIDE, star, (-16.0, 19.0, ratio))
        assert len(subtract_star(target, others, FWHM_PX).detections) == n_expected


@pytest.mark.parametrize(
    ("angles", "ratios"),
    [((40, 170), (0.4, 0.3)), ((0, 100, 220), (0.2, 0.3, 0.1)), ((10, 80, 150, 240, 310), (0.1, 0.2, 0.1, 0.15, 0.1))],
    ids=["two", "three", "five"],
)
def test_companions_at_one_separation_do_not_hide_each_other(
    angles: tuple[float, ...], ratios: tuple[float, ...]
) -> None:
    """Each is noise of the ring of the others: of two equal ones among 30 apertures none has an S/N above 6."""
    rng = np.random.default_rng(25)
    others = np.stack([in_the_field(rng, SIDE) for _ in range(6)])
    places = [20 * np.array([np.sin(angle), np.cos(angle)]) for angle in np.radians(angles)]
    target = in_the_field(rng, SIDE, *((dy, dx, ratio) for (dy, dx), ratio in zip(places, ratios, strict=True)))
    found = subtract_star(target, others, FWHM_PX).detections
    assert len(found) == len(ratios)
    for (dy, dx), ratio in zip(places, ratios, strict=True):
        seen = min(found, key=lambda item: np.hypot(item.dy - dy, item.dx - dx))
        assert np.hypot(seen.dy - dy, seen.dx - dx) < 0.1
        assert abs(seen.flux_ratio - ratio) < 4 * seen.flux_ratio_error
        assert seen.flux_ratio == pytest.approx(ratio, rel=0.03)


def test_a_brighter_star_stays_in_the_model() -> None:
    place = Place(in_the_field(np.random.default_rng(22), SIDE, (12.0, 9.0, 2.0)), FWHM_PX)
    assert np.array_equal(place.without([(12.0, 9.0, 2.0)]).psf, place.psf)
    left = place.without([(-20.0, 3.0, 0.01)]).psf
    assert not np.array_equal(left, place.psf)
    assert np.isfinite(left).all()
