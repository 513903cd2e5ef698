"""Photometric zero points: from instrumental to catalogue magnitudes."""

import re
from dataclasses import dataclass

import numpy as np

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_all

POGSON = 2.5 / np.log(10)

LEAST_STARS, ENOUGH_STARS = 5, 40
LEAST_FOR_COLOUR = 25
CLIP_SIGMA, FLOOR_MAG = 3.0, 0.02
ROUNDS = 10
INSTRUMENTAL = 25.0
"""Zero point where there is no catalogue."""
_GAIA = {
    "g": ((0.3, 3.0), (0.2199, -0.6365, -0.1548, 0.0064)),
    "r": ((0.0, 3.0), (-0.09837, 0.08592, 0.1907, -0.1701, 0.02263)),
    "i": ((0.5, 2.0), (-0.293, 0.6404, -0.09609, -0.002104)),
    "V": ((-0.5, 5.0), (-0.02704, 0.01424, -0.2156, 0.01426)),
    "R": ((0.0, 4.0), (-0.02275, 0.3961, -0.1243, -0.01396, 0.003775)),
    "I": ((-0.5, 4.5), (0.01753, 0.76, -0.0991)),
}
"""G minus the band as a polynomial of BP - RP, and its validity range (Riello et al. 2021, A&A 649, A3, appendix C)."""


@dataclass(frozen=True)
class ZeroPoint:
    """Photometric zero point, added to -2.5 log10(flux).

    Parameters
    ----------
    value, error : float
        Zero point and its standard error [mag].
    scatter : float
        Robust scatter of the stars around it [mag].
    n_stars : int
        Number of stars used; 0: instrumental.
    colour_term : float
        Slope with the stars' colour, about their median colour; 0 if it is not significant.
    colour_term_error : float
        Its standard error; 0 without a colour term.
    """

    value: float = INSTRUMENTAL
    error: float = 0.0
    scatter: float = 0.0
    n_stars: int = 0
    colour_term: float = 0.0
    colour_term_error: float = 0.0


