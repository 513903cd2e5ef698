"""Catalogues, virtual observatories, light curves and their search."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surveys.formats.light_curve_files import read_light_curve

__all__ = ["read_light_curve"]


def __getattr__(name: str) -> Any:
    if name == "read_light_curve":  # late: it imports the libraries of all formats
        from surveys.formats.light_curve_files import read_light_curve

        return read_light_curve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
