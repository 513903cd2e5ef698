"""Stars subtracted with the PSFs of others: simulated truth, algebra, and vip_hci as second opinion."""

import math
import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from obsarchive.errors import Unprocessable
from obsarchive.science.imaging.drizzle import Drizzle
from obsarchive.science.imaging.hot_pixels import remove_spikes
from obsarchive.science.psf import subtraction
from obsarchive.science.psf.companion_detection import aperture_flux, snr_map, without_halo
from obsarchive.science.psf.contrast import Subtraction, companion_of, subtract_star
from obsarchive.science.psf.subtraction import (
    MARGIN_PX,
    References,
    best_correlated,
    correlations,
    cut_stamp,
    radii,
    subtraction_mask,
)
from obsarchive.science.registration.frame_ranking import measure, rank_frames
from obsarchive.simulation.scenes import Conditions, Detector, Instrument, Scene, SimulatedObservation, Star

FINE_ARCSEC = 0.0347 / 2
FWHM_PX = 0.085 / FINE_ARCSEC
COMPANION = (0.9 * math.cos(2.0), 0.9 * math.sin(2.0), 4.5)
PLACE = np.array(COMPANION[:2]) / FINE_ARCSEC
SIDE = 201
SHAPE = (128, 128)
N_REFERENCES = 14


