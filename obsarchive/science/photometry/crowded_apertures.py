"""Aperture photometry without the light of neighbours, which is in the apertures and in the annuli of the sky."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray, IndexArray
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.source_detection import Sources
from obsarchive.science.photometry.star_profile import KNOTS, STEP_FWHM, StarProfile, fit_profile

ROUNDS = 4
"""How often fluxes and profile are found in turn; outside of the part that gave the profile, fluxes once."""
MOST_STARS, LEAST_STARS = 40, 5
"""Stars from which the profile is made: the brightest ones."""
PART_STARS = 150
"""Number of sources in the part of an image from which the profile is made, the part where they are closest."""
NARROWEST, WIDEST = 0.6, 1.3
"""Width of a source, over that of stars, below which it is a cosmic ray, and beyond which it is no star."""
MIDDLE_FWHM = 1.5
"""Radius within which the flux of a star is fitted whose aperture is not whole [FWHM]."""
MODES = 2
"""Number of independent errors of the profile that count."""
CLIP_SIGMA, PROFILE_SHARE = 6.0, 0.2
"""Residuals of so many sigma, and such a share of the model, are not those of stars."""

Measure = Callable[[FloatArray, FloatArray, Sources], Apertures]
"""Aperture photometry of sources on an image with the variance of its pixels."""


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
    radius_px, reach_px : float
        Radii of the apertures, and of the outer edge of the annuli of the sky [pixel].
    gain : float
        Photons of a count, 0 if unknown.
    saturation : float
        Level at and above which a pixel is saturated.
    """

    image: FloatArray
    variance: FloatArray
    sources: Sources
    fwhm_px: float
    radius_px: float
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
    """The stars of an image: their profile, normalised to the light in an aperture, fluxes and image.

    `own` is the light of each star of flux 1 in its own aperture; it differs from 1 by where in a pixel a star is.
    """

    profile: StarProfile
    flux: Float64Array
    own: Float64Array
    image: Float32Array


def without_neighbours(field: CrowdedImage, found: Apertures, measure: Measure) -> Apertures:
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
        # what neighbours took from the others by way of the sky is much the same
        lost = float(np.nanmedian(new.flux - before.flux))
        model, new = _separated(field, replace(found, flux=found.flux + lost), measure, model.profile) or learnt
    removed = np.maximum(found.sky - new.sky, 0.0)
    area = np.pi * field.radius_px**2
    error = np.hypot(new.flux_error[:, 0], shares[0] * area * removed)
    error = np.hypot(error, _noise_of_neighbours(field, model, new))
    return Apertures(
        np.where(crowded, new.flux[:, 0], found.flux[:, 0])[:, np.newaxis],
        np.where(crowded, error, found.flux_error[:, 0])[:, np.newaxis],
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
    width = field.sources.fwhm_px / field.fwhm_px
    is_whole = ~(width < NARROWEST) & (found.flags == 0) & (found.flux[:, 0] > 0)
    stars = np.flatnonzero(is_whole & (width < WIDEST))
    if len(stars) < LEAST_STARS:
        return None
    stars = stars[np.argsort(-found.flux[stars, 0])][:MOST_STARS]
    unit = np.median(found.flux[is_whole, 0] / field.sources.flux[is_whole])
    flux = np.where(width < NARROWEST, 0.0, np.where(is_whole, found.flux[:, 0], unit * field.sources.flux))
    model, new = None, found
    for _ in range(2 if profile else ROUNDS):
        shape = profile or _fitted(field, flux, stars, model, float(np.nanmedian(new.sky)))
        if shape is None:
            return None
        model = _modelled(field, np.maximum(flux, 0.0), stars, shape)
        rest = field.image - model.image
        new = measure(rest, field.variance, field.sources)
        new = replace(new, flux=new.flux + (model.flux * model.own)[:, np.newaxis])
        flux = np.where(is_whole & np.isfinite(new.flux[:, 0]), new.flux[:, 0], 0.0)
        # where the aperture is cut or saturated, the rest of the star tells
        hidden = np.flatnonzero((flux == 0.0) & ~(width < NARROWEST))
        flux[hidden] = model.flux[hidden] + _missing(field, model, rest, new.sky, hidden)
    return (model, new) if model else None


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


def _modelled(field: CrowdedImage, flux: Float64Array, stars: IndexArray, profile: StarProfile) -> _Model:
    own = profile.in_circles(field.places, field.places, field.radius_px)
    unit = float(np.median(own[stars]))
    profile = profile.scaled(1 / unit)
    return _Model(profile, flux, own / unit, profile.image(field.image.shape, (*field.places, flux)))


def _missing(
    field: CrowdedImage, model: _Model, rest: FloatArray, sky: Float64Array, hidden: IndexArray
) -> Float64Array:
    """Return the light of some stars that the model lacks, from the pixels that are good."""
    level = np.where(np.isfinite(sky), sky, np.nanmedian(sky))[hidden]
    pixels = np.where(field.image < field.saturation, rest, np.nan) if np.isfinite(field.saturation) else rest
    stars = field.sources.y[hidden], field.sources.x[hidden]
    return model.profile.amplitudes(pixels, stars, level, MIDDLE_FWHM * field.fwhm_px)


def _shares_of_errors(
    field: CrowdedImage, found: Apertures, learnt: tuple[_Model, Apertures], measure: Measure
) -> tuple[float, float]:
    """Return which share of the light that was removed is uncertain with the profile, in apertures and in skies."""
    model, new = learnt
    of_flux, of_sky = np.zeros(len(field.sources)), np.zeros(len(field.sources))
    for wrong in model.profile.errors(MODES):
        light = wrong.image(field.image.shape, (*field.places, model.flux))
        seen = measure(light, field.variance, field.sources)
        own = model.flux * wrong.in_circles(field.places, field.places, field.radius_px)
        of_flux += (seen.flux[:, 0] - own) ** 2
        of_sky += seen.sky**2
    removed = float(np.nanmean((found.sky - new.sky) ** 2))
    area = np.pi * field.radius_px**2
    return float(np.sqrt(np.nanmean(of_flux) / removed)) / area, float(np.sqrt(np.nanmean(of_sky) / removed))


def _noise_of_neighbours(field: CrowdedImage, model: _Model, new: Apertures) -> Float64Array:
    """Return the noise of the fluxes of neighbours, as far as their light is in the aperture of a star."""
    y, x = field.places
    variance = np.zeros(len(y))
    pairs = cKDTree(np.stack([y, x], axis=1)).query_pairs(2 * field.radius_px, output_type="ndarray")
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    share = model.profile.in_circles((y[one], x[one]), (y[other], x[other]), field.radius_px)
    known = np.where((model.flux > 0) & np.isfinite(new.flux_error[:, 0]), new.flux_error[:, 0], 0.0)
    np.add.at(variance, one, (share * known[other]) ** 2)
    return np.sqrt(variance)
