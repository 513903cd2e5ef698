"""One photometric scale for all frames: simulated truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obsarchive.science.photometry.ensemble import frame_zero_points


def series(seed: int, n_stars: int = 150, n_frames: int = 30, variables: int = 8, slope: float = 0.0):
    """Fluxes with photon noise under clouds; some stars vary, some frames miss stars."""
    rng = np.random.default_rng(seed)
    true_mag = rng.uniform(13, 18, n_stars)
    cloud = np.abs(rng.normal(0, 0.3, n_frames))
    place = rng.uniform(-1, 1, (n_stars, 2))
    tilt = slope * rng.normal(0, 1, (n_frames, 2))
    mag = true_mag[:, np.newaxis] + cloud + place @ tilt.T
    mag[:variables] += 0.5 * np.sin(np.linspace(0, 9, n_frames) + rng.uniform(0, 6, (variables, 1)))
    flux = 10 ** (-0.4 * (mag - 25))
    error = np.sqrt(flux + 900.0)
    flux = flux + error * rng.standard_normal(flux.shape)
    usable = rng.random(flux.shape) > 0.05
    return flux, error, usable, cloud, place


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clouds_are_found_and_variables_left_out(seed: int) -> None:
    flux, error, usable, cloud, _ = series(seed)
    scale = frame_zero_points(flux, error, usable)
    wanted = -(cloud - cloud.mean())
    off = scale.correction[0] - wanted
    assert np.std(off - off.mean()) < 0.002
    assert np.abs((off - off.mean()) / scale.error).max() < 5
    assert not scale.is_reference[:8].any()
    assert scale.is_reference[8:].sum() > 100


@pytest.mark.parametrize("seed", [4, 5])
def test_errors_of_constant_stars_are_honest(seed: int) -> None:
    flux, error, usable, _, _ = series(seed)
    ours, sigma = frame_zero_points(flux, error, usable).applied(flux, error)
    known = usable & np.isfinite(ours)
    bright = np.flatnonzero(np.median(flux / error, axis=1) > 30)
    bright = bright[bright >= 8]
    mean = np.array([np.average(ours[i][known[i]], weights=1 / sigma[i][known[i]] ** 2) for i in bright])
    chi2 = [
        np.sum(((ours[i] - m) / sigma[i])[known[i]] ** 2) / (known[i].sum() - 1)
        for i, m in zip(bright, mean, strict=True)
    ]
    assert 0.8 < np.median(chi2) < 1.3


def test_a_slope_is_fitted_where_it_pays() -> None:
    for slope, kept in ((0.0, ()), (0.03, ("place",))):
        flux, error, usable, _, place = series(7, slope=slope)
        scale = frame_zero_points(flux, error, usable, {"place": place})
        assert scale.terms == kept
    corrected, _ = scale.applied(flux, error)
    bright = np.flatnonzero(np.median(flux / error, axis=1) > 100)
    bright = bright[bright >= 8]
    scatter = np.std(corrected[bright], axis=1) / np.mean(corrected[bright], axis=1)
    assert np.median(scatter) < 0.012


def test_a_bad_frame_does_not_spoil_the_others() -> None:
    flux, error, usable, cloud, _ = series(8)
    flux[:, 5] = np.nan
    flux[:, 6] *= np.random.default_rng(1).uniform(0.1, 3, len(flux))
    scale = frame_zero_points(flux, error, usable)
    assert np.isnan(scale.error[5])
    others = np.setdiff1d(np.arange(30), [5, 6])
    off = (scale.correction[0] + cloud)[others]
    assert np.std(off - off.mean()) < 0.003
    assert scale.error[6] > 5 * np.nanmedian(scale.error)


def test_one_frame_is_enough() -> None:
    flux, error, usable, _, _ = series(9, n_frames=1, variables=0)
    scale = frame_zero_points(flux, error, usable)
    ours, sigma = scale.applied(flux, error)
    assert ours == pytest.approx(flux)
    assert sigma == pytest.approx(error, rel=0.2)


@given(n_stars=st.integers(1, 12), n_frames=st.integers(1, 6), seed=st.integers(0, 50), lost=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_any_series_has_a_scale_or_none(n_stars: int, n_frames: int, seed: int, lost: float) -> None:
    flux, error, usable, _, _ = series(seed, n_stars, n_frames, 0)
    usable &= np.random.default_rng(seed).random(usable.shape) > lost
    scale = frame_zero_points(flux, error, usable)
    ours, sigma = scale.applied(flux, error)
    known = np.isfinite(ours) & usable
    assert (sigma[known] > 0).all()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        frame_zero_points(np.ones((3, 4)), np.ones((3, 4)), np.ones((3, 5), bool))
