"""Names, numbers and words of columns, whatever their file made of them."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray


def simplify(name: object) -> str:
    """Return the name of a column without case, digits, blanks and the like: ``"Mag_err, mag"`` is ``magerr``."""
    plain = re.sub(r"[\s_\-0-9.()\[\]#<>'|]", "", str(name).partition(",")[0].lower())
    return plain.removesuffix("s")


def words_of(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return values (n,) as text without surrounding blanks; missing ones are empty."""
    if values.dtype.kind == "O":
        import pandas as pd  # late: most files of light curves need none, and it is large

        values = np.where(pd.isna(values), "", values)
    return np.strings.strip(text_of(np.asarray(values)))


def text_of(values: NDArray[Any]) -> NDArray[np.str_]:
    """Return values (n,) as text; bytes, as of FITS tables, are UTF-8."""
    return np.strings.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values.astype("U")


def numbers_of(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values (n,) as numbers; NaN where there is none."""
    if values.dtype.kind in "OSU":
        import pandas as pd  # late, as above

        numbers: NDArray[np.float64] = pd.to_numeric(pd.Series(words_of(values)), errors="coerce").to_numpy(np.float64)
        return numbers
    return values.astype(np.float64)
