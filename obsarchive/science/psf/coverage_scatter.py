"""How far frames with pixels wider than half of lambda / D, at random places, leave the core of a stack uncertain."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import j0

from obsarchive.science.arrays import Float64Array
from obsarchive.science.psf.model import Optics, telescope_otf

_SAMPLES = 40
"""Frequencies from zero to the cut-off of the telescope."""
_BEYOND = 2
"""Multiples of the frequency of the pixels along each axis that are folded back."""
_FEWER = 5
"""The weights of few frames scatter as the light does: as if so many fewer (perfect stars of 12 and 48 frames)."""
_PEAK_LEFT, _WIDTH_LEFT, _MOVED = 0.5, 0.7, 1.5
"""What is left of peaks and widths, which are corrected, and scatter of places and halos, which are not and which
speckles move, too; in units of the scatter by weights that are even. From 6 to 48 frames by Fourier optics."""
_STEP = 0.02
"""For slopes [pixel of a frame]."""


@dataclass(frozen=True)
class CoverageScatter:
    """Scatter of a diffraction-limited core over the places of the frames of its stack.

    Attributes
    ----------
    peak, width : float
        Of its height and FWHM, relative.
    halo : float
        Of the FWHM of what surrounds it, as far as it is as bright, relative.
    place : float
        Of its position along an axis, over its FWHM: a wider core has a flatter peak.
    lift : float
        How much too high its highest point is for being looked for, relative.
    """

    peak: float = 0.0
    width: float = 0.0
    halo: float = 0.0
    place: float = 0.0
    lift: float = 0.0

    def left(self, n_places: int) -> "CoverageScatter":
        """Return what is left of that of so many frames where what they do is known, see `uneven_coverage`.

        What speckles, which differ from frame to frame, and errors of the peaks of the frames do is not known. The lift
        is a part of what is known of the peak.
        """
        fewer = float(np.sqrt(max(n_places - _FEWER, 1) / n_places))
        return CoverageScatter(
            peak=_PEAK_LEFT * fewer * self.peak,
            width=_WIDTH_LEFT * fewer * self.width,
            halo=_MOVED * fewer * self.halo,
            place=_MOVED * fewer * self.place,
        )


@lru_cache(maxsize=16)
def coverage_scatter(
    optics: Optics, pixel_arcsec: float, response_px: tuple[float, ...], n_places: int
) -> CoverageScatter:
    """Compute what the places of frames do to the core of their stack, to first order.

    Pixels multiply an image I, which has passed the pixel, by a comb. Of the harmonic k of its frequency the mean over
    n frames is a_k, of random phase and mean square 1 / n. A stack divides the mean of the drops w by that of their
    weights: of each harmonic it holds a_k [w * (I e_k) - W(k) e_k (w * I)], with e_k the wave of the harmonic and W the
    transform of w. With the frequencies that the telescope transmits these are sums over some thousand.

    Parameters
    ----------
    optics : Optics
        Telescope and filter.
    pixel_arcsec : float
        Plate scale of the stack [arcsec/pixel].
    response_px : tuple of float
        Square responses; the first is that of the camera's pixel.
    n_places : int
        Number of frames at random places.

    Returns
    -------
    CoverageScatter
        Nothing for pixels up to half of lambda / D.
    """
    scale = response_px[0]
    shortest = optics.lambda_over_d_arcsec * (1 - optics.width_nm / optics.wavelength_nm / 2)
    # all frequencies in cycles per pixel of a frame
    cutoff = scale * pixel_arcsec / shortest
    if cutoff <= 0.5:
        return CoverageScatter()
    axis = np.arange(-_SAMPLES, _SAMPLES + 1) / _SAMPLES * min(cutoff, scale / 2)
    v, u = axis[:, np.newaxis], axis[np.newaxis]
    length = np.hypot(v, u)
    table = np.linspace(0, cutoff, 500)
    otf = telescope_otf(table / (scale * pixel_arcsec), optics)

    def light(v: Float64Array, u: Float64Array) -> Float64Array:
        passed: Float64Array = np.interp(np.hypot(v, u), table, otf, right=0.0) * np.sinc(v) * np.sinc(u)
        return passed

    def drops(v: Float64Array, u: Float64Array) -> Float64Array:
        product = np.ones(np.broadcast_shapes(v.shape, u.shape))
        for width in response_px[1:]:
            product = product * np.sinc(width / scale * v) * np.sinc(width / scale * u)
        return product

    core = np.where(length <= cutoff, drops(v, u) * light(v, u), 0.0)
    height, curvature = core.sum(), float(((2 * np.pi * u) ** 2 * core).sum())
    radii = np.arange(_STEP, 2 / cutoff, _STEP)
    profile = np.array([float((core * j0(2 * np.pi * r * length)).sum()) for r in radii])
    i = int(np.argmax(profile < height / 2))
    ring = j0(2 * np.pi * radii[i] * length) - 0.5
    slope = (profile[i] - profile[i - 1]) / _STEP
    squares = np.zeros(3)
    for k in np.ndindex(2 * _BEYOND + 1, 2 * _BEYOND + 1):
        by_v, by_u = (np.array([[float(each - _BEYOND)]]) for each in k)
        if not by_v.any() and not by_u.any():
            continue
        # a plain image is not divided by weights
        weight = drops(v - by_v, u - by_u) * drops(by_v, by_u) if len(response_px) > 1 else 0.0
        folded = np.where(length <= cutoff, (drops(v, u) - weight) * light(v - by_v, u - by_u), 0.0)
        squares += [folded.sum() ** 2, (2 * np.pi * u * folded).sum() ** 2, (ring * folded).sum() ** 2]
    peak, place, width = np.sqrt(squares / max(n_places - _FEWER, 1)) / [height, curvature, abs(slope) * radii[i]]
    # of a parabola, along both axes; a plain image is compared with a perfect one at the same place
    lift = place**2 * curvature / height if len(response_px) > 1 else 0.0
    return CoverageScatter(float(peak), float(width), float(width), float(place / (2 * radii[i])), float(lift))
