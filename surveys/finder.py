"""Event detection: runs of deviating epochs, brightenings and dips, and matched filters."""

from typing import Any

import numpy as np

from obsarchive.errors import ConfigError
from obsarchive.science.light_curves.event_templates import SHAPES, Matched, fit_event, matched_filter, template_widths
from obsarchive.science.light_curves.events import Event, find_events, joined_events, signal_to_noise
from obsarchive.science.light_curves.light_curve import Baseline, delta_magnitude
from surveys.dataset import Lightcurve
from surveys.detection import Detection
from surveys.formats.photometry_columns import known
from surveys.parameters import Configured, Parameters

Found = tuple[Event, str, float | None, float | None]
"""An event, the method that detected it, and width [d] and amplitude [µJy] of the template."""


class ParsFinder(Parameters):
    """Parameters of the event detection."""

    default_cfg_key = "finder"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.snr_threshold = add("snr_threshold", 5.0, float, "S/N of the strongest epoch of an event", least=0)
        self.snr_edge = add("snr_edge", 3.0, float, "least S/N of all epochs of an event", least=0)
        self.add_alias("snr_threshold_sidebands", "snr_edge")
        self.min_epochs = add(
            "min_epochs", 2, int, "least number of epochs of an event; 1: single outliers are events", least=1
        )
        self.bridge = add("bridge", 1, int, "largest number of epochs below snr_edge within an event", least=0)
        self.abs_snr = add("abs_snr", True, bool, "whether dips are events as well")
        self.max_det_per_lc = add(
            "max_det_per_lc", 5, int, "largest number of events of a light curve; the strongest are kept", least=0
        )
        self.matched_filter = add("matched_filter", True, bool, "whether matched filters are used")
        self.filter_threshold = add("filter_threshold", 6.0, float, "least S/N of a matched filter", least=0)
        self.filter_shape = add("filter_shape", "gaussian", str, "gaussian, box or microlensing")
        self.filter_longest = add("filter_longest", 30.0, float, "longest width of a template", unit="d", least=0)
        self.baseline = add("baseline", None, (None, float), "quiescent flux; None: from the light curve", unit="uJy")


