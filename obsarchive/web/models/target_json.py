"""Targets as the interface for programs describes them."""

from typing import Any

from obsarchive.web.framework.context import full_address
from obsarchive.web.models.observation_json import rows
from obsarchive.web.models.target_view import Companion, Epoch, Measure, Target


def target(found: Target) -> dict[str, Any]:
    """Describe a target with its epochs."""
    ra, dec = found.position or (None, None)
    return {
        "name": found.name,
        "names": found.names,
        "ra_deg": ra,
        "dec_deg": dec,
        "epochs": [_epoch(epoch) for epoch in found.epochs],
        "page": full_address("targets.target", name=found.name),
    }


def _epoch(epoch: Epoch) -> dict[str, Any]:
    return {
        **rows([epoch.card])[0],
        **_measured("strehl", "percent", epoch.strehl),
        **_measured("fwhm", "arcsec", epoch.fwhm),
        "companions": [_companion(found) for found in epoch.companions],
    }


def _companion(found: Companion) -> dict[str, Any]:
    return {
        "label": found.label,
        **_measured("separation", "arcsec", found.separation),
        **_measured("position_angle", "deg", found.angle),
        **_measured("delta", "mag", found.delta_mag),
    }


def _measured(name: str, unit: str, found: Measure) -> dict[str, float | None]:
    return {f"{name}_{unit}": found.value, f"{name}_error_{unit}": found.error}
