"""Bad-pixel masks and the calibration of single frames by their masters."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import AnyArray, BoolArray, Float32Array, FloatArray
from obsarchive.science.imaging.combining import Shape
from obsarchive.science.imaging.medians import median_5x5
from obsarchive.science.statistics import MAD_TO_SIGMA

DETECTOR: Shape = (1024, 1024)


def bad_pixels(
    dark: FloatArray | None,
    flat: FloatArray | None,
    *,
    hot_sigma: float = 15.0,
    dead_fraction: float = 0.3,
    harmless_adu: float = 0.0,
) -> BoolArray:
    """Compute the mask of hot, dead and unknown pixels.

    Parameters
    ----------
    dark : ndarray (ny, nx), optional
        Master dark. Hot: further above its neighbourhood (5x5 median) than ``hot_sigma`` times the robust
        scatter of the whole frame.
    flat : ndarray (ny, nx), optional
        Master flat, mean 1. Dead: response below ``dead_fraction`` or above ``1 / dead_fraction``.
    hot_sigma : float
        Threshold of hot pixels [robust standard deviations].
    dead_fraction : float
        Threshold of dead pixels [mean response].
    harmless_adu : float
        Excess of hot pixels up to which they are none: the dark is subtracted from them, and its noise is small [ADU].

    Returns
    -------
    ndarray (ny, nx) of bool
        True where the pixel is hot, dead or not finite.

    Raises
    ------
    ValueError
        Neither image is given.
    """
    masks = []
    if dark is not None:
        excess = dark - median_5x5(dark)
        scatter = MAD_TO_SIGMA * np.nanmedian(np.abs(excess))
        # negated comparisons: NaN counts as bad; a scatter of zero must not make every pixel hot
        masks.append(~(excess <= max(hot_sigma * scatter, harmless_adu, np.finfo(np.float32).tiny)))
    if flat is not None:
        masks.append(~((flat >= dead_fraction) & (flat <= 1 / dead_fraction)))
    if not masks:
        raise ValueError("bad_pixels needs a dark or a flat")
    bad: BoolArray = np.logical_or.reduce(masks)
    return bad


def central_part(image: AnyArray, shape: Shape) -> AnyArray:
    """Return a view of the central part of an image, as a quarter frame reads it out.

    Parameters
    ----------
    image : ndarray (..., ny, nx)
        Image of the whole detector.
    shape : (height, width)
        Shape of the part [pixel].

    Returns
    -------
    ndarray (..., height, width)
        View of `image`.

    Raises
    ------
    Unprocessable
        The image is smaller than `shape`.
    """
    (ny, nx), (height, width) = image.shape[-2:], shape
    if height > ny or width > nx:
        raise Unprocessable(f"a calibration frame of {ny}x{nx} does not cover a frame of {height}x{width}")
    y0, x0 = (ny - height) // 2, (nx - width) // 2
    return image[..., y0 : y0 + height, x0 : x0 + width]


def dark_mode_for(mode: str, shape: Shape, available: Mapping[str, Shape], detector: Shape = DETECTOR) -> str | None:
    """Return the read-out mode of the master dark that fits a frame.

    Parameters
    ----------
    mode : str
        Read-out mode of the frame, as "0" or "6".
    shape : (ny, nx)
        Shape of the frame [pixel]. Smaller than the detector: a quarter frame, which takes the dark ``<mode>4``
        where it exists, else one of its own mode and shape.
    available : mapping of str to (ny, nx)
        Modes and shapes of the available darks.
    detector : (ny, nx)
        Shape of a full frame [pixel].

    Returns
    -------
    str or None
        Mode of the dark; None where none fits.
    """
    is_quarter = tuple(shape) != tuple(detector)
    candidates = (f"{mode}4", mode) if is_quarter else (mode,)
    fitting = (name for name in candidates if tuple(available.get(name, ())) == tuple(shape))
    return next(fitting, None)


@dataclass(frozen=True)
class Calibration:
    """Dark, flat and bad pixels prepared for the calibration of many frames of one shape.

    Attributes
    ----------
    dark : ndarray (ny, nx) float32 or None
        Master dark [ADU].
    inverse_flat : ndarray (ny, nx) float32 or None
        1 / master flat.
    bad : ndarray (ny, nx) of bool or None
        Bad pixels.
    fill_bad : bool
        Fill bad pixels with the mean of their good neighbours; otherwise they become NaN.
    loss : float
        Share of the signal that the amplifier loses, of one ADU, in proportion to the signal [1/ADU]; restored where
        the dark is known.
    """

    dark: Float32Array | None = None
    inverse_flat: Float32Array | None = None
    bad: BoolArray | None = None
    fill_bad: bool = True
    loss: float = 0.0

    @classmethod
    def from_masters(
        cls, dark: FloatArray | None, flat: FloatArray | None, *, fill_bad: bool = True, harmless_adu: float = 0.0
    ) -> "Calibration":
        """Return the calibration of a master dark and a master flat.

        Parameters
        ----------
        dark : ndarray (ny, nx) or None
            Master dark [ADU].
        flat : ndarray (ny, nx) or None
            Master flat, mean 1.
        fill_bad : bool
            Fill bad pixels with the mean of their good neighbours; otherwise they become NaN.
        harmless_adu : float
            Excess of pixels of the dark up to which they are not bad [ADU].

        Returns
        -------
        Calibration
            With neither master it changes nothing.
        """
        if dark is None and flat is None:
            return cls()
        bad = bad_pixels(dark, flat, harmless_adu=harmless_adu)
        inverse = None
        if flat is not None:
            # a product is faster than a quotient, and every frame is calibrated
            inverse = np.divide(1, flat, out=np.ones(flat.shape, np.float32), where=~bad).astype(np.float32)
        ready = None if dark is None else np.nan_to_num(np.asarray(dark, np.float32))
        # no mask at all saves a pass over every frame
        return cls(ready, inverse, bad if bad.any() else None, fill_bad)

    def apply(self, frame: AnyArray, out: Float32Array | None = None, origin: tuple[int, int] = (0, 0)) -> Float32Array:
        """Calibrate a frame or a window of one.

        Parameters
        ----------
        frame : ndarray (height, width)
            Raw counts [ADU], native byte order.
        out : ndarray (height, width) float32, optional
            Array for the result.
        origin : (y0, x0)
            Pixel of the full frame at which `frame` begins.

        Returns
        -------
        ndarray (height, width) float32
            Calibrated counts [ADU]: `out` if it is given.

        Raises
        ------
        Unprocessable
            The masters do not cover the frame.
        """
        height, width = frame.shape
        window = np.s_[origin[0] : origin[0] + height, origin[1] : origin[1] + width]
        dark = None if self.dark is None else self.dark[window]
        inverse = None if self.inverse_flat is None else self.inverse_flat[window]
        bad = None if self.bad is None else self.bad[window]
        if self.loss and dark is not None:
            frame, dark = linear_signal(frame, dark, self.loss), None
        return calibrate(frame, dark, inverse, bad, out, fill_bad=self.fill_bad)


def linear_signal(frame: AnyArray, dark: Float32Array, loss: float) -> Float32Array:
    """Compute the signal of a frame as a linear amplifier would have given it.

    Parameters
    ----------
    frame : ndarray (ny, nx)
        Raw counts [ADU].
    dark : ndarray (ny, nx) float32
        Master dark [ADU].
    loss : float
        Share of the signal that is lost, of one ADU: of a signal s the amplifier gives s (1 - loss s) [1/ADU].

    Returns
    -------
    ndarray (ny, nx) float32
        Signal above the dark [ADU], right to 5 (loss s)^3.
    """
    signal = np.asarray(frame, np.float32) - dark
    lost = np.float32(loss) * np.abs(signal)
    # the series of the inverse
    signal *= 1 + lost * (1 + 2 * lost)
    return signal


def calibrate(
    frame: AnyArray,
    dark: Float32Array | None,
    inverse_flat: Float32Array | None,
    bad: BoolArray | None,
    out: Float32Array | None = None,
    *,
    fill_bad: bool = True,
) -> Float32Array:
    """Compute ``(frame - dark) * inverse_flat`` in one pass, bad pixels filled from their neighbours.

    Parameters
    ----------
    frame : ndarray (ny, nx)
        Raw counts [ADU], integer or floating, native byte order.
    dark : ndarray (ny, nx) float32 or None
        Master dark [ADU]; None: not subtracted.
    inverse_flat : ndarray (ny, nx) float32 or None
        1 / master flat; None: not applied.
    bad : ndarray (ny, nx) of bool or None
        Pixels to replace.
    out : ndarray (ny, nx) float32, optional
        Array for the result.
    fill_bad : bool
        Mean of the good pixels in the surrounding 3x3, else 5x5; NaN where there is none, or if False.

    Returns
    -------
    ndarray (ny, nx) float32
        Calibrated counts [ADU]: `out` if it is given.

    Raises
    ------
    Unprocessable
        Dark, flat or bad pixels have another shape than the frame.
    """
    for name, image in (("dark", dark), ("flat", inverse_flat), ("bad-pixel mask", bad)):
        if image is not None and image.shape != frame.shape:
            raise Unprocessable(f"the {name} has shape {image.shape}, the frame {frame.shape}")
    out = np.empty(frame.shape, np.float32) if out is None else out
    _calibrate(frame, dark, inverse_flat, out)
    if bad is not None:
        _replace_bad(out, bad, fill_bad)
    return out


@njit(cache=True)
def _calibrate(frame, dark, inverse_flat, out):  # type: ignore[no-untyped-def]
    ny, nx = frame.shape
    for y in range(ny):
        for x in range(nx):
            value = np.float32(frame[y, x])
            # numba removes these branches while compiling: None is a type
            if dark is not None:
                value -= dark[y, x]
            if inverse_flat is not None:
                value *= inverse_flat[y, x]
            out[y, x] = value


@njit(cache=True)
def _replace_bad(image, bad, fill):  # type: ignore[no-untyped-def]
    ny, nx = image.shape
    for y in range(ny):
        # counted first: most rows have no bad pixel, and counting is compiled to vector instructions
        row, n_bad = bad[y], 0
        for x in range(nx):
            n_bad += row[x]
        for x in range(nx if n_bad else 0):
            if row[x]:
                image[y, x] = np.nan
                if fill:
                    image[y, x] = _mean_of_good(image, bad, y, x)


@njit(cache=True)
def _mean_of_good(image, bad, y, x):  # type: ignore[no-untyped-def]
    ny, nx = image.shape
    for reach in (1, 2):
        total, n = 0.0, 0
        for v in range(max(0, y - reach), min(ny, y + reach + 1)):
            for u in range(max(0, x - reach), min(nx, x + reach + 1)):
                # good pixels only: one that was filled must not enter the mean of the next
                if not bad[v, u] and np.isfinite(image[v, u]):
                    total += image[v, u]
                    n += 1
        if n:
            return np.float32(total / n)
    return np.float32(np.nan)
