"""Aperture photometry without the light of neighbours, which is in the apertures and in the annuli of the sky."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.aperture import Apertures, _overlap
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.science.photometry.star_profile import KNOTS, STEP_FWHM, StarProfile, _value, fit_profile

ROUNDS = 3
MOST_STARS, LEAST_STARS = 60, 5
"""Stars from which the profile is made: the brightest ones."""
NARROWEST, WIDEST = 0.6, 1.3
"""Width of a source, over that of stars, below which it is a cosmic ray, and beyond which it is no star."""
MIDDLE_FWHM = 1.5
"""Radius within which the flux of a star is fitted whose aperture is not whole [FWHM]."""
MODES = 4
"""Number of independent errors of the profile that count."""
CLIP_SIGMA, PROFILE_SHARE = 6.0, 0.2
"""Residuals of so many sigma, added in quadrature to such a share of the model, are not those of stars."""


@dataclass(frozen=True, eq=False)
class CrowdedImage:
    """An image, its sources, and how they are measured.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; NaN marks bad pixels.
    sources : Sources
        All sources.
    fwhm_px : float
        FWHM of stars [pixel].
    radius_px, annulus_px : float, (float, float)
        Radius of the apertures, and radii of the annuli of the sky [pixel].
    sky_variance, gain : ndarray (ny, nx) or float, float
        Variance without the photons of stars [counts squared], and photons of a count, 0 if unknown.
    saturation : float
        Level at and above which a pixel is saturated.
    measure : callable
        Aperture photometry of all sources on another image of the same shape.
    """

    image: FloatArray
    sources: Sources
    fwhm_px: float
    radius_px: float
    annulus_px: tuple[float, float]
    sky_variance: FloatArray | float
    gain: float
    saturation: float
    measure: Callable[[FloatArray], Apertures]


@dataclass(frozen=True, eq=False)
class _Model:
    """The stars of an image: their profile, normalised to the light in an aperture, fluxes and image.

    `own` is the light of each star of flux 1 in its own aperture; it differs from 1 by where in a pixel a star is.
    """

    profile: StarProfile
    flux: Float64Array
    own: Float64Array
    image: Float64Array


def without_neighbours(field: CrowdedImage, found: Apertures) -> Apertures:
    """Return the photometry of sources with neighbours, measured without their light; that of others stays.

    The profile of the stars and their fluxes are found in turn. All stars are subtracted, apertures and skies are
    measured on what remains, and the own light of each is put back. Errors hold those of the profile, and those of the
    fluxes of neighbours in the aperture.

    Parameters
    ----------
    field : CrowdedImage
        The image.
    found : Apertures
        Its photometry with neighbours, in one aperture.

    Returns
    -------
    Apertures
        Photometry; as it was, if there are too few stars for their profile.
    """
    width = field.sources.fwhm_px / field.fwhm_px
    # a cosmic ray has no light around it
    is_light = ~(width < NARROWEST)
    is_whole = is_light & (found.flags == 0) & (found.flux[:, 0] > 0)
    stars = np.flatnonzero(is_whole & (width < WIDEST))
    crowded = _crowded(field, is_light)
    if len(stars) < LEAST_STARS or not crowded.any():
        return found
    stars = stars[np.argsort(-found.flux[stars, 0])][:MOST_STARS]
    hidden = np.flatnonzero(is_light & ~is_whole)
    flux = np.where(is_whole, found.flux[:, 0], 0.0)
    flux[hidden] = field.sources.flux[hidden] * np.median(flux[is_whole] / field.sources.flux[is_whole])
    new, model = found, None
    for _ in range(ROUNDS):
        model = _modelled(field, np.maximum(flux, 0.0), stars, float(np.nanmedian(new.sky)), model)
        if model is None:
            return found
        rest = field.image - model.image
        new = field.measure(rest.astype(field.image.dtype))
        measured = new.flux[:, 0] + model.flux * model.own
        flux = np.where(is_whole, measured, 0.0)
        # where the aperture is cut or saturated, the rest of the star tells
        flux[hidden] = model.flux[hidden] + _missing(field, model, rest, new.sky, hidden)
    of_flux, of_sky = _errors_of_model(field, model, new)
    error, sky_error = np.hypot(new.flux_error[:, 0], of_flux), np.hypot(new.sky_error, of_sky)
    return Apertures(
        np.where(crowded, measured, found.flux[:, 0])[:, np.newaxis],
        np.where(crowded, error, found.flux_error[:, 0])[:, np.newaxis],
        np.where(crowded, new.sky, found.sky),
        np.where(crowded, sky_error, found.sky_error),
        found.flags,
    )


def _crowded(field: CrowdedImage, is_light: BoolArray) -> BoolArray:
    """Return which sources have a neighbour whose light reaches their aperture or sky."""
    if is_light.sum() < 2:
        return np.zeros(len(field.sources), bool)
    places = np.stack([field.sources.y, field.sources.x], axis=1)
    distance, _ = cKDTree(places[is_light]).query(places, k=2)
    # a source that is light is its own nearest one
    nearest = np.where(is_light, distance[:, 1], distance[:, 0])
    return np.asarray(nearest < field.annulus_px[1] + STEP_FWHM * KNOTS[-1] * field.fwhm_px)


def _modelled(
    field: CrowdedImage, flux: Float64Array, stars: IndexArray, level: float, before: _Model | None
) -> _Model | None:
    """Fit the profile to pixels that the model before explains, and make the model of these fluxes."""
    y, x = field.sources.y, field.sources.x
    pixels = np.where(field.image < field.saturation, field.image, np.nan)
    variance = np.asarray(field.sky_variance, np.float64)
    if before is not None:
        variance = variance + (np.maximum(before.image, 0) / field.gain if field.gain > 0 else 0.0)
        limit = CLIP_SIGMA * np.sqrt(variance) + PROFILE_SHARE * np.abs(before.image)
        pixels = np.where(np.abs(pixels - before.image - level) < limit, pixels, np.nan)
    elif field.gain > 0:
        variance = variance + np.nan_to_num(np.maximum(field.image - level, 0)) / field.gain
    profile = fit_profile(pixels, variance, (y, x, flux), stars, field.fwhm_px)
    if profile is None:
        return None
    own = _light_in(profile, (y, x), (y, x), field.radius_px)
    unit = float(np.median(own[stars]))
    if not unit > 0:
        return None
    profile = profile.scaled(1 / unit)
    return _Model(profile, flux, own / unit, profile.image(field.image.shape, (y, x, flux)))


def _missing(
    field: CrowdedImage, model: _Model, rest: FloatArray, sky: Float64Array, hidden: IndexArray
) -> Float64Array:
    """Return the light of some stars that the model lacks, from the pixels that are good."""
    level = np.where(np.isfinite(sky), sky, np.nanmedian(sky))[hidden]
    pixels = np.where(field.image < field.saturation, rest, np.nan)
    places = np.array([field.sources.y[hidden], field.sources.x[hidden], level])
    return np.asarray(_amplitudes(pixels, places, model.profile.light, model.profile.step_px, MIDDLE_FWHM * field.fwhm_px))


def _errors_of_model(field: CrowdedImage, model: _Model, new: Apertures) -> tuple[Float64Array, Float64Array]:
    """Return the errors of fluxes and of skies that come from the profile and from the fluxes of neighbours."""
    y, x = field.sources.y, field.sources.x
    of_flux, of_sky = np.zeros(len(y)), np.zeros(len(y))
    for wrong in model.profile.errors(MODES):
        seen = field.measure(wrong.image(field.image.shape, (y, x, model.flux)).astype(field.image.dtype))
        own = model.flux * _light_in(wrong, (y, x), (y, x), field.radius_px)
        of_flux += (seen.flux[:, 0] - own) ** 2
        of_sky += seen.sky**2
    pairs = cKDTree(np.stack([y, x], axis=1)).query_pairs(2 * field.radius_px, output_type="ndarray")
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    share = _light_in(model.profile, (y[one], x[one]), (y[other], x[other]), field.radius_px)
    known = np.where((model.flux > 0) & np.isfinite(new.flux_error[:, 0]), new.flux_error[:, 0], 0.0)
    np.add.at(of_flux, one, (share * known[other]) ** 2)
    return np.sqrt(of_flux), np.sqrt(of_sky)


def _light_in(
    profile: StarProfile, circles: tuple[FloatArray, FloatArray], stars: tuple[FloatArray, FloatArray], radius: float
) -> Float64Array:
    """Return the light of stars of flux 1 in circles, one each."""
    return np.asarray(_in_circles(np.array([*circles, *stars], np.float64), radius, profile.light, profile.step_px))


@njit(cache=True)
def _in_circles(places, radius, light, step):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    found = np.zeros(places.shape[1])
    for i in range(places.shape[1]):
        y, x = places[0, i], places[1, i]
        for row in range(int(np.floor(y - radius)), int(np.ceil(y + radius)) + 1):
            for column in range(int(np.floor(x - radius)), int(np.ceil(x + radius)) + 1):
                part = _overlap(row - y, column - x, radius)
                if part > 0.0:
                    found[i] += part * _value(light, step, row - places[2, i], column - places[3, i])
    return found


@njit(cache=True)
def _amplitudes(image, places, light, step, reach):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Least squares of the profile and what remains above the sky, for places (y, x, sky); 0 without pixels."""
    found = np.zeros(places.shape[1])
    for i in range(places.shape[1]):
        y, x, level = places[0, i], places[1, i], places[2, i]
        product, power = 0.0, 0.0
        for row in range(max(int(y - reach), 0), min(int(y + reach) + 2, image.shape[0])):
            for column in range(max(int(x - reach), 0), min(int(x + reach) + 2, image.shape[1])):
                value = image[row, column]
                if not np.isfinite(value):
                    continue
                profile = _value(light, step, row - y, column - x)
                product += profile * (value - level)
                power += profile * profile
        found[i] = product / power if power > 0 else 0.0
    return found
