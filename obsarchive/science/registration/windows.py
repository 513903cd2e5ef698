"""Windows of an image around a star, and their rims, which are background."""

import numpy as np

from obsarchive.science.arrays import FloatArray


def cut(image: FloatArray, y: float, x: float, half: int) -> tuple[FloatArray, tuple[int, int]]:
    """Return the window of side ``2 * half`` around a position, moved inwards at the border of the image.

    Parameters
    ----------
    image : ndarray (ny, nx)
        Image.
    y, x : float
        Position [pixel].
    half : int
        Half the side of the window [pixel].

    Returns
    -------
    window : ndarray (2 * half, 2 * half)
        View, never larger than the image.
    origin : (int, int)
        Pixel (y0, x0) of the image at which the window begins.
    """
    (y0, x0) = (
        int(np.clip(round(centre) - half, 0, max(n - 2 * half, 0)))
        for centre, n in zip((y, x), image.shape, strict=True)
    )
    return image[y0 : y0 + 2 * half, x0 : x0 + 2 * half], (y0, x0)


def rim(window: FloatArray) -> FloatArray:
    """Return the pixels of the rim of a window, an eighth of its sides wide.

    Parameters
    ----------
    window : ndarray (ny, nx)
        Window.

    Returns
    -------
    ndarray (k,)
        Its pixels, side by side along each edge.
    """
    rows, columns = (max(2, n // 8) for n in window.shape)
    edges = window[:rows].T, window[-rows:].T, window[rows:-rows, :columns], window[rows:-rows, -columns:]
    return np.concatenate([edge.ravel() for edge in edges])
