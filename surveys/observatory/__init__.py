"""Virtual observatories: where survey photometry comes from, and how it is reduced."""

from surveys.observatory.base import Fetched, Row, VirtualObservatory

__all__ = ["Fetched", "Row", "VirtualObservatory"]
