"""Master flats: which frames have seen light, and their clipped mean (combination: :mod:`.combining`)."""

import numpy as np

from obsarchive.errors import Unprocessable
from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.imaging.combining import Master, ReadRows, Shape, combine
from obsarchive.science.statistics import MAD_TO_SIGMA

LEAST_FLAT_SNR = 3.0
"""Level of a flat over its scatter from pixel to pixel: a flat with less has seen no light."""


def frame_levels(read_rows: ReadRows, n_frames: int, shape: Shape, dark: FloatArray | None = None) -> Float64Array:
    """Compute the median level of each frame above the dark, from the same few thousand pixels of every frame.

    Parameters
    ----------
    read_rows, n_frames, shape
        As for :func:`.combining.combine`.
    dark : ndarray (ny, nx), optional
        Master dark, subtracted first [unit of the frames].

    Returns
    -------
    ndarray (n_frames,)
        Levels [unit of the frames].
    """
    return np.nanmedian(_samples(read_rows, n_frames, shape, dark), axis=1).astype(float)


def unexposed_flats(levels: Float64Array, noise: Float64Array, saturation: float = np.inf) -> tuple[str, ...]:
    """Return why frames cannot be used for a master flat; empty for each that can.

    Parameters
    ----------
    levels, noise : ndarray (n_frames,)
        Level of each frame, and its robust scatter from pixel to pixel [unit of the frames].
    saturation : float
        Level from which on a frame is saturated [unit of the frames].

    Returns
    -------
    tuple of str
        One for each frame.
    """
    return tuple(
        f"too bright: its level is {level:.0f} ADU, expected less than {saturation:.0f}" if level >= saturation
        else "" if level > LEAST_FLAT_SNR * scatter and level > 0
        else f"no light: its level above the dark is {level:.1f} ADU, its noise {scatter:.1f} ADU"
        for level, scatter in zip(levels, noise, strict=True)
    )  # fmt: skip


def flat_levels(
    read_rows: ReadRows, n_frames: int, shape: Shape, dark: FloatArray | None = None
) -> tuple[Float64Array, Float64Array]:
    """Compute the level of each frame as :func:`frame_levels`, and its robust scatter from pixel to pixel."""
    samples = _samples(read_rows, n_frames, shape, dark)
    levels = np.nanmedian(samples, axis=1).astype(float)
    return levels, MAD_TO_SIGMA * np.nanmedian(np.abs(samples - levels[:, None]), axis=1).astype(float)


def _samples(read_rows: ReadRows, n_frames: int, shape: Shape, dark: FloatArray | None) -> Float32Array:
    """Read the same few thousand pixels of every frame, shape (n_frames, n)."""
    ny, nx = shape
    # a sparse grid is enough for a median, and frames need not be read as a whole
    columns = np.unique(np.linspace(0, nx - 1, 64).round().astype(int))
    rows = np.unique(np.linspace(0, ny - 1, 64).round().astype(int))
    samples = np.empty((n_frames, rows.size, columns.size), np.float32)
    for i, y in enumerate(rows):
        samples[:, i] = read_rows(y, y + 1)[:, 0, columns]
    if dark is not None:
        samples -= np.asarray(dark, np.float32)[np.ix_(rows, columns)]
    return samples.reshape(n_frames, -1)


def master_flat(
    read_rows: ReadRows,
    n_frames: int,
    shape: Shape,
    dark: FloatArray | None = None,
    *,
    saturation: float = np.inf,
) -> Master:
    """Compute a master flat: the clipped mean of frames scaled by their levels, normalised over good pixels.

    Parameters
    ----------
    read_rows, n_frames, shape
        As for :func:`.combining.combine`.
    dark : ndarray (ny, nx), optional
        Master dark of the flats (mode 0), subtracted first [unit of the frames].
    saturation : float
        Frames whose level is not between their noise and this are rejected [unit of the frames].

    Returns
    -------
    Master
        ``image`` has mean 1 over the pixels between half and one and a half times the median; ``n_frames`` counts
        those that were used.

    Raises
    ------
    Unprocessable
        No frame has a usable level.
    """
    levels, noise = flat_levels(read_rows, n_frames, shape, dark)
    usable = np.array([not reason for reason in unexposed_flats(levels, noise, saturation)])
    if not usable.any():
        span = f"{np.nanmin(levels):.1f} to {np.nanmax(levels):.1f}" if np.isfinite(levels).any() else "not finite"
        raise Unprocessable(f"no exposed flat among {n_frames} frames: levels {span}")
    scale = np.divide(1.0, levels, out=np.full(n_frames, np.nan), where=usable)
    raw = combine(read_rows, n_frames, shape, scale=scale, offset=dark)
    # vignetted corners and dead pixels would bias the normalisation
    with np.errstate(invalid="ignore"):
        good = np.abs(raw.image / raw.level - 1) < 0.5
    mean = np.float32(raw.image[good].mean(dtype=float))
    used = int(usable.sum())
    share = raw.used_fraction * n_frames / used
    return Master(raw.image / mean, raw.noise / mean, share, used, raw.level / float(mean))
