"""Zero point and colour term of a catalogue matched by LCO, beside a plain fit by astropy."""

from collections.abc import Iterator

import numpy as np
from astropy.modeling.fitting import FittingWithOutlierRemoval, LinearLSQFitter
from astropy.modeling.models import Polynomial1D
from astropy.stats import sigma_clip
from astropy.table import Table

from benchmarks.quality.compared import Compared, version_of
from benchmarks.quality.real.data import FOLDER
from obsarchive.science.photometry.zero_point import find_zero_point, instrumental_magnitudes

LCO = "LCO catalogue, g"
MOST_ERROR, FLOOR = 0.1, 0.02
"""Errors of the stars used, and the least error of a star [mag]."""


def zero_point_rows() -> Iterator[Compared]:
    """Compare zero point and colour term."""
    table = _table()
    mag, error = instrumental_magnitudes(np.asarray(table["flux"], float), np.asarray(table["fluxerr"], float))
    g, r = (np.where(np.asarray(table[name], float) > 0, table[name], np.nan) for name in ("gmag", "rmag"))
    plain = find_zero_point(mag, error, g)
    coloured = find_zero_point(mag, error, g, g - r)
    for quantity, ours, colour in (("zero point", plain, None), ("zero point with a colour term", coloured, g - r)):
        values, errors = _by_astropy(mag, error, g, colour)
        program = f"{version_of('astropy')}, clipped least squares"
        yield Compared(LCO, quantity, program, ours.value, ours.error, values[0], errors[0], "mag")
        if colour is not None:
            own_error = ours.colour_term_error
            values = ours.colour_term, own_error, values[1], errors[1]
            yield Compared(LCO, "colour term", program, *values, "mag/mag", errors[1])


def _table() -> Table:
    return Table.read(FOLDER / "images" / "lco" / "ogg2m001-ep04-20201006-0097-matched-cat.fits")


def _by_astropy(
    mag: np.ndarray, error: np.ndarray, catalogue: np.ndarray, colour: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return zero point, and colour term about the median colour, and their errors."""
    known = np.isfinite(mag + catalogue) & (error < MOST_ERROR)
    if colour is not None:
        known &= np.isfinite(colour)
    # the brighter half, as sky and neighbours dim faint stars
    known &= mag <= np.median(mag[known])
    x = np.zeros(known.sum()) if colour is None else (colour - np.median(colour[known]))[known]
    y, weight = (catalogue - mag)[known], 1 / np.hypot(error[known], FLOOR)
    fitter = FittingWithOutlierRemoval(LinearLSQFitter(), sigma_clip, niter=10, sigma=3.0)
    model, rejected = fitter(Polynomial1D(0 if colour is None else 1), x, y, weights=weight)
    kept = ~rejected
    design = np.stack([np.ones(kept.sum()), x[kept]], axis=1)[:, : len(model.parameters)]
    scatter = np.std(y[kept] - model(x[kept]), ddof=len(model.parameters))
    return model.parameters, scatter * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
