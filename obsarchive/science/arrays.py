"""Types of arrays by their elements, for annotations; shapes and units are in the docstrings."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]
"""Any numbers, such as raw counts of any integer type."""
FloatArray = NDArray[np.floating[Any]]
"""Real numbers of any precision: inputs."""
Float32Array = NDArray[np.float32]
"""Pixels: single precision halves the memory of a stack and is more than a detector delivers."""
Float64Array = NDArray[np.float64]
Complex64Array = NDArray[np.complex64]
Complex128Array = NDArray[np.complex128]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
IndexArray = NDArray[np.intp]
"""Numbers of elements of other arrays."""
RawFrame = NDArray[np.uint16]
"""Counts as a 16-bit detector delivers them."""
