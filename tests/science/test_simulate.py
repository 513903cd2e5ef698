"""The simulator does what its truth says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from obsarchive.instruments import RoboAO
from obsarchive.science.psf.model import diffraction_limited_psf, drizzled_response
from obsarchive.simulation.night import NightPlan, Target, truth_of, write_night
from obsarchive.simulation.scenes import (
    Conditions,
    Detector,
    Faults,
    Instrument,
    Scene,
    SimulatedObservation,
    Star,
    dark_frames,
    flat_frames,
    ideal_stack,
    planetary_disc,
    seeing_frames,
)
from obsarchive.simulation.turbulence import seeing_otf

QUARTER = Instrument(detector=Detector(window=(256, 256)))
BINARY = Scene(stars=(Star(), Star(dy_arcsec=0.6, dx_arcsec=-0.8, mag=2.5)))


@pytest.fixture(scope="module")
def observation() -> SimulatedObservation:
    return SimulatedObservation(BINARY, 60, QUARTER, seed=3)


def strehl(stack: np.ndarray) -> float:
    perfect = diffraction_limited_psf(QUARTER.optics, QUARTER.pixel_arcsec / 2, len(stack), drizzled_response())
    return stack.max() / stack.sum() / perfect.max() * perfect.sum()


@pytest.mark.parametrize("seed", [1, 2])
def test_default_conditions_make_lucky_imaging_worth_while(seed):
    observation = SimulatedObservation(n_frames=80, instrument=QUARTER, seed=seed)
    everything, best = strehl(ideal_stack(observation)), strehl(ideal_stack(observation, 0.2))
    assert 0.08 < everything < 0.22
    assert best > 1.3 * everything


def test_perfect_correction_is_the_perfect_psf():
    calm = Conditions(lag_s=0.0, actuator_pitch_m=0.01, variability=0.0, smear_arcsec=0.0, sub_exposures=3)
    psf = SimulatedObservation(n_frames=1, instrument=QUARTER, conditions=calm).psf(0)
    perfect = diffraction_limited_psf(QUARTER.optics, QUARTER.pixel_arcsec, len(psf))
    # 3 wavelengths instead of 9 and a sampled pupil: under one per cent of the peak
    assert_allclose(psf, perfect, atol=0.01 * perfect.max())


def test_psf_has_unit_flux_and_mean_position_at_the_centre(observation):
    psf = observation.psf(4)
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    assert psf.min() > -1e-6
    y, x = np.indices(psf.shape)
    centroid = np.array([np.sum(y * psf), np.sum(x * psf)])
    # the residual phase of one frame still tilts, by a fraction of a diffraction limit (2.2 px)
    assert_allclose(centroid, len(psf) // 2, atol=2.0)


def test_noiseless_frame_holds_the_stars_where_the_truth_says(observation):
    i, shape = 7, (256, 256)
    single = replace(observation, scene=Scene(stars=BINARY.stars[:1]))
    companion = observation.noiseless(i).astype(float) - single.noiseless(i)
    y, x = np.indices(shape)
    guide = single.noiseless(i).astype(float)
    moved = [np.array([np.sum(y * f), np.sum(x * f)]) / f.sum() for f in (guide, companion)]
    offset_arcsec = (moved[1] - moved[0]) * QUARTER.pixel_arcsec
    # centroids of noise-free stars; what the frame's edge cuts off shifts them by some hundredths of a pixel
    assert np.hypot(*offset_arcsec) == pytest.approx(observation.truth.separations_arcsec[0], abs=0.004)
    angle = np.degrees(np.arctan2(-offset_arcsec[1], offset_arcsec[0])) % 360
    assert angle == pytest.approx(observation.truth.position_angles_deg[0], abs=0.3)
    magnitude = -2.5 * np.log10(companion.sum() / guide.sum())
    assert magnitude == pytest.approx(observation.truth.delta_mags[0], abs=0.01)


def test_position_angle_is_north_through_east():
    assert Star(1.0, 0.0).position_angle_deg == 0
    assert Star(0.0, -1.0).position_angle_deg == pytest.approx(90)


def test_shifts_move_the_image_by_fractions_of_a_pixel(observation):
    still = replace(observation, conditions=replace(observation.conditions, motion_arcsec=0.0))
    assert_array_equal(still.shifts, 0)
    a, b = still.noiseless(5), observation.noiseless(5)
    y, x = np.indices(a.shape)
    moved = [np.array([np.sum(y * f), np.sum(x * f)]) / f.sum() for f in (a.astype(float), b.astype(float))]
    assert_allclose(moved[1] - moved[0], observation.shifts[5], atol=0.02)


def test_every_frame_can_be_made_again_on_its_own(observation):
    frames = list(replace(observation, n_frames=4).frames())
    again = replace(observation, n_frames=4)
    assert frames[0].dtype == np.uint16
    assert frames[0].shape == (256, 256)
    assert_array_equal(again.frame(3), frames[3])
    assert np.any(frames[2] != frames[3])
    assert np.any(replace(again, seed=4).frame(3) != frames[3])


def test_faults(observation):
    faulty = replace(observation, n_frames=4, faults=Faults(black=(1,), saturated=(2,), slipped=(3,)))
    sound = replace(faulty, faults=Faults())
    assert faulty.frame(1).max() < sound.frame(1).max() / 2
    assert faulty.frame(2).max() == 65535
    assert_array_equal(np.roll(faulty.frame(3), -(256 // 3), axis=0), sound.frame(3))


def test_quarter_frame_shares_the_pattern_of_the_whole_detector():
    whole, quarter = Detector(), Detector(window=(256, 256))
    centre = np.s_[384:640, 384:640]
    assert_array_equal(quarter.flat, whole.flat[centre])
    assert_array_equal(quarter.dark_adu(1.0), whole.dark_adu(1.0)[centre])
    assert whole.flat.mean() == pytest.approx(1, abs=1e-5)
    assert whole.flat.std() > 0.01


def test_window_larger_than_the_detector_is_refused():
    with pytest.raises(ValueError, match="window within"):
        Detector(shape=(128, 128), window=(256, 256))


def test_mean_of_darks_is_the_true_dark():
    instrument = Instrument(detector=Detector(shape=(128, 128), cosmic_rays_s=0.0))
    n = 200
    mean = np.mean(list(dark_frames(instrument, n)), axis=0)
    truth = instrument.detector.dark_adu(instrument.frame_s)
    quiet = instrument.detector.dark_current < 0.1
    noise = instrument.detector.noise_adu(0.02 * instrument.frame_s + instrument.detector.clock_induced_e)
    residual = (mean - truth)[quiet]
    assert abs(residual.mean()) < 5 * noise / np.sqrt(n * residual.size)
    # rms within 10 %: 16000 pixels; charge events are rare and not Gaussian
    assert residual.std() == pytest.approx(noise / np.sqrt(n), rel=0.1)


def test_flats_follow_the_flat_field():
    instrument = Instrument(detector=Detector(shape=(128, 128), em_gain=1.0, cosmic_rays_s=0.0))
    detector, level_e, n = instrument.detector, 40_000.0, 30
    mean = np.mean(list(flat_frames(instrument, n, level_e)), axis=0) - detector.dark_adu(instrument.frame_s)
    relative = mean * detector.e_per_adu / level_e / detector.flat - 1
    # photon noise of 1.2 million electrons per pixel: 0.0009
    assert relative.std() < 0.0011
    assert abs(relative.mean()) < 1e-4


@pytest.mark.parametrize("level_e", [0.5, 8.0, 300.0])
def test_multiplication_doubles_the_variance(level_e):
    plain = {"shape": (256, 256), "cosmic_rays_s": 0.0, "hot_fraction": 0.0, "dark_e_s": 0.0}
    detector = Detector(em_gain=50.0, clock_induced_e=0.0, **plain)
    frame = detector.expose(level_e / detector.flat, 0.1, np.random.default_rng(0))
    electrons = (frame - detector.bias) * detector.e_per_adu / detector.em_gain
    # 65536 pixels: mean to 0.4 % of its rms; variance to 2 % (its own scatter for a skewed distribution), 5 sigma
    assert electrons.mean() == pytest.approx(level_e, abs=0.02 * np.sqrt(2 * level_e + 1.44))
    assert electrons.var() == pytest.approx(2 * level_e + (60 / 50) ** 2, rel=0.1)


def test_cosmic_rays_hit():
    detector = Detector(shape=(256, 256), cosmic_rays_s=30.0)
    frame = detector.expose(0.0, 1.0, np.random.default_rng(5))
    clean = replace(detector, cosmic_rays_s=0.0).expose(0.0, 1.0, np.random.default_rng(5))
    assert np.count_nonzero(frame > clean.max()) > 30


@pytest.mark.parametrize("fwhm_arcsec", [0.7, 1.4])
def test_seeing_frames_have_the_fwhm_asked_for(fwhm_arcsec):
    scene = Scene(zero_flux_e=6e5)  # bright, but below saturation
    frame = next(seeing_frames(QUARTER, scene, fwhm_arcsec, 1, seed=1)).astype(float) - 570
    y, x = np.unravel_index(frame.argmax(), frame.shape)
    radius = np.hypot(*np.ogrid[-y : 256 - y, -x : 256 - x]) * QUARTER.pixel_arcsec
    order = np.argsort(radius, axis=None)
    near = radius.ravel()[order] < 1.5 * fwhm_arcsec
    # smooth the radial profile with a polynomial in r^2 and read off its half maximum
    r2, value = radius.ravel()[order][near] ** 2, frame.ravel()[order][near]
    fit = np.polynomial.Polynomial.fit(r2, np.log(np.maximum(value, 1)), 5)
    grid = np.linspace(0, 1.2 * fwhm_arcsec, 2000)
    half = grid[np.argmax(fit(grid**2) < fit(0.0) - np.log(2))]
    assert 2 * half == pytest.approx(fwhm_arcsec, rel=0.03)


def test_seeing_cannot_beat_diffraction():
    with pytest.raises(ValueError, match="diffraction limit"):
        seeing_otf(np.zeros(1), QUARTER.optics, 0.05)


def test_coarse_pixels_are_integrated_without_aliasing():
    coarse = Instrument(pixel_arcsec=0.1, detector=Detector(shape=(64, 64)))
    psf = SimulatedObservation(n_frames=1, instrument=coarse).psf(0)
    assert psf.sum() == pytest.approx(1, abs=1e-4)
    assert psf.min() > -1e-4


def test_extended_object_is_blurred_and_keeps_its_flux():
    disc = 20 * planetary_disc(40.0, 128, seed=1)
    scene = Scene(stars=(), extended=disc)
    observation = SimulatedObservation(scene, 2, QUARTER, seed=1)
    image = observation.noiseless(1)
    assert image.sum() == pytest.approx(disc.sum(), rel=1e-3)
    assert np.abs(np.diff(image)).max() < np.abs(np.diff(disc)).max()
    assert observation.truth.separations_arcsec.size == 0


def test_planetary_disc_is_dark_outside_and_detailed_inside():
    disc = planetary_disc(40.0, 128, seed=1)
    radius = np.hypot(*(np.mgrid[:128, :128] - 64))
    assert_array_equal(disc[radius > 41], 0)
    assert disc[radius < 20].mean() > 1.2 * disc[(radius > 35) & (radius < 39)].mean()
    assert disc[radius < 30].std() > 0.05


def test_a_simulated_night_holds_nothing_but_raw_files(tmp_path: Path):
    """What is true of them stands beside it: a page that calls a file ignored makes one look for it."""
    target = Target("3", "HIP_1", "Si", Scene((Star(),)), n_frames=2, shape=(32, 32))
    plan = NightPlan(targets=(target,), n_darks=1, n_flats=1, n_seeing=1, detector=(32, 32))
    folder = write_night(tmp_path / "raw", plan)
    kinds = {path.name: RoboAO().identify(path).kind for path in folder.iterdir()}
    assert sorted(kinds.values()) == ["dark", "dark", "flat", "science", "seeing"]
    names = {name.removesuffix(".fits.bz2") for name, kind in kinds.items() if kind in ("science", "seeing")}
    assert set(json.loads(truth_of(folder).read_text())) == names