class Finder(Configured):
    """Event detection in light curves.

    Scores are S/N with the larger of an epoch's error and the scatter of the light curve. An event has an epoch beyond
    ``snr_threshold`` and at least ``min_epochs`` beyond ``snr_edge``: real light curves have outliers that no error
    explains. Matched filters detect fainter events that last for several epochs; their score excludes the epoch that
    contributes most.
    """

    pars_class = ParsFinder

    def _complete(self) -> None:
        super()._complete()
        if self.pars.filter_shape not in SHAPES:
            raise ConfigError(f"finder: filter_shape: {self.pars.filter_shape!r} is none of {', '.join(SHAPES)}")

    def level(self, lightcurve: Lightcurve) -> Baseline:
        """Return the quiescent level of a light curve: measured, or the configured baseline, which has no scatter."""
        if self.pars.baseline is None:
            return lightcurve.level if lightcurve.quiescent is None else lightcurve.quiescent
        return Baseline(self.pars.baseline, 0.0, len(lightcurve))

    def process(self, lightcurve: Lightcurve) -> Lightcurve:
        """Return the light curve with ``snr`` and ``dmag`` [mag]; both are positive where it is brighter."""
        columns, level = lightcurve.columns, self.level(lightcurve)
        snr = signal_to_noise(columns["flux"], columns["flux_err"], level.mean, level.rms)
        # a known baseline has no scatter: the errors are then the softening of the asinh magnitudes
        softened = level if level.rms > 0 else Baseline(level.mean, float(np.nanmedian(columns["flux_err"])), level.n)
        added = {"snr": snr.astype(np.float32), "dmag": delta_magnitude(columns["flux"], softened).astype(np.float32)}
        processed = lightcurve.with_columns({**columns, **added}, was_processed=True)
        processed.quiescent = level
        return processed

    def detect(self, lightcurve: Lightcurve) -> list[Detection]:
        """Return the events of a processed light curve, the strongest first."""
        pars = self.pars
        columns, good = lightcurve.columns, lightcurve.good
        snr = columns["snr"]
        parts = find_events(snr, good, pars.snr_threshold, pars.snr_edge, pars.min_epochs, pars.bridge)
        events = joined_events(parts, columns["mjd"], snr, good, pars.snr_edge)
        found: list[Found] = [(event, "peak", None, None) for event in events]
        # the strongest first: what overlaps with it is the same event
        for item in self._filtered(lightcurve, good) if pars.matched_filter else ():
            if not _known(item[0], events):
                found.append(item)
                events.append(item[0])
        if not pars.abs_snr:
            found = [item for item in found if item[0].score > 0]
        found.sort(key=lambda item: -abs(item[0].score))
        return [
            self._detection(lightcurve, number, *item) for number, item in enumerate(found[: pars.max_det_per_lc], 1)
        ]

    def _filtered(self, lightcurve: Lightcurve, good: np.ndarray) -> list[Found]:
        """Return the events that matched filters detect, with indices of the whole light curve."""
        columns, level = lightcurve.columns, self.level(lightcurve)
        deviation = columns["flux"] - level.mean
        noise = np.fmax(columns["flux_err"], level.rms)  # the scatter where there is no error
        rows = np.flatnonzero(good & (noise > 0))
        if len(rows) < 2 * self.pars.min_epochs:
            return []
        mjd = columns["mjd"][rows]
        matched = matched_filter(
            mjd,
            deviation[rows],
            noise[rows],
            template_widths(mjd, self.pars.filter_longest),
            self.pars.filter_shape,
        )
        threshold = self.pars.filter_threshold
        everything = np.ones(len(rows), bool)
        events = find_events(matched.score, everything, threshold, threshold / 2)
        return [self._spread(event, matched, mjd, rows) for event in events]

    def _spread(self, event: Event, matched: Matched, mjd: np.ndarray, rows: np.ndarray) -> Found:
        """Return the event with the epochs that lie within twice the width of its template."""
        width = float(matched.width_d[event.peak])
        inside = np.flatnonzero(np.abs(mjd - mjd[event.peak]) <= 2 * width)
        whole = Event(int(rows[inside[0]]), int(rows[inside[-1]]) + 1, int(rows[event.peak]), event.score, len(inside))
        return whole, "matched filter", width, float(matched.amplitude[event.peak])

    def _detection(
        self,
        lightcurve: Lightcurve,
        number: int,
        event: Event,
        method: str,
        width: float | None,
        amplitude: float | None,
    ) -> Detection:
        columns = lightcurve.columns
        span = slice(event.start, event.stop)
        mjd = columns["mjd"]
        return Detection(
            source_name=lightcurve.source_name,
            observatory=lightcurve.observatory,
            run=lightcurve.project,
            filter=lightcurve.filter,
            series_number=lightcurve.series_number,
            number=number,
            method=method,
            score=event.score,
            mjd_start=float(mjd[event.start]),
            mjd_peak=float(mjd[event.peak]),
            mjd_stop=float(mjd[event.stop - 1]),
            peak_mag=known(columns["mag"][event.peak]),
            peak_mag_error=known(columns["mag_err"][event.peak]),
            n_epochs=event.n_epochs,
            width_d=width,
            amplitude=amplitude,
            fit=self._fit(lightcurve, event, width),
            quality=bool(columns["qflag"][span].any()) if "qflag" in columns else False,
        )

    def _fit(self, lightcurve: Lightcurve, event: Event, width: float | None) -> dict[str, float]:
        """Return time, width and amplitude of a template fitted to an event, with errors; empty without a fit."""
        columns, level = lightcurve.columns, self.level(lightcurve)
        noise = np.fmax(columns["flux_err"], level.rms)  # the scatter where there is no error
        rows = np.flatnonzero(lightcurve.good & (noise > 0))
        mjd, deviation = columns["mjd"], columns["flux"].astype(np.float64) - level.mean
        if width is None:
            # what lasts as long as the epochs that deviate, and one more on average
            lasts = float(mjd[event.stop - 1] - mjd[event.start])
            width = lasts * (1 + 1 / max(event.n_epochs, 1)) / 4
        start = float(mjd[event.peak]), width, float(deviation[event.peak])
        found = fit_event(mjd[rows], deviation[rows], noise[rows], start, self.pars.filter_shape)
        return {} if found is None else vars(found)


def _known(event: Event, others: list[Event]) -> bool:
    """Return whether an event overlaps with others of the same sign."""
    return any(
        event.start < other.stop and other.start < event.stop and event.score * other.score > 0 for other in others
    )
