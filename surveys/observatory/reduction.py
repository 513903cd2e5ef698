"""Reduction of raw photometry to light curves, separated by filter and season."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np

from obsarchive.errors import ConfigError, did_you_mean
from obsarchive.science.astrometry.spherical import tangent_plane_offsets
from obsarchive.science.light_curves.light_curve import seasons
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import standard_photometry
from surveys.parameters import Configured
from surveys.source import Source

NOT_NEGATIVE = ("gap", "radius", "mag_range")
"""Arguments of reductions that are lengths of something."""


class PhotometryReducer(Configured):
    """Reduction of the raw photometry of a survey."""

    name: str = ""
    output_folder: str = ""
    filter_names: ClassVar[Mapping[str, str]] = {}
    """Names of filters in light curves, by those of the survey."""

    def reduce(
        self, dataset: Source | RawPhotometry, data_type: str = "photometry", to: str | None = None, **kwargs: Any
    ) -> list[Lightcurve]:
        """Reduce raw data to light curves, one for each filter and season; they are not stored.

        Parameters
        ----------
        dataset : RawPhotometry or Source
            Raw data, or their source.
        data_type : str
            ``photometry``; another type needs a method ``reduce_<type>``.
        to : str, optional
            ``lcs``: the same as photometry, for older scripts.
        **kwargs
            Arguments of the reduction; they override those of ``pars.reducer``.

        Returns
        -------
        list of Lightcurve
            Numbered from 1; empty if there are no data.

        Raises
        ------
        ConfigError
            An unknown argument, or a type without a method.
        Unprocessable
            Data without times, or without magnitudes and fluxes.
        """
        raw = dataset.raw_photometry[self.name] if isinstance(dataset, Source) else dataset
        kind = "photometry" if to in ("lcs", "lightcurves") else to or data_type
        method = getattr(self, f"reduce_{kind}", None)
        if method is None:
            raise ConfigError(f"{self.name} cannot reduce {kind!r}: there is no method reduce_{kind}")
        arguments = {**self.pars.reducer, **kwargs}
        self._check_arguments(arguments, method, "reducer")
        curves = [] if raw.is_empty else method(raw, **arguments)
        for number, curve in enumerate(curves, 1):
            curve.altdata |= {"series_number": number, "series_total": len(curves)}
        return cast(list[Lightcurve], curves)

    def reduce_photometry(
        self,
        dataset: RawPhotometry,
        gap: float = 40.0,
        radius: float = 0.0,
        mag_range: float = 0.0,
        drop_flagged: bool = False,
        drop_bad: bool = False,
    ) -> list[Lightcurve]:
        """Split raw photometry by filter and season.

        Parameters
        ----------
        dataset : RawPhotometry
            Raw data.
        gap : float
            A season ends where no epoch follows for this time [d]; 0: no split.
        radius : float
            Epochs farther than this from the source are rejected [arcsec]; 0: no limit.
        mag_range : float
            Light curves whose median differs by more than this from the catalogue are rejected [mag]; 0: no limit.
        drop_flagged, drop_bad : bool
            Whether epochs that the survey flagged are rejected; otherwise they are kept with their flag.

        Returns
        -------
        list of Lightcurve

        Raises
        ------
        Unprocessable
            Data without times, or without magnitudes and fluxes.
        """
        columns = self.standard_columns(dataset)
        keep = np.isfinite(columns["flux"]) | np.isfinite(columns["mag"])
        if radius > 0 and dataset.altdata.get("ra") is not None and np.isfinite(columns["ra"]).any():
            position = float(dataset.altdata["ra"]), float(dataset.altdata["dec"])
            east, north = tangent_plane_offsets(columns["ra"], columns["dec"], position)
            keep &= ~(np.hypot(east, north) > radius)
        if drop_flagged or drop_bad:
            keep &= ~columns["flag"]
        return self.split(dataset, columns, keep, gap, mag_range)

    def standard_columns(self, dataset: RawPhotometry) -> Columns:
        """Return raw photometry in the columns of light curves; remarks are left with the data."""
        dataset.remarks = []
        return standard_photometry(dataset.columns, dataset.altdata, remarks=dataset.remarks)

    def split(
        self, dataset: RawPhotometry, columns: Columns, keep: np.ndarray, gap: float, mag_range: float = 0.0
    ) -> list[Lightcurve]:
        """Return a light curve for each filter and season of selected epochs.

        Parameters
        ----------
        dataset : RawPhotometry
            Raw data, for the metadata.
        columns : dict of str to ndarray (n,)
            Standard columns, sorted by time.
        keep : ndarray of bool (n,)
            Epochs that are selected.
        gap, mag_range : float
            As of `reduce_photometry`.

        Returns
        -------
        list of Lightcurve
        """
        curves = []
        names = columns["filter"]
        for name in _distinct(names[keep]):
            chosen = np.flatnonzero(keep & (names == name))
            mjd = columns["mjd"][chosen]
            for season in seasons(mjd, gap) if gap > 0 else [slice(None)]:
                epochs = chosen[season]
                own = _compact(columns, epochs)
                if mag_range > 0 and not _is_about(own["mag"], dataset.altdata.get("mag"), mag_range):
                    continue
                curves.append(self.lightcurve(dataset, own, self.filter_names.get(name, name)))
        return curves

    def lightcurve(self, dataset: RawPhotometry, columns: Columns, filter_name: str) -> Lightcurve:
        """Return a light curve with the metadata of raw data.

        Parameters
        ----------
        dataset : RawPhotometry
            Raw data.
        columns : dict of str to ndarray (n,)
            Columns of the light curve.
        filter_name : str
            Its filter.

        Returns
        -------
        Lightcurve
        """
        known = dataset.altdata
        inherited: dict[str, Any] = {key: known[key] for key in ("name", "ra", "dec", "mag") if key in known}
        facts = {**inherited, "observatory": self.name, "filter": filter_name, "project": self.output_folder}
        if dataset.remarks:
            facts["remarks"] = list(dataset.remarks)
        return Lightcurve(columns, facts, observatory=self.name, project=self.output_folder)

    def _check_arguments(self, given: Mapping[str, Any], method: Callable[..., Any], where: str) -> None:
        """Raise ConfigError for unknown or negative arguments of a method, before the first source is processed."""
        known = _parameters(method)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            return
        for name in given:
            if name not in known:
                raise ConfigError(f"{self.name}: {where}: unknown argument {name!r}{did_you_mean(name, known)}")
            if name in NOT_NEGATIVE and isinstance(given[name], int | float) and not given[name] >= 0:
                raise ConfigError(f"{self.name}: {where}: {name} must not be negative, found {given[name]}")


@lru_cache(maxsize=64)
def _parameters(method: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(method).parameters


def _distinct(names: np.ndarray) -> list[str]:
    """Return different names in their order; most light curves have a single one, which need not be sorted."""
    if len(names) and (names == names[0]).all():
        return [str(names[0])]
    return cast(list[str], np.unique(names).tolist())


def _compact(columns: Columns, epochs: np.ndarray) -> Columns:
    """Return some epochs with the precision that they need: double for times and coordinates, single for brightness."""
    made: Columns = {}
    for name, values in columns.items():
        if name == "filter":
            continue
        short = values.dtype == np.float64 and name not in ("mjd", "ra", "dec")
        made[name] = values[epochs].astype(np.float32) if short else values[epochs]
    return made


def _is_about(mag: np.ndarray, expected: Any, mag_range: float) -> bool:
    known = mag[np.isfinite(mag)]
    return expected is None or not known.size or abs(float(np.median(known)) - float(expected)) <= mag_range
