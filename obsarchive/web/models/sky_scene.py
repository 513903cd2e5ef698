"""What the sky viewer draws: images where they lie on the sky, and what was found in them."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from astropy import units
from astropy.coordinates import offset_by
from flask import url_for

from obsarchive.core.significant_digits import is_number
from obsarchive.core.values import as_mapping
from obsarchive.io.product_entries import read_image_entry
from obsarchive.io.star_position import read_star_position
from obsarchive.science.astrometry.sky_regions import Polygon, position_of
from obsarchive.web.framework.context import portal
from obsarchive.web.framework.file_responses import resolve_product_path
from obsarchive.web.models.measurements import companions_seen
from obsarchive.web.models.pipeline_views import PipelineView
from obsarchive.web.models.view_models import Card

MOST_STARS = 2000
"""Stars of a table that are drawn, from its begin: the brightest ones."""
SOLVED, STARS = "_wcs.fits", "_matches.csv"
"""End of the names of an image with a plate solution, and of the table of its stars."""

Place = tuple[float, float]
"""Right ascension and declination [deg]."""


@dataclass(frozen=True)
class SkyImage:
    """An image of an observation with its outline on the sky."""

    card: Card
    view: PipelineView
    name: str
    corners: tuple[Place, ...]

    @property
    def address(self) -> str:
        """Address of the file, which changes when it does."""
        mark = self.view.mark(self.name)
        return url_for("observations.product", obs_id=self.card.id, pipeline=self.view.name, name=self.name, v=mark)

    @cached_property
    def outline(self) -> Polygon:
        """Its outline."""
        return Polygon(self.corners)


def is_configured() -> bool:
    """Whether Aladin Lite is configured, and on disk."""
    return portal().settings.server.aladin_script is not None


def images_of(card: Card) -> list[SkyImage]:
    """Return the images of an observation that lie on the sky: those with a plate solution first."""
    views = sorted(card.pipelines, key=lambda view: view is not card.best)
    named = [(view, name) for view in views for name in view.products if name.endswith(".fits")]
    found = (_image(card, view, name) for view, name in sorted(named, key=lambda one: not one[1].endswith(SOLVED)))
    return [image for image in found if image is not None]


def _image(card: Card, view: PipelineView, name: str) -> SkyImage | None:
    entry = as_mapping(view.products[name].get("image"))
    if not entry and (path := _path(card, view, name)):  # written by an earlier version
        entry = as_mapping(read_image_entry(path))
    corners = tuple((float(ra), float(dec)) for ra, dec in entry.get("corners_deg") or ())
    return SkyImage(card, view, name, corners) if len(corners) == 4 and len(entry["shape"]) == 2 else None


def _path(card: Card, view: PipelineView, name: str) -> Path | None:
    return resolve_product_path(view.folder / name, portal().layout, card.observation.night)


def scene_of(images: Sequence[SkyImage]) -> dict[str, Any]:
    """Return what is drawn of some images, as plain values.

    Parameters
    ----------
    images : sequence of SkyImage
        At least one; the first is shown first.

    Returns
    -------
    dict
        ``middle`` [deg] and ``field_deg`` of the view, ``images``, and the marks: ``stars``, ``catalogue``,
        ``companions``; ``survey``, the address of the background, or None.
    """
    cards = {image.card.id: image.card for image in images}.values()
    stars = [row for card in cards for row in _table_of_stars(card)]
    named = len(cards) > 1
    return {
        "middle": position_of(images[0].outline.middle),
        "field_deg": 2.2 * images[0].outline.bounding.radius_deg,
        "images": [
            {"address": image.address, "corners": image.corners, "label": _label(image, named)} for image in images
        ],
        "stars": _places(stars, "ra_deg", "dec_deg"),
        "catalogue": _places(stars, "catalogue_ra_deg", "catalogue_dec_deg"),
        "companions": list(_companions(images, named)),
        "survey": portal().settings.server.sky_survey,
    }


def _label(image: SkyImage, with_date: bool) -> str:
    name = image.name.removeprefix(f"{image.card.id}_")
    solved = ", plate solution" if name.endswith(SOLVED.removeprefix("_")) else ""
    date = f"{image.card.observation.date_utc:%Y-%m-%d %H:%M}, " if with_date else ""
    return f"{date}{image.view.name.replace('_', ' ')}, {name}{solved}"


def _table_of_stars(card: Card) -> Iterator[dict[str, str]]:
    """Yield the rows of the table of stars that a plate solution leaves."""
    tables = ((view, name) for view in card.pipelines for name in view.products if name.endswith(STARS))
    for path in (_path(card, view, name) for view, name in tables):
        if path is not None:
            with path.open(newline="", encoding="utf-8") as file:
                yield from islice(csv.DictReader(file), MOST_STARS)


def _places(rows: Iterable[dict[str, str]], ra: str, dec: str) -> list[Place]:
    return [(float(row[ra]), float(row[dec])) for row in rows if row.get(ra) and row.get(dec)]


def _companions(images: Iterable[SkyImage], by_date: bool) -> Iterator[dict[str, Any]]:
    """Yield the companions, which are known by their offset from the star; of several epochs with the dates."""
    first = {image.card.id: image for image in reversed(list(images))}
    for image in first.values():
        path = _path(image.card, image.view, image.name)
        star = read_star_position(path) if path else None
        for companion in companions_seen(image.card) if star else ():
            angle, separation = (companion.found.get(key) for key in ("position_angle_deg", "separation_arcsec"))
            if star and is_number(angle) and is_number(separation):
                place = offset_by(*(value * units.deg for value in star), angle * units.deg, separation * units.arcsec)
                ra, dec = (float(value.to_value(units.deg)) for value in place)
                label = f"{image.card.observation.date_utc:%Y-%m-%d}" if by_date else companion.short
                yield {"ra": ra, "dec": dec, "label": label}
