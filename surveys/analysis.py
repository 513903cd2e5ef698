"""Analysis of sources: data quality, event detection, injection and recovery, features and periods.

One source at a time. An analysis of a user's own subclasses `Analysis` and overrides `analyze_photometry`: see
docs/surveys.md.
"""

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from obsarchive.config.field_types import import_class
from obsarchive.errors import ConfigError, Unprocessable
from obsarchive.science.light_curves.features import features
from surveys import point_lens
from surveys.dataset import Lightcurve
from surveys.event_groups import one_per_event
from surveys.finder import Finder
from surveys.histograms import Histogram
from surveys.parameters import Configured, Parameters
from surveys.periods import METHODS, find_period
from surveys.properties import Properties
from surveys.quality import QualityChecker
from surveys.repetition import is_repeated
from surveys.simulator import Simulator, injection_document, recovers
from surveys.source import Source, UniqueList

log = logging.getLogger(__name__)

Part = TypeVar("Part", bound=Configured)
PARTS = ("finder", "quality", "simulator")
NOT_CALLED = {
    "run_lightcurves": "a Finder overrides process(lightcurve) and detect(lightcurve), a QualityChecker "
    "check(lightcurve), a Simulator inject(lightcurve, number), an Analysis analyze_photometry(source)"
}
"""Methods of earlier packages that are called of an analysis alone, and what is overridden instead."""


class ParsAnalysis(Parameters):
    """Parameters of the analysis."""

    default_cfg_key = "analysis"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        for part in PARTS:
            for what in ("module", "class"):
                name = f"{part}_{what}"
                setattr(self, name, add(name, None, (None, str), f"{what} of another {part}"))
            setattr(self, f"{part}_kwargs", add(f"{part}_kwargs", {}, dict, f"parameters of the {part}"))
        for what in ("module", "class", "kwargs"):
            self.add_alias(f"simulation_{what}", f"simulator_{what}")
        self.snr_threshold = add("snr_threshold", None, (None, float), "that of the finder; None: its own", least=0)
        self.num_injections = add("num_injections", 1, int, "events injected into each source", least=0)
        self.save_processed = add("save_processed", False, bool, "whether light curves with scores are stored, too")
        # not critical: results without it stay valid
        self.point_lens = add(
            "point_lens", True, bool, "whether a point lens is fitted to single events", critical=False
        )
        self.period_search = add("period_search", "", str, "lomb-scargle or bls; empty: no search for periods")
        self.period_range = add("period_range", [0.1, 100.0], list, "shortest and longest period", unit="d")


