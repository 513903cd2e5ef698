"""Registry of the observatories that are built in, by the names that projects use."""

from collections.abc import Mapping
from typing import Any

from surveys.analysis import load_class
from surveys.observatory import VirtualObservatory
from surveys.parameters import legalize

OBSERVATORIES = {
    "DEMO": ("surveys.demo", "VirtualDemoObs"),
    "ZTF": ("surveys.observatory.ztf", "VirtualZTF"),
    "TESS": ("surveys.observatory.tess", "VirtualTESS"),
    "FILES": ("surveys.observatory.files", "VirtualFiles"),
}


def without_credentials(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of observatories without their credentials."""
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
        # its class may be given by its parameters obs_module and obs_class
        return short, VirtualObservatory
    return short, load_class(*OBSERVATORIES[short], VirtualObservatory)
