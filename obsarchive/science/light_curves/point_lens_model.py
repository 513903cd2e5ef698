"""What a point-lens fit is given and returns: photometry, options, parameters with their errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from obsarchive.science.arrays import BoolArray, Float64Array, FloatArray
from obsarchive.science.light_curves.light_curve import AB_MICROJANSKY, fluxes_of_magnitudes
from obsarchive.science.light_curves.point_lens_solver import magnification_of_disc, magnification_of_u2
from obsarchive.science.photometry.zero_point import POGSON

CORRELATED = 5.0
"""Significance of the correlation of consecutive residuals from which the model is not adequate."""


def magnification(u: FloatArray, rho: float = 0.0) -> Float64Array:
    """Return the magnification of a source by a point lens.

    Parameters
    ----------
    u : ndarray
        Distance of source and lens [Einstein radii]; its sign does not matter.
    rho : float
        Radius of the source, a uniform disc [Einstein radii]; 0: a point.

    Returns
    -------
    ndarray
        Magnification, from 1; infinite where a point source is behind the lens.
    """
    u2 = np.square(np.asarray(u, np.float64))
    if rho > 0:
        return magnification_of_disc(np.maximum(u2, 1e-20), rho)[0]
    with np.errstate(divide="ignore"):
        return magnification_of_u2(u2)[0]


@dataclass(frozen=True)
class Photometry:
    """Light curve of one observatory in one band.

    Parameters
    ----------
    name : str
        What it is called in results.
    time : ndarray (n,)
        Times [d], the same kind in all data sets of a fit.
    flux, error : ndarray (n,)
        Fluxes and errors in any unit; epochs without a finite flux and a positive error are not used.
    zero_point : float
        Magnitude of flux 1.
    """

    name: str
    time: Float64Array
    flux: Float64Array
    error: Float64Array
    zero_point: float = AB_MICROJANSKY

    @classmethod
    def of_magnitudes(
        cls, name: str, time: FloatArray, mag: FloatArray, error: FloatArray, zero_point: float = AB_MICROJANSKY
    ) -> "Photometry":
        """Return the photometry of magnitudes and their errors."""
        flux, flux_error = fluxes_of_magnitudes(mag, error, zero_point)
        return cls(name, np.asarray(time, np.float64), flux, flux_error, zero_point)

    def usable(self, exclude: Sequence[tuple[float, float]] = ()) -> "Photometry":
        """Return the epochs that can be used, in the order of time, without ranges of time to exclude."""
        time, flux, error = (np.asarray(column, np.float64) for column in (self.time, self.flux, self.error))
        good = np.isfinite(time) & np.isfinite(flux) & np.isfinite(error) & (error > 0)
        for start, stop in exclude:
            good &= ~((time >= start) & (time <= stop))
        order = np.flatnonzero(good)[np.argsort(time[good], kind="stable")]
        return Photometry(self.name, time[order], flux[order], error[order], self.zero_point)


@dataclass(frozen=True)
class Options:
    """How a fit is done.

    Parameters
    ----------
    clip_sigma : float
        Epochs that deviate by more, and runs of smaller deviations, are rejected; 0: none is.
    rescale : bool
        Whether the errors of each data set are scaled so that its reduced chi-square is 1.
    within : (float, float), optional
        Range of the time of maximum [d].
    exclude : sequence of (float, float)
        Ranges of time that are not used [d], such as a known anomaly.
    start : (float, float, float), optional
        t0 [d], u0 and tE [d] to start from; searched if not given.
    extended_source : bool, optional
        Whether the source is a disc whose radius ``rho`` is fitted, too; None: if the peak is clearly not a point's.
    """

    clip_sigma: float = 4.0
    rescale: bool = True
    within: tuple[float, float] | None = None
    exclude: tuple[tuple[float, float], ...] = ()
    start: tuple[float, float, float] | None = None
    extended_source: bool | None = None


@dataclass(frozen=True)
class Measured:
    """A parameter.

    Parameters
    ----------
    value, error : float
        Best value and its standard error, with errors of the data that match their scatter.
    formal_error : float
        The same with the errors of the data as they were given.
    lower, upper : float
        Distances at which chi-square is larger by 1 (profile likelihood); infinite if nowhere.
    """

    value: float
    error: float
    formal_error: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Anomaly:
    """A range of epochs that the point lens does not explain: mean deviation, and sum of squares in errors."""

    start: float
    stop: float
    n_epochs: int
    mean_sigma: float
    chi2: float


@dataclass(frozen=True)
class SetFit:
    """What a fit says of one data set.

    Parameters
    ----------
    data : Photometry
        Its usable epochs.
    source_flux, source_flux_error, blend_flux, blend_flux_error : float
        Fluxes of the source and of the light that is not magnified, which may be negative.
    chi2 : float
        Of the epochs that were kept, with the errors as given.
    kept : ndarray (n,) of bool
        Epochs that were not rejected.
    residual : ndarray (n,)
        Data minus model, in scaled errors.
    error_scale : float
        Factor by which the errors were multiplied.
    """

    data: Photometry
    source_flux: float
    source_flux_error: float
    blend_flux: float
    blend_flux_error: float
    chi2: float
    kept: BoolArray
    residual: Float64Array
    error_scale: float

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.data.name

    @property
    def zero_point(self) -> float:
        """Magnitude of flux 1."""
        return self.data.zero_point

    @property
    def n(self) -> int:
        """Number of epochs that were kept."""
        return int(self.kept.sum())

    @property
    def n_rejected(self) -> int:
        """Number of epochs that were rejected."""
        return len(self.kept) - self.n

    @property
    def blend_ratio(self) -> float:
        """Blend flux in units of the source flux; NaN without a source flux."""
        return self.blend_flux / self.source_flux if self.source_flux != 0 else np.nan

    @property
    def source_mag(self) -> float:
        """Magnitude of the source; NaN if its flux is not positive."""
        return _magnitude(self.source_flux, self.zero_point)

    @property
    def source_mag_error(self) -> float:
        """Error of the magnitude of the source."""
        return POGSON * self.source_flux_error / self.source_flux if self.source_flux > 0 else np.nan

    @property
    def blend_mag(self) -> float:
        """Magnitude of the blend; NaN if its flux is not positive."""
        return _magnitude(self.blend_flux, self.zero_point)

    @property
    def baseline_mag(self) -> float:
        """Magnitude without magnification."""
        return _magnitude(self.source_flux + self.blend_flux, self.zero_point)

    def magnifications(self) -> tuple[Float64Array, Float64Array]:
        """Return the data in units of the source flux without the blend, and their scaled errors."""
        scale = self.source_flux if self.source_flux != 0 else np.nan
        return (self.data.flux - self.blend_flux) / scale, self.data.error * self.error_scale / abs(scale)


def _magnitude(flux: float, zero_point: float) -> float:
    return zero_point - POGSON * float(np.log(flux)) if flux > 0 else np.nan


@dataclass(frozen=True)
class PointLens:
    """A fitted point lens.

    Parameters
    ----------
    t0, u0, t_e, t_eff : Measured
        Time of maximum [d], impact parameter [Einstein radii], Einstein time [d], and ``u0 tE`` [d].
    rho : Measured or None
        Radius of the source [Einstein radii]; None for a point.
    covariance : ndarray (3, 3)
        Of t0, u0 and tE, with scaled errors; (4, 4) with rho.
    sets : tuple of SetFit
        Data sets in the given order.
    gain : float
        By how much chi-square is below that of constant light, in scaled errors.
    correlation : float
        Significance of the correlation of consecutive residuals during the event; about 1 for a good model.
    is_degenerate : bool
        Whether u0 and tE are not known each for itself.
    is_observed : bool
        Whether the maximum lies within the data.
    anomalies : tuple of Anomaly
        Runs of rejected epochs.
    warnings : tuple of str
        What is to be known before the values are used.
    """

    t0: Measured
    u0: Measured
    t_e: Measured
    t_eff: Measured
    rho: Measured | None
    covariance: Float64Array
    sets: tuple[SetFit, ...]
    gain: float
    correlation: float
    is_degenerate: bool
    is_observed: bool
    anomalies: tuple[Anomaly, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def n(self) -> int:
        """Number of epochs that were kept."""
        return sum(one.n for one in self.sets)

    @property
    def chi2(self) -> float:
        """Sum of squares of the kept epochs, with the errors as given."""
        return sum(one.chi2 for one in self.sets)

    @property
    def dof(self) -> int:
        """Degrees of freedom."""
        return self.n - 3 - 2 * len(self.sets)

    @property
    def is_adequate(self) -> bool:
        """Whether neither the residuals nor rejected epochs show more than a point lens."""
        return self.correlation < CORRELATED and not self.anomalies

    @property
    def is_reliable(self) -> bool:
        """Whether t0, u0 and tE can be used without reading the warnings."""
        return self.is_adequate and self.is_observed and not self.is_degenerate

    @property
    def peak_magnification(self) -> float:
        """Magnification at the maximum."""
        return float(self.magnification(np.array([self.t0.value]))[0])

    def magnification(self, time: FloatArray) -> Float64Array:
        """Return the magnification at some times [d]."""
        tau = (np.asarray(time, np.float64) - self.t0.value) / self.t_e.value
        return magnification(np.hypot(self.u0.value, tau), 0.0 if self.rho is None else self.rho.value)

    def document(self) -> dict[str, Any]:
        """Return the results in types of JSON and of the database; None where a value is not finite."""
        parameters = {"t0": self.t0, "u0": self.u0, "tE": self.t_e, "teff": self.t_eff, "rho": self.rho}
        return {
            "parameters": {name: _plain(vars(found)) for name, found in parameters.items() if found is not None},
            "order_of_covariance": ["t0", "u0", "tE", "rho"][: len(self.covariance)],
            "covariance": self.covariance.tolist(),
            **{name: getattr(self, name) for name in ("n", "chi2", "dof", "gain", "correlation", "peak_magnification")},
            **{name: getattr(self, name) for name in ("is_adequate", "is_degenerate", "is_observed", "is_reliable")},
            "warnings": list(self.warnings),
            "anomalies": [_plain(vars(one)) for one in self.anomalies],
            "sets": [_plain({name: getattr(one, name) for name in SET_FIELDS}) for one in self.sets],
        }


SET_FIELDS = (
    *("name", "n", "n_rejected", "chi2", "error_scale", "source_flux", "source_flux_error", "blend_flux"),
    *("blend_flux_error", "blend_ratio", "zero_point", "source_mag", "source_mag_error", "blend_mag", "baseline_mag"),
)
"""What a document holds of each data set."""


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in values.items()
    }