class Analysis(Configured):
    """Analysis of a source: detections, simulated detections, features and the period.

    A run calls `analyze_source`, which calls `analyze_photometry`; the latter is what subclasses override. It reads
    ``source.lightcurves`` and writes its results to ``source.processed_lightcurves``, ``source.detections`` and
    ``source.properties``.
    """

    pars_class = ParsAnalysis
    finder: Finder
    checker: QualityChecker
    simulator: Simulator

    def _complete(self) -> None:
        super()._complete()
        if self.pars.period_search not in ("", *METHODS):
            raise ConfigError(f"analysis: period_search: {self.pars.period_search!r} is none of {', '.join(METHODS)}")
        more = {} if self.pars.snr_threshold is None else {"snr_threshold": self.pars.snr_threshold}
        self.finder = self._part("finder", Finder, more)
        self.checker = self._part("quality", QualityChecker, {})
        self.simulator = self._part("simulator", Simulator, {})
        for part in self.parts.values():
            refuse_uncalled(part, NOT_CALLED)

    def _part(self, name: str, default: type[Part], more: Mapping[str, Any]) -> Part:
        pars = self.pars
        made = load_class(pars[f"{name}_module"], pars[f"{name}_class"], default)
        own = {"project": pars.project, **({} if pars.cfg_file is None else {"cfg_file": pars.cfg_file})}
        return made(**own, **more, **pars[f"{name}_kwargs"])

    def _facts(self) -> dict[str, Any]:
        return {**{name: type(part).__name__ for name, part in self.parts.items()}, **self.pars.changed()}

    @property
    def parts(self) -> dict[str, Configured]:
        """Finder, quality checker and simulator, by the names of their configuration sections."""
        return {"finder": self.finder, "quality": self.checker, "simulator": self.simulator}

    def analyze_source(self, source: Source, run: str = "", cfg_hash: str = "") -> Source:
        """Analyse a source whose light curves are known.

        Parameters
        ----------
        source : Source
            A source with reduced `lightcurves`; its results are replaced.
        run, cfg_hash : str
            Folder of the project and hash of its configuration, noted in the results.

        Returns
        -------
        Source
            The same object, with its results.
        """
        source.processed_lightcurves = []
        source.detections = []
        source.properties = Properties(source.name, run, cfg_hash, has_data=len(source.lightcurves) > 0)
        self.run_lightcurves(source)
        simulated = [found for found in source.detections if found.simulated]
        real = [found for found in source.detections if not found.simulated]  # also of an analysis of a user's own
        source.detections = one_per_event(real, source.processed_lightcurves or source.lightcurves) + simulated
        for detection in source.detections:
            detection.source_name, detection.run, detection.cfg_hash = source.name, run, cfg_hash
        source.properties.n_detections = sum(not found.simulated for found in source.detections)
        return source

    def run_lightcurves(self, source: Source) -> None:
        """Analyse the light curves of a source: the name of `analyze_photometry` in virtualobserver.

        Parameters
        ----------
        source : Source
            A source with reduced `lightcurves`.
        """
        self.analyze_photometry(source)

    def analyze_photometry(self, source: Source) -> None:
        """Detect events, inject simulated ones and search for them, and compute features of the light curves."""
        for curve in source.lightcurves:
            processed = self.finder.process(self.checker.check(curve))
            source.processed_lightcurves.append(processed)
            source.detections += self.finder.detect(processed)
        source.detections = one_per_event(source.detections, source.processed_lightcurves)
        source.properties.features = self.describe(source.processed_lightcurves)
        self.simulate(source)
        if self.pars.period_search:
            self.search_period(source)
        if self.pars.point_lens:
            self.fit_point_lens(source)

    def describe(self, curves: list[Lightcurve]) -> dict[str, dict[str, float]]:
        """Return features by observatory and filter, of all seasons together."""
        groups: dict[str, list[Lightcurve]] = {}
        for curve in curves:
            groups.setdefault(f"{curve.observatory} {curve.filter}".strip(), []).append(curve)
        return {name: features(*_good_magnitudes(own)) for name, own in groups.items()}

    def simulate(self, source: Source) -> None:
        """Inject events, each into one of the light curves, and note which of them are recovered."""
        curves = [curve for curve in source.lightcurves if len(curve) > 1]
        injections: list[dict[str, Any]] = []
        for number in range(1, self.pars.num_injections + 1 if curves else 0):
            injected, truth = self.simulator.inject(curves[(number - 1) % len(curves)], number)
            processed = self.finder.process(self.checker.check(injected))
            found = one_per_event(self.finder.detect(processed), [processed])
            recovered = recovers(found, truth, processed.columns["mjd"])
            injections.append(injection_document(truth, recovered, found))
            for detection in found:
                detection.simulated, detection.sim_pars = True, injections[-1]
            source.detections += found
        if injections:
            source.properties.extra["injections"] = injections

    def search_period(self, source: Source) -> None:
        """Store the period in the properties of a source that repeats itself; single events have none."""
        if not source.processed_lightcurves:
            return
        parts = [_good_magnitudes([curve]) for curve in source.processed_lightcurves]
        mjd, mag, error = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        curves = zip(source.processed_lightcurves, parts, strict=True)
        bands = np.concatenate([np.full(len(part[0]), f"{c.observatory} {c.filter}") for c, part in curves])
        try:
            found = find_period(mjd, mag, error, bands, tuple(self.pars.period_range), self.pars.period_search)
        except Unprocessable as err:
            log.debug("%s: %s", source.name, err)
            return
        if is_repeated(found, mjd, mag, error, bands):
            source.properties.extra["period"] = {
                name: value for name, value in vars(found).items() if value is not None
            }

    def fit_point_lens(self, source: Source) -> None:
        """Store a point lens in the properties of a source whose one event has that shape."""
        options = point_lens.options_for(source.detections)
        if options is None:
            return
        try:
            found = point_lens.fit(source.processed_lightcurves, options)
        except Unprocessable as err:
            log.debug("%s: %s", source.name, err)
            return
        if found.is_reliable:
            source.properties.extra["point_lens"] = found.document()

    def count(self, histogram: Histogram, source: Source) -> None:
        """Add the scores of a source to a histogram.

        Parameters
        ----------
        histogram : Histogram
            Changed in place.
        source : Source
            An analysed source.
        """
        for curve in source.processed_lightcurves:
            columns, magnitude = curve.columns, source.mag
            known: dict[str, Any] = {name: columns[name] for name in ("snr", "dmag", "offset") if name in columns}
            exptime = float(np.nanmedian(columns["exptime"])) if np.isfinite(columns["exptime"]).any() else np.nan
            shared = {"mag": np.nan if magnitude is None else magnitude, "exptime": exptime, "filter": curve.filter}
            histogram.add(known, shared)
        histogram.add({}, {"mag": np.nan, "exptime": np.nan, "filter": ""}, [source.name])


