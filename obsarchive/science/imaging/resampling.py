"""Frames that are turned, mirrored or shifted with respect to another one, and how to put them onto its pixels."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage

from obsarchive.science.arrays import Float32Array, Float64Array, FloatArray
from obsarchive.science.statistics import median_of_all

EXACT_PX = 0.1
"""Displacement by the rest of a turn by a multiple of 90 degrees up to which pixels are copied [pixel]."""
MIRROR: Float64Array = np.diag([1.0, -1.0])
"""Of x: coordinates are (y, x)."""


@dataclass(frozen=True, eq=False)
class Turn:
    """Similarity that maps positions of a frame onto a reference: ``matrix @ (y, x) + offset``.

    Attributes
    ----------
    matrix : ndarray (2, 2)
        Rotation, scale and mirror.
    offset : ndarray (2,)
        Shift [pixel].
    """

    matrix: Float64Array
    offset: Float64Array

    @classmethod
    def shift(cls, dy: float, dx: float) -> "Turn":
        """Return a shift alone."""
        return cls(np.eye(2), np.array([dy, dx], np.float64))

    def __call__(self, positions: FloatArray) -> Float64Array:
        """Return positions (..., 2) in the reference [pixel]."""
        moved: Float64Array = np.asarray(positions, float) @ self.matrix.T + self.offset
        return moved

    def after(self, first: "Turn") -> "Turn":
        """Return the map that applies another one first."""
        return Turn(self.matrix @ first.matrix, self.matrix @ first.offset + self.offset)

    @property
    def inverse(self) -> "Turn":
        """Map from the reference onto the frame."""
        back = np.asarray(np.linalg.inv(self.matrix), np.float64)
        return Turn(back, -back @ self.offset)

    @property
    def is_shift(self) -> bool:
        """Whether it is a shift alone."""
        return bool(np.array_equal(self.matrix, np.eye(2)))

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def scale(self) -> float:
        """Pixels of the reference per pixel of the frame."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    @property
    def angle_deg(self) -> float:
        """Angle from x to y by which the frame is turned, after x was mirrored if it is mirrored [deg]."""
        turn = self.matrix @ MIRROR if self.is_mirrored else self.matrix
        return float(np.degrees(np.arctan2(turn[0, 1], turn[0, 0])))

    def __str__(self) -> str:
        """Return the turn in words, without the shift."""
        parts = ["mirrored"] if self.is_mirrored else []
        parts += [f"turned by {self.angle_deg:.2f} deg"] if abs(self.angle_deg) >= 0.005 else []
        parts += [f"scaled by {self.scale:.4f}"] if abs(self.scale - 1) >= 5e-5 else []
        return ", ".join(parts) or "not turned"

    def displacement_px(self, other: FloatArray, shape: tuple[int, ...]) -> float:
        """Return how far the corners of a frame move if this matrix is replaced by another [pixel].

        Parameters
        ----------
        other : ndarray (2, 2)
            The other matrix.
        shape : (ny, nx)
            Of the frame.

        Returns
        -------
        float
            Largest distance; the middle of the frame stays.
        """
        half = np.array(shape, float) / 2
        corners = np.array([half, half * (1, -1)])
        return float(np.hypot(*(corners @ (self.matrix - other).T).T).max())

    def copies_pixels(self, shape: tuple[int, ...]) -> bool:
        """Return whether the turn is a multiple of 90 degrees, mirrored or not: pixels need no interpolation."""
        return self.displacement_px(_quarter_turn(self.matrix), shape) < EXACT_PX


def placed(turn: Turn, shape: tuple[int, ...]) -> Turn:
    """Return the turn that :func:`turned` makes: copied pixels move by whole ones.

    Parameters
    ----------
    turn : Turn
        From a frame to a reference.
    shape : (ny, nx)
        Of the frame.

    Returns
    -------
    Turn
        The turn itself, or the nearest one that needs no interpolation.
    """
    if not turn.copies_pixels(shape):
        return turn
    matrix = _quarter_turn(turn.matrix)
    # the matrices agree at the middle of the frame
    middle = (np.array(shape, float) - 1) / 2
    return Turn(matrix, np.rint(turn(middle) - matrix @ middle))


def turned(frame: FloatArray, turn: Turn, shape: tuple[int, int] | None = None) -> Float32Array:
    """Put a frame onto the pixels of a reference; the flux of stars is conserved.

    Pixels are copied if the turn is a multiple of 90 degrees; otherwise they are interpolated linearly, as drizzling
    with whole pixels does.

    Parameters
    ----------
    frame : ndarray (ny, nx)
        Frame; a pixel that is not finite makes its neighbours unknown.
    turn : Turn
        From the frame to the reference, see :func:`placed`.
    shape : (ny, nx), optional
        Of the reference; that of the frame by default.

    Returns
    -------
    ndarray (ny, nx) float32
        The frame on the pixels of the reference; NaN where it saw nothing.
    """
    back = placed(turn, frame.shape).inverse
    image: Float32Array = ndimage.affine_transform(
        np.asarray(frame, np.float32),
        back.matrix,
        back.offset,
        shape or frame.shape,
        order=0 if turn.copies_pixels(frame.shape) else 1,
        cval=np.nan,
    )
    image /= np.float32(turn.scale**2)
    return image


def _quarter_turn(matrix: FloatArray) -> Float64Array:
    """Return the nearest of the eight turns by multiples of 90 degrees, mirrored or not."""
    nearest: Float64Array = np.zeros((2, 2))
    column = int(np.argmax(np.abs(matrix[0])))
    nearest[0, column] = np.sign(matrix[0, column])
    nearest[1, 1 - column] = np.sign(matrix[1, 1 - column])
    return nearest


def without_sharp_pixels(image: FloatArray) -> Float32Array:
    """Return the median of the 3 x 3 pixels around each: without hot pixels and thin tracks of cosmic rays.

    Parameters
    ----------
    image : ndarray (ny, nx)
        At least 3 pixels along each axis; pixels that are not finite count as background.

    Returns
    -------
    ndarray (ny, nx) float32
        Filtered image; its outermost pixels are those next to them.
    """
    known = np.isfinite(image)
    pixels = np.ascontiguousarray(image, np.float32)
    if not known.all():
        pixels = np.where(known, pixels, np.float32(median_of_all(pixels[known]) if known.any() else 0))
    out = np.empty_like(pixels)
    _median_3x3(pixels, out)
    out[0], out[-1] = out[1], out[-2]
    out[:, 0], out[:, -1] = out[:, 1], out[:, -2]
    return out


@njit(cache=True, fastmath={"contract"})
def _median_3x3(image, out):  # type: ignore[no-untyped-def]
    """Median of nine by the columns of three: the middle of the highest low, the middle middle and the lowest high."""
    ny, nx = image.shape
    low, middle, high = np.empty(nx, np.float32), np.empty(nx, np.float32), np.empty(nx, np.float32)
    for y in range(1, ny - 1):
        for x in range(nx):
            a, b, c = image[y - 1, x], image[y, x], image[y + 1, x]
            small, large = min(a, b), max(a, b)
            low[x] = min(small, c)
            high[x] = max(large, c)
            middle[x] = max(small, min(large, c))
        for x in range(1, nx - 1):
            top = max(low[x - 1], max(low[x], low[x + 1]))
            bottom = min(high[x - 1], min(high[x], high[x + 1]))
            small, large = min(middle[x - 1], middle[x]), max(middle[x - 1], middle[x])
            centre = max(small, min(large, middle[x + 1]))
            small, large = min(top, centre), max(top, centre)
            out[y, x] = max(small, min(large, bottom))
