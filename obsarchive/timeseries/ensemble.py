"""All frames of a dataset on one scale: light curves of every star, the zero point, the quality of each frame."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from obsarchive.errors import Unprocessable
from obsarchive.science.astrometry.times import LightCurveTimes, light_curve_times
from obsarchive.science.photometry.aperture import Flag
from obsarchive.science.photometry.ensemble import FrameZeroPoints, frame_zero_points
from obsarchive.science.photometry.error_model import ErrorModel, fit_error_model
from obsarchive.science.photometry.zero_point import POGSON, ZeroPoint, find_zero_point, instrumental_magnitudes
from obsarchive.science.statistics import MAD_TO_SIGMA, median_of_known
from obsarchive.timeseries.config import ReductionConfig
from obsarchive.timeseries.frame_photometry import RADII, Measured, load_measured, place
from obsarchive.timeseries.frame_table import Info
from obsarchive.timeseries.star_catalog import Stars

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

BAD_SCATTER, LEAST_BAD_SCATTER_MAG = 5.0, 0.05
"""A frame is bad if its stars scatter so many times more than on the others, and by so much."""
BAD_LOSS_MAG, BAD_FWHM = 3.0, 2.2
"""A frame is bad if it lost so much more light than the others, or its stars are so many times wider."""
DETECTED_SIGMA, LIMIT_SIGMA = 3.0, 5.0
UNUSABLE = Flag.SATURATED | Flag.BAD_PIXEL | Flag.EDGE | Flag.POOR_SKY | Flag.BAD_FRAME


@dataclass(frozen=True, eq=False)
class Series:
    """Light curves of all stars of a dataset.

    Attributes
    ----------
    stars : Stars
        Which stars.
    infos : sequence of Info
        Which frames, in the order of their times.
    times : LightCurveTimes
        Of the frames.
    flux, flux_error : ndarray (n_stars, n_frames)
        On the common scale [unit of the frames per second].
    sky, y, x : ndarray (n_stars, n_frames)
        Sky [the same per pixel] and place [pixel].
    flags : ndarray (n_stars, n_frames)
        Sums of :class:`.Flag`.
    fwhm_arcsec : ndarray (n_frames,)
        Seeing.
    scale : FrameZeroPoints
        How the frames were brought together.
    zero_point : ZeroPoint
        Of the common scale.
    error_model : ErrorModel
        How computed errors became these.
    is_undisturbed : ndarray (n_stars,)
        Stars without a brighter one so close that it shines into their aperture.
    growth : ndarray (n_frames, n_radii)
        Median light of the comparison stars in the apertures, in units of the main one's.
    facts : sequence of mapping
        What each frame's own measurement says.
    verdicts : sequence of str
        Why a frame is bad; empty for good ones.
    """

    stars: Stars
    infos: Sequence[Info]
    times: LightCurveTimes
    flux: Floats
    flux_error: Floats
    sky: Floats
    y: Floats
    x: Floats
    flags: NDArray[np.int64]
    fwhm_arcsec: Floats
    scale: FrameZeroPoints
    zero_point: ZeroPoint
    error_model: ErrorModel
    is_undisturbed: NDArray[np.bool_]
    growth: Floats
    facts: Sequence[Mapping[str, float]]
    verdicts: Sequence[str]

    @property
    def is_good(self) -> NDArray[np.bool_]:
        """Measurements that can be used (n_stars, n_frames)."""
        usable: NDArray[np.bool_] = self.flags & int(UNUSABLE) == 0
        return np.isfinite(self.flux) & (self.flux_error > 0) & usable

    @property
    def bad_frames(self) -> NDArray[np.bool_]:
        """Frames of no use (n_frames,)."""
        return np.asarray((self.flags & int(Flag.BAD_FRAME)).any(axis=0))

    @property
    def mag(self) -> Floats:
        """Magnitudes; NaN where there is no light."""
        return magnitudes(self.flux, self.zero_point)

    @property
    def mag_error(self) -> Floats:
        """Their standard errors."""
        return instrumental_magnitudes(self.flux, self.flux_error)[1]

    @property
    def limits(self) -> Floats:
        """Magnitude of a star that each frame would show at five sigma (n_frames,)."""
        middle = median_of_known(self.flux.ravel(), 0)
        faint = np.where(self.is_good & (self.flux <= middle), self.flux_error, np.inf)
        noise = np.sort(faint, axis=0)[len(faint) // 20]
        return magnitudes(np.where(np.isfinite(noise), LIMIT_SIGMA * noise, np.nan), self.zero_point)


def magnitudes(flux: Floats, zero_point: ZeroPoint) -> Floats:
    """Return magnitudes of fluxes on the common scale.

    Parameters
    ----------
    flux : ndarray of float
        Fluxes [count], of any shape.
    zero_point : ZeroPoint
        Zero point of the dataset.

    Returns
    -------
    ndarray of float
        Magnitudes [mag], of the shape of `flux`; NaN where the flux is not positive.
    """
    return zero_point.value + instrumental_magnitudes(flux, flux)[0]


def combine(folder: Path, stars: Stars, infos: Sequence[Info], config: ReductionConfig) -> Series:
    """Return the photometry of a dataset on a common scale, from the measurements of its frames.

    Parameters
    ----------
    folder : Path
        Folder of the dataset.
    stars : Stars
        Its star catalogue.
    infos : sequence of Info
        Headers of its frames.
    config : ReductionConfig
        Its configuration.

    Returns
    -------
    Series
        Fluxes and errors (n_stars, n_frames) with zero points and error model.

    Raises
    ------
    Unprocessable
        No frame was measured.
    """
    loaded = [(info, found) for info in infos if (found := load_measured(place(folder, info.stem))) is not None]
    loaded = [(info, found) for info, found in loaded if len(found.y) == len(stars)]
    if not loaded:
        raise Unprocessable(f"none of the {len(infos)} frames could be measured")
    loaded.sort(key=lambda pair: pair[0].mjd_middle)
    frames = [found for _, found in loaded]
    flags = np.stack([frame.flags for frame in frames], axis=1)
    flux, error = _columns(frames, "flux")[..., 0], _columns(frames, "flux_error")[..., 0]
    fwhm = np.array([frame.info["fwhm_px"] * frame.info["scale_arcsec"] for frame in frames])
    scale, verdicts = _common(flux, error, flags, stars, fwhm)
    flags = flags | np.where([bool(verdict) for verdict in verdicts], int(Flag.BAD_FRAME), 0)
    scaled, scaled_error = scale.applied(flux, error)
    isolated = _undisturbed(scaled, frames, stars, config)
    model = fit_error_model(scaled, scaled_error, (flags & int(UNUSABLE) == 0) & isolated[:, np.newaxis])
    final_error = model.applied(scaled, scaled_error)
    fitted = _fitted(frames, stars, flags)
    if fitted is not None:
        rows, psf_flux, psf_error = _tied(fitted, stars, scaled, flags)
        scaled[rows], final_error[rows] = psf_flux, psf_error
        flags[rows] = (flags[rows] & ~int(Flag.BAD_PIXEL | Flag.SATURATED)) | int(Flag.PSF_FIT)
    times = light_curve_times([info.mjd_middle for info, _ in loaded], config.target.ra_deg, config.target.dec_deg)
    series = Series(
        stars=stars,
        infos=[info for info, _ in loaded],
        times=times,
        flux=scaled,
        flux_error=final_error,
        sky=_columns(frames, "sky"),
        y=_columns(frames, "y"),
        x=_columns(frames, "x"),
        flags=flags,
        fwhm_arcsec=fwhm,
        scale=scale,
        zero_point=ZeroPoint(),
        error_model=model,
        is_undisturbed=isolated,
        growth=_growth(frames, stars),
        facts=[frame.info for frame in frames],
        verdicts=verdicts,
    )
    return replace(series, zero_point=_zero_point(series))


def _columns(frames: Sequence[Measured], name: str) -> Floats:
    """One array of all frames: stars first, then frames."""
    return np.stack([getattr(frame, name) for frame in frames], axis=1)


def _common(
    flux: Floats, error: Floats, flags: NDArray[np.int64], stars: Stars, fwhm_arcsec: Floats
) -> tuple[FrameZeroPoints, list[str]]:
    """Find the scale; a second time without the frames that are of no use; and why they are."""
    usable, terms = flags & int(UNUSABLE) == 0, _terms(stars)
    # what its neighbours show must not depend on the target, nor it on itself
    is_target = np.arange(len(stars)) == stars.target
    scale = frame_zero_points(flux, error, usable, terms, is_target)
    verdicts = _verdicts(flux, error, usable, scale, fwhm_arcsec)
    bad = np.array([bool(verdict) for verdict in verdicts])
    if bad.any() and not bad.all():
        scale = frame_zero_points(flux, error, usable & ~bad, terms, is_target)
    known = np.asarray(np.isfinite(scale.correction).any(axis=0))
    return scale, [v or ("" if k else "too few stars to compare with") for v, k in zip(verdicts, known, strict=True)]


def _terms(stars: Stars) -> dict[str, Floats]:
    """Return the variables that zero points may depend on."""
    span = max(float(np.ptp(stars.y)), float(np.ptp(stars.x)), 1.0) / 2
    place_terms = np.stack([(stars.y - np.median(stars.y)) / span, (stars.x - np.median(stars.x)) / span], axis=1)
    terms = {"place": place_terms}
    known = np.isfinite(stars.colour)
    if known.sum() > len(stars) / 4:
        terms["colour"] = np.where(known, stars.colour - np.median(stars.colour[known]), 0.0)
    return terms


def _verdicts(
    flux: Floats, error: Floats, usable: NDArray[np.bool_], scale: FrameZeroPoints, fwhm_arcsec: Floats
) -> list[str]:
    """Return why each frame is bad: large scatter, large extinction, or wide stars, far above the typical values."""
    good = scale.is_reference[:, np.newaxis] & usable & (flux > 0)
    safe_flux = np.where(good, flux, 1.0)
    mag = np.where(good, -POGSON * np.log(safe_flux), np.nan) + scale.correction
    residual = np.abs(mag - scale.magnitude[:, np.newaxis])
    scatter = MAD_TO_SIGMA * median_of_known(np.where(POGSON * error / safe_flux < 0.05, residual, np.nan), 0)
    loss = -median_of_known(scale.correction, 0)
    usual, usual_loss, usual_fwhm = (float(median_of_known(values, 0)) for values in (scatter, loss, fwhm_arcsec))
    found = []
    for own, lost, fwhm in zip(scatter, loss - usual_loss, fwhm_arcsec, strict=True):
        why = []
        if own > max(BAD_SCATTER * usual, LEAST_BAD_SCATTER_MAG):
            why.append(f"its stars scatter by {own:.3f} mag, {usual:.3f} mag are usual")
        if lost > BAD_LOSS_MAG:
            why.append(f"it lost {lost:.1f} mag more light than the others")
        if fwhm > BAD_FWHM * usual_fwhm:
            why.append(f"its stars are {fwhm:.1f} arcsec wide, {usual_fwhm:.1f} arcsec are usual")
        found.append("; ".join(why))
    return found


def _fitted(
    frames: Sequence[Measured], stars: Stars, flags: NDArray[np.int64]
) -> tuple[NDArray[np.intp], Floats, Floats] | None:
    """Fluxes by PSF fitting on a common scale of their own: which stars, fluxes and errors; None without the target."""
    flux, error = _columns(frames, "psf_flux"), _columns(frames, "psf_error")
    rows = np.flatnonzero(np.isfinite(flux).any(axis=1))
    if stars.target not in rows:
        return None
    chosen = flags[rows]
    usable = np.isfinite(flux[rows]) & (chosen & int(Flag.BAD_FRAME | Flag.EDGE | Flag.SATURATED) == 0)
    usable &= stars.is_comparison[rows][:, np.newaxis]
    if usable.any(axis=1).sum() < 3:
        return None
    scale = frame_zero_points(flux[rows], error[rows], usable, None, rows == stars.target)
    scaled, scaled_error = scale.applied(flux[rows], error[rows])
    return rows, scaled, fit_error_model(scaled, scaled_error, usable).applied(scaled, scaled_error)


def _tied(
    fitted: tuple[NDArray[np.intp], Floats, Floats],
    stars: Stars,
    aperture: Floats,
    flags: NDArray[np.int64],
) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Return fitted fluxes on the scale of the apertures, of the target and the stars around it."""
    rows, flux, error = fitted
    compared = stars.is_comparison[rows]
    good = (flags[rows] & int(UNUSABLE) == 0) & compared[:, np.newaxis] & (flux > 0)
    ratio = float(median_of_known(np.where(good, aperture[rows] / np.where(good, flux, 1.0), np.nan).ravel(), 0))
    around = ~compared | (rows == stars.target)
    return rows[around], ratio * flux[around], ratio * error[around]


