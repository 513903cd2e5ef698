"""Both engines against simulated truth: what one measures, the other measures, too."""

import gc
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial import cKDTree

from obsarchive.errors import Unprocessable
from obsarchive.science.photometry.aperture import Apertures, Flag
from obsarchive.science.photometry.engine import Engine, engine_of
from obsarchive.science.photometry.psf_photometry import REACH_FWHM, Frame, PsfFluxes, isolated_stars
from obsarchive.simulation.star_field import Camera, ObservingConditions, SimulatedFrame, StarField

SKY_E, READ_NOISE_E = 300.0, 8.0
SATURATION_E = 118_000.0


@pytest.fixture(params=["fast", "photutils"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return engine_of(request.param)


@dataclass
class Scene:
    """A frame and its truth."""

    image: np.ndarray
    variance: np.ndarray
    y: np.ndarray
    x: np.ndarray
    light: np.ndarray

    @property
    def stars(self) -> tuple[np.ndarray, np.ndarray]:
        return self.y, self.x


def grid(fwhm: float = 4.0, companions: bool = False) -> Scene:
    """Moffat stars (exponent 3) that do not disturb each other; or each with a companion, nine pixels away."""
    side, rng = 256, np.random.default_rng(1)
    places = np.stack(np.meshgrid(*[np.arange(22.0, side - 20, 34)] * 2), axis=-1).reshape(-1, 2)
    y, x = places.T + rng.uniform(-0.5, 0.5, (2, len(places)))
    light = 10 ** rng.uniform(3.8, 5.4, len(y))
    if companions:
        y, x, light = np.append(y, y + 9), np.append(x, x), np.append(light, 0.2 * light)
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1))
    rows, columns = np.mgrid[:side, :side]
    image = np.full((side, side), SKY_E)
    for sy, sx, total in zip(y, x, light, strict=True):
        image += total * 2 / (np.pi * alpha**2) * (1 + ((rows - sy) ** 2 + (columns - sx) ** 2) / alpha**2) ** -3
    seen = rng.poisson(image) + rng.normal(0, READ_NOISE_E, image.shape)
    return Scene(seen.astype(np.float32), (np.maximum(seen, 0) + READ_NOISE_E**2).astype(np.float32), y, x, light)


def crowd(seed: int, n: int = 90, fwhm: float = 4.0) -> tuple[SimulatedFrame, Scene]:
    """A field with neighbours, cosmic rays and a bad column."""
    camera = Camera(shape=(256, 256), bad_columns=1, cosmic_rays=8)
    frame = StarField(seed=seed, n_stars=n, camera=camera, mag_range=(14.0, 20.0)).frame(
        0, 60480.0, air=ObservingConditions(fwhm)
    )
    image = np.where(frame.bad, np.nan, frame.image).astype(np.float32)
    return frame, Scene(image, frame.variance, frame.y, frame.x, frame.electrons)


def measured(engine: Engine, scene: Scene, radii: tuple[float, ...] = (6.0, 9.0)) -> Apertures:
    return engine.aperture_photometry(scene.image, scene.variance, scene.stars, radii, (12.0, 17.0), SATURATION_E)


def fitted(engine: Engine, scene: Scene, wanted: np.ndarray | None = None, fwhm: float = 4.0) -> PsfFluxes:
    apertures = measured(engine, scene)
    good = (apertures.flags == 0) & np.isfinite(apertures.flux[:, 0])
    chosen = isolated_stars(scene.stars, apertures.flux[:, 0], good, REACH_FWHM * fwhm)
    frame = Frame(scene.image, scene.variance, *scene.stars, SATURATION_E)
    return engine.psf_photometry(frame, apertures, chosen, np.flatnonzero(good) if wanted is None else wanted, fwhm)


