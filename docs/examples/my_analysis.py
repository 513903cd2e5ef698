"""An analysis of one's own: eclipses, beside all that the usual analysis does.

Use it in a project::

    project:
      name: eclipses
      obs_names: [ZTF]
      analysis_module: my_analysis
      analysis_class: EclipseAnalysis
    analysis:
      deepest: 2.0
"""

from typing import Any

import numpy as np

from obsarchive.errors import Unprocessable
from surveys.analysis import Analysis, ParsAnalysis
from surveys.periods import find_period
from surveys.source import Source


class ParsEclipseAnalysis(ParsAnalysis):
    """The usual parameters, and what an eclipse may be."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shortest = self.add_par("shortest", 0.2, float, "shortest period", unit="d")
        self.longest = self.add_par("longest", 10.0, float, "longest period", unit="d")
        self.deepest = self.add_par("deepest", 3.0, float, "deepest eclipse that is believed", unit="mag")
        self.least_snr = self.add_par("least_snr", 12.0, float, "S/N of the depth from which on it is noted")


class EclipseAnalysis(Analysis):
    """Notes the period of eclipses in the properties of a source."""

    pars_class = ParsEclipseAnalysis

    def analyze_photometry(self, source: Source) -> None:
        """Do what is usual, then look for eclipses in the light curve with the most epochs."""
        super().analyze_photometry(source)
        curve = max(source.processed_lightcurves, key=len, default=None)
        if curve is None:
            return
        columns, good = curve.columns, curve.good
        mjd, mag, error = (columns[name][good].astype(np.float64) for name in ("mjd", "mag", "mag_err"))
        try:
            found = find_period(mjd, mag, error, None, (self.pars.shortest, self.pars.longest), "bls")
        except Unprocessable:  # too few epochs: nothing to note
            return
        if found.power >= self.pars.least_snr and found.amplitude_mag <= self.pars.deepest:
            source.properties.extra["eclipses"] = {"period_d": found.period_d, "depth_mag": found.amplitude_mag}
