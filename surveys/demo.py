"""Virtual observatory with synthetic photometry, for demonstrations and tests."""

import time
from typing import Any

import numpy as np

from obsarchive.science.light_curves.light_curve import fluxes_of_magnitudes, magnitudes_of_fluxes
from surveys.observatory import Fetched, Row, VirtualObservatory
from surveys.observatory.parameters import ParsObservatory
from surveys.provenance import seed_of


class ParsDemoObs(ParsObservatory):
    """Parameters of the synthetic observatory."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.wait_time = self.add_par("wait_time", 0.0, float, "duration of a download", False, unit="s", least=0)
        self.wait_time_poisson = self.add_par(
            "wait_time_poisson", 0.0, float, "mean of a random addition to it", False, unit="s", least=0
        )
        self.num_epochs = self.add_par("num_epochs", 100, int, "epochs of a light curve", least=0)
        self.event_fraction = self.add_par("event_fraction", 0.02, float, "fraction of sources with an event", least=0)
        self.empty_fraction = self.add_par("empty_fraction", 0.0, float, "fraction of sources without data", least=0)
        # not critical: projects without them keep their hashes
        self.periodic_fraction = self.add_par(
            "periodic_fraction", 0.0, float, "fraction of sources that pulsate", False, least=0
        )
        self.filters = self.add_par("filters", ["R"], list, "filters, which take turns", False)
        self.set_default("num_threads_download", 0)


class VirtualDemoObs(VirtualObservatory):
    """Synthetic observatory; a name has the same light curve in every process."""

    pars_class = ParsDemoObs
    name = "DEMO"

    def fetch_data_from_observatory(self, cat_row: Row, **kwargs: Any) -> Fetched:  # noqa: ARG002 - takes none
        """Return a synthetic light curve of white noise, for some sources with an event or pulsations.

        Parameters
        ----------
        cat_row : mapping
            ``name``, ``ra``, ``dec`` [deg] and ``mag`` of the source.
        **kwargs
            Ignored.

        Returns
        -------
        data : dict of ndarray (n,) or None
            mjd [d], mag, magerr [mag], ra, dec [deg], flag; None for a source without data.
        altdata : dict
            ``exptime`` [s], ``filter``, and ``truth``: time and duration [d] of the event, period [d], if there are.
        """
        pars, rng = self.pars, np.random.default_rng(seed_of(str(cat_row["name"])))
        self._wait()
        altdata: dict[str, Any] = {"exptime": 30.0, "filter": pars.filters[0], "truth": {}}
        has_event, is_empty = rng.random() < pars.event_fraction, rng.random() < pars.empty_fraction
        if is_empty:
            return None, altdata
        n = pars.num_epochs
        mjd = np.sort(58000.0 + rng.random(n) * 0.9 + rng.permutation(np.arange(n)))
        expected = cat_row.get("mag")
        mag = np.full(n, 18.0 if expected is None else float(expected))
        flux, error = fluxes_of_magnitudes(mag, np.full(n, 0.03 * 10 ** (0.2 * (mag[0] - 18.0))))
        if has_event:
            truth = {"mjd": float(rng.uniform(mjd[n // 5], mjd[-n // 5])), "duration": float(rng.uniform(3, 8))}
            altdata["truth"] = truth
            flux = flux * (1 + 1.5 * np.exp(-0.5 * ((mjd - truth["mjd"]) / truth["duration"]) ** 2))
        if pars.periodic_fraction > 0 and rng.random() < pars.periodic_fraction:
            period = float(rng.uniform(1.0, 20.0))
            altdata["truth"] = {**altdata["truth"], "period": period}
            flux = flux * (1 + 0.3 * np.sin(2 * np.pi * mjd / period))
        measured, mag_err = magnitudes_of_fluxes(flux + rng.normal(size=n) * error, error)
        scatter = 0.2 / 3600
        ra = float(cat_row["ra"]) + rng.normal(size=n) * scatter / max(np.cos(np.radians(float(cat_row["dec"]))), 1e-9)
        dec = np.clip(float(cat_row["dec"]) + rng.normal(size=n) * scatter, -90, 90)
        data = {
            "mjd": mjd,
            "mag": measured,
            "magerr": mag_err,
            "ra": ra % 360,
            "dec": dec,
            "flag": rng.random(n) < 0.01,
        }
        if len(pars.filters) > 1:
            data["filter"] = np.resize(np.array(pars.filters, dtype=str), n)
        return data, altdata

    def _wait(self) -> None:
        seconds = self.pars.wait_time
        if self.pars.wait_time_poisson > 0:
            seconds += np.random.default_rng().poisson(self.pars.wait_time_poisson)
        if seconds > 0:
            time.sleep(seconds)
