"""A fitter for stars of a group whose cut-outs overlap."""

from typing import Any

import numpy as np
from astropy.modeling.fitting import TRFLSQFitter

from obsarchive.science.arrays import FloatArray


class OncePerPixel:
    """Fitter that counts pixels shared by the stars of a group once.

    photutils concatenates the cut-outs of the stars: pixels in several of them would count as independent, and errors
    would be too small.
    """

    def __init__(self) -> None:
        self._fitter = TRFLSQFitter(calc_uncertainties=True)
        self.fit_info: dict[str, Any] = {}

    def __call__(
        self,
        model: Any,
        x: FloatArray,
        y: FloatArray,
        z: FloatArray,
        *,
        weights: FloatArray,
        maxiter: int,
        **options: Any,
    ) -> Any:
        """Fit a model, as the fitters of astropy do."""
        _, first, back = np.unique(np.stack([x, y]), axis=1, return_index=True, return_inverse=True)
        fitted = self._fitter(model, x[first], y[first], z[first], weights=weights[first], maxiter=maxiter, **options)
        self.fit_info = {**self._fitter.fit_info, "fun": np.asarray(self._fitter.fit_info["fun"])[back]}
        return fitted
