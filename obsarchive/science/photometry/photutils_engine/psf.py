"""PSF photometry by photutils.

The PSF is an effective one (Anderson & King 2000, PASP 112, 1360), built from stars whose neighbours were subtracted;
from few stars, it is a Moffat profile. Positions are fixed: those of the catalogue are better than a fit's.
"""

import itertools
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.nddata import NDData
from astropy.table import Table
from photutils.aperture import CircularAperture
from photutils.background import LocalBackground
from photutils.datasets import make_model_image
from photutils.psf import EPSFBuilder, ImagePSF, MoffatPSF, PSFPhotometry, SourceGrouper, extract_stars
from scipy import ndimage
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray, IndexArray, IntArray
from obsarchive.science.photometry.aperture import Apertures
from obsarchive.science.photometry.photutils_engine.aperture import within_image
from obsarchive.science.photometry.photutils_engine.detection import background, odd_size
from obsarchive.science.photometry.photutils_engine.fitter import OncePerPixel
from obsarchive.science.photometry.psf_fit import PIXEL_ERROR, UNRESOLVED_FWHM, Frame
from obsarchive.science.photometry.psf_photometry import (
    CORE_FWHM,
    LEAST_OF_PEAK,
    LEAST_SEEN,
    MAX_STARS,
    REACH_FWHM,
    PsfFluxes,
    excess_scatter,
)

LEAST_FOR_EPSF, LEAST_EPSF_SNR = 12, 150.0
"""Least number of stars for an effective PSF, and their least signal-to-noise ratio: all have the same weight."""
EPSF_ROUNDS, OVERSAMPLING = 5, 2
"""Iterations of the effective PSF, and its samples per pixel."""
MOFFAT_BETA, STEPS = 3.0, 4
"""Exponent with which fits begin, and samples of the profile per pixel."""
FIT_FWHM = 1.5
"""Side of the square to which the PSF is fitted [FWHM]: farther out, the error of the background dominates."""
GROUP_FWHM, MOST_IN_GROUP = 3.0, 25
"""Distance up to which stars are fitted together [FWHM]; it shrinks until no group is larger than this."""
SKY_FWHM = 1.5
"""Inner radius of the ring around a star in which its own sky is measured [FWHM]; the outer one is that of the PSF."""
MEDIAN_ERROR = 1.2533
"""Standard error of the median of normal values, in units of that of their mean."""
SKY_STARS = 8
"""Number of stars around which the rest of the sky is measured with the final profile."""
OUTLIER_SIGMA = 6.0
"""Residuals of so many sigma of noise and errors of the profile are cosmic rays."""

_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class _Field:
    """A background-subtracted frame and its stars.

    Parameters
    ----------
    data, error : ndarray (ny, nx)
        Pixels, 0 where they are bad, and their errors.
    bad : ndarray (ny, nx)
        Mask of bad pixels.
    x, y, flux : ndarray (n,)
        Positions [pixel] and fluxes of all stars.
    fwhm_px : float
        Approximate FWHM of the stars [pixel].
    """

    data: Float64Array
    error: Float64Array
    bad: BoolArray
    x: Float64Array
    y: Float64Array
    flux: Float64Array
    fwhm_px: float

    @property
    def reach_px(self) -> float:
        """Radius of the PSF [pixel]."""
        return REACH_FWHM * self.fwhm_px

    def around(self, rows: IndexArray, distance_px: float) -> IndexArray:
        """Return the stars on the frame within a distance of one of some stars."""
        on_frame = np.flatnonzero(within_image(np.stack([self.x, self.y], axis=1), 0.0, self.data.shape))
        rows = np.intersect1d(rows, on_frame)
        if not len(rows):
            return rows
        tree = cKDTree(np.stack([self.x[rows], self.y[rows]], axis=1))
        distance, _ = tree.query(np.stack([self.x[on_frame], self.y[on_frame]], axis=1))
        near: IndexArray = on_frame[distance <= distance_px]
        return near


