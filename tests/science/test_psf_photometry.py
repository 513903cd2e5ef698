"""PSF photometry against simulated truth."""

import numpy as np
import pytest
from scipy.special import ndtr

from obsarchive.science.photometry.aperture import aperture_photometry
from obsarchive.science.photometry.psf_fit import Frame, fit_star
from obsarchive.science.photometry.psf_photometry import (
    REACH_FWHM,
    PsfFluxes,
    build_epsf,
    isolated_stars,
    psf_photometry,
)


def crowd(seed: int, n: int = 60, fwhm: float = 4.0) -> tuple[Frame, np.ndarray]:
    """A frame of Gaussian stars with a shoulder, which no Moffat profile has; and their light."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(25, 275, (2, n))
    light = 10 ** rng.uniform(3.5, 5.3, n)
    rows, columns = np.mgrid[:300, :300]
    sigma = fwhm / 2.3548
    image = np.full((300, 300), 200.0)
    for sy, sx, total in zip(y, x, light, strict=True):
        for share, width, dx in ((0.85, sigma, 0.0), (0.15, 1.6 * sigma, 1.2)):
            r2 = (rows - sy) ** 2 + (columns - sx - dx) ** 2
            image += share * total / (2 * np.pi * width**2) * np.exp(-r2 / 2 / width**2)
    noisy = rng.poisson(image).astype(np.float32)
    return Frame(noisy, np.maximum(noisy, 1.0), y, x), light


@pytest.mark.parametrize("seed", [1, 2])
def test_light_is_right_also_where_stars_overlap(seed: int) -> None:
    frame, light = crowd(seed)
    chosen = isolated_stars((frame.y, frame.x), light, np.ones(60, bool), 14.0)
    shape = build_epsf(frame, chosen, light, np.full(60, 200.0), 4.0)
    assert shape is not None
    assert shape.fwhm_px == pytest.approx(4.3, abs=0.4)
    found = np.array([fit_star(frame, i, shape, 10.0) for i in range(60)])
    ratio = found[:, 0] / light
    scale = np.median(ratio[light > 3e4])
    assert scale == pytest.approx(1.0, abs=0.05)
    distance = np.hypot(frame.y - frame.y[:, np.newaxis], frame.x - frame.x[:, np.newaxis]) + 1e9 * np.eye(60)
    resolved = distance.min(axis=1) > 3.0
    pull = (ratio / scale - 1) / np.hypot(found[:, 1] / light, 0.01)
    assert np.mean(np.abs(pull[resolved]) < 3) > 0.9


def test_cosmic_rays_and_bad_pixels_do_not_count() -> None:
    frame, light = crowd(3, n=25)
    chosen = isolated_stars((frame.y, frame.x), light, np.ones(25, bool), 14.0)
    shape = build_epsf(frame, chosen, light, np.full(25, 200.0), 4.0)
    star = int(chosen[0])
    clean, _ = fit_star(frame, star, shape, 10.0)
    row, column = int(frame.y[star]) + 3, int(frame.x[star])
    frame.image[row, column : column + 3] += 5000
    frame.image[row - 2, column + 2] = np.nan
    hit, _ = fit_star(frame, star, shape, 10.0)
    assert hit == pytest.approx(clean, rel=0.03)


def test_nothing_to_learn_from_is_none() -> None:
    frame, light = crowd(4, n=5)
    assert build_epsf(frame, np.arange(2), light, np.full(5, 200.0), 4.0) is None
    outside = Frame(frame.image, frame.variance, np.array([np.nan, -50.0]), np.array([10.0, 10.0]))
    shape = build_epsf(frame, np.arange(5), light, np.full(5, 200.0), 4.0)
    assert shape is not None
    for i in range(2):
        assert np.isnan(fit_star(outside, i, shape, 10.0)).all()


def uneven(seed: int, fwhm: float, spread: float) -> tuple[Frame, np.ndarray]:
    """A frame of Gaussian stars that do not disturb each other, of slightly different widths; and their light."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(22.0, 310, 34)] * 2), axis=-1).reshape(-1, 2)
    y, x = places.T + rng.uniform(-0.5, 0.5, (2, len(places)))
    light = 10 ** rng.uniform(3.8, 6.4, len(y))
    sigma = fwhm / 2.3548 * (1 + rng.normal(0, spread, len(y)))
    across = [ndtr((np.arange(332) - 0.5 - c[:, np.newaxis]) / sigma[:, np.newaxis]) for c in (y, x)]
    rows, columns = (np.diff(each, axis=1) for each in across)
    image = 300.0 + (rows * light[:, np.newaxis]).T @ columns
    seen = rng.poisson(image) + rng.normal(0, 8.0, image.shape)
    return Frame(seen.astype(np.float32), image.astype(np.float32) + 64, y, x), light


def fluxes(frame: Frame, fwhm: float) -> PsfFluxes:
    apertures = aperture_photometry(
        frame.image, frame.variance, (frame.y, frame.x), (1.5 * fwhm,), (3 * fwhm, 4.2 * fwhm)
    )
    everyone = np.ones(len(frame.y), bool)
    chosen = isolated_stars((frame.y, frame.x), apertures.flux[:, 0], everyone, REACH_FWHM * fwhm)
    return psf_photometry(frame, apertures, chosen, np.flatnonzero(everyone), fwhm)


@pytest.mark.parametrize(("fwhm", "spread"), [(2.0, 0.02), (2.0, 0.03), (4.0, 0.01), (4.0, 0.03)])
def test_stars_whose_width_is_not_that_of_the_psf_lose_no_light(fwhm: float, spread: float) -> None:
    frame, light = uneven(1, fwhm, spread)
    found = fluxes(frame, fwhm)
    ratio = found.flux / light
    scale = np.median(ratio[light > 5e4])
    assert scale == pytest.approx(1.0, abs=0.005)
    pull = (ratio / scale - 1) * light / found.flux_error
    assert np.abs(pull).max() < 5
    assert abs(pull.mean()) < 0.35
    assert 0.7 < pull.std() < 1.3
    # errors are not true because they are large
    assert np.median((found.flux_error / light)[light > 2e5]) < 0.004


@pytest.mark.parametrize("fwhm", [2.5, 4.0])
@pytest.mark.parametrize("distance", [0, 1, 2])
def test_a_cosmic_ray_in_a_star_is_rejected_though_widths_vary(fwhm: float, distance: int) -> None:
    frame, light = uneven(2, fwhm, 0.02)
    clean = fluxes(frame, fwhm)
    hit = np.flatnonzero((light > 1e4) & (light < 1e5))[::4]
    for star in hit:
        frame.image[round(frame.y[star]), round(frame.x[star]) + distance] += light[star]
    found = fluxes(frame, fwhm)
    pull = (found.flux - clean.flux)[hit] / clean.flux_error[hit]
    assert len(hit) > 5
    assert np.abs(pull).max() < 4
