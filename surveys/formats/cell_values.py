"""Numbers and words of columns, whatever type their file gave them."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def words_of(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return values (n,) as text without surrounding blanks; missing ones are empty."""
    if values.dtype.kind == "O":
        values = np.where(pd.isna(values), "", values)
    return np.strings.strip(np.asarray(values).astype("U"))


def numbers_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values (n,) as numbers; NaN where there is none."""
    if values.dtype.kind in "OSU":
        numbers: NDArray[np.float64] = pd.to_numeric(pd.Series(words_of(values)), errors="coerce").to_numpy(np.float64)
        return numbers
    return values.astype(np.float64)