def stacks(seed: int, *companions: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """Lucky images of a star with the telescope's static speckles, as stamps."""
    stars = (Star(), *(Star(*companion) for companion in companions))
    instrument = Instrument(detector=Detector(shape=SHAPE, seed=7))
    flux = 1.5e5 * np.random.default_rng(seed).uniform(0.8, 1.2)
    seen = SimulatedObservation(
        Scene(stars, zero_flux_e=flux), 60, instrument, conditions=Conditions(static_nm=125.0), seed=seed
    )
    frames = [(frame - seen.truth.dark_adu) / seen.truth.flat for frame in seen.frames()]
    ranking = rank_frames([measure(frame, 2.2) for frame in frames])
    made = {}
    for name, fraction in (("100p", 1.0), ("20p", 0.3)):
        stack = Drizzle(SHAPE, 2, 0.6)
        for i in ranking.best(fraction):
            stack.add(remove_spikes(frames[i].astype(np.float32), 4000.0), *ranking.shifts[i])
        made[name] = cut_stamp(stack.image(), stack.output_position(*ranking.reference), SIDE)
    return made


@cache
def library(stack: str) -> np.ndarray:
    return np.stack([stamps[stack] for stamps in _library()])


@cache
def _library() -> list[dict[str, np.ndarray]]:
    return [stacks(100 + i) for i in range(N_REFERENCES)]


@cache
def target(seed: int, is_double: bool) -> dict[str, np.ndarray]:
    return stacks(seed, *([COMPANION] if is_double else []))


@cache
def subtracted(seed: int, is_double: bool, stack: str) -> Subtraction:
    return subtract_star(target(seed, is_double)[stack], library(stack), FWHM_PX)


def snr_at_place(snr: np.ndarray) -> float:
    y, x = np.rint(PLACE + SIDE // 2).astype(int)
    return float(np.nanmax(snr[y - 2 : y + 3, x - 2 : x + 3]))


SEEDS = (300, 301, 302, 303)


@pytest.mark.parametrize(("stack", "usual", "least"), [("100p", 12.0, 12.0), ("20p", 15.0, 12.0)])
def test_a_faint_companion_stands_out_after_subtraction_only(stack: str, usual: float, least: float) -> None:
    before = [snr_at_place(snr_map(target(seed, True)[stack], FWHM_PX)) for seed in SEEDS]
    after = [snr_at_place(subtracted(seed, True, stack).snr) for seed in SEEDS]
    blank = [snr_at_place(subtracted(seed, False, stack).snr) for seed in SEEDS]
    assert 4 < np.median(before) < 6.5, "the companion should be lost among the speckles before"
    assert np.median(after) > usual
    assert min(after) > least
    assert np.median(blank) < 2
    assert max(blank) < 3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_companion_is_measured_and_nothing_else_is_found(seed: int) -> None:
    (found,) = subtracted(seed, True, "100p").detections
    assert np.hypot(found.dy - PLACE[0], found.dx - PLACE[1]) < 0.8
    assert found.delta_mag == pytest.approx(COMPANION[2], abs=0.25)
    assert subtracted(seed, False, "100p").detections == ()


def test_the_contrast_curve_says_which_companions_would_be_found() -> None:
    """A companion a magnitude brighter than the curve is found, one a magnitude fainter is not."""
    stamp, curve = target(SEEDS[0], False)["100p"], subtracted(SEEDS[0], False, "100p").curve
    for radius in (30.0, 60.0):
        limit = np.interp(radius, curve.radius_px, curve.magnitudes)
        core = stamp * np.clip((4 * FWHM_PX - radii(SIDE)) / FWHM_PX, 0, 1)
        companion = ndimage.shift(core, (radius * math.sin(1), radius * math.cos(1)), order=1)
        for fainter, expected in ((-1.0, 1), (1.0, 0)):
            double = (stamp + 10 ** (-0.4 * (limit + fainter)) * companion).astype(np.float32)
            assert len(subtract_star(double, library("100p"), FWHM_PX).detections) == expected


@pytest.mark.parametrize("stack", ["100p", "20p"])
def test_a_companion_close_to_the_star_at_twice_the_curve_is_found_with_its_flux(stack: str) -> None:
    single, stamp = subtracted(SEEDS[0], False, stack), target(SEEDS[0], False)[stack]
    ratio = 2 * float(np.interp(math.hypot(9, 12), single.curve.radius_px, single.curve.contrast))
    double = (stamp + ratio * ndimage.shift(stamp, (9.0, -12.0), order=3)) / (1 + ratio)
    found = subtract_star(double, library(stack), FWHM_PX)
    assert [np.hypot(item.dy - 9, item.dx + 12) < 1 for item in found.detections] == [True]
    assert found.detections[0].flux_ratio == pytest.approx(ratio, rel=0.15)


def test_throughput_and_contrast_are_reasonable() -> None:
    curve = subtracted(SEEDS[0], False, "100p").curve
    assert np.all((curve.throughput > 0.4) & (curve.throughput <= 1.0))
    assert np.interp(80, curve.radius_px, curve.magnitudes) > np.interp(20, curve.radius_px, curve.magnitudes) + 1


def test_vip_sees_the_same() -> None:
    """Full-frame PCA and S/N map of vip_hci (Gomez Gonzalez et al. 2017, AJ 154, 7), neighbours left out as here."""
    with warnings.catch_warnings(action="ignore"):
        from vip_hci.metrics import snr
        from vip_hci.psfsub import pca

        ours = subtracted(SEEDS[0], True, "100p")
        stamp = target(SEEDS[0], True)["100p"]
        theirs = pca(
            np.nan_to_num(stamp)[np.newaxis],
            np.zeros(1),
            cube_ref=library("100p"),
            ncomp=ours.n_components,
            mask_center_px=round(FWHM_PX),
            scaling="spat-mean",
            verbose=False,
        )
        y, x = np.rint(PLACE + SIDE // 2).astype(int)
        theirs_snr = snr(theirs, (x, y), FWHM_PX, exclude_negative_lobes=True)
        same_image = snr(np.nan_to_num(ours.residual), (x, y), FWHM_PX, exclude_negative_lobes=True)
    assert ours.snr[y, x] == pytest.approx(same_image, rel=0.15)
    assert ours.snr[y, x] > 0.8 * theirs_snr


def test_a_companion_speaks_against_a_reference_and_common_speckles_do_not() -> None:
    others = library("100p")
    assert companion_of(others[0], others[1:], FWHM_PX) == ""
    assert "52 pixels away" in companion_of(target(SEEDS[0], True)["100p"], others, FWHM_PX)
    bright = others[0] + 0.1 * ndimage.shift(others[0], (40, 30), order=1)
    assert "something 50 pixels away" in companion_of(bright, others[:0], FWHM_PX)
    with_margin = np.pad(others[0], MARGIN_PX)
    with_margin[10:14, 120:124] = 0.01  # beyond the stamp of a reference
    assert companion_of(with_margin, others[:0], FWHM_PX) == ""


@pytest.mark.parametrize("unknown", [np.s_[: SIDE // 2 - 5], np.s_[SIDE // 2, SIDE // 2 + 4]])
def test_a_star_at_the_edge_has_no_rings(unknown: slice) -> None:
    stamp = library("100p")[0].copy()
    stamp[unknown] = np.nan
    with pytest.raises(Unprocessable, match="no ring around the star: with a FWHM of "):
        companion_of(stamp, library("100p")[1:], FWHM_PX)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.45), (-0.2, 0.4)])
def test_a_stamp_is_centred_without_sky_and_of_flux_one(shift: tuple[float, float]) -> None:
    y, x = np.indices((300, 280))
    image = 50 + 900 * np.exp(-((y - 151 - shift[0]) ** 2 + (x - 130 - shift[1]) ** 2) / (2 * 4.0**2))
    stamp = cut_stamp(image, (152.0, 128.0), 101)
    centre = ndimage.center_of_mass(np.where(radii(101) < 20, stamp, 0))
    assert centre == pytest.approx((50, 50), abs=0.05)
    assert stamp[radii(101) <= 25].sum() == pytest.approx(1, abs=1e-3)
    assert abs(stamp[radii(101) > 35]).max() < 1e-6


def test_a_stamp_at_the_edge_is_unknown_beyond_it_and_too_near_it_is_refused() -> None:
    y, x = np.indices((120, 120))
    image = np.exp(-((y - 60.0) ** 2 + (x - 30.0) ** 2) / 18)
    stamp = cut_stamp(image, (60.0, 30.0), 101)
    assert np.isnan(stamp[:, :20]).all()
    assert np.isfinite(stamp[:, 20:]).all()
    with pytest.raises(Unprocessable, match="too close to the edge"):
        cut_stamp(np.roll(image, -29, axis=1)[:60], (60.0, 1.0), 101)
    with pytest.raises(Unprocessable, match="no light"):
        cut_stamp(np.zeros((120, 120)), (60.0, 60.0), 101)


@given(seed=st.integers(0, 2**16), k=st.integers(1, 12), side=st.sampled_from([11, 15]))
@settings(max_examples=40)
def test_components_are_those_of_a_singular_value_decomposition(seed: int, k: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    stamps, star = rng.standard_normal((k, side, side)), rng.standard_normal((side, side))
    mask = subtraction_mask(star, 2.0)
    components = References(stamps.astype(np.float32), mask).components()
    pixels = stamps[:, mask] - stamps[:, mask].mean(axis=1, keepdims=True)
    _, _, basis = np.linalg.svd(pixels, full_matrices=False)
    vector = star[mask] - star[mask].mean()
    for count, residual in zip(range(1, k + 1), components.subtract(star, range(1, k + 1)), strict=True):
        expected = vector - basis[:count].T @ (basis[:count] @ vector)
        assert residual[mask] == pytest.approx(expected, abs=2e-4 * np.abs(vector).max())
    assert np.isnan(residual[~mask]).all()


def test_references_are_ranked_by_likeness_and_empty_ones_are_left_out() -> None:
    rng = np.random.default_rng(3)
    star = rng.standard_normal((15, 15))
    noise = rng.standard_normal((4, 15, 15))
    stamps = np.stack([0.5 * noise[0] + star, 2 * noise[1] + star, np.zeros((15, 15)), 3 * star, noise[3]])
    stamps, mask = stamps.astype(np.float32), subtraction_mask(star, 2)
    assert best_correlated(star, stamps, mask, 3).tolist() == [3, 0, 1]
    assert 2 not in best_correlated(star, stamps, mask, 5)
    expected = [np.corrcoef(image[mask], star[mask])[0, 1] for image in stamps[[0, 1, 3, 4]]]
    stamps[1, 0, 0] = np.nan  # beyond the mask
    assert correlations(star, stamps, mask)[[0, 1, 3, 4]] == pytest.approx(expected, abs=1e-5)
    stamps[1, 7, 3] = np.nan
    assert correlations(star, stamps, mask)[1] == pytest.approx(
        np.corrcoef(np.nan_to_num(stamps[1])[mask], star[mask])[0, 1], abs=1e-5
    )


def test_without_any_light_in_the_references_nothing_is_subtracted() -> None:
    star = cut_stamp(np.exp(-(radii(101) ** 2) / 30), (50.0, 50.0), 51)
    with pytest.raises(Unprocessable, match="none of the 2 references"):
        subtract_star(star, np.zeros((2, 51, 51), np.float32), 4.0)


def test_signal_to_noise_ratio_is_that_of_apertures_on_a_ring() -> None:
    """Equation 9 of Mawet et al. (2014), written out for one place."""
    rng = np.random.default_rng(5)
    image = rng.standard_normal((81, 81)).astype(np.float32)
    fwhm, y, x = 4.0, 40, 65
    flux = aperture_flux(image, fwhm)
    n = int(2 * np.pi * 25 / fwhm)
    angles = 2 * np.pi * np.arange(2, n - 1) / n
    others = ndimage.map_coordinates(flux, [40 + 25 * np.sin(angles), 40 + 25 * np.cos(angles)], order=1)
    expected = (flux[y, x] - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / len(others)))
    assert snr_map(image, fwhm)[y, x] == pytest.approx(expected, rel=1e-3)


def test_false_alarms_are_as_rare_as_student_says() -> None:
    rng = np.random.default_rng(6)
    image = ndimage.gaussian_filter(rng.standard_normal((201, 201)), 1.7)
    snr = snr_map(image, 4.0)
    ring = np.isfinite(snr) & (abs(radii(201) - 80) < 10)
    freedom = int(2 * np.pi * 80 / 4) - 4
    assert np.mean(snr[ring] > 2) == pytest.approx(stats.t.sf(2, freedom), rel=0.5)


def test_a_halo_is_the_median_of_each_ring() -> None:
    halo = 100 / (1 + radii(61))
    stamp = halo.copy()
    stamp[10, 12] += 5
    flat = without_halo(stamp.astype(np.float32))
    assert flat[10, 12] == pytest.approx(5, abs=0.2)
    assert abs(np.delete(flat[30:], 30)).max() < 8
    assert np.median(abs(flat)) < 0.1


def test_numbers_of_components_to_try() -> None:
    assert subtraction.candidate_counts(1) == [1]
    assert subtraction.candidate_counts(9) == [1, 2, 3, 4, 5, 6, 8]
    assert max(subtraction.candidate_counts(1000)) == subtraction.MAX_COMPONENTS


def test_the_flux_of_a_companion_between_pixels_is_not_too_large() -> None:
    """A model blurred by the shift would be fitted with 7 % more flux to a star of this width."""
    y, x = np.indices((81, 81)) - 40.0
    rng = np.random.default_rng(4)

    def star(dy: float, dx: float) -> np.ndarray:
        shape = np.exp(-4 * np.log(2) * ((y - dy) ** 2 + (x - dx) ** 2) / 4.5**2)
        return shape / (np.pi * 4.5**2 / (4 * np.log(2)))

    others = np.stack([star(0, 0) + rng.normal(0, 3e-5, y.shape) for _ in range(12)]).astype(np.float32)
    double = star(0, 0) + 0.1 * star(-21.5, 14.5) + rng.normal(0, 3e-5, y.shape)
    (found,) = subtract_star(double.astype(np.float32), others, 4.5).detections
    assert (found.dy, found.dx) == pytest.approx((-21.5, 14.5), abs=0.05)
    assert found.flux_ratio == pytest.approx(0.1, rel=0.01)
