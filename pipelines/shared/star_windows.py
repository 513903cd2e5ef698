"""Windows around a star in the frames of a sequence."""

from collections.abc import Callable, Container, Sequence

from obsarchive.science.arrays import Float32Array, IndexArray

ReadWindow = Callable[[int, tuple[int, int], tuple[int, int]], Float32Array]
"""Returns a part of a frame, by its number, the first pixel (y0, x0) and the shape (ny, nx)."""


class StarWindows:
    """Calibrated windows around a star, read whenever they are asked for: together they need more memory than all else.

    Parameters
    ----------
    read : callable
        Returns a window of a frame.
    indices : sequence of n int
        Numbers of the frames.
    corners : ndarray (n, 2) of int
        First pixel (y, x) of each window.
    side : int
        Of the windows [pixel].
    slow : container of int
        Numbers of the frames whose windows are kept, as it takes long to make them.

    Attributes
    ----------
    shape : (n, side, side)
        As of an array of them.
    """

    def __init__(
        self, read: ReadWindow, indices: Sequence[int], corners: IndexArray, side: int, slow: Container[int]
    ) -> None:
        self.shape = len(indices), side, side
        self._read, self._indices, self._corners, self._slow = read, indices, corners.tolist(), slow
        self._kept: dict[int, Float32Array] = {}

    def __getitem__(self, k: int) -> Float32Array:
        """Return window `k`, shape (side, side) [ADU]."""
        if k in self._kept:
            return self._kept[k]
        i, (y0, x0) = self._indices[k], self._corners[k]
        window = self._read(i, (y0, x0), self.shape[1:])
        if i in self._slow:
            # not a view, which would keep the whole frame
            window = self._kept[k] = window.copy()
        return window