def psf_photometry(
    frame: Frame, apertures: Apertures, chosen: IndexArray, wanted: IndexArray, fwhm_px: float
) -> PsfFluxes:
    """Build the PSF of a frame from some stars, and fit it to others.

    Parameters
    ----------
    frame : Frame
        Pixels and positions of all stars.
    apertures : Apertures
        Aperture photometry of all stars; the first radius counts.
    chosen : ndarray of int
        Stars from which the PSF is built: bright, isolated and unsaturated, the best first.
    wanted : ndarray of int
        Stars that are fitted.
    fwhm_px : float
        Approximate FWHM of the stars [pixel].

    Returns
    -------
    PsfFluxes
        Fluxes of all stars, NaN for those that are not wanted.
    """
    missing = ~np.isfinite(frame.image) | ~np.isfinite(frame.variance)
    field = _Field(
        np.where(missing, 0.0, frame.image - background(frame.image).level),
        _smooth_errors(frame.variance, missing),
        missing | (frame.image >= frame.saturation),
        np.asarray(frame.x, np.float64),
        np.asarray(frame.y, np.float64),
        np.nan_to_num(np.maximum(apertures.flux[:, 0], 0.0)),
        fwhm_px,
    )
    flux, error = np.full(len(frame.y), np.nan), np.full(len(frame.y), np.nan)
    usable = _usable(field, chosen)
    if not len(usable):
        return PsfFluxes(flux, error, None)
    psf, width = _moffat_psf(field, usable)
    if not len(wanted):
        return PsfFluxes(flux, error, width)
    field, cleaned, _ = _without_rest(field, psf, usable)
    bright = usable[apertures.flux[usable, 0] > LEAST_EPSF_SNR * apertures.flux_error[usable, 0]]
    if len(bright) >= LEAST_FOR_EPSF:
        psf = _effective_psf(field, bright, cleaned, psf)
    # once more: that profile has true wings
    field, _, sky_error = _without_rest(field, psf, usable[:SKY_STARS])
    fitted = np.union1d(wanted, field.around(usable, field.reach_px))
    all_flux, all_error = _with_local_sky(field, psf, fitted, *_fitted(field, psf, fitted, usable))
    share = _error_of_profile(field, psf, (fitted, all_flux, all_error), usable)
    of_wanted = np.searchsorted(fitted, wanted)
    flux[wanted] = all_flux[of_wanted]
    error[wanted] = np.hypot(all_error[of_wanted], sky_error * _noise_area(field, psf))
    error = np.hypot(error, share * np.nan_to_num(flux))
    return PsfFluxes(flux, error, width)


def _smooth_errors(variance: FloatArray, missing: BoolArray) -> Float64Array:
    """Return the errors of pixels from variances smoothed a little, 1 where they are missing.

    A variance that follows the photons of its own pixel gives low pixels more weight: the fit would lose a photon in
    each.
    """
    known = ndimage.uniform_filter((~missing).astype(float), 3)
    smooth = ndimage.uniform_filter(np.where(missing, 0.0, np.asarray(variance, float)), 3)
    return np.where(missing, 1.0, np.sqrt(np.maximum(smooth / np.maximum(known, 0.1), 1e-9)))


def _without_rest(field: _Field, psf: ImagePSF, usable: IndexArray) -> tuple[_Field, Float64Array, float]:
    """Return the field without the rest of the sky, its pixels without all but some stars, and the error of the sky."""
    around = field.around(usable, 2 * field.reach_px)
    flux = _fitted(field, psf, around)[0]
    is_other = ~np.isin(around, usable)
    cleaned = field.data - _model_image(field, psf, around[is_other], flux[is_other])
    empty = cleaned - _model_image(field, psf, around[~is_other], flux[~is_other])
    # faint stars raise the background: too much of it was subtracted
    between = LocalBackground(field.reach_px, 2 * field.reach_px)
    with warnings.catch_warnings(action="ignore"):
        skies = np.atleast_1d(between(empty, field.x[usable], field.y[usable], mask=field.bad))
    skies = skies[np.isfinite(skies)]
    if not len(skies):
        return field, cleaned, 0.0
    rest = float(np.median(skies))
    error = MEDIAN_ERROR * float(np.std(skies)) / math.sqrt(len(skies))
    return replace(field, data=field.data - rest), cleaned - rest, error


