"""What the page of a source shows: light curves, events, features, neighbours, where its photometry comes from."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from flask import request
from flask_login import current_user

from obsarchive.errors import ArchiveError
from obsarchive.store import Cone, Document
from obsarchive.web.framework.authorization import not_found
from obsarchive.web.framework.context import portal
from obsarchive.web.models import light_curve_data, light_curve_models
from obsarchive.web.models.lens_view import LensView
from obsarchive.web.models.visible_sources import visible_projects, visible_runs
from obsarchive.web.surveys.finder_chart import RADIUS_ARCSEC, Chart, chart
from obsarchive.web.surveys.source_urls import unescaped
from surveys.dataset import Lightcurve, data_root

MOST_NEIGHBOURS = 200
MOST_DETECTIONS = 500
_UNITS = {"_mag_per_d": "mag/d", "_mag": "mag", "_d": "d"}
_NAMES = {
    "n": "epochs",
    "reduced_chi2": "reduced χ²",
    "von_neumann": "von Neumann ratio",
    "stetson_j": "Stetson J",
    "stetson_k": "Stetson K",
    "beyond_1_sigma": "beyond 1 σ",
}
"""What features are called where their names are not what an astronomer would write."""


def labels(projects: Iterable[Document]) -> dict[str, str]:
    """Return what projects are called: by their names, where those tell them apart."""
    names = {str(run["_id"]): str(run.get("name") or run["_id"]) for run in projects}
    used = Counter(names.values())
    return {run: name if used[name] == 1 else run for run, name in names.items()}


def find_source(name: str) -> Document:
    """Return a source that the user may see; 404 for others."""
    runs, names = visible_runs(), dict.fromkeys([unescaped(name), name])
    found = next((found for one in names if (found := portal().store.sources.find(one, runs))), None)
    if found is None:
        not_found()
    return found


def message_of(err: Exception) -> str:
    """Return what went wrong, without where on this machine."""
    return str(err).replace(f"{data_root()}/", "")


@dataclass(frozen=True)
class Curves:
    """The light curves of a source in a project.

    Parameters
    ----------
    good : list of Lightcurve
        Those that could be read.
    problems : list of str
        What is wrong with the others.
    """

    good: list[Lightcurve]
    problems: list[str]


@dataclass(frozen=True)
class SourceView:
    """A source as one project sees it.

    Parameters
    ----------
    document : dict
        The source.
    projects : list of dict
        Projects that have it and that the user may see.
    known : list of str
        Projects that the user may request; administrators also ones that are otherwise unknown.
    run : str
        The project whose results are meant; empty: there is none.
    """

    document: Document
    projects: Sequence[Document]
    known: Sequence[str]
    run: str

    @classmethod
    def find(cls, name: str) -> "SourceView":
        """Return the source of this name, with the results of the requested project, or else of the newest."""
        document = find_source(name)
        of_source = document.get("projects") or []
        projects = [run for run in visible_projects() if run["_id"] in of_source]
        known = [str(run["_id"]) for run in projects]
        if current_user.is_admin:
            known += [run for run in of_source if run not in known]
        wanted = request.args.get("project", "")
        if wanted and wanted not in known:
            not_found()
        return cls(document, projects, known, wanted or next(iter(known), ""))

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document["_id"])

    @property
    def position(self) -> tuple[float, float] | None:
        """Right ascension and declination [deg], if they are known."""
        ra, dec = self.document.get("ra_deg"), self.document.get("dec_deg")
        return (float(ra), float(dec)) if ra is not None and dec is not None else None

    def _found(self, kind: str, **query: Any) -> list[Document]:
        own = {"source_name": self.name, **query}
        return list(portal().store.surveys.find(kind, own, limit=MOST_DETECTIONS))

    @cached_property
    def raw(self) -> list[Document]:
        """Its raw photometry, by observatory."""
        return self._found("raw_photometry")

    @cached_property
    def properties(self) -> Document:
        """Summary of the analysis; empty if there was none."""
        return next(iter(self._found("properties", run=self.run)), {})

    @cached_property
    def detections(self) -> list[Document]:
        """Real events, the strongest first."""
        query = {"source_name": self.name, "run": self.run, "simulated": False}
        return portal().store.surveys.strongest(query, MOST_DETECTIONS)

    @cached_property
    def simulated(self) -> list[Document]:
        """Detections in light curves with injected events."""
        query = {"source_name": self.name, "run": self.run, "simulated": True}
        return portal().store.surveys.strongest(query, MOST_DETECTIONS)

    @property
    def extra(self) -> Mapping[str, Any]:
        """Further results of the analysis."""
        found = self.properties.get("extra")
        return found if isinstance(found, Mapping) else {}

    @property
    def injections(self) -> list[Mapping[str, Any]]:
        """Events that were put in, with their fates."""
        found = self.extra.get("injections")
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    @property
    def period(self) -> Mapping[str, Any]:
        """The period that the analysis found; empty if there is none."""
        found = self.extra.get("period")
        known = isinstance(found, Mapping) and isinstance(found.get("period_d"), int | float) and found["period_d"] > 0
        return found if known and isinstance(found, Mapping) else {}

    @cached_property
    def point_lens(self) -> "LensView | None":
        """The point lens that the analysis fitted to its event."""
        return LensView.of(self.extra.get("point_lens"))

    @cached_property
    def lightcurves(self) -> list[Document]:
        """Documents of its light curves; of one that was kept with and without scores, that with scores."""
        best: dict[tuple[Any, ...], Document] = {}
        for found in self._found("lightcurves", run=self.run):
            key = found.get("observatory"), found.get("series_number"), found.get("filter")
            if key not in best or found.get("was_processed"):
                best[key] = found
        return [best[key] for key in sorted(best, key=str)]

    def curves(self, wanted: Mapping[str, str] | None = None) -> Curves:
        """Read the light curves, or those with the wanted observatory, filter and series."""
        wanted_values = {key: value for key, value in (wanted or {}).items() if value}
        good, problems = [], []
        for document in self.lightcurves:
            if any(str(document.get(key)) != value for key, value in wanted_values.items()):
                continue
            try:
                curve = Lightcurve.from_document(document)
                curve.load()
            except ArchiveError as err:
                problems.append(message_of(err))
                continue
            if not curve.is_simulated:
                good.append(curve)
        return Curves(good, problems)

    def facts(self, curves: Iterable[Lightcurve], period_d: float | None) -> dict[str, Any]:
        """Return the data of the plot of its light curves.

        Parameters
        ----------
        curves : iterable of Lightcurve
            Curves to draw.
        period_d : float, optional
            Period with which they are folded [d].

        Returns
        -------
        dict
            What ``plots.js`` draws.
        """
        curves = list(curves)
        known = self.period.get("period_d")
        epoch = self.period.get("epoch_mjd") if period_d is not None and period_d == known else None
        events = [_event(found) for found in self.detections if _is_placed(found)]
        drawn, models = self._modelled([drawn_curve(curve) for curve in curves], period_d, epoch or 0.0)
        return light_curve_data.light_curves(drawn, light_curve_data.MJD, period_d, epoch or 0.0, events, models)

    def _modelled(
        self, drawn: list[light_curve_data.Curve], period_d: float | None, epoch: float
    ) -> tuple[list[light_curve_data.Curve], list[dict[str, Any]]]:
        """Return light curves with the model of the analysis, and its lines: harmonics where they are folded."""
        if period_d is not None:
            found = light_curve_models.folded(drawn, period_d, epoch)
            return found.curves, found.models
        lens = self.point_lens
        return (lens.over(drawn), lens.curves(drawn)) if lens else (drawn, [])

    @cached_property
    def features(self) -> "Features":
        """Features, a row each, a column for each observatory and filter."""
        found = self.properties.get("features")
        return Features.of(found if isinstance(found, Mapping) else {})

    @cached_property
    def chart(self) -> Chart | None:
        """Finder chart of the source and its neighbours."""
        if self.position is None:
            return None
        near = Cone(*self.position, RADIUS_ARCSEC / 3600)
        return chart(self.document, portal().store.sources.near(visible_runs(), near, MOST_NEIGHBOURS))


def _is_placed(event: Document) -> bool:
    return all(isinstance(event.get(f"mjd_{end}"), int | float) for end in ("start", "peak", "stop"))


def _event(found: Document) -> dict[str, Any]:
    score = f"S/N {float(found.get('score') or 0):.1f}".replace("-", "−")
    ends = {end: float(found[f"mjd_{end}"]) for end in ("start", "peak", "stop")}
    words = f"{ends['peak']:.3f}  event of {score}  {found.get('filter')} {found.get('observatory')}"
    return {**ends, "filter": found.get("filter"), "text": words}


def drawn_curve(curve: Lightcurve) -> light_curve_data.Curve:
    """Return a light curve of a survey, for a plot."""
    columns = curve.columns
    is_flagged = columns.get("qflag", columns.get("flag", np.zeros(len(curve), bool))).astype(bool)
    brightness = columns["mjd"], columns["mag"], columns["mag_err"]
    return light_curve_data.Curve(curve.observatory, curve.filter, *brightness, is_flagged)


@dataclass(frozen=True)
class Features:
    """A table of features.

    Parameters
    ----------
    columns : list of str
        Observatories and filters.
    rows : list of (label, unit, list)
        Features with a value for each column.
    errors : list of list
        Standard errors of the rows' values; None where there is none.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[tuple[str, str, list[Any]]] = field(default_factory=list)
    errors: list[list[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, features: Mapping[str, Any]) -> "Features":
        """Return the table of what an analysis noted, by observatory and filter."""
        groups = {str(name): values for name, values in features.items() if isinstance(values, Mapping)}
        single = {name: value for name, value in features.items() if not isinstance(value, Mapping)}
        if single:
            groups[""] = single
        names = dict.fromkeys(name for values in groups.values() for name in values)
        shown = [name for name in names if not str(name).endswith("_error")]
        rows = [(*_label(str(name)), [values.get(name) for values in groups.values()]) for name in shown]
        errors = [[values.get(f"{name}_error") for values in groups.values()] for name in shown]
        return cls(list(groups), rows, errors)


def _label(name: str) -> tuple[str, str]:
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix).replace("_", " "), unit
    return _NAMES.get(name, name.replace("_", " ")), ""


def distances_arcsec(documents: Sequence[Document], cone: Cone) -> list[float]:
    """Return the angular distances of sources from the centre of a cone.

    Parameters
    ----------
    documents : sequence of dict
        The sources.
    cone : Cone
        The cone.

    Returns
    -------
    list of float
        Distances [arcsec], exact for any angle.
    """
    ra, dec = (np.radians([float(one.get(key) or 0.0) for one in documents]) for key in ("ra_deg", "dec_deg"))
    ra0, dec0 = math.radians(cone.ra_deg), math.radians(cone.dec_deg)
    chord = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * math.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return [float(value) for value in np.degrees(2 * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))) * 3600]
