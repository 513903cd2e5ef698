"""Virtual observatories: where survey photometry comes from, and how it is reduced."""

from surveys.observatory.base import Fetched, VirtualObservatory
from surveys.observatory.raw_storage import Row

__all__ = ["Fetched", "Row", "VirtualObservatory"]
