"""The instrument of truth against known answers: Noll, Maréchal, Airy, Basden, Ciddor, Tokovinin."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import j1

from benchmarks.quality.instrument import (
    Air,
    Atmosphere,
    Band,
    Camera,
    Exposures,
    Instrument,
    Layer,
    Loop,
    Sky,
    Star,
    Telescope,
    observe,
    zernike,
)
from benchmarks.quality.instrument.camera import through_stages
from benchmarks.quality.instrument.correction import corrected, measured_modes
from benchmarks.quality.instrument.exposure import highest
from benchmarks.quality.instrument.layers import FrozenFlow
from benchmarks.quality.instrument.night import Plan, Visit, write_night
from benchmarks.quality.instrument.optics import ARCSEC, Imager

STILL = Atmosphere(r0_m=1e6, scintillation=0.0, air=Air(left=0.0))
RIGID = Loop(modes=0, shake_arcsec=0.0, drift_arcsec_s=(0.0, 0.0))
PERFECT = Camera(
    shape=(128, 128),
    dark_e_s=0.0,
    induced_e=0.0,
    spurious_e=0.0,
    deferred=0.0,
    deferred_register=0.0,
    trapped=0.0,
    bent=0.0,
    rays_s=0.0,
)
SMALL = Exposures(size=128, snapshots=4)


@pytest.mark.parametrize(
    ("j", "n", "m"), [(1, 0, 0), (2, 1, 1), (3, 1, -1), (4, 2, 0), (5, 2, -2), (8, 3, 1), (22, 6, 0)]
)
def test_modes_are_in_the_order_of_noll(j, n, m):
    assert zernike.order(j) == (n, m)


def test_modes_are_orthonormal_on_the_disc():
    axis = (np.arange(300) + 0.5) / 150 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = np.hypot(y, x) < 1
    basis = zernike.modes(1, 28, y[inside], x[inside])
    assert np.allclose(basis @ basis.T / inside.sum(), np.eye(28), atol=0.02)


def test_covariances_and_residuals_are_those_that_noll_published():
    assert zernike.covariance(2, 2) == pytest.approx(0.448, abs=0.0005)
    assert zernike.covariance(4, 4) == pytest.approx(0.0232, abs=0.0002)
    assert zernike.covariance(2, 8) == pytest.approx(-0.0141, abs=0.0001)
    assert zernike.residual(3) == pytest.approx(0.134, abs=0.001)
    assert zernike.residual(21) == pytest.approx(0.0208, abs=0.0003)


def _coefficients(outer_m: float, n_strips: int) -> np.ndarray:
    """Coefficients of modes 2 to 15 [rad] of independent pupils, for D / r0 = 10."""
    telescope = Telescope(secondary_m=0.0)
    nm = 2 * np.pi / 500
    layer = (Layer(1.0, 1000.0, 30.0),)
    found = []
    for seed in range(n_strips):
        flow = FrozenFlow(layer, 0.21, outer_m, telescope.step_m, np.random.default_rng(seed))
        found.append(nm * measured_modes(telescope, flow, np.arange(40) * 0.00333, 15))
    return np.concatenate(found)


def test_screens_have_the_variances_and_covariances_of_noll():
    seen = _coefficients(300.0, 8)
    scale = 10 ** (5 / 3)
    expected = np.array([zernike.covariance(j, j) for j in range(2, 16)]) * scale
    # 320 pupils, some of them neighbours; a long outer scale costs the tilts a fifth
    assert np.var(seen, axis=0)[2:] == pytest.approx(expected[2:], rel=0.25)
    assert np.var(seen[:, 2:], axis=0).sum() == pytest.approx(expected[2:].sum(), rel=0.07)
    assert np.var(seen, axis=0)[:2].mean() == pytest.approx(0.8 * expected[0], rel=0.2)
    tilt_and_coma = np.mean(seen[:, 0] * seen[:, 6])
    assert tilt_and_coma == pytest.approx(zernike.covariance(2, 8) * scale, rel=0.5)


def test_frozen_flow_moves_the_pattern_with_the_wind():
    flow = FrozenFlow((Layer(1.0, 10.0, 90.0),), 0.1, 30.0, 0.0164, np.random.default_rng(1))
    y, x = np.zeros(5), np.linspace(-1, 1, 5)
    before, after = flow.path(np.array([0.0, 0.03]), y, x)
    assert flow.path(np.array([0.03]), y + 0.3, x)[0] == pytest.approx(before, abs=1e-2)
    assert np.abs(after - before).max() > 10


def test_the_loop_follows_slowly_changing_modes_two_steps_late():
    ramp = np.outer(np.arange(400.0), np.ones(4)).astype(np.float32)
    loop = Loop(modes=5, noise_nm=0.0)
    error = ramp - corrected(ramp, loop, np.random.default_rng(1))
    # an integrator lags a ramp by one step over its gain
    assert error[-1, 2:] == pytest.approx(1 / loop.gain, rel=0.01)
    assert np.all(error[:, :2] == 0)


def test_a_flat_wavefront_makes_the_pattern_of_an_obstructed_aperture():
    telescope, band = Telescope(vane_m=0.0, samples=256), Band(763.0, 0.0, colours=1)
    image = Imager(telescope, band, Air(left=0.0), 0.01, 200).image(np.zeros((1, 256, 256), np.float32))
    radius = 0.01 * np.abs(np.arange(200) - 100) * ARCSEC * np.pi * 2.1 / 763e-9
    radius[100] = 1e-9
    ratio = 0.5 / 2.1
    airy = ((2 * j1(radius) / radius - ratio**2 * 2 * j1(ratio * radius) / (ratio * radius)) / (1 - ratio**2)) ** 2
    assert image[100] / image[100, 100] == pytest.approx(airy, abs=2e-3)
    # peak of unit flux: area over wavelength squared
    peak = np.pi / 4 * (2.1**2 - 0.5**2) / 763e-9**2 * (0.01 * ARCSEC) ** 2
    assert image[100, 100] == pytest.approx(peak, rel=5e-3)


def test_vanes_make_spikes():
    images = [
        Imager(Telescope(vane_m=vane), Band(colours=1), Air(left=0.0), 0.0347, 128).image(np.zeros((1, 128, 128), "f4"))
        for vane in (0.0, 0.06)
    ]
    y, x = np.indices((128, 128)) - 64
    far = np.hypot(y, x) > 25
    on_spikes = far & (np.abs(np.abs(y) - np.abs(x)) < 2)
    bare, spider = (image[on_spikes].mean() / image[far & ~on_spikes].mean() for image in images)
    assert spider > 2 * bare


def test_static_aberrations_fall_with_frequency_and_do_not_tilt():
    path = Telescope(static_nm=80.0).aberration_nm(0.3)
    lit = Telescope().aperture > 0
    assert path[lit].std() == pytest.approx(80.0, rel=1e-3)
    power = np.abs(np.fft.fft2(np.where(lit, path, 0))) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(128, 1 / 128)] * 2))
    low, high = (power[abs(frequency - f) < 1].mean() for f in (5, 20))
    assert np.log(low / high) / np.log(4) == pytest.approx(2.5, abs=0.6)


@pytest.mark.parametrize("static_nm", [30.0, 60.0])
def test_strehl_ratio_of_small_aberrations_follows_marechal(static_nm):
    instrument = Instrument(
        telescope=Telescope(static_nm=static_nm), atmosphere=STILL, loop=RIGID, exposures=SMALL, camera=PERFECT
    )
    _, truth = observe(instrument, Sky(), 1, 1)
    assert truth.strehl[0] == pytest.approx(np.exp(-((2 * np.pi * static_nm / 763) ** 2)), rel=0.03)


def test_strehl_ratio_behind_the_loop_follows_the_residual_of_noll():
    # in the infrared, where the residual is small; no lag, no noise, no static aberrations
    band = Band(1650.0, 20.0, colours=1)
    slow = tuple(replace(layer, wind_m_s=1.5) for layer in Atmosphere().layers)
    instrument = Instrument(
        telescope=Telescope(static_nm=0.0),
        band=band,
        atmosphere=replace(STILL, r0_m=0.12, outer_m=100.0, layers=slow),
        loop=Loop(modes=60, noise_nm=0.0, motion_left=0.0, gain=0.5),
        exposures=replace(SMALL, frame_s=1.0, pixel_arcsec=0.05),
        camera=PERFECT,
    )
    _, truth = observe(instrument, Sky(), 12, 3)
    variance = zernike.residual(60) * (2.1 / (0.12 * (1650 / 500) ** 1.2)) ** (5 / 3)
    assert truth.strehl.mean() == pytest.approx(np.exp(-variance), abs=0.03)


def test_refraction_of_standard_air():
    air = Air(zenith_deg=45.0, pressure_hpa=1013.25, temperature_c=15.0)
    # n - 1 = 2.772e-4 at 589 nm (Ciddor 1996)
    assert air.refraction_arcsec(589.0) == pytest.approx(206265 * 2.772e-4, rel=1e-3)
    bluer, redder = (replace(air, left=1.0, parallactic_deg=0.0).offset_arcsec(nm, 600.0) for nm in (500.0, 700.0))
    assert bluer[0] > 0 > redder[0]
    assert bluer[1] == 0


def test_the_register_doubles_the_variance_of_photon_noise():
    rng = np.random.default_rng(2)
    camera = replace(PERFECT, gain=300.0)
    charge = rng.poisson(20.0, (400, 400)).astype(float)
    out = camera.multiplied(charge, rng) / camera.gain
    assert out.mean() == pytest.approx(20.0, rel=0.01)
    assert out.var() == pytest.approx(2 * 20.0, rel=0.02)


@pytest.mark.parametrize("electrons", [1, 4])
def test_many_stages_make_a_gamma_distribution(electrons):
    rng = np.random.default_rng(electrons)
    staged = through_stages(np.full(4000, electrons), 150.0, 536, rng) / 150.0
    camera = replace(PERFECT, gain=150.0)
    drawn = camera.multiplied(np.full((200, 200), float(electrons)), rng).ravel() / 150.0
    assert staged.mean() == pytest.approx(electrons, rel=0.05)
    assert np.quantile(staged, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(drawn, [0.1, 0.5, 0.9]), rel=0.08)


def test_dark_frames_have_the_expected_mean():
    camera = Camera(shape=(96, 96), rays_s=0.0, dark_e_s=2.0)
    rng = np.random.default_rng(4)
    frames = [camera.expose(np.zeros((96, 96)), 0.5, np.zeros((96, 96)), rng) for _ in range(60)]
    rest = np.mean(frames, axis=0) - camera.dark_adu(0.5)
    cool = camera.dark_current < 3 * camera.dark_e_s
    assert abs(rest[cool].mean()) < 0.02 * camera.adu_per_electron
    assert np.std(rest[cool]) < 3 * camera.adu_per_electron / np.sqrt(60) * np.sqrt(2)


def test_charge_is_left_behind_persists_and_saturates():
    rng = np.random.default_rng(5)
    light = np.zeros((64, 64))
    light[50, 20] = 5000.0
    camera = Camera(shape=(64, 64), gain=10.0, deferred=0.05, deferred_register=0.05, trapped=0.01, rays_s=0.0)
    traps = np.zeros((64, 64))
    lit = [camera.expose(light, 0.1, traps, rng) - camera.bias for _ in range(40)]
    dark = [camera.expose(0 * light, 0.1, traps, rng) - camera.bias for _ in range(10)]
    mean = np.mean(lit, axis=0)
    assert mean[51, 20] / mean[50, 20] == pytest.approx(0.05 * 51 / 64, rel=0.15)
    assert mean[50, 21] / mean[50, 20] == pytest.approx(0.05, rel=0.15)
    assert np.mean(dark, axis=0)[50, 20] > 10
    full = camera.expose(np.full((64, 64), 5e5), 0.1, traps, rng)
    assert full.max() == 65535


def test_stars_are_where_and_as_bright_as_the_truth_says():
    instrument = Instrument(atmosphere=STILL, telescope=Telescope(static_nm=0.0), exposures=SMALL, camera=PERFECT)
    sky = Sky((Star(electrons=1e4), Star(0.9, -0.7, 3e3)), background_e=0.0, origin_px=(3.3, -5.8))
    _, truth = observe(instrument, sky, 3, 7)
    y, x = np.indices((128, 128))
    for i in range(3):
        image = truth.noiseless(i)
        assert image.sum() == pytest.approx(truth.electrons[:, i].sum(), rel=0.03)
        for place in truth.positions_px[:, i]:
            near = image * np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 8)
            assert np.sum(near * y) / near.sum() == pytest.approx(place[0], abs=0.03)
            assert np.sum(near * x) / near.sum() == pytest.approx(place[1], abs=0.03)
    apart = (truth.positions_px[1] - truth.positions_px[0]) * 0.0347
    assert apart == pytest.approx(np.tile([0.9, -0.7], (3, 1)))


def test_cores_are_where_images_stay_longest():
    sky, instrument = Sky(), Instrument(atmosphere=STILL, exposures=SMALL, camera=PERFECT, loop=RIGID)
    _, truth = observe(instrument, sky, 2, 7)
    assert truth.peaks_px == pytest.approx(np.zeros((2, 2)), abs=0.05)
    motion = np.zeros((2, 4, 2))
    motion[1, 0] = 0.2, -0.4  # for a quarter of the exposure
    jumped = replace(truth, bank=replace(truth.bank, motion_arcsec=motion))
    expected = np.array([-0.2, 0.4]) / 4 / 0.0347
    assert jumped.peaks_px[1] - truth.peaks_px[1] == pytest.approx(expected, abs=0.1)
    assert jumped.matched_px[1] - jumped.matched_px[0] == pytest.approx(expected, abs=0.1)


def test_field_rotation_turns_from_north_to_east():
    sky = Sky((Star(), Star(1.0, 0.0)), rotation_deg_s=60.0)
    _, truth = observe(Instrument(exposures=SMALL, camera=PERFECT), sky, 5, 1)
    dy, dx = ((truth.positions_px[1] - truth.positions_px[0]) * 0.0347).T
    angle = np.degrees(np.arctan2(-dx, dy))
    assert np.diff(angle) == pytest.approx(np.full(4, 60 * 0.116))
    assert np.hypot(dy, dx) == pytest.approx(np.ones(5))


def test_an_extended_scene_is_centred_like_a_star():
    scene = np.zeros((9, 9))
    scene[4, 4] = 500.0
    sky = Sky((), extended=scene, background_e=0.0)
    _, truth = observe(Instrument(exposures=SMALL, camera=PERFECT), sky, 2, 1)
    star = replace(truth, sky=Sky((Star(electrons=500.0),), background_e=0.0))
    assert truth.noiseless(1) == pytest.approx(star.noiseless(1), abs=1e-3)


def test_a_seed_says_everything_and_a_bank_is_reused():
    instrument = Instrument(exposures=SMALL, camera=Camera(shape=(64, 64)))
    images = instrument.bank(12, 3)
    first, truth = observe(instrument, Sky(), 4, 9, images)
    again, _ = observe(instrument, Sky(), 4, 9, images)
    assert np.array_equal(first, again)
    assert first.dtype == np.uint16
    assert not np.array_equal(first, observe(instrument, Sky(), 4, 10, images)[0])
    assert truth.shifts_px.mean(axis=0) == pytest.approx(np.zeros(2), abs=1e-12)


def test_seeing_without_correction_is_that_of_the_outer_scale():
    # FWHM = 0.98 lambda / r0 sqrt(1 - 2.183 (r0 / L0)^0.356) (Tokovinin 2002), and the telescope
    instrument = Instrument(
        band=Band(colours=1),
        atmosphere=Atmosphere(r0_m=0.1),
        loop=Loop(modes=0, motion_left=1.0, drift_arcsec_s=(0.0, 0.0), shake_arcsec=0.0),
        exposures=Exposures(frame_s=6.0, snapshots=60),
        camera=PERFECT,
    )
    _, truth = observe(instrument, Sky(), 5, 2)
    r0 = 0.1 * (763 / 500) ** 1.2
    expected = 0.98 * 763e-9 / r0 / ARCSEC * np.sqrt(1 - 2.183 * (r0 / 25) ** 0.356)
    above = truth.long_exposure > highest(truth.long_exposure)[0] / 2
    assert 2 * np.sqrt(above.sum() / np.pi) * 0.0347 == pytest.approx(np.hypot(expected, 0.075), rel=0.1)


def test_a_night_is_written_with_its_truth(tmp_path):
    instrument = Instrument(exposures=SMALL, camera=Camera(shape=(48, 48)))
    visits = (Visit("1", "star", Sky(), 3),)
    plan = Plan(instrument=instrument, visits=visits, darks=(2, 2), flats=(1, 2), seeing_r0_m=(), seed=1)
    seen = write_night(tmp_path, plan, lambda _, truth: truth.shifts_px)
    names = sorted(path.name for path in (tmp_path / plan.date).iterdir())
    assert [name.split("_2026")[0] for name in names] == [
        "1_star_VIC_Si_o",
        *["dark_0"] * 2,
        *["dark_6"] * 2,
        "flat_0_Si",
    ]
    (name,) = seen
    assert seen[name].shape == (3, 2)
    with fits.open(tmp_path / plan.date / f"{name}.fits.bz2") as hdus:
        assert hdus[0].data.shape == (3, 48, 48)
        assert hdus[0].header["TELRA"] == "14.020000h"
