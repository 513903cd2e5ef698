"""The point lens of a source: its parameters for a table, and the model over the light curve."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.core.significant_digits import is_number
from obsarchive.science.astrometry.times import JD_OF_MJD
from obsarchive.science.light_curves.point_lens import magnification
from obsarchive.web.models.comparison import MAGNITUDES_PER_E
from obsarchive.web.models.light_curve_data import MAG_DIGITS, TIME_DIGITS, Curve, Facts

POINTS = 400
LABELS = {"t0": ("t₀", "MJD"), "u0": ("u₀", ""), "tE": ("tE", "d"), "teff": ("u₀ tE", "d"), "rho": ("ρ", "")}
"""Names and units of the parameters."""


@dataclass(frozen=True)
class LensView:
    """A fit as the analysis stored it.

    Parameters
    ----------
    document : mapping
        That of :meth:`obsarchive.science.light_curves.point_lens_model.PointLens.document`.
    """

    document: Mapping[str, Any]
    offset_d: float = JD_OF_MJD
    """What is taken off Julian days: light curves have modified ones, or 0 where they have those themselves."""

    @classmethod
    def of(cls, stored: Any, offset_d: float = JD_OF_MJD) -> "LensView | None":
        """Return the view of what is stored; None if it is no fit."""
        parameters = stored.get("parameters") if isinstance(stored, Mapping) else None
        if not isinstance(parameters, Mapping):
            return None
        known = [parameters.get(name) for name in ("t0", "u0", "tE")]
        if not all(isinstance(one, Mapping) and isinstance(one.get("value"), int | float) for one in known):
            return None
        return cls(stored, offset_d)

    def _value(self, name: str) -> float:
        return float(self.document["parameters"][name]["value"])

    @property
    def sets(self) -> list[Mapping[str, Any]]:
        """What it says of each observatory and filter."""
        return [{**one, **_blend_errors(one)} for one in self.document.get("sets") or [] if isinstance(one, Mapping)]

    @property
    def warnings(self) -> list[str]:
        """What is to be known before the values are used."""
        return [str(one) for one in self.document.get("warnings") or []]

    @property
    def rows(self) -> list[tuple[str, str, float, float | None]]:
        """Parameters: name, unit, value, error."""
        rows = []
        for name, (label, unit) in LABELS.items():
            found = self.document["parameters"].get(name)
            if not isinstance(found, Mapping):
                continue
            value, error = float(found["value"]), found.get("error")
            if name == "t0":
                value, unit = value - self.offset_d, unit if self.offset_d else "BJD"
            rows.append((label, unit, value, error))
        return rows

    def over(self, drawn: Iterable[Curve]) -> list[Curve]:
        """Return light curves with the magnitudes of the model at their epochs."""
        return [replace(one, model=self.magnitude(one.instrument, one.filter, one.time)) for one in drawn]

    def curves(self, drawn: Iterable[Curve]) -> list[Facts]:
        """Return the model for the plot, for each instrument and filter that is drawn.

        Parameters
        ----------
        drawn : iterable of Curve
            The light curves.

        Returns
        -------
        list of dict
            ``instrument``, ``filter``, ``time`` and ``mag``.
        """
        ranges: dict[tuple[str, str], list[float]] = {}
        for one in drawn:
            if len(one.time):
                ends = float(np.nanmin(one.time)), float(np.nanmax(one.time))
                ranges.setdefault((one.instrument, one.filter), []).extend(ends)
        fluxes = {str(one.get("name")): one for one in self.sets}
        return [
            self._curve(observatory, band, (min(ends), max(ends)), fluxes[name])
            for (observatory, band), ends in ranges.items()
            if (name := f"{observatory} {band}".strip()) in fluxes
        ]

    def _curve(self, observatory: str, band: str, span: tuple[float, float], found: Mapping[str, Any]) -> Facts:
        t0, u0, t_e = self._value("t0") - self.offset_d, self._value("u0"), self._value("tE")
        # densely at the maximum, and to the ends of the data
        x = np.linspace(-1.0, 1.0, POINTS)
        reach = max(abs(span[0] - t0), abs(span[1] - t0), t_e)
        time = np.clip(t0 + np.sinh(x * np.arcsinh(reach / (u0 * t_e))) * u0 * t_e, *span)
        mag = self._magnitude(time, found)
        shown = np.isfinite(mag)
        return {
            "instrument": observatory,
            "filter": band,
            "time": np.round(time[shown], TIME_DIGITS).tolist(),
            "mag": np.round(mag[shown], MAG_DIGITS).tolist(),
        }

    def magnitude(self, observatory: str, band: str, time: NDArray[Any]) -> NDArray[Any] | None:
        """Return the magnitudes of the model at times of a light curve; None if it was not fitted."""
        name = f"{observatory} {band}".strip()
        found = next((one for one in self.sets if str(one.get("name")) == name), None)
        return None if found is None else self._magnitude(np.asarray(time, np.float64), found)

    def _magnitude(self, time: NDArray[Any], found: Mapping[str, Any]) -> NDArray[Any]:
        rho = self._value("rho") if "rho" in self.document["parameters"] else 0.0
        t0 = self._value("t0") - self.offset_d
        magnified = magnification(np.hypot(self._value("u0"), (time - t0) / self._value("tE")), rho)
        flux = float(found["source_flux"]) * magnified + float(found["blend_flux"])
        mag: NDArray[Any] = float(found["zero_point"]) - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
        return mag


def _blend_errors(one: Mapping[str, Any]) -> dict[str, float]:
    """Return the errors of magnitude and ratio of the blend of a light curve.

    Source and blend add up to the baseline, which is known far better than either: one is too large as the other is
    too small.
    """
    source, blend, error = (one.get(name) for name in ("source_flux", "blend_flux", "blend_flux_error"))
    if not (is_number(source) and is_number(blend) and is_number(error)) or source == 0:
        return {}
    of_ratio = {"blend_ratio_error": error * abs(1 + blend / source) / abs(source)}
    return {"blend_mag_error": MAGNITUDES_PER_E * error / blend, **of_ratio} if blend > 0 else of_ratio
