"""A star among others keeps its Strehl ratio and flux."""

import numpy as np
import pytest

from benchmarks.quality.imaging_scenes import corrected_transfers, pupil, transfer_of_pupil
from obsarchive.science.psf import neighbours
from obsarchive.science.psf.model import Optics
from obsarchive.science.psf.neighbours import profile_among_neighbours
from obsarchive.science.psf.strehl import measure_strehl

OPTICS, PIXEL_ARCSEC, SIDE = Optics(2.1, 0.5, 763.0, 153.0), 0.0347, 257
CLUSTER = ((61, 40, 0.4), (-75, 26, 0.25), (29, -84, 0.33), (-49, -69, 0.16))
"""Neighbours: place from the star [pixel] and light."""


def _image(neighbours=(), noise=0.5):
    """A core on a halo with wings of turbulence, 1e5 counts, and its neighbours."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    image = np.zeros((SIDE, SIDE))
    for dy, dx, light in ((0, 0, 1.0), *neighbours):
        square = (y - dy) ** 2 + (x - dx) ** 2
        image += light * (2000 * np.exp(-square / 3.2) + 105 * (1 + square / 500) ** (-11 / 6))
    return image + 40 + noise * np.random.default_rng(3).standard_normal(image.shape)


@pytest.mark.parametrize("neighbours", [CLUSTER, CLUSTER[:1], ((30, 10, 0.9),)], ids=["cluster", "one", "close"])
def test_neighbours_do_not_count(neighbours):
    alone, among = (
        measure_strehl(_image(stars), OPTICS, PIXEL_ARCSEC, centre=(128, 128)) for stars in ((), neighbours)
    )
    # without care for neighbours 23 % are missing, or 17 % too much
    assert among.flux == pytest.approx(alone.flux, rel=0.035)
    assert among.ratio == pytest.approx(alone.ratio, rel=0.035)
    assert among.fwhm_arcsec == pytest.approx(alone.fwhm_arcsec, rel=0.02)


def test_a_star_alone_is_left_as_it_is():
    image = _image()
    star = profile_among_neighbours(image, (128, 128), 72.0, 6.3)
    assert np.array_equal(star.box, image[28:229, 28:229][: len(star.box), : len(star.box)])


@pytest.mark.parametrize("place", [(14, 7), (-9, 10)])
def test_a_companion_near_the_star_does_not_count(place):
    pair = ((*place, 0.3),)
    alone, with_companion = (
        measure_strehl(_image(stars), OPTICS, PIXEL_ARCSEC, centre=(128, 128)) for stars in ((), pair)
    )
    assert with_companion.ratio == pytest.approx(alone.ratio, rel=0.03)
    assert with_companion.flux == pytest.approx(alone.flux, rel=0.03)


def test_what_may_be_a_speckle_or_a_companion_counts_in_the_error(monkeypatch):
    monkeypatch.setattr(neighbours, "_SIGNIFICANCE", np.inf)
    alone, among = (
        measure_strehl(_image(stars), OPTICS, PIXEL_ARCSEC, centre=(128, 128)) for stars in ((), ((20, 10, 0.1),))
    )
    assert among.flux / alone.flux > 1.05
    assert 0.5 < (among.flux - alone.flux) / among.flux_error < 1.2
    assert among.ratio_error > 0.5 * (alone.ratio - among.ratio)


@pytest.fixture(scope="module")
def speckled():
    """Stars of a Strehl ratio of 5 % by Fourier optics, of unit light on the central pixel."""
    transfers = corrected_transfers(256, 0.0347, 7, 0.1)
    rng = np.random.default_rng(1)
    # on pixels half as wide
    wide = np.zeros((8, 512, 257), complex)
    means = np.array([transfers[rng.integers(0, len(transfers), 36)].mean(axis=0) for _ in range(8)])
    wide[:, :128, :128], wide[:, -128:, :128] = means[:, :128, :128], means[:, -128:, :128]
    return np.fft.fftshift(np.fft.irfft2(wide, (512, 512)), axes=(1, 2))


def test_a_companion_among_bright_speckles_does_not_count(speckled):
    rng = np.random.default_rng(2)
    pulls = []
    for light in 1.5e6 * speckled:
        angle, apart, ratio = rng.uniform(0, 2 * np.pi), rng.uniform(18, 30), rng.uniform(0.12, 0.28)
        shift = np.rint([apart * np.sin(angle), apart * np.cos(angle)]).astype(int)
        noise = np.sqrt(0.2 + 2 * light) * rng.standard_normal(light.shape)
        images = light + noise, light + ratio * np.roll(light, shift, (0, 1)) + noise
        alone, among = (measure_strehl(image, OPTICS, 0.01735, centre=(256, 256)) for image in images)
        assert among.flux_error < 0.02 * among.flux
        for name, claimed in (("flux", "flux_error"), ("halo_arcsec", "halo_error_arcsec")):
            pulls.append((getattr(among, name) - getattr(alone, name)) / getattr(among, claimed))
    # companions of a quarter of the light were not found, and the flux was wrong by 26 errors
    assert np.abs(pulls).max() < 3.5
    assert np.std(pulls) < 1.5


def test_a_companion_as_high_as_speckles_is_known_by_its_halo(speckled):
    rng = np.random.default_rng(3)
    pulls, errors = [], []
    for light in 1.5e6 * speckled:
        angle, apart, ratio = rng.uniform(0, 2 * np.pi), rng.uniform(22, 30), rng.uniform(0.065, 0.09)
        shift = np.rint([apart * np.sin(angle), apart * np.cos(angle)]).astype(int)
        noise = np.sqrt(0.2 + 2 * light) * rng.standard_normal(light.shape)
        images = light + noise, light + ratio * np.roll(light, shift, (0, 1)) + noise
        alone, among = (measure_strehl(image, OPTICS, 0.01735, centre=(256, 256)) for image in images)
        assert alone.flux_error < 0.02 * alone.flux
        pulls.append((among.flux - alone.flux) / among.flux_error)
        errors.append(among.flux_error / among.flux)
    # heights alone left half of them in the star, as speckles
    assert np.abs(pulls).max() < 3.5
    # of none of which it is certain is the light in the error
    assert np.sum(np.array(errors) < 0.02) >= 6


def _aberrated(seed):
    """A star of unit light whose telescope has 1 rad of astigmatism, coma and trefoil."""
    aperture, step = pupil(512, 0.01735)
    y, x = np.meshgrid(*2 * [(np.arange(512) - 255.5) * step / 1.05], indexing="ij")
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    shapes = radius**2, 3 * radius**3 - 2 * radius, radius**3
    modes = [f(n * angle) * shape for n, shape in zip((2, 1, 3), shapes, strict=True) for f in (np.cos, np.sin)]
    phase = np.tensordot(np.random.default_rng(seed).standard_normal(6), modes, 1)
    phase /= np.std(phase[aperture > 0])
    psf = np.fft.irfft2(transfer_of_pupil(aperture * np.exp(1j * phase)), (512, 512))
    highest = np.unravel_index(np.argmax(psf), psf.shape)
    return np.roll(psf, 256 - np.array(highest), (0, 1))


def test_the_lobes_of_an_aberrated_telescope_are_no_certain_neighbours():
    rng, distance = np.random.default_rng(4), np.hypot(*np.ogrid[-256:256, -256:256])
    pulls = []
    for seed in range(12):
        light = 1e6 * _aberrated(seed)
        found = measure_strehl(light + 2 * rng.standard_normal(light.shape), OPTICS, 0.01735, centre=(256, 256))
        pulls.append((found.flux - light[distance < 2.5 / 0.01735].sum()) / found.flux_error)
    # slopes of lobes passed for stars: all but one were 5 to 15 errors off
    assert np.abs(pulls).max() < 3


@pytest.mark.parametrize("apart", [18, 23, 29])
def test_a_star_as_bright_near_the_star_does_not_count(speckled, apart):
    rng = np.random.default_rng(4)
    pulls = []
    for light in 1.5e6 * speckled:
        angle = rng.uniform(0, 2 * np.pi)
        shift = np.rint([apart * np.sin(angle), apart * np.cos(angle)]).astype(int)
        noise = np.sqrt(0.2 + 2 * light) * rng.standard_normal(light.shape)
        images = light + noise, light + rng.uniform(0.85, 0.97) * np.roll(light, shift, (0, 1)) + noise
        alone, among = (measure_strehl(image, OPTICS, 0.01735, centre=(256, 256)) for image in images)
        pulls.append((among.flux - alone.flux) / among.flux_error)
    assert np.abs(pulls).max() < 4
    assert np.std(pulls) < 2