def instrumental_magnitudes(flux: FloatArray, error: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Return -2.5 log10 of fluxes.

    Parameters
    ----------
    flux, error : ndarray (n,)
        Fluxes and their standard errors.

    Returns
    -------
    mag, error : ndarray (n,)
        Magnitudes and their standard errors, to first order [mag]; NaN for fluxes that are not positive.
    """
    bright = np.where(flux > 0, flux, np.nan)
    return -POGSON * np.log(bright), POGSON * error / bright


def band_of(filter_name: str) -> str:
    """Return the band of a filter name (g, r, i of SDSS, V, R, I); empty if it is not recognised."""
    name = filter_name.strip()
    sloan = re.fullmatch(r"(?:sdss|ps1?|s)?[ _-]?([gri])(?:['p]|[ _-]?sdss)?", name, re.IGNORECASE)
    if sloan and (len(name) > 1 or name.islower()):
        return sloan[1].lower()
    johnson = re.fullmatch(r"(?:bessell?|johnson|cousins)?[ _-]?([VRI])", name, re.IGNORECASE)
    return johnson[1].upper() if johnson else ""


def gaia_in_band(magnitude: FloatArray, colour: FloatArray, band: str) -> Float64Array:
    """Convert Gaia's G magnitudes to another band.

    Parameters
    ----------
    magnitude, colour : ndarray (n,)
        G and BP - RP [mag].
    band : str
        Band, as of :func:`band_of`.

    Returns
    -------
    ndarray (n,)
        Magnitudes [mag]; NaN for colours outside of the validity range of the relation.

    Raises
    ------
    KeyError
        There is no relation for the band.
    """
    (low, high), coefficients = _GAIA[band]
    known = (colour > low) & (colour < high)
    return np.where(known, magnitude - np.polynomial.polynomial.polyval(colour, coefficients), np.nan)


def find_zero_point(
    instrumental: Float64Array, error: Float64Array, catalogue: Float64Array, colour: Float64Array | None = None
) -> ZeroPoint:
    """Compute the zero point from catalogue magnitudes.

    Parameters
    ----------
    instrumental, error : ndarray (n,)
        -2.5 log10(flux) and its error [mag]; NaN where there is none.
    catalogue : ndarray (n,)
        Magnitudes [mag]; NaN where they are unknown.
    colour : ndarray (n,), optional
        Colours [mag], for a colour term; it is fitted with enough stars and kept if it is significant.

    Returns
    -------
    ZeroPoint
        `INSTRUMENTAL` with fewer than `LEAST_STARS` stars.
    """
    difference = catalogue - instrumental
    good = np.isfinite(difference) & np.isfinite(error) & (error < 0.1)
    if good.sum() < LEAST_STARS:
        return ZeroPoint()
    # in crowded fields the sky around faint stars is overestimated, and their flux underestimated
    most = max(ENOUGH_STARS, int(good.sum()) // 2)
    if good.sum() > most:
        good &= instrumental <= np.sort(instrumental[good])[most - 1]
    design = np.ones((len(difference), 1))
    best = _fit(difference, error, design, good)
    if colour is not None and (good & np.isfinite(colour)).sum() >= LEAST_FOR_COLOUR:
        about = colour - median_of_all(colour[good & np.isfinite(colour)])
        wider = _fit(difference, error, np.stack([np.ones(len(about)), about], axis=1), good & np.isfinite(colour))
        # both significant and with less scatter: a spurious slope would bias stars of extreme colour
        if abs(wider[1][1]) > 4 * wider[2][1] and wider[3] < best[3]:
            best = wider
    kept, solution, errors, scatter = best
    term, term_error = (float(solution[1]), float(errors[1])) if len(solution) > 1 else (0.0, 0.0)
    return ZeroPoint(float(solution[0]), float(errors[0]), scatter, int(kept.sum()), term, term_error)


def _fit(
    difference: Float64Array, error: Float64Array, design: Float64Array, good: BoolArray
) -> tuple[BoolArray, Float64Array, Float64Array, float]:
    """Fit the terms of the design iteratively; return the stars kept, solution, errors and scatter."""
    kept = good
    middle = np.nanmedian(difference[good])
    # mismatches differ by magnitudes and would dominate the first fit
    kept = good & (np.abs(difference - middle) < 1.0) if (np.abs(difference[good] - middle) < 1.0).sum() > 2 else good
    for _ in range(ROUNDS):
        # an error floor: a few bright stars must not determine the result
        weight = 1 / np.hypot(error[kept], FLOOR_MAG)
        solution, *_ = np.linalg.lstsq(design[kept] * weight[:, np.newaxis], difference[kept] * weight, rcond=None)
        residual = difference - design @ solution
        scatter = max(MAD_TO_SIGMA * median_of_all(np.abs(residual[kept])), 1e-3)
        fine = good & (np.abs(residual) < CLIP_SIGMA * np.hypot(scatter, np.nan_to_num(error)))
        if np.array_equal(fine, kept) or fine.sum() <= LEAST_STARS:
            break
        kept = fine
    return kept, np.asarray(solution, np.float64), _errors(design[kept], error[kept], residual[kept]), scatter


def _errors(design: Float64Array, error: Float64Array, residual: Float64Array) -> Float64Array:
    """Return the errors of weighted terms, from the residuals: the stars' own errors need not explain these.

    Residuals are divided by what a star does not pull its own fit (MacKinnon & White 1985, J. Econometrics 29, 305);
    the scatter of few stars is uncertain itself, so that errors are Student's.
    """
    weight = 1 / np.hypot(error, FLOOR_MAG)
    scaled = design * weight[:, np.newaxis]
    inverse = np.linalg.pinv(scaled.T @ scaled)
    own = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
    influence = scaled * (weight * residual / np.sqrt(np.maximum(1 - own, 0.1)))[:, np.newaxis] @ inverse
    freedom = max(len(design) - design.shape[1], 3)
    return np.asarray(np.sqrt(np.sum(influence**2, axis=0) * freedom / (freedom - 2)))
