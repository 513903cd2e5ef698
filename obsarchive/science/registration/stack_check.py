"""Check of a stack against one of its frames: sources that the frame does not show, stars lost or blurred."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import fft
from scipy.spatial import cKDTree

from obsarchive.science.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from obsarchive.science.imaging.resampling import Turn
from obsarchive.science.registration.star_patterns import MOST_STARS, REACH_PX, StarList, agreement
from obsarchive.science.statistics import median_of_all, robust_sigma

SURE_SNR = 25.0
"""Of a star that the frame shows for certain, if it is there."""
LEAST_STARS = 3
FLUX_MARGIN = 2.0
MOST_NEW, MOST_LOST, MOST_BLURRED = 0.15, 0.35, 0.4
"""Share of new, of lost, and of blurred stars from which on a stack is wrong."""
BLURRED, BLURRED_PX = 1.6, 1.0
"""FWHM in the stack over that in the frame of a blurred star, and the least difference."""
STAR_PX = 3
"""Half of the side of the box in which the star of a stack is searched [pixel]."""
SIGMAS, BACKGROUND = (1.0, 2.0), 3.0
"""Widths of the filter, in units of that of the star, and that of the background, in units of the filter."""
NEAR_PX = 12.0
"""A source this close to a star of the frame is part of it, such as a spike or a neighbour now resolved."""


@dataclass(frozen=True)
class StackCheck:
    """Comparison of a stack with one of its frames, in the part of the sky that both show.

    Attributes
    ----------
    n_frame, n_stack : int
        Stars that are bright enough to be seen in both for certain: of the frame, of the stack.
    n_lost, n_new : int
        Of those, stars missing in the stack, and in the frame.
    n_blurred, n_common : int
        Of those in both, stars that are wider in the stack, and all.
    fwhm_ratio : float
        Median FWHM of stars in the stack over that in the frame; NaN without stars.
    """

    n_frame: int
    n_stack: int
    n_lost: int
    n_new: int
    n_blurred: int
    n_common: int
    fwhm_ratio: float

    @property
    def problem(self) -> str:
        """What contradicts the stack; empty if nothing does."""
        text = f"{{}} of {{}} stars are blurred, {self.fwhm_ratio:.1f} times as wide"
        return "; ".join(filter(None, [self.other_stars, _said(text, self.n_blurred, self.n_common, MOST_BLURRED)]))

    @property
    def other_stars(self) -> str:
        """Stars of one that are not in the other; empty if there are few."""
        new = _said("{} of {} stars of the stack are not in the frame", self.n_new, self.n_stack, MOST_NEW)
        lost = _said("{} of {} stars of the frame are not in the stack", self.n_lost, self.n_frame, MOST_LOST)
        return "; ".join(filter(None, [new, lost]))

    @property
    def numbers(self) -> dict[str, float | int | None]:
        """The numbers by name; None for a ratio that is not known."""
        return {name: None if value != value else value for name, value in asdict(self).items()}  # noqa: PLR0124


def _said(text: str, n: int, total: int, most: float) -> str:
    return text.format(n, total) if n >= LEAST_STARS and n > most * total else ""


def check_stack(stack: StarList, frame: StarList, turn: Turn) -> StackCheck:
    """Compare a stack with one of its frames.

    Parameters
    ----------
    stack : StarList
        Stars of the stack, on pixels as large as those of the frame.
    frame : StarList
        Stars of the frame.
    turn : Turn
        From the frame to the stack.

    Returns
    -------
    StackCheck
        Numbers of stars.
    """
    common = agreement(turn, frame, stack)
    moved, back = turn(frame.positions), turn.inverse(stack.positions)
    # transparency: what a star of the stack would have given in the frame
    expected = stack.flux * common.light
    limit = max(frame.flux_at(SURE_SNR), _faintest(frame.flux))
    sure, sure_in_stack = _sure(moved, frame.flux, limit, stack.shape), _sure(back, expected, limit, frame.shape)
    lost = sure & (_nearest(moved, stack.positions) > NEAR_PX / 2)
    new = sure_in_stack & (_nearest(stack.positions, moved) > NEAR_PX)
    # of fainter ones the frame does not tell how wide they are
    of_sure = sure[common.stars]
    widths = frame.fwhm_px[common.stars][of_sure], stack.fwhm_px[common.reference][of_sure]
    wider = (widths[1] > BLURRED * widths[0]) & (widths[1] > widths[0] + BLURRED_PX)
    ratio = median_of_all(widths[1] / widths[0]) if len(wider) else float("nan")
    n_frame, n_stack, n_lost, n_new, n_blurred = (
        int(np.sum(which)) for which in (sure, sure_in_stack, lost, new, wider)
    )
    return StackCheck(n_frame, n_stack, n_lost, n_new, n_blurred, len(wider), ratio)


def _faintest(flux: FloatArray) -> float:
    """Return the flux of a star that a list of the brightest stars of a field holds for certain."""
    return FLUX_MARGIN * float(flux.min()) if len(flux) >= MOST_STARS else 0.0


def _sure(positions: FloatArray, flux: FloatArray, limit: float, shape: tuple[int, int]) -> BoolArray:
    """Return which stars the other image must show: bright and well within it."""
    margin = 2 * REACH_PX
    inside = ((positions >= margin) & (positions <= np.array(shape) - 1 - margin)).all(axis=1)
    return inside & (flux > limit)


def _nearest(positions: FloatArray, others: FloatArray) -> Float64Array:
    """Return the distance of each position from the nearest of the others [pixel]."""
    if not len(others):
        return np.full(len(positions), np.inf)
    return np.asarray(cKDTree(others).query(positions)[0]) if len(positions) else np.empty(0)


def star_snr(image: FloatArray, position: tuple[float, float], sigma_px: float) -> float:
    """Compute the signal-to-noise ratio of a star of known width in a stack.

    Parameters
    ----------
    image : ndarray (ny, nx)
        The stack; NaN where it has no data.
    position : (float, float)
        Where the star should be (y, x) [pixel].
    sigma_px : float
        Standard deviation of its image [pixel].

    Returns
    -------
    float
        Height of the filtered image there over its scatter in the whole stack; NaN for an image without scatter.
    """
    # The cosine transform of an image is the spectrum of its reflection at the edges: however wide a filter is, it is
    # one product.
    known = np.isfinite(image)
    level = median_of_all(image[known]) if known.any() else 0.0
    pixels = np.where(known, image - level, 0.0)
    y, x = (int(np.clip(round(c), 0, n - 1)) for c, n in zip(position, image.shape, strict=True))
    box = slice(max(y - STAR_PX, 0), y + STAR_PX + 1), slice(max(x - STAR_PX, 0), x + STAR_PX + 1)
    spectrum = fft.dctn(pixels, overwrite_x=True)
    found = []
    for sigma in np.array(SIGMAS) * sigma_px:
        passed = _gaussian(spectrum.shape, sigma) - _gaussian(spectrum.shape, BACKGROUND * sigma)
        smooth = fft.idctn(spectrum * passed, overwrite_x=True)
        noise = robust_sigma(smooth[known]) if known.any() else 0.0
        found.append(float(smooth[box].max() / noise) if noise > 0 else np.nan)
    return float(np.nanmax(found)) if np.isfinite(found).any() else np.nan


def _gaussian(shape: tuple[int, ...], sigma_px: float) -> Float32Array:
    """Return the transfer function of a Gaussian filter for the cosine transform of an image."""
    along = (np.exp(-0.5 * (np.pi * sigma_px * np.arange(n) / n) ** 2) for n in shape)
    return np.outer(*along).astype(np.float32)
