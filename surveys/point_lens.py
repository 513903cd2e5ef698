"""Point-lens fits of light curves of surveys: all bands and observatories of a source at once.

The times are Julian days of the light curves' own kind (UTC), which differ from heliocentric ones by up to 8.3 minutes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from obsarchive.science.astrometry.times import JD_OF_MJD
from obsarchive.science.light_curves.point_lens import Options, Photometry, PointLens, magnification
from obsarchive.science.light_curves.point_lens import fit as fit_photometry
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.detection import Detection
from surveys.formats.photometry_columns import standard_photometry

__all__ = [
    "Options",
    "Photometry",
    "PointLens",
    "fit",
    "fit_photometry",
    "magnification",
    "options_for",
    "photometry_of",
    "read_table",
]

SEARCHED_D = 10.0
"""How far from an event the maximum may lie, beyond the duration of the event [d]."""


def fit(curves: Iterable[Lightcurve], options: Options | None = None) -> PointLens:
    """Fit a point lens to light curves of one source.

    Parameters
    ----------
    curves : iterable of Lightcurve
        Light curves in any number of bands, of any number of observatories; flagged epochs are not used.
    options : Options, optional
        How it is done; times are Julian days.

    Returns
    -------
    PointLens
        With Julian days as times, and a data set for each observatory and band.

    Raises
    ------
    Unprocessable
        There are too few epochs, or no event.
    """
    return fit_photometry(photometry_of(curves), options or Options())


def photometry_of(curves: Iterable[Lightcurve]) -> list[Photometry]:
    """Return the good epochs of light curves, seasons of the same observatory and band together.

    Parameters
    ----------
    curves : iterable of Lightcurve
        Light curves of one source; those with simulated events are skipped.

    Returns
    -------
    list of Photometry
        Named by observatory and band, with Julian days and µJy.
    """
    groups: dict[str, dict[int, Lightcurve]] = {}
    for curve in curves:
        if curve.is_simulated or not len(curve):
            continue
        own = groups.setdefault(f"{curve.observatory} {curve.filter}".strip(), {})
        # of a season that is stored with and without scores, that with the flags of the quality checker
        if curve.series_number not in own or curve.was_processed:
            own[curve.series_number] = curve
    return [_joined(name, list(own.values())) for name, own in groups.items()]


def _joined(name: str, curves: Sequence[Lightcurve]) -> Photometry:
    parts = [
        np.stack([curve.columns[key][curve.good].astype(np.float64) for key in ("mjd", "flux", "flux_err")])
        for curve in curves
    ]
    mjd, flux, error = np.concatenate(parts, axis=1)
    return Photometry(name, mjd + JD_OF_MJD, flux, error)


def read_table(path: Path) -> list[Photometry]:
    """Return the good epochs of a table with names of columns: CSV, FITS, HDF5, VOTable, parquet, ECSV.

    Parameters
    ----------
    path : Path
        The table; columns are recognised as in raw photometry of surveys.

    Returns
    -------
    list of Photometry
        Named by file and filter, with Julian days and µJy.

    Raises
    ------
    ArchiveError
        It cannot be read, or lacks times or brightness.
    """
    raw = RawPhotometry(filename=str(path.absolute()))
    columns = standard_photometry(raw.columns, raw.altdata)
    made = []
    for band in np.unique(columns["filter"]).tolist():
        epochs = (columns["filter"] == band) & ~columns["flag"].astype(bool)
        mjd, flux, error = (columns[name][epochs].astype(np.float64) for name in ("mjd", "flux", "flux_err"))
        made.append(Photometry(f"{path.stem} {band}".strip(), mjd + JD_OF_MJD, flux, error))
    return made


def options_for(detections: Sequence[Detection]) -> Options | None:
    """Return how the one event of a source is fitted.

    Parameters
    ----------
    detections : sequence of Detection
        Events of all light curves of a source.

    Returns
    -------
    Options or None
        With the range of the maximum; None unless there is one brightening at one time, in whatever many bands.
    """
    real = [found for found in detections if not found.simulated]
    if not real or any(found.score <= 0 for found in real):
        return None
    start, stop = max(found.mjd_start for found in real), min(found.mjd_stop for found in real)
    if start > stop + SEARCHED_D:
        return None
    first, last = min(found.mjd_start for found in real), max(found.mjd_stop for found in real)
    margin = SEARCHED_D + (last - first)
    return Options(within=(first - margin + JD_OF_MJD, last + margin + JD_OF_MJD))
