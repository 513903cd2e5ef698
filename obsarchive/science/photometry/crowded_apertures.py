"""Aperture photometry without the light of neighbours, which is in the apertures and in the annuli of the sky."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.joint_fluxes import (
    CLIP_SIGMA,
    PROFILE_SHARE,
    Surroundings,
    joint_fluxes,
    owners,
)
from obsarchive.science.photometry.psf_fit import UNRESOLVED_FWHM
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.science.photometry.star_profile import KNOTS, STEP_FWHM, StarProfile, fit_profile
from obsarchive.science.statistics import median_of_all

ROUNDS = 4
"""How often fluxes and profile are found in turn; outside of the part that gave the profile, fluxes twice."""
MOST_STARS, LEAST_STARS = 40, 5
"""Stars from which the profile is made: the brightest ones."""
PART_STARS = 150
"""Number of sources in the part of an image from which the profile is made, the part where they are closest."""
NARROWEST, WIDEST = 0.6, 1.3
"""Width of a source, over that of stars, below which it is a cosmic ray, and beyond which it is no star."""
CLOSE_FWHM = 0.5
"""Distance from the aperture of a star within which another one is close to it [FWHM]."""
NEIGHBOUR_ERROR, MERGED_ERROR = 0.01, 0.06
"""Error of the light of a neighbour in an aperture, relative: places and sampling are not better known; and that of
several stars which nothing resolves."""
MODES = 2
"""Number of independent errors of the profile that count."""

Radii = tuple[float, ...]
"""Of apertures [pixel]."""
Measure = Callable[[FloatArray, FloatArray, Sources, Radii], Apertures]
"""Aperture photometry of sources on an image with the variance of its pixels, in apertures of some radii."""


@dataclass(frozen=True, eq=False)
class CrowdedImage:
    """An image, its sources, and how they are measured.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Counts; NaN marks bad pixels.
    variance : ndarray (ny, nx)
        Variance of its pixels [counts squared].
    sources : Sources
        All sources.
    fwhm_px : float
        FWHM of stars [pixel].
    radii_px : tuple of k floats
        Radii of the apertures [pixel].
    reach_px : float
        Radius of the outer edge of the annuli of the sky [pixel].
    gain : float
        Photons of a count, 0 if unknown.
    saturation : float
        Level at and above which a pixel is saturated.
    """

    image: FloatArray
    variance: FloatArray
    sources: Sources
    fwhm_px: float
    radii_px: Radii
    reach_px: float
    gain: float
    saturation: float

    @property
    def places(self) -> tuple[Float64Array, Float64Array]:
        """Places of the sources (y, x) [pixel]."""
        return self.sources.y, self.sources.x

    @property
    def profile_px(self) -> float:
        """Reach of the profile of a star [pixel]."""
        return STEP_FWHM * float(KNOTS[-1]) * self.fwhm_px

    def part(self, top: int, left: int, side: int) -> tuple["CrowdedImage", IndexArray]:
        """Return a part of the image, and the numbers of the sources whose light is in it."""
        y, x, reach = *self.places, self.profile_px
        near_y, near_x = (y > top - reach) & (y < top + side + reach), (x > left - reach) & (x < left + side + reach)
        inside = np.flatnonzero(near_y & near_x)
        sources = self.sources.chosen(inside)
        window = slice(top, top + side), slice(left, left + side)
        moved = replace(sources, y=sources.y - top, x=sources.x - left)
        cut = replace(self, image=self.image[window], variance=self.variance[window], sources=moved)
        return cut, inside


@dataclass(frozen=True, eq=False)
class _Model:
    """The stars of an image: their profile, normalised to the light in the first aperture, fluxes and image.

    `owner` are the stars to which the light of each belongs; those that are owned have no flux.
    """

    profile: StarProfile
    flux: Float64Array
    flux_error: Float64Array
    owner: IndexArray
    image: Float32Array


def without_neighbours(field: CrowdedImage, found: Apertures, measure: Measure) -> Apertures:
    """Return the photometry of sources with neighbours, measured without their light; that of others stays.

    The profile of the stars and their fluxes are found in turn. All stars are subtracted, apertures and skies are
    measured on what remains, and the own light of each is put back. Neighbours that nothing resolves are part of a
    star. Errors hold those of the profile, and those of the fluxes of neighbours in the aperture.

    Parameters
    ----------
    field : CrowdedImage
        The image.
    found : Apertures
        Its photometry with neighbours.
    measure : callable
        The code that measured it.

    Returns
    -------
    Apertures
        Photometry; as it was, if there are too few stars for their profile.
    """
    is_light = ~(field.sources.fwhm_px < NARROWEST * field.fwhm_px)  # a cosmic ray has no light around it
    crowded = _crowded(field, is_light)
    if not crowded.any():
        return found
    part, inside = _closest_part(field)
    before = _chosen(found, inside)
    learnt = _separated(part, before, measure)
    if learnt is None:
        return found
    (model, new), shares = learnt, _shares_of_errors(part, before, learnt, measure)
    if len(inside) < len(field.sources):
        # what neighbours added to the other skies is much the same
        added = float(np.nanmedian(before.sky - new.sky))
        area = np.pi * np.square(field.radii_px)
        start = replace(found, flux=found.flux + area * added, sky=found.sky - added)
        model, new = _separated(field, start, measure, model.profile) or learnt
    removed = np.maximum(found.sky - new.sky, 0.0)
    error = np.hypot(new.flux_error, shares[0] * removed[:, np.newaxis])
    error = np.hypot(error, _noise_of_neighbours(field, model))
    is_crowded = crowded[:, np.newaxis]
    return Apertures(
        np.where(is_crowded, new.flux, found.flux),
        np.where(is_crowded, error, found.flux_error),
        np.where(crowded, new.sky, found.sky),
        np.where(crowded, np.hypot(new.sky_error, shares[1] * removed), found.sky_error),
        found.flags,
    )


def _chosen(found: Apertures, rows: IndexArray) -> Apertures:
    return Apertures(*(getattr(found, name)[rows] for name in ("flux", "flux_error", "sky", "sky_error", "flags")))


def _crowded(field: CrowdedImage, is_light: BoolArray) -> BoolArray:
    """Return which sources have a neighbour whose light reaches their aperture or sky."""
    if is_light.sum() < 2:
        return np.zeros(len(field.sources), bool)
    places = np.stack(field.places, axis=1)
    distance, _ = cKDTree(places[is_light]).query(places, k=2)
    # a source that is light is its own nearest one
    nearest = np.where(is_light, distance[:, 1], distance[:, 0])
    return np.asarray(nearest < field.reach_px + field.profile_px)


def _closest_part(field: CrowdedImage) -> tuple[CrowdedImage, IndexArray]:
    """Return the square with most sources of those that hold some hundred at the mean density, and its sources."""
    ny, nx = field.image.shape
    margin = field.reach_px + field.profile_px
    side = int(np.sqrt(ny * nx * PART_STARS / len(field.sources)) + margin)
    if side >= min(ny, nx):
        return field, np.arange(len(field.sources))
    tops, lefts = (np.arange(0, size - side + 1, max(side // 2, 1)) for size in (ny, nx))
    edges_y, edges_x = (np.append(starts, starts[-1] + side // 2) for starts in (tops, lefts))
    count = np.histogram2d(*field.places, (edges_y + side // 4, edges_x + side // 4))[0]
    top, left = np.unravel_index(int(np.argmax(count)), count.shape)
    return field.part(int(tops[top]), int(lefts[left]), side)


def _separated(
    field: CrowdedImage, found: Apertures, measure: Measure, profile: StarProfile | None = None
) -> tuple[_Model, Apertures] | None:
    """Find the fluxes of all stars, and their profile if it is not known; None with too few stars."""
    width, light = field.sources.fwhm_px / field.fwhm_px, found.flux[:, 0]
    is_whole = ~(width < NARROWEST) & (found.flags == 0) & (light > 0)
    stars = np.flatnonzero(is_whole & (width < WIDEST))
    if len(stars) < LEAST_STARS:
        return None
    stars = stars[np.argsort(-light[stars])][:MOST_STARS]
    owner = owners(field.places, light, UNRESOLVED_FWHM * field.fwhm_px)
    # with a profile that is known apertures tell more than cores, to which errors of the position matter
    by_aperture = is_whole & ~_close(field) & (profile is not None)
    unit = np.nanmedian(light[is_whole] / field.sources.flux[is_whole])
    flux = np.where(is_whole, light, unit * field.sources.flux)
    flux[(width < NARROWEST) | (owner != np.arange(len(owner)))] = 0.0
    model, new = None, found
    rounds = 2 if profile else ROUNDS
    for i in range(rounds):
        shape = profile or _fitted(field, flux, stars, model, float(np.nanmedian(new.sky)))
        if shape is None:
            return None
        known = np.where(by_aperture, new.flux[:, 0], np.nan)
        model = _modelled(field, shape, stars, (owner, known, flux, new.sky), model)
        flux = model.flux
        radii = field.radii_px if i == rounds - 1 else field.radii_px[:1]
        new = measure(field.image - model.image, field.variance, field.sources, radii)
        new = replace(new, flux=new.flux + flux[owner, np.newaxis] * _own(field, model.profile, owner, radii))
    return (model, new) if model else None


def _close(field: CrowdedImage) -> BoolArray:
    """Return which sources have another one in their aperture, or next to it."""
    pairs = cKDTree(np.stack(field.places, axis=1)).query_pairs(
        field.radii_px[0] + CLOSE_FWHM * field.fwhm_px, output_type="ndarray"
    )
    found = np.zeros(len(field.sources), bool)
    found[pairs] = True
    return found


def _fitted(
    field: CrowdedImage, flux: Float64Array, stars: IndexArray, before: _Model | None, level: float
) -> StarProfile | None:
    """Fit the profile to pixels that the model before explains."""
    pixels, variance = np.where(field.image < field.saturation, field.image, np.nan), field.variance
    if before is not None:
        excess = field.image - before.image - level
        if field.gain > 0:
            # the variance of the model: that of the pixels follows their noise
            variance = variance - np.maximum(field.image - level, 0) / field.gain
            variance = np.maximum(variance, np.nanmin(field.variance)) + np.maximum(before.image, 0) / field.gain
        limit = CLIP_SIGMA * np.sqrt(variance) + PROFILE_SHARE * np.abs(before.image)
        pixels = np.where(np.abs(excess) < limit, pixels, np.nan)
    return fit_profile(pixels, variance, (*field.places, np.maximum(flux, 0.0)), stars, field.fwhm_px)


def _modelled(
    field: CrowdedImage,
    profile: StarProfile,
    stars: IndexArray,
    facts: tuple[IndexArray, Float64Array, Float64Array, Float64Array],
    before: _Model | None,
) -> _Model:
    """Fit the fluxes that are not known, all at once; what the model before does not explain is not that of stars.

    The facts are the owner of each star, its flux or NaN, its flux if the image does not show it, and its sky.
    """
    (y, x), (owner, known, unseen, sky) = field.places, facts
    own = _own(field, profile, owner, field.radii_px[:1])[:, 0]
    unit = median_of_all(own[stars])
    profile, own = profile.scaled(1 / unit), own / unit
    level = np.where(np.isfinite(sky), sky, np.nanmedian(sky))
    expected = before.image if before is not None else np.zeros_like(field.image)
    pixels = Surroundings(field.image, field.variance, expected, field.saturation)
    # a cosmic ray has no light around it
    drawn = np.flatnonzero((owner == np.arange(len(owner))) & ~(field.sources.fwhm_px < NARROWEST * field.fwhm_px))
    flux, error = np.zeros(len(y)), np.zeros(len(y))
    flux[drawn], error[drawn] = joint_fluxes(pixels, (y[drawn], x[drawn]), level[drawn], profile, field.fwhm_px)
    flux = np.where(np.isfinite(known), known / own, np.where(error > 0, flux, unseen))
    return _Model(profile, flux, error, owner, profile.image(field.image.shape, (y, x, flux)))


def _own(field: CrowdedImage, profile: StarProfile, owner: IndexArray, radii: Radii) -> Float64Array:
    """Return the light of stars of flux 1 in their apertures (n, k); where in a pixel a star is matters."""
    y, x = field.places
    return np.stack([profile.in_circles((y, x), (y[owner], x[owner]), radius) for radius in radii], axis=1)


def _shares_of_errors(
    field: CrowdedImage, found: Apertures, learnt: tuple[_Model, Apertures], measure: Measure
) -> tuple[Float64Array, float]:
    """Return the errors by the profile, of fluxes (k,) and skies, for each unit that was removed from the sky."""
    model, new = learnt
    of_flux, of_sky = np.zeros_like(found.flux), np.zeros(len(field.sources))
    for wrong in model.profile.errors(MODES):
        light = wrong.image(field.image.shape, (*field.places, model.flux))
        seen = measure(light, field.variance, field.sources, field.radii_px)
        own = _own(field, wrong, model.owner, field.radii_px)
        of_flux += (seen.flux - model.flux[model.owner, np.newaxis] * own) ** 2
        of_sky += seen.sky**2
    removed = float(np.nanmean((found.sky - new.sky) ** 2))
    return np.sqrt(np.nanmean(of_flux, axis=0) / removed), float(np.sqrt(np.nanmean(of_sky) / removed))


def _noise_of_neighbours(field: CrowdedImage, model: _Model) -> Float64Array:
    """Return the noise of the fluxes of neighbours, as far as their light is in the apertures of a star (n, k)."""
    y, x = field.places
    variance = np.zeros((len(y), len(field.radii_px)))
    is_merged = np.bincount(model.owner, minlength=len(y)) > 1
    of_model = np.where(is_merged, MERGED_ERROR, NEIGHBOUR_ERROR) * model.flux
    tree = cKDTree(np.stack([y, x], axis=1))
    for k, radius in enumerate(field.radii_px):
        pairs = tree.query_pairs(radius + field.fwhm_px, output_type="ndarray")
        one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
        kept = (model.flux_error[other] > 0) & (model.owner[one] != other)
        one, other = one[kept], other[kept]
        share = model.profile.in_circles((y[one], x[one]), (y[other], x[other]), radius)
        known = np.hypot(model.flux_error[other], of_model[other])
        np.add.at(variance[:, k], one, (share * known) ** 2)
    return np.sqrt(variance)
