"""Histograms of all light curves of a project."""

from surveys.histograms.axes import Axis
from surveys.histograms.histogram import Histogram

Histograms = Histogram
"""The name of AstroRetriever."""

__all__ = ["Axis", "Histogram", "Histograms"]
