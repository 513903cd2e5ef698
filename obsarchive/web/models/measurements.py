"""What was measured of a star, as pages write it: Strehl ratio, companions, what limits its contrast curve."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from obsarchive.core.significant_digits import decimals_of, fixed, is_number, with_error
from obsarchive.web.framework.template_filters import measured
from obsarchive.web.models.pipeline_views import PipelineView
from obsarchive.web.models.view_models import Card

NEAR_ARCSEC = 2.0
"""A companion lifts the contrast curve at its own distance from the star; farther ones lie outside of most curves."""


def strehl_of(card: Card) -> tuple[float, float | None] | None:
    """Return the Strehl ratio of the first pipeline that measured it, and its error [%]."""
    return None if card.strehl is None else (card.strehl, card.strehl_error)


def strehl_text(card: Card) -> str:
    """Write the Strehl ratio with the digits that its error allows, for where the error stands beside; else empty."""
    found = strehl_of(card)
    if found is None:
        return ""
    return f"{fixed(found[0], 1 if found[1] is None else decimals_of(found[1]))} %"


def strehl_measured(card: Card) -> str:
    """Write the Strehl ratio with its error; empty if there is none."""
    found = strehl_of(card)
    return "" if found is None else f"{measured(*found, 1)} %"


@dataclass(frozen=True)
class Companion:
    """A companion: where it is and how faint."""

    found: Mapping[str, Any]

    def _written(self, key: str, error: str) -> str:
        value = self.found.get(key)
        return with_error(value, self.found.get(error)) if is_number(value) else ""

    @property
    def separation(self) -> str:
        """Separation, with its unit."""
        text = self._written("separation_arcsec", "separation_error_arcsec")
        return f"{text}″" if text else ""

    @property
    def angle(self) -> str:
        """Position angle, with its unit; empty if north is not known."""
        text = self._written("position_angle_deg", "position_angle_error_deg")
        return f"{text}°" if text else ""

    @property
    def contrast(self) -> str:
        """Magnitude difference, with its unit."""
        text = self._written("delta_mag", "delta_mag_error")
        return f"Δ {text} mag" if text else ""

    @property
    def short(self) -> str:
        """Text beside its mark on a picture."""
        mag, separation = self.found.get("delta_mag"), self.found.get("separation_arcsec")
        angle = self.found.get("position_angle_deg")
        parts = (
            f"Δ{fixed(mag, 1)} mag" if is_number(mag) else "",
            f"{fixed(separation, 2)}″" if is_number(separation) else "",
            f"{fixed(angle, 0)}°" if is_number(angle) else "",
        )
        return ", ".join(part for part in parts if part)

    @property
    def facts(self) -> dict[str, Any]:
        """Its place in the plot of a contrast curve."""
        return {
            "separation_arcsec": self.found.get("separation_arcsec"),
            "delta_mag": self.found.get("delta_mag"),
            "error": self.found.get("delta_mag_error"),
            "text": f"companion  {self.separation}  {self.contrast}",
        }


def companions_of(card: Card, view: PipelineView) -> list[Companion]:
    """Return the companions that a pipeline found."""
    found = card.observation.pipeline(view.name).step("pca").results.get("detections")
    return [Companion(item) for item in found or () if isinstance(item, Mapping)] if isinstance(found, list) else []


def companions_seen(card: Card) -> list[Companion]:
    """Return the companions of the first pipeline that subtracted the star; others see the same."""
    for view in sorted(card.pipelines, key=lambda view: view is not card.best):
        if isinstance(card.observation.pipeline(view.name).step("pca").results.get("n_references"), int):
            return companions_of(card, view)
    return []


def cautions(results: Mapping[str, Any], companions: Iterable[Companion], wanted: int | None) -> list[str]:
    """Return what makes a contrast curve shallower than it could be.

    Parameters
    ----------
    results : mapping
        Results of the step that measured it.
    companions : iterable of Companion
        Companions that it found.
    wanted : int or None
        Reference stars that the configuration wants; None if it says nothing.

    Returns
    -------
    list of str
        Sentences.
    """
    found: list[str] = []
    n = results.get("n_references")
    if isinstance(n, int) and results.get("lacks_references"):
        stars = "Only one reference star" if n == 1 else f"Only {n} reference stars"
        more = f" of the {wanted} wanted" if wanted and wanted > n else ""
        found.append(f"{stars}{more}: with more, the curve would be deeper.")
    for companion in companions:
        separation = companion.found.get("separation_arcsec")
        if is_number(separation) and separation < NEAR_ARCSEC:
            found.append(f"A companion at {companion.separation} ({companion.contrast}) lifts the curve around it.")
    return found


def companion_label(found: Mapping[str, Any]) -> str:
    """Write what stands beside the mark of a companion."""
    return Companion(found).short


FILTERS = {
    "strehl_text": strehl_text,
    "strehl_measured": strehl_measured,
    "companion_label": companion_label,
}
"""Filters of the templates."""