def _good_magnitudes(curves: list[Lightcurve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times, magnitudes and errors of the good epochs, sorted by time."""
    parts = []
    for curve in curves:
        columns, good = curve.columns, curve.good
        parts.append([columns[name][good].astype(np.float64) for name in ("mjd", "mag", "mag_err")])
    mjd, mag, error = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(mjd, kind="stable")
    return mjd[order], mag[order], error[order]


def refuse_uncalled(part: object, names: Mapping[str, str]) -> None:
    """Raise ConfigError if an object of a user's own has methods that are never called.

    Parameters
    ----------
    part : object
        Part of an analysis.
    names : mapping of str to str
        Names of such methods, and what is called instead.
    """
    for name, instead in names.items():
        if hasattr(part, name):
            made = type(part)
            raise ConfigError(
                f"{made.__module__}.{made.__name__} has a method {name}, which is never called: {instead}"
            )


MOVED = {"surveys.ztf": "surveys.observatory.ztf", "surveys.tess": "surveys.observatory.tess"}
"""Modules of classes by the names that configurations written by earlier versions know them."""


def load_class(module: str | None, name: str | None, default: type[Part]) -> type[Part]:
    """Return a class of the user's own, or the default one.

    Parameters
    ----------
    module, name : str or None
        Its module and name; either may be missing, and is then that of `default`.
    default : type
        Used if both are missing; otherwise the class must be a subclass of it.

    Returns
    -------
    type
        The class.

    Raises
    ------
    ConfigError
        There is no such class, or it is no subclass of `default`.
    """
    if not module and not name:
        return default
    module = MOVED.get(module or "", module)
    path = f"{module or default.__module__}.{name or default.__name__}"
    try:
        found = import_class(path)
    except ValueError as err:
        raise ConfigError(str(err)) from err
    if not issubclass(found, default):
        raise ConfigError(f"{path} is no {default.__name__}: it must be a subclass of {default.__module__}")
    return found


def in_memory(source: Source, curves: list[Lightcurve]) -> Source:
    """Return a source with light curves that are not read from the database.

    Parameters
    ----------
    source : Source
        Changed in place.
    curves : list of Lightcurve
        Its light curves.

    Returns
    -------
    Source
        The same object.
    """
    source.lightcurves = UniqueList(curves)
    return source
