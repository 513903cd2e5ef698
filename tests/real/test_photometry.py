"""Photometry of real images, by photutils and SEP, and a real catalogue's zero point."""

import os
from pathlib import Path
from warnings import catch_warnings

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from astropy.table import Table
from photutils.aperture import CircularAnnulus, CircularAperture

from obsarchive.science.photometry.aperture import aperture_photometry
from obsarchive.science.photometry.source_detection import detect
from obsarchive.science.photometry.zero_point import find_zero_point

FOLDER = Path(os.environ.get("ARCHIVER_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "images"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real images in {FOLDER}"),
]


def test_a_field_of_the_ntt_as_photutils_and_sep_measure_it() -> None:
    with catch_warnings(action="ignore"):  # of an old header
        image = np.ascontiguousarray(fits.getdata(FOLDER / "sep" / "image.fits").astype(np.float32))
    sources = detect(image, threshold=10.0)
    assert len(sources) > 30
    noise = sep.Background(image).globalrms
    variance = np.full_like(image, noise**2)
    radius, annulus = 4.0, (9.0, 15.0)
    found = aperture_photometry(image, variance, (sources.y, sources.x), (radius,), annulus)
    good = found.flags == 0
    places = np.transpose([sources.x, sources.y])[good]
    sums = np.array(CircularAperture(places, radius).do_photometry(image.astype(float))[0])
    masks = CircularAnnulus(places, *annulus).to_mask(method="center")
    levels = np.array([sigma_clipped_stats(mask.get_values(image), sigma=3, maxiters=5)[1] for mask in masks])
    theirs = sums - np.pi * radius**2 * levels
    assert np.all(np.abs(found.flux[good, 0] - theirs) < 1.0 * found.flux_error[good, 0])
    ours, _, _ = sep.sum_circle(image, places[:, 0], places[:, 1], radius, subpix=0)
    assert found.flux[good, 0] + np.pi * radius**2 * found.sky[good] == pytest.approx(ours, rel=1e-5)


def test_the_zero_point_of_a_frame_of_lco() -> None:
    table = Table.read(FOLDER / "lco" / "ogg2m001-ep04-20201006-0097-matched-cat.fits")
    instrumental = -2.5 * np.log10(np.asarray(table["flux"], float))
    error = 1.0857 * np.asarray(table["fluxerr"], float) / np.asarray(table["flux"], float)
    magnitude = np.asarray(table["gmag"], float)
    found = find_zero_point(instrumental, error, np.where(magnitude > 0, magnitude, np.nan))
    bright = (magnitude > 0) & (error < 0.05) & (instrumental <= np.median(instrumental))
    _, median, scatter = sigma_clipped_stats((magnitude - instrumental)[bright], sigma=3)
    assert found.n_stars > 30
    assert found.value == pytest.approx(median, abs=3 * scatter / np.sqrt(bright.sum()) + 0.01)
    assert found.scatter < 0.03  # the frame was taken in g
