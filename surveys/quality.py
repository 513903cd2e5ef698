"""Quality flags of the epochs of a light curve."""

from typing import Any

import numpy as np

from obsarchive.science.astrometry.spherical import tangent_plane_offsets
from obsarchive.science.light_curves.light_curve import middle_and_scatter
from surveys.dataset import Lightcurve
from surveys.parameters import Configured, Parameters


class ParsQuality(Parameters):
    """Parameters of the quality check."""

    default_cfg_key = "quality"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.offset_threshold = self.add_par(
            "offset_threshold",
            3.5,
            float,
            "largest offset of a good epoch above the median, in units of the scatter",
            least=0,
        )
        self.max_offset = self.add_par("max_offset", 0.0, float, "largest offset; 0: no limit", unit="arcsec", least=0)
        self.use_flags = self.add_par("use_flags", True, bool, "whether epochs that the survey flagged are bad")
        self.min_epochs = self.add_par(
            "min_epochs", 10, int, "epochs that are needed to measure the scatter of the offsets", least=0
        )


class QualityChecker(Configured):
    """Marks bad epochs in a column of its own, ``qflag``; measured columns stay unchanged."""

    pars_class = ParsQuality

    def check(self, lightcurve: Lightcurve) -> Lightcurve:
        """Return the light curve with ``offset`` [arcsec from its median position] and ``qflag``.

        It may be repeated with other parameters: flags of an earlier check are ignored.
        """
        columns = lightcurve.columns
        n = len(columns["mjd"])
        bad = ~np.isfinite(columns["flux"])
        if self.pars.use_flags and "flag" in columns:
            bad |= columns["flag"].astype(bool)
        offset = np.full(n, np.nan)
        if "ra" in columns and np.isfinite(columns["ra"]).any():
            east, north = tangent_plane_offsets(columns["ra"], columns["dec"])
            offset = np.hypot(east, north)
            bad |= self._is_off(offset)
        return lightcurve.with_columns({**columns, "offset": offset.astype(np.float32), "qflag": bad})

    __call__ = check

    def _is_off(self, offset: np.ndarray) -> np.ndarray:
        known = np.isfinite(offset)
        off = np.zeros(len(offset), bool)
        if known.sum() >= self.pars.min_epochs:
            typical, spread = middle_and_scatter(offset)
            # rounded positions may have no scatter, and then any offset would be bad
            if spread > 0:
                off |= offset - typical > self.pars.offset_threshold * spread
        if self.pars.max_offset > 0:
            off |= offset > self.pars.max_offset
        return off
