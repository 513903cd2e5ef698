"""Origin of raw photometry: the files that it was read from, and how, so that a change of either is noticed."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Origin(NamedTuple):
    """Where the data of a source are read from.

    Parameters
    ----------
    parameters : str
        Hash of all parameters on which the reading depends.
    state : str
        State of the files, such as their sizes and times; empty: there is none.
    """

    parameters: str
    state: str

    def differs(self, fetched: Mapping[str, Any] | None) -> bool:
        """Return whether other data would be read now; where the files are gone, the older data remain."""
        if fetched is None:
            return bool(self.state)
        return self.is_read_otherwise(fetched) or (bool(self.state) and self.state != fetched["state"])

    def is_read_otherwise(self, fetched: Mapping[str, Any] | None) -> bool:
        """Return whether data were read with other parameters; `fetched` is their origin, None if it is not known."""
        return fetched is not None and self.parameters != fetched["parameters"]
