"""Observatories by their names, as projects ask for them."""

from collections.abc import Mapping
from typing import Any

from surveys.analysis import load_class
from surveys.observatory import VirtualObservatory
from surveys.parameters import legalize

OBSERVATORIES = {
    "DEMO": ("surveys.demo", "VirtualDemoObs"),
    "ZTF": ("surveys.observatory.ztf", "VirtualZTF"),
    "TESS": ("surveys.observatory.tess", "VirtualTESS"),
}


def without_credentials(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of observatories without what is secret of them."""
    return {
        key: without_credentials(value) if isinstance(value, dict) else value
        for key, value in given.items()
        if key != "credentials"
    }


def observatory_class(name: str) -> tuple[str, type[VirtualObservatory]]:
    """Return the short name and the class of an observatory."""
    if "." in name:
        module, _, class_name = name.rpartition(".")
        made = load_class(module, class_name, VirtualObservatory)
        return legalize(made.name or class_name), made
    short = legalize(name)
    if short not in OBSERVATORIES:
        # the class may be named by obs_module and obs_class among its parameters
        return short, VirtualObservatory
    return short, load_class(*OBSERVATORIES[short], VirtualObservatory)