def _with_local_sky(
    field: _Field, psf: ImagePSF, fitted: IndexArray, flux: Float64Array, error: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Return fluxes and errors with a sky of its own for each star: what no star explains in the ring around it.

    The sky between bright stars holds their wings, that around faint stars does not.
    """
    rest = field.data - _model_image(field, psf, fitted, flux)
    sky, seen = np.zeros(len(fitted)), np.flatnonzero(np.isfinite(flux))
    if not len(seen):
        return flux, error
    ring = LocalBackground(SKY_FWHM * field.fwhm_px, field.reach_px)
    with warnings.catch_warnings(action="ignore"):
        sky[seen] = np.atleast_1d(ring(rest, field.x[fitted[seen]], field.y[fitted[seen]], mask=field.bad))
    area = np.pi * (field.reach_px**2 - (SKY_FWHM * field.fwhm_px) ** 2)
    side = np.arange(-(odd_size(FIT_FWHM * field.fwhm_px) // 2), odd_size(FIT_FWHM * field.fwhm_px) // 2 + 1.0)
    pixels = psf.evaluate(side, side[:, np.newaxis], 1.0, 0.0, 0.0)
    # of a sky of one in the pixels of a fit
    flux_of_sky = float(pixels.sum() / (pixels**2).sum())
    noise = MEDIAN_ERROR * float(np.median(field.error[~field.bad])) / math.sqrt(area)
    return flux - flux_of_sky * np.nan_to_num(sky), np.hypot(error, flux_of_sky * noise)


def _noise_area(field: _Field, psf: ImagePSF) -> float:
    """Return the number of pixels over which the sky adds to the flux of a faint star."""
    side = np.arange(-int(field.reach_px), int(field.reach_px) + 1.0)
    return 1 / float((psf.evaluate(side, side[:, np.newaxis], 1.0, 0.0, 0.0) ** 2).sum())


def _error_of_profile(
    field: _Field, psf: ImagePSF, fitted: tuple[IndexArray, Float64Array, Float64Array], usable: IndexArray
) -> float:
    """Return the share of the flux by which the profile misses the light of the stars from which it was made.

    `fitted` are numbers, fluxes and errors of stars, in rising order.
    """
    rest = field.data - _model_image(field, psf, *fitted[:2])
    of_star = np.searchsorted(fitted[0], usable)
    flux, error = fitted[1][of_star], fitted[2][of_star]
    circles = CircularAperture(np.stack([field.x[usable], field.y[usable]], axis=1), CORE_FWHM * field.fwhm_px)
    missed, noise = circles.do_photometry(rest, error=field.error, mask=field.bad)
    good = np.isfinite(flux) & (flux > 0)
    # fit and sum share the noise of the pixels
    variance = np.maximum(noise**2 - error**2, 0.1 * noise**2)
    return excess_scatter((missed / flux)[good], (variance / flux**2)[good])


def _missed_of_pixels(field: _Field, model: Float64Array, usable: IndexArray) -> float:
    """Return the share of the light that the profile misses in a pixel of the core of a star."""
    values, variances = [np.empty(0)], [np.empty(0)]
    for i in usable:
        half = math.ceil(CORE_FWHM * field.fwhm_px)
        y, x = round(field.y[i]), round(field.x[i])
        box = slice(max(y - half, 0), y + half + 1), slice(max(x - half, 0), x + half + 1)
        bright = ~field.bad[box] & (model[box] > LEAST_OF_PEAK * model[box].max(initial=0.0))
        light = model[box][bright]
        values.append((field.data[box][bright] - light) / light)
        variances.append((field.error[box][bright] / light) ** 2)
    return excess_scatter(np.concatenate(values), np.concatenate(variances))


def _usable(field: _Field, chosen: IndexArray) -> IndexArray:
    """Return those of some stars whose cut-out is whole."""
    half = odd_size(2 * field.reach_px) // 2
    found = []
    for i in chosen[:MAX_STARS]:
        y, x = round(field.y[i]), round(field.x[i])
        box = field.bad[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        if box.shape == (2 * half + 1, 2 * half + 1) and np.mean(box) <= 1 - LEAST_SEEN and field.flux[i] > 0:
            found.append(i)
    return np.array(found, np.intp)


def _moffat_psf(field: _Field, chosen: IndexArray) -> tuple[ImagePSF, float]:
    """Moffat profile of the median width and exponent of some stars, and its FWHM [pixel]."""
    alpha = field.fwhm_px / (2 * math.sqrt(2 ** (1 / MOFFAT_BETA) - 1))
    profile = MoffatPSF(alpha=alpha, beta=MOFFAT_BETA)
    profile.alpha.fixed, profile.alpha.bounds = False, (0.2 * alpha, 5 * alpha)
    profile.beta.fixed, profile.beta.bounds = False, (1.5, 10.0)
    photometry = PSFPhotometry(profile, odd_size(2 * field.fwhm_px))
    stars = Table({"x": field.x[chosen], "y": field.y[chosen], "flux": field.flux[chosen]})
    with warnings.catch_warnings(action="ignore"):
        fit = photometry(field.data, error=field.error, mask=field.bad, init_params=stars)
    found = np.stack([np.asarray(fit[f"{name}_fit"], np.float64) for name in ("alpha", "beta")])
    found = found[:, np.isfinite(found).all(axis=0)]
    shape = np.median(found, axis=1) if found.size else np.array([alpha, MOFFAT_BETA])
    half = STEPS * (math.ceil(field.reach_px) + 1)
    offset = np.arange(-half, half + 1) / STEPS
    pixels = profile.evaluate(offset, offset[:, np.newaxis], 1.0, 0.0, 0.0, *shape)
    width = 2 * shape[0] * math.sqrt(2 ** (1 / shape[1]) - 1)
    psf = ImagePSF(pixels, oversampling=STEPS)
    return _scaled(psf, _light_within(psf, field.reach_px)), float(width)


def _effective_psf(field: _Field, chosen: IndexArray, cleaned: Float64Array, first: ImagePSF) -> ImagePSF:
    """Build a PSF from some stars, without their neighbours; the first one is kept if no star can be fitted."""
    places = Table({"x": field.x[chosen], "y": field.y[chosen]})
    builder = EPSFBuilder(
        oversampling=OVERSAMPLING,
        smoothing_kernel="quadratic",
        recentering_boxsize=odd_size(field.fwhm_px),
        fit_shape=odd_size(FIT_FWHM * field.fwhm_px),
        maxiters=EPSF_ROUNDS,
        progress_bar=False,
    )
    try:
        with warnings.catch_warnings(action="ignore"):
            built = builder(
                extract_stars(NDData(cleaned, mask=field.bad), places, size=odd_size(2 * field.reach_px))
            ).epsf
    except ValueError:  # no star could be fitted
        return first
    # undetected faint stars raise the wings: the flux is normalised by the core
    core = field.fwhm_px
    return _scaled(built, _light_within(built, core) / _light_within(first, core))


def _light_within(psf: ImagePSF, radius_px: float) -> float:
    """Sum of a PSF in a circle, averaged over the positions of a star within a pixel."""
    half = STEPS * math.ceil(radius_px)
    offset = np.arange(-half, half + 1) / STEPS
    seen = np.hypot(offset, offset[:, np.newaxis]) <= radius_px
    return float(psf.evaluate(offset, offset[:, np.newaxis], 1.0, 0.0, 0.0)[seen].sum()) / STEPS**2


def _scaled(psf: ImagePSF, total: float) -> ImagePSF:
    """Return a PSF normalised to a total flux of 1, for fits of fluxes alone."""
    # photutils 3.0 caches the models of groups by the name of their class: without a name of its own, a PSF could be
    # replaced by that of an earlier frame
    kind: Any = type(f"FramePSF{next(_numbers)}", (ImagePSF,), {})
    found = kind(psf.data / total, origin=psf.origin, oversampling=psf.oversampling)
    found.x_0.fixed = found.y_0.fixed = True
    return found


def _fitted(
    field: _Field, psf: ImagePSF, wanted: IndexArray, usable: IndexArray | None = None
) -> tuple[Float64Array, Float64Array]:
    """Fit the fluxes of stars together with those of their neighbours, and once more without cosmic rays.

    What the profile misses of the usable stars, from which it was made, it may miss of all.
    """
    flux, error = np.full(len(field.x), np.nan), np.full(len(field.x), np.nan)
    rows = field.around(wanted, 2 * GROUP_FWHM * field.fwhm_px)
    if not len(rows):
        return flux[wanted], error[wanted]
    rows, stand_in = _resolved(field, rows, wanted)
    stars = np.unique(stand_in)
    groups = _groups(field, stars)
    flux[stars], error[stars] = _fit(field, psf, stars, groups, field.bad)
    model = _model_image(field, psf, stars, flux[stars])
    missed = 0.0 if usable is None else _missed_of_pixels(field, model, usable)
    limit = OUTLIER_SIGMA * np.hypot(field.error, max(PIXEL_ERROR, missed) * model)
    outliers = ~field.bad & (field.data - model > limit)
    hit = np.isin(groups, groups[_touched(field, stars, outliers)])
    if hit.any():
        again = stars[hit]
        flux[again], error[again] = _fit(field, psf, again, groups[hit], field.bad | outliers)
    flux[rows], error[rows] = flux[stand_in], error[stand_in]
    return flux[wanted], error[wanted]


def _resolved(field: _Field, rows: IndexArray, wanted: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Return stars in order of priority, and for each the one it is measured as: itself, or an unresolved neighbour."""
    rows = rows[np.lexsort((-field.flux[rows], ~np.isin(rows, wanted)))]
    xy = np.stack([field.x[rows], field.y[rows]], axis=1)
    near = cKDTree(xy).query_ball_point(xy, UNRESOLVED_FWHM * field.fwhm_px)
    stand_in = np.full(len(rows), -1)
    for i, others in enumerate(near):
        if stand_in[i] < 0:
            stand_in[[j for j in others if stand_in[j] < 0]] = rows[i]
    return rows, stand_in


def _groups(field: _Field, stars: IndexArray) -> IntArray:
    """Return the numbers of the groups of stars that are fitted together."""
    separation = GROUP_FWHM * field.fwhm_px
    while True:
        groups = SourceGrouper(separation)(field.x[stars], field.y[stars])
        if np.bincount(groups).max() <= MOST_IN_GROUP or separation < UNRESOLVED_FWHM * field.fwhm_px:
            return np.asarray(groups, np.int64)
        separation *= 0.8


def _fit(
    field: _Field, psf: ImagePSF, stars: IndexArray, groups: IntArray, bad: BoolArray
) -> tuple[Float64Array, Float64Array]:
    """Fit fluxes at fixed positions: fluxes and their errors."""
    first = Table({"x": field.x[stars], "y": field.y[stars], "flux": field.flux[stars], "group_id": groups})
    photometry = PSFPhotometry(psf, odd_size(FIT_FWHM * field.fwhm_px), fitter=OncePerPixel())
    with warnings.catch_warnings(action="ignore"):
        found = photometry(field.data, error=field.error, mask=bad, init_params=first)
    return np.asarray(found["flux_fit"], np.float64), np.asarray(found["flux_err"], np.float64)


def _model_image(field: _Field, psf: ImagePSF, stars: IndexArray, flux: Float64Array) -> Float64Array:
    """Return the model image of some stars."""
    if not len(stars):
        return np.zeros_like(field.data)
    side = odd_size(2 * field.reach_px)
    models = Table({"x_0": field.x[stars], "y_0": field.y[stars], "flux": np.nan_to_num(flux)})
    return np.asarray(make_model_image(field.data.shape, psf, models, model_shape=(side, side)))


def _touched(field: _Field, stars: IndexArray, pixels: BoolArray) -> BoolArray:
    """Whether one of these pixels lies in the cut-out to which a star is fitted."""
    y, x = np.nonzero(pixels)
    if not len(y):
        return np.zeros(len(stars), bool)
    distance, _ = cKDTree(np.stack([x, y], axis=1)).query(np.stack([field.x[stars], field.y[stars]], axis=1), p=np.inf)
    return np.asarray(distance <= odd_size(FIT_FWHM * field.fwhm_px) / 2)
