"""From raw photometry to light curves: filters apart, seasons apart."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, cast

import numpy as np

from obsarchive.errors import ConfigError
from obsarchive.science.astrometry.spherical import tangent_plane_offsets
from obsarchive.science.light_curves.light_curve import seasons
from surveys.dataset import Lightcurve, RawPhotometry
from surveys.formats.hdf5_light_curves import Columns
from surveys.formats.photometry_columns import standard_photometry
from surveys.parameters import Configured
from surveys.source import Source


class PhotometryReducer(Configured):
    """What a survey does with its raw photometry."""

    name: str = ""
    output_folder: str = ""
    filter_names: ClassVar[Mapping[str, str]] = {}
    """Filters as light curves have them, by the names that the survey uses."""

    def reduce(
        self, dataset: Source | RawPhotometry, data_type: str = "photometry", to: str | None = None, **kwargs: Any
    ) -> list[Lightcurve]:
        """Make light curves of raw data, one for each filter and season; they are not kept.

        Parameters
        ----------
        dataset : RawPhotometry or Source
            Raw data, or the source whose raw data are meant.
        data_type : str
            ``photometry``; another type needs a method ``reduce_<type>``.
        to : str, optional
            ``lcs``: the same as photometry, as older scripts have it.
        **kwargs
            Arguments of the reduction; they win over those of ``pars.reducer``.

        Raises
        ------
        ConfigError
            An unknown argument, or a type that nobody can reduce.
        Unprocessable
            Data without times or without brightness.
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
            A season ends where nothing was observed for so long [d]; 0: all is one season.
        radius : float
            Epochs farther than this from the place of the source go [arcsec]; 0: all stay.
        mag_range : float
            A light curve whose median differs by more than this from the catalogue's magnitude goes [mag]; 0: all stay.
        drop_flagged, drop_bad : bool
            Epochs that the survey flagged go (they are marked, not dropped, otherwise).
        """
        columns = self.standard_columns(dataset)
        keep = np.isfinite(columns["flux"]) | np.isfinite(columns["mag"])
        if radius > 0 and dataset.altdata.get("ra") is not None and np.isfinite(columns["ra"]).any():
            place = float(dataset.altdata["ra"]), float(dataset.altdata["dec"])
            east, north = tangent_plane_offsets(columns["ra"], columns["dec"], place)
            keep &= ~(np.hypot(east, north) > radius)
        if drop_flagged or drop_bad:
            keep &= ~columns["flag"]
        return self.split(dataset, columns, keep, gap, mag_range)

    def standard_columns(self, dataset: RawPhotometry) -> Columns:
        """Return raw photometry in the columns of light curves."""
        return standard_photometry(dataset.columns, dataset.altdata)

    def split(
        self, dataset: RawPhotometry, columns: Columns, keep: np.ndarray, gap: float, mag_range: float = 0.0
    ) -> list[Lightcurve]:
        """Return a light curve for each filter and season of the epochs that are kept."""
        curves = []
        names = columns["filter"]
        for name in np.unique(names[keep]).tolist():
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
        """Return a light curve of raw data, with what it inherits."""
        known = dataset.altdata
        inherited: dict[str, Any] = {key: known[key] for key in ("name", "ra", "dec", "mag") if key in known}
        facts = {**inherited, "observatory": self.name, "filter": filter_name, "project": self.output_folder}
        return Lightcurve(columns, facts, observatory=self.name, project=self.output_folder)

    def _check_arguments(self, given: Mapping[str, Any], method: Callable[..., Any], where: str) -> None:
        """Refuse what a method does not know, before the first source is touched."""
        known = inspect.signature(method).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            return
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise ConfigError(
                    f"{self.name}: {where}: unknown argument {name!r}"
                    + (f"; did you mean {near[0]!r}?" if near else "")
                )


def _compact(columns: Columns, epochs: np.ndarray) -> Columns:
    """Return some epochs with the digits that they need: times and places in double precision, brightness in single."""
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