def spread(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


@pytest.mark.parametrize("fwhm", [2.2, 4.0, 7.0])
def test_stars_are_found_whatever_their_width(engine: Engine, fwhm: float) -> None:
    scene = grid(fwhm)
    found = engine.detect(scene.image, threshold=10.0)
    distance, star = cKDTree(np.stack(scene.stars, axis=1)).query(np.stack([found.y, found.x], axis=1))
    assert len(found) == len(set(star)) == len(scene.y)
    assert distance.max() < 0.5
    assert np.sqrt(np.mean(distance[scene.light[star] > 3e4] ** 2)) < 0.05
    assert np.median(found.fwhm_px) == pytest.approx(fwhm, rel=0.2)
    assert (np.diff(found.flux) <= 0).all(), "the brightest is the first"
    assert found.snr[0] > found.snr[-1] > 3


def test_only_the_brightest_are_kept(engine: Engine) -> None:
    scene = grid()
    found = engine.detect(scene.image, threshold=10.0, most=10)
    _, star = cKDTree(np.stack(scene.stars, axis=1)).query(np.stack([found.y, found.x], axis=1))
    assert len(found) == 10
    assert scene.light[star].min() > np.sort(scene.light)[-16]


def test_cosmic_rays_do_not_hide_the_width_of_stars() -> None:
    scene = grid()
    rows, columns = np.random.default_rng(2).integers(5, 250, (2, 40))
    scene.image[rows, columns] += 5e3
    found = engine_of("photutils").detect(scene.image, threshold=60.0)
    assert np.median(found.fwhm_px) == pytest.approx(4.3, abs=0.3)
    assert np.mean(found.fwhm_px < 2) < 0.1


@pytest.mark.parametrize("image", [np.zeros((8, 8)), np.full((40, 40), np.nan), np.full((40, 40), 3.0)])
def test_an_image_without_anything_is_refused(engine: Engine, image: np.ndarray) -> None:
    with pytest.raises(Unprocessable, match="no sources"):
        engine.detect(image)


def test_noise_has_no_sources(engine: Engine) -> None:
    found = engine.detect(np.random.default_rng(1).normal(100, 5, (128, 128)), threshold=10.0)
    assert len(found) == 0
    nothing = engine.aperture_photometry(np.ones((64, 64)), np.ones((64, 64)), (found.y, found.x), (3.0,), (6.0, 9.0))
    assert nothing.flux.shape == (0, 1)


def test_the_background_is_known_among_stars(engine: Engine) -> None:
    scene = grid()
    scene.image[100:103] = np.nan
    found = engine.background(scene.image)
    truth = np.sqrt(SKY_E + READ_NOISE_E**2)
    assert np.median(found.level) == pytest.approx(SKY_E, abs=0.35 * truth)
    assert np.median(found.noise) == pytest.approx(truth, rel=0.15)
    assert np.shape(found.level) in ((), scene.image.shape)


def test_fluxes_in_apertures_are_right_and_errors_honest(engine: Engine) -> None:
    scene = grid()
    found = measured(engine, scene, (8.0, 10.0))
    alpha2 = 16 / (4 * (2 ** (1 / 3) - 1))
    for j, radius in enumerate((8.0, 10.0)):
        share = 1 - (1 + radius**2 / alpha2) ** -2
        sky = 2 / (np.pi * alpha2) * (1 + 14.5**2 / alpha2) ** -3 * np.pi * radius**2
        pull = (found.flux[:, j] - (share - sky) * scene.light) / found.flux_error[:, j]
        assert abs(np.mean(pull)) < 3.5 / np.sqrt(len(pull))
        assert 0.7 < np.std(pull) < 1.3
    assert not found.flags.any()


def test_both_engines_see_the_same_faults() -> None:
    scene = grid()
    scene.image[int(scene.y[0]), int(scene.x[0])] = 130_000
    scene.image[int(scene.y[1]) + 1, int(scene.x[1])] = np.nan
    scene.image[int(scene.y[2]) + 8, int(scene.x[2])] = np.nan  # in the larger aperture only
    y, x = np.append(scene.y, [2.0, np.nan, -90.0, 125.0]), np.append(scene.x, [130.0, 5.0, 20.0, 125.0])
    distance = np.hypot(*(np.indices(scene.image.shape) - np.array([125.0, 125.0])[:, np.newaxis, np.newaxis]))
    scene.image[distance > 10] = np.where(distance < 18, np.nan, scene.image)[distance > 10]
    scene = Scene(scene.image, scene.variance, y, x, scene.light)
    ours, theirs = (measured(engine_of(name), scene) for name in ("fast", "photutils"))
    assert theirs.flags.tolist() == ours.flags.tolist()
    faults = Flag.SATURATED, Flag.BAD_PIXEL, Flag.EDGE, Flag.POOR_SKY
    assert all((ours.flags & int(flag) != 0).any() for flag in faults)
    seen = np.isfinite(ours.flux)
    assert (np.isfinite(theirs.flux) == seen).all()
    assert seen[2].tolist() == [True, False], "a bad pixel spoils the larger circle"
    for name in ("flux", "flux_error", "sky", "sky_error"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        one, other = (values[seen if values.ndim == 2 else seen[:, 0]] for values in (one, other))
        np.testing.assert_allclose(one, other, rtol=0.03 if "error" in name else 1e-4, atol=0.5)


def test_fluxes_of_fits_are_right_and_errors_honest(engine: Engine) -> None:
    scene = grid()
    found = fitted(engine, scene)
    assert found.fwhm_px == pytest.approx(4.0, abs=0.2)
    known = np.isfinite(found.flux)
    assert known.all()
    ratio = found.flux / scene.light
    scale = np.median(ratio[scene.light > 5e4])
    assert scale == pytest.approx(1.0, abs=0.02)
    pull = (ratio / scale - 1) * scene.light / found.flux_error
    bright = scene.light > 5e4
    assert abs(np.median(pull[bright])) < 0.3 + 1.25 / np.sqrt(bright.sum())
    assert 0.7 < spread(pull) < 1.35


def test_light_is_right_among_neighbours_and_cosmic_rays(engine: Engine) -> None:
    frame, scene = crowd(seed=2)
    found = fitted(engine, scene)
    tree = cKDTree(np.stack(scene.stars, axis=1))
    nearest = tree.query(np.stack(scene.stars, axis=1), k=2)[0][:, 1]
    chosen = np.isfinite(found.flux) & (nearest > 2.5) & (scene.light > 5e3)
    assert chosen.sum() > 20
    ratio = found.flux[chosen] / scene.light[chosen]
    scale = np.median(ratio[scene.light[chosen] > 2e4])
    assert scale == pytest.approx(1.0, abs=0.05)
    pull = (ratio / scale - 1) / np.hypot(found.flux_error[chosen] / scene.light[chosen], 0.01)
    assert np.mean(np.abs(pull) < 3) > 0.9
    assert frame.bad.any()


def test_a_cosmic_ray_in_a_star_does_not_count(engine: Engine) -> None:
    scene = grid()
    star = int(np.argsort(scene.light)[len(scene.y) // 2])
    clean = fitted(engine, scene, np.array([star])).flux[star]
    scene.image[int(scene.y[star]) + 2, int(scene.x[star]) - 1 : int(scene.x[star]) + 1] += 5000
    hit = fitted(engine, scene, np.array([star])).flux[star]
    assert hit == pytest.approx(clean, rel=0.05)


def test_pixels_without_an_error_are_left_out() -> None:
    scene = grid()
    clean = fitted(engine_of("photutils"), scene)
    scene.variance[int(scene.y[3]), int(scene.x[3]) + 1] = np.nan
    found = fitted(engine_of("photutils"), scene, np.arange(len(scene.y)))
    assert found.flux[3] == pytest.approx(clean.flux[3], rel=0.05)


@pytest.mark.parametrize("n", [0, 3, 6])
def test_few_stars_are_enough_for_a_psf(engine: Engine, n: int) -> None:
    scene = grid()
    apertures = measured(engine, scene)
    frame = Frame(scene.image, scene.variance, *scene.stars, SATURATION_E)
    wanted = np.argsort(-scene.light)[:10]
    found = engine.psf_photometry(frame, apertures, wanted[:n], wanted, 4.0)
    if n == 0:
        assert found.fwhm_px is None
        assert np.isnan(found.flux).all()
        return
    assert found.fwhm_px == pytest.approx(4.0, abs=0.3)
    np.testing.assert_allclose(found.flux[wanted], scene.light[wanted], rtol=0.06)
    assert np.isnan(np.delete(found.flux, wanted)).all()


def test_what_is_not_on_the_frame_has_no_light(engine: Engine) -> None:
    scene = grid()
    scene = Scene(
        scene.image,
        scene.variance,
        np.append(scene.y, [np.nan, -50.0, -11.0]),
        np.append(scene.x, [10.0, 10.0, 100.0]),
        scene.light,
    )
    n = len(scene.light)
    found = fitted(engine, scene, np.arange(n + 3))
    assert np.isfinite(found.flux[:n]).all()
    assert np.isnan(found.flux[n : n + 2]).all()


def test_stars_that_nothing_can_resolve_count_as_one(engine: Engine) -> None:
    scene = grid()
    star = int(np.argmax(scene.light))
    both = Scene(
        scene.image, scene.variance, np.append(scene.y, scene.y[star] + 0.5), np.append(scene.x, scene.x[star]), None
    )
    alone = fitted(engine, scene, np.array([star])).flux[star]
    assert fitted(engine, both, np.array([star])).flux[star] == pytest.approx(alone, rel=0.02)


def test_a_frame_is_fitted_with_its_own_psf() -> None:
    """Models of groups that photutils keeps are those of the frame before."""
    engine, widths = engine_of("photutils"), (2.5, 4.0)
    gc.disable()  # it would hide that models are kept
    try:
        found = [fitted(engine, grid(fwhm, companions=True), fwhm=fwhm) for fwhm in widths]
    finally:
        gc.enable()
    for fwhm, light in zip(widths, found, strict=True):
        truth = grid(fwhm, companions=True).light
        bright = truth > 5e4
        np.testing.assert_allclose(light.flux[bright], truth[bright], rtol=0.05)
