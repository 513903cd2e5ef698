"""Drizzle (Fruchter & Hook 2002, PASP 114, 144) for frames that differ by a shift only.

With a pure shift and an integer scale, the shrunken pixels of a frame overlap the output grid in the same
way everywhere: the square kernel is a product of one row and one column of constant weights. The output grid
is kept as ``scale * scale`` interleaved planes of the native shape, so that adding a frame is a few shifted
multiply-adds of contiguous rows, and its weight map a few rectangles.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from obsarchive.science.arrays import Float32Array, FloatArray


@dataclass(frozen=True)
class _Overlap:
    """Along one axis: native pixel i adds `fraction` of its flux to output pixel (i + step, phase)."""

    step: int
    phase: int
    fraction: float


class Drizzle:
    """Weighted mean of shifted frames on a finer grid.

    Output pixel (Y, X) covers one ``scale``-th of a native pixel along each axis, and the corner of the output
    grid is the corner of the native one: the centre of native pixel (y, x) lies at
    ``((y + 0.5) * scale - 0.5, (x + 0.5) * scale - 0.5)``, see `output_position`. A star at (y, x) of a frame
    added with shift (dy, dx) is found at ``output_position(y + dy, x + dx)``.

    Parameters
    ----------
    shape : (ny, nx)
        Shape of the frames [native pixel].
    scale : int
        Output pixels per native pixel along each axis.
    pixfrac : float
        Side of the shrunken pixel [native pixel], in (0, 1].

    Raises
    ------
    ValueError
        ``scale`` or ``pixfrac`` is out of range.
    """

    def __init__(self, shape: tuple[int, int], scale: int = 2, pixfrac: float = 0.45) -> None:
        if scale < 1 or int(scale) != scale:
            raise ValueError(f"scale must be a whole number of at least 1, got {scale}")
        if not 0 < pixfrac <= 1:
            raise ValueError(f"pixfrac must be in (0, 1], got {pixfrac}")
        self.shape, self.scale, self.pixfrac = shape, int(scale), pixfrac
        self.n_frames = 0
        self._planes = np.zeros((self.scale, self.scale, *shape), np.float32)
        self._rectangles: list[tuple[tuple[int, int], slice, slice, float]] = []
        # weights are counted as full rectangles; those of missing pixels are summed apart and subtracted
        self._missing = np.zeros(self._planes.shape, np.float32)

    def add(self, frame: FloatArray, dy: float, dx: float, weight: float = 1.0) -> None:
        """Add a frame.

        Parameters
        ----------
        frame : ndarray (ny, nx)
            Calibrated frame; pixels that are not finite have no weight.
        dy, dx : float
            Shift to apply to the frame [native pixel].
        weight : float
            Weight of the frame.

        Raises
        ------
        ValueError
            The frame has another shape, or shift or weight are not finite.
        """
        if frame.shape != self.shape:
            raise ValueError(f"expected a frame of shape {self.shape}, got {frame.shape}")
        if not math.isfinite(dy + dx + weight):
            raise ValueError(f"shift ({dy}, {dx}) and weight {weight} must be finite")
        # the kernel is separable: weights of both axes multiply
        deposits = [
            ((down.phase, right.phase), (down.step, right.step), weight * down.fraction * right.fraction)
            for down in self._overlaps(dy)
            for right in self._overlaps(dx)
        ]
        phases, steps, weights = (np.array(column) for column in zip(*deposits, strict=True))
        _deposit(frame, self._planes, self._missing, (phases, steps, weights.astype(np.float32)))
        for phase, (down_by, right_by), share in deposits:
            rows, columns = _covered(down_by, self.shape[0]), _covered(right_by, self.shape[1])
            self._rectangles.append((phase, rows, columns, share))
        self.n_frames += 1

    def merge(self, other: "Drizzle") -> "Drizzle":
        """Add all frames of another stack of the same geometry.

        Parameters
        ----------
        other : Drizzle
            Stack with the same shape, scale and pixfrac; unchanged.

        Returns
        -------
        Drizzle
            This stack.

        Raises
        ------
        ValueError
            The stacks differ in shape, scale or pixfrac.
        """
        mine, theirs = ((d.shape, d.scale, d.pixfrac) for d in (self, other))
        if mine != theirs:
            raise ValueError(f"cannot merge stacks of different (shape, scale, pixfrac): {mine}, {theirs}")
        self._planes += other._planes
        self._rectangles += other._rectangles
        if other._missing.any():  # zeros that nobody writes take no memory
            self._missing += other._missing
        self.n_frames += other.n_frames
        return self

    __iadd__ = merge

    def output_position(self, y: float, x: float) -> tuple[float, float]:
        """Return the position on the output grid of a native position, both 0-based at pixel centres.

        Parameters
        ----------
        y, x : float
            Position [native pixel].

        Returns
        -------
        (float, float)
            Position (y, x) [output pixel].
        """
        return (y + 0.5) * self.scale - 0.5, (x + 0.5) * self.scale - 0.5

    def image(self) -> Float32Array:
        """Return the stack in counts per *output* pixel.

        The sum over a star in this image is the mean of its sums over the native frames, so aperture photometry
        needs no factor. It is `surface_brightness` divided by ``scale**2``.

        Returns
        -------
        ndarray (scale * ny, scale * nx) float32
            NaN where the weight is zero.
        """
        return self._mean(1 / self.scale**2)

    def surface_brightness(self) -> Float32Array:
        """Return the weighted mean of the frames in counts per *native* pixel, shape and NaN as `image`."""
        return self._mean(1.0)

    def weights(self) -> Float32Array:
        """Return the weight of each output pixel; a frame of weight 1 distributes 1 per native pixel."""
        planes = self._plane_weights()
        ny, nx = self.shape
        return np.ascontiguousarray(planes.transpose(2, 0, 3, 1)).reshape(ny * self.scale, nx * self.scale)

    def _mean(self, factor: float) -> Float32Array:
        ny, nx = self.shape
        mean = np.empty((ny * self.scale, nx * self.scale), np.float32)
        _divide_interleaved(self._planes, self._plane_weights(), np.float32(factor), mean)
        return mean

    def _overlaps(self, shift: float) -> list[_Overlap]:
        width = self.pixfrac * self.scale
        low = (shift + 0.5) * self.scale - width / 2  # edge of the drop of pixel 0; output pixel k is [k, k + 1]
        overlaps = []
        for k in range(math.floor(low), math.ceil(low + width)):
            fraction = (min(low + width, k + 1) - max(low, k)) / width
            # rounding may leave an overlap of next to nothing, which would cost a pass over the frame
            if fraction > 1e-9:
                step, phase = divmod(k, self.scale)
                overlaps.append(_Overlap(step, phase, fraction))
        return overlaps

    def _plane_weights(self) -> Float32Array:
        ny, nx = self.shape
        weights = np.empty_like(self._planes)
        for phase in np.ndindex(self.scale, self.scale):
            # a rectangle is four corners of differences, summed along both axes at the end: the cost of a frame does
            # not depend on its size
            corners = np.zeros((ny + 1, nx + 1))
            for place, rows, columns, weight in self._rectangles:
                if place != phase:
                    continue
                corners[rows.start, columns.start] += weight
                corners[rows.stop, columns.start] -= weight
                corners[rows.start, columns.stop] -= weight
                corners[rows.stop, columns.stop] += weight
            _sum_corners(corners, weights[phase])
        weights -= self._missing
        weights[np.abs(weights) < 1e-6 * weights.max(initial=0)] = 0  # rounding errors of empty pixels
        return weights


def _covered(step: int, n: int) -> slice:
    """Return the pixels of an axis of n that are covered by the axis shifted by `step`."""
    return slice(min(max(step, 0), n), max(min(n + step, n), 0))


@njit(cache=True, fastmath={"contract"})
def _deposit(frame, planes, missing, deposits):  # type: ignore[no-untyped-def]
    """Add the frame to the planes, and the weights of its pixels that are not finite to `missing`."""
    ny, nx = frame.shape
    phases, steps, weights = deposits
    # one converted row serves all deposits while it is in the cache
    row, none = np.empty(nx, np.float32), np.empty(0, np.int64)
    for y in range(ny):
        # no condition and no offset in an innermost loop, so that they are compiled to vector instructions
        n_unknown = 0
        for x in range(nx):
            row[x] = frame[y, x]
            n_unknown += not np.isfinite(row[x])
        unknown = np.flatnonzero(~np.isfinite(row)) if n_unknown else none
        row[unknown] = 0
        for k in range(len(weights)):
            target_y, step_x = y + steps[k, 0], steps[k, 1]
            if not 0 <= target_y < ny:
                continue
            weight = weights[k]
            for gap in unknown:
                if 0 <= gap + step_x < nx:
                    missing[phases[k, 0], phases[k, 1], target_y, gap + step_x] += weight
            target = planes[phases[k, 0], phases[k, 1], target_y, max(0, step_x) : max(nx + step_x, 0)]
            values = row[max(0, -step_x) : max(nx - step_x, 0)]
            for x in range(len(values)):
                target[x] += weight * values[x]


@njit(cache=True)
def _sum_corners(corners, weights):  # type: ignore[no-untyped-def]
    """Sum up the corners of rectangles along both axes."""
    ny, nx = weights.shape
    columns = np.zeros(nx)
    for y in range(ny):
        columns += corners[y, :nx]
        total = 0.0
        for x in range(nx):
            total += columns[x]
            weights[y, x] = total


@njit(cache=True)
def _divide_interleaved(planes, weights, factor, mean):  # type: ignore[no-untyped-def]
    scale = planes.shape[0]
    for y in range(mean.shape[0]):
        for x in range(mean.shape[1]):
            cell = y % scale, x % scale, y // scale, x // scale
            weight = weights[cell]
            mean[y, x] = factor * planes[cell] / weight if weight > 0 else np.nan