def _undisturbed(flux: Floats, frames: Sequence[Measured], stars: Stars, config: ReductionConfig) -> NDArray[np.bool_]:
    """Stars without a brighter one so close that it shines into their aperture."""
    light = np.nan_to_num(median_of_known(flux, 1))
    scale, fwhm = (float(np.median([frame.info[key] for frame in frames])) for key in ("scale_arcsec", "fwhm_px"))
    reach = config.photometry.aperture_arcsec / scale + fwhm
    pairs = cKDTree(np.stack([stars.y, stars.x], axis=1)).query_pairs(reach, output_type="ndarray")
    fainter = np.where(light[pairs[:, 0]] < light[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    found = np.ones(len(stars), bool)
    found[fainter] = False
    return found


def _growth(frames: Sequence[Measured], stars: Stars) -> Floats:
    """Light in the other apertures, in units of that in the main one (n_frames, n_radii)."""
    found = np.full((len(frames), len(RADII)), np.nan)
    for i, frame in enumerate(frames):
        good = stars.is_comparison & (frame.flags == 0) & (frame.flux[:, 0] > 0)
        if good.any():
            found[i] = median_of_known(frame.flux[good] / frame.flux[good, :1], 0)
    return found


def _zero_point(series: Series) -> ZeroPoint:
    """Compare mean magnitudes with the catalogue's, in the band of the frames."""
    stars = series.stars
    catalogue = stars.magnitudes_in(str(series.infos[0].header.get("FILTER") or ""))
    good = series.is_good & (series.flags & int(Flag.PSF_FIT) == 0) & series.is_undisturbed[:, np.newaxis]
    good &= series.flux > 0
    weight = np.where(good, 1 / np.maximum(series.flux_error, 1e-30) ** 2, 0.0)
    total = weight.sum(axis=1)
    with np.errstate(all="ignore"):
        mean = (weight * np.where(good, series.flux, 0.0)).sum(axis=1) / total
        error = np.where((total > 0) & (mean > 0), POGSON / np.sqrt(total) / mean, np.nan)
        mag = np.where((total > 0) & (mean > 0), -POGSON * np.log(mean), np.nan)
    found = find_zero_point(mag, error, catalogue, stars.colour)
    if not found.n_stars:
        log.warning("too few stars of known magnitude: magnitudes are instrumental (zero point %.1f)", found.value)
    return found
