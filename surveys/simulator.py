"""Injection of simulated events into real light curves, and the recovery efficiency."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obsarchive.errors import ConfigError
from obsarchive.science.light_curves.event_templates import SHAPES, Shape, template
from obsarchive.science.light_curves.light_curve import magnitudes_of_fluxes
from surveys.dataset import Lightcurve
from surveys.detection import Detection
from surveys.parameters import Configured, Parameters
from surveys.provenance import seed_of

Floats = NDArray[np.float64]


class ParsSimulator(Parameters):
    """Parameters of the simulator."""

    default_cfg_key = "simulator"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        add = self.add_par
        self.shapes = add("shapes", ["gaussian", "box", "microlensing"], list, "shapes of injected events")
        self.amplitude_range = add("amplitude_range", [0.05, 5.0], list, "peak flux in units of the quiescent flux")
        self.duration_range = add(
            "duration_range",
            [1.0, 50.0],
            list,
            "widths of templates: sigma, half length, or a quarter of the delta_magnitude",
            unit="d",
        )
        self.dip_fraction = add("dip_fraction", 0.25, float, "fraction of events that are dips", least=0)
        self.seed = add("seed", 0, int, "seed of the random numbers", least=0)


@dataclass(frozen=True)
class Injection:
    """A simulated event.

    Parameters
    ----------
    number : int
        Number of the injection into this source, from 1.
    shape : str
        ``gaussian``, ``box`` or ``microlensing``.
    mjd, duration : float
        Time of its peak, and its width [d].
    amplitude : float
        Peak flux in units of the quiescent flux of the source; negative: a dip.
    expected_snr : float
        S/N of a perfect matched filter.
    observatory, filter : str
        Observatory and filter of the light curve.
    series_number : int
        Number of the light curve.
    """

    number: int
    shape: str
    mjd: float
    duration: float
    amplitude: float
    expected_snr: float
    observatory: str = ""
    filter: str = ""
    series_number: int = 1


class Simulator(Configured):
    """Injection of events into light curves; the same ones at every call."""

    pars_class = ParsSimulator

    def _complete(self) -> None:
        super()._complete()
        for shape in self.pars.shapes:
            if shape not in SHAPES:
                raise ConfigError(f"simulator: shapes: {shape!r} is none of {', '.join(SHAPES)}")
        for name in ("amplitude_range", "duration_range"):
            low, high = (*self.pars[name], 0, 0)[:2]
            if not 0 < low <= high:
                raise ConfigError(
                    f"simulator: {name}: two positive numbers, the smaller first; found {self.pars[name]}"
                )

    def inject(self, lightcurve: Lightcurve, number: int) -> tuple[Lightcurve, Injection]:
        """Return a light curve with a simulated event.

        The noise of the light curve is kept; the photon noise of the additional flux is added.

        Parameters
        ----------
        lightcurve : Lightcurve
            A real one, of at least one epoch.
        number : int
            Number of the injection, from 1.

        Returns
        -------
        Lightcurve
            With the event; not processed.
        Injection
            Parameters of the event.
        """
        columns = lightcurve.columns
        position = (
            f"{self.pars.seed}/{lightcurve.source_name}/{lightcurve.observatory}/{lightcurve.series_number}/{number}"
        )
        rng = np.random.default_rng(seed_of(position))
        level, mjd = lightcurve.level, columns["mjd"]
        duration = _log_uniform(rng, self.pars.duration_range)
        amplitude = _log_uniform(rng, self.pars.amplitude_range)
        if rng.random() < self.pars.dip_fraction:
            amplitude = -min(amplitude, 1.0)
        shape: Shape = self.pars.shapes[rng.integers(len(self.pars.shapes))]
        peak = float(rng.uniform(mjd[0], mjd[-1]))
        flux, error = columns["flux"].astype(np.float64), columns["flux_err"].astype(np.float64)
        added = amplitude * level.mean * template(shape, (mjd - peak) / duration)
        brighter = np.clip(1 + added / level.mean, 1e-3, None) if level.mean > 0 else np.ones(len(mjd))
        # photon noise: the variance grows with the flux, so an event adds noise of its own and a dip none
        shot = error * np.sqrt(np.clip(brighter - 1, 0, None))
        new_flux, new_error = flux + added + shot * rng.normal(size=len(mjd)), np.hypot(error, shot)
        mag, mag_err = magnitudes_of_fluxes(new_flux, new_error)
        made = {"flux": new_flux, "flux_err": new_error, "mag": mag, "mag_err": mag_err}
        noise = np.fmax(new_error, level.rms)
        good = lightcurve.good & (noise > 0)
        snr = float(np.sqrt(np.sum((added[good] / noise[good]) ** 2)))
        facts = lightcurve.observatory, lightcurve.filter, lightcurve.series_number
        truth = Injection(number, shape, peak, duration, amplitude, snr, *facts)
        kept = {name: values for name, values in columns.items() if name not in ("snr", "dmag", "qflag", "offset")}
        kept |= {name: values.astype(np.float32) for name, values in made.items()}
        return lightcurve.with_columns(kept, simulation_number=number, was_processed=False), truth


def _log_uniform(rng: np.random.Generator, span: Sequence[float]) -> float:
    return float(math.exp(rng.uniform(math.log(span[0]), math.log(span[1]))))


def recovers(detections: Iterable[Detection], truth: Injection, mjd: NDArray[Any]) -> bool:
    """Return whether one of the detections is the injected event: of the same sign and at its time.

    Parameters
    ----------
    detections : iterable of Detection
        Events found in the light curve.
    truth : Injection
        The injected event.
    mjd : ndarray (n,)
        Times of the light curve [d].

    Returns
    -------
    bool
    """
    step = float(np.median(np.diff(mjd))) if len(mjd) > 1 else 0.0
    # where epochs are sparse the strongest one may lie far from the true peak
    reach = max(2 * truth.duration, 2 * step)
    return any(abs(found.mjd_peak - truth.mjd) <= reach and found.score * truth.amplitude > 0 for found in detections)


@dataclass(frozen=True)
class Efficiency:
    """Recovery efficiency of injected events, by amplitude and duration.

    Parameters
    ----------
    amplitude, duration : ndarray
        Edges of the bins: (m + 1,), and (n + 1,) [d].
    injected, recovered : ndarray (m, n)
        Numbers of injected and recovered events.
    """

    amplitude: Floats
    duration: Floats
    injected: NDArray[np.int64]
    recovered: NDArray[np.int64]

    @property
    def fraction(self) -> Floats:
        """Recovered fraction (m, n); NaN where nothing was injected."""
        return self.recovered / np.where(self.injected > 0, self.injected, np.nan)

    @property
    def error(self) -> Floats:
        """Half width of the 68 % interval of the fraction (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
        n = np.where(self.injected > 0, self.injected, np.nan)
        p = self.recovered / n
        return np.sqrt(p * (1 - p) / n + 1 / (4 * n**2)) / (1 + 1 / n)

    def plot(self, title: str = "") -> bytes:
        """Return a plot of the efficiency (PNG)."""
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # late: only needed for plots

        from obsarchive.figures.plot_style import INK, empty_plots, encoded
        from obsarchive.figures.previews import Labels

        figure, (axes,) = empty_plots((8.5, 6), Labels(title or "Efficiency of the search", ""))
        axes.grid(visible=False)
        shown = axes.pcolormesh(self.duration, self.amplitude, self.fraction, cmap="viridis", vmin=0, vmax=1)
        axes.set(xscale="log", yscale="log", xlabel="width [d]", ylabel="amplitude, in units of the flux of the source")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        figure.colorbar(shown, ax=axes, label="fraction found")
        x, y = (np.sqrt(edges[1:] * edges[:-1]) for edges in (self.duration, self.amplitude))
        for (i, j), n in np.ndenumerate(self.injected):
            if n:
                ink = "white" if self.fraction[i, j] < 0.6 else INK
                text = f"{self.fraction[i, j]:.0%}\n{self.recovered[i, j]} of {n}"
                axes.text(float(x[j]), float(y[i]), text, ha="center", va="center", fontsize=7, color=ink)
        return encoded(figure)


def efficiency(injections: Iterable[Mapping[str, Any]], n_amplitude: int = 8, n_duration: int = 6) -> Efficiency:
    """Compute the recovery efficiency of injected events.

    Parameters
    ----------
    injections : iterable of mapping
        Each with ``amplitude``, ``duration`` [d] and ``recovered``.
    n_amplitude, n_duration : int
        Numbers of bins.

    Returns
    -------
    Efficiency

    Raises
    ------
    ConfigError
        There is no injection.
    """
    found = [(abs(one["amplitude"]), one["duration"], bool(one["recovered"])) for one in injections]
    if not found:
        raise ConfigError("no injections: set num_injections of the analysis to 1 or more and run the project")
    amplitude, duration, recovered = (np.array(values) for values in zip(*found, strict=True))
    edges = [
        np.geomspace(values.min() / 1.0001, values.max() * 1.0001, n + 1)
        for values, n in ((amplitude, n_amplitude), (duration, n_duration))
    ]
    injected, *_ = np.histogram2d(amplitude, duration, edges)
    seen, *_ = np.histogram2d(amplitude[recovered], duration[recovered], edges)
    return Efficiency(edges[0], edges[1], injected.astype(np.int64), seen.astype(np.int64))


def injection_document(truth: Injection, recovered: bool, detections: Sequence[Detection]) -> dict[str, Any]:
    """Return an injection and its recovery as a document.

    Parameters
    ----------
    truth : Injection
        The injected event.
    recovered : bool
        Whether it was found.
    detections : sequence of Detection
        Events found in the light curve.

    Returns
    -------
    dict
        Fields of `truth`, ``recovered``, and the best ``score`` or None.
    """
    best = max((abs(found.score) for found in detections), default=None) if recovered else None
    return {**vars(truth), "recovered": recovered, "score": best}
