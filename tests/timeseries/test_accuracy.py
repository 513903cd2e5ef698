"""Light curves of simulated fields against their truth: the figures that users may count on."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time
from simulated import Reduced, make, reduce

from obsarchive.science.photometry.aperture import Flag
from obsarchive.science.photometry.error_model import reduced_chi2
from obsarchive.simulation.star_field import StarField
from obsarchive.timeseries.frame_photometry import read_sidecar
from obsarchive.timeseries.names import SIDECARS
from obsarchive.timeseries.products import read_light_curve


def residuals(reduced: Reduced) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measured minus true magnitudes of the stars that are not disturbed, their errors, and which stars they are."""
    series = reduced.series
    rows, stars = reduced.matched()
    kept = series.is_undisturbed[rows] & ~reduced.field.is_variable[stars]
    rows, stars = rows[kept], stars[kept]
    truth = np.stack([reduced.field.magnitudes(frame.mjd_middle)[stars] for frame in reduced.frames], axis=1)
    good = series.is_good[rows] & (series.flux[rows] > 0)
    return np.where(good, series.mag[rows] - truth, np.nan), series.mag_error[rows], stars


def test_bright_stars_repeat_at_the_photon_limit(reduced: Reduced) -> None:
    found, _, stars = residuals(reduced)
    frames, camera = reduced.frames, reduced.field.camera
    chosen = (reduced.field.mag[stars] < 15.5) & (np.isfinite(found).sum(axis=1) >= 8)
    assert chosen.sum() >= 5
    sky = np.array([np.median(frame.image) for frame in frames])
    limit = []
    for star in stars[chosen]:
        light = np.array([frame.electrons[star] for frame in frames])
        noise = np.sqrt(light + np.pi * (2.0 / camera.pixel_arcsec) ** 2 * (sky + camera.read_noise_e**2))
        limit.append(np.sqrt(np.mean((1.0857 * noise / light) ** 2)))
    scatter = np.nanstd(found[chosen], axis=1, ddof=1)
    assert np.median(scatter) < 1.15 * np.median(limit) + 0.003


def test_errors_are_honest(reduced: Reduced) -> None:
    found, error, stars = residuals(reduced)
    good = np.isfinite(found) & (error < 0.15)
    chosen = good.sum(axis=1) >= 8
    assert chosen.sum() > 100
    chi2 = reduced_chi2(np.nan_to_num(found[chosen]), error[chosen], good[chosen], of_median=True)
    assert 0.8 < np.median(chi2) < 1.3
    mag = reduced.field.mag[stars][chosen]
    for low, high in ((13, 17), (17, 18.5)):
        assert 0.6 < np.median(chi2[(mag >= low) & (mag < high)]) < 1.4


def test_the_event_follows_the_truth(reduced: Reduced) -> None:
    series, field = reduced.series, reduced.field
    row = series.stars.target
    assert series.stars.number[row] == 0
    truth = np.array([10 ** (-0.4 * field.magnitudes(frame.mjd_middle)[0]) for frame in reduced.frames])
    measured = series.flux[row] * np.median(truth) / np.median(series.flux[row])
    deviation = (measured - truth) / 10 ** (-0.4 * field.event.mag)
    assert np.std(deviation) < 0.02
    assert np.ptp(truth) / truth.min() > 1.5  # the event is there to be seen


def test_coordinates_are_good_to_a_tenth_of_a_pixel(reduced: Reduced) -> None:
    for info, truth in zip(reduced.series.infos, reduced.frames, strict=True):
        plate = read_sidecar(reduced.folder / SIDECARS / f"{info.stem}.wcs")
        y, x = plate.pixels(*reduced.field.sky)
        claimed = np.hypot(*np.subtract(truth.claimed.pixels(*reduced.field.sky), (truth.y, truth.x)))
        on_frame = (truth.y > 0) & (truth.x > 0) & (truth.y < 512) & (truth.x < 512)
        assert np.median(claimed) > 1  # the header was wrong
        assert np.sqrt(np.mean(np.hypot(y - truth.y, x - truth.x)[on_frame] ** 2)) < 0.1


def test_times_are_those_of_astropy(reduced: Reduced) -> None:
    target = SkyCoord(*(axis[0] for axis in reduced.field.sky), unit=u.deg)
    centre = EarthLocation.from_geocentric(0, 0, 0, unit=u.m)
    for frame, bjd, mjd in zip(reduced.frames, reduced.series.times.bjd_tdb, reduced.series.times.mjd_utc, strict=True):
        time = Time(frame.mjd_middle, format="mjd", scale="utc", location=centre)
        expected = (time.tdb + time.light_travel_time(target, "barycentric", ephemeris="builtin")).jd
        assert abs(bjd - expected) * 86400 < 0.1
        assert abs(mjd - frame.mjd_middle) * 86400 < 0.01


def test_the_zero_point_is_that_of_the_camera(reduced: Reduced) -> None:
    rows, stars = reduced.matched()
    kept = reduced.series.is_undisturbed[rows] & (reduced.field.mag[stars] < 17)
    kept &= reduced.series.is_good[rows].any(axis=1)
    mag = np.nanmedian(np.where(reduced.series.is_good[rows], reduced.series.mag[rows], np.nan)[kept], axis=1)
    assert abs(np.median(mag - reduced.field.mag[stars][kept])) < 0.02
    assert reduced.series.zero_point.n_stars > 50


def test_variable_stars_do_not_move_the_others(reduced: Reduced) -> None:
    rows, stars = reduced.matched()
    varying = reduced.field.is_variable[stars] & (reduced.field.mag[stars] < 17) & (stars != 0)
    strong = varying & (reduced.field._drawn["amplitude"][stars] > 0.2)
    assert not reduced.series.scale.is_reference[rows[strong]].any()


def test_saturated_and_bad_pixels_are_flagged(reduced: Reduced) -> None:
    rows, stars = reduced.matched()
    for i, frame in enumerate(reduced.frames):
        bad_column = np.flatnonzero(frame.bad.all(axis=0))
        hit = (np.abs(frame.x[stars, np.newaxis] - bad_column) < 3).any(axis=1) & (np.abs(frame.y[stars] - 256) < 240)
        measured = reduced.series.flags[rows[hit], i]
        assert (measured & int(Flag.BAD_PIXEL | Flag.PSF_FIT | Flag.EDGE) != 0).all()


def test_one_frame_is_enough(tmp_path: Path) -> None:
    found = make(tmp_path / "SIM" / "sinistro" / "ip", StarField(seed=6, n_stars=300), 1)
    assert found.outcome.record["n_measured"] == 1
    rows, stars = found.matched()
    kept = found.series.is_undisturbed[rows] & found.series.is_good[rows, 0] & (found.field.mag[stars] < 17)
    assert np.median(np.abs(found.series.mag[rows[kept], 0] - found.field.mag[stars[kept]])) < 0.05


@pytest.mark.parametrize("method", ["aperture", "psf"])
def test_the_method_can_be_chosen(dataset: Path, method: str) -> None:
    path = dataset / "reduction_config.yaml"
    path.write_text(path.read_text() + f"  method: {method}\n")
    assert reduce(dataset).state == "done"
    flags = np.asarray(read_light_curve(dataset / "lightcurve.ecsv")["flags"])
    assert ((flags & int(Flag.PSF_FIT)) != 0).all() == (method == "psf")
