"""Histograms of all light curves of a project."""

from surveys.histograms.axes import Axis
from surveys.histograms.histogram import Histogram

__all__ = ["Axis", "Histogram"]
