"""Observations as cards of a night: which of their pipelines speaks for them, and how cards are chosen and sorted."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from obsarchive.core.documents import Observation
from obsarchive.core.natural_order import natural
from obsarchive.core.significant_digits import is_number
from obsarchive.store import Note
from obsarchive.store.notes import NO_NOTE
from obsarchive.web.models.pipeline_views import (
    SUMS_UP,
    DisplayState,
    PipelineView,
    StepView,
    digest,
    lacking_of,
    troubles_of,
)

PICTURE_KINDS = (
    "cropped",
    "full",
    "comparison",
    "quality",
    "shifts",
    "profile",
    "pca",
    "contrast_curve",
    "astrometry",
)
"""What the pictures of an observation show, in the order of the pages; the end of their names."""

FIRST_LOOKED_AT = (
    "ratio_percent",
    "ratio_error_percent",
    "flag",
    "fwhm_arcsec",
    "fwhm_error_arcsec",
    "contrast_0_5_arcsec_mag",
    "contrast_1_arcsec_mag",
    "n_references",
    "frames_used",
    "frames_total",
    "calibration",
)

_MISSING = (DisplayState.REJECTED, DisplayState.LACKING)


@dataclass(frozen=True)
class Card:
    """An observation as the night page shows it."""

    observation: Observation
    pipelines: tuple[PipelineView, ...]
    note: Note = NO_NOTE
    note_on_night: Note = NO_NOTE

    @property
    def quality(self) -> str:
        """What people say of it, else of its night; empty if nothing."""
        return self.note.quality or self.note_on_night.quality

    @property
    def remark(self) -> str:
        """Text of the note on it, else of the one on its night."""
        return self.note.text or self.note_on_night.text

    @property
    def id(self) -> str:
        """Name of the observation."""
        return self.observation.id

    @property
    def name(self) -> str:
        """Name of the target."""
        return str(self.observation.document.get("name") or self.id)

    @property
    def program(self) -> str:
        """Programme it belongs to."""
        science = self.observation.document.get("science_program")
        return str(science.get("program_id", "")) if isinstance(science, Mapping) else ""

    @cached_property
    def best(self) -> PipelineView | None:
        """The first pipeline that made pictures."""
        return next((view for view in self.pipelines if view.picture("cropped") or view.picture("thumb")), None)

    @property
    def thumbnail(self) -> str | None:
        """Name of the small picture, of the best pipeline."""
        return (self.best.picture("thumb") or self.best.picture("cropped")) if self.best else None

    @cached_property
    def pictures(self) -> list[tuple[str, PipelineView, str]]:
        """Kind, pipeline and name of the pictures, of each kind one: of the best pipeline that has it."""
        return list(self._each_picture())

    def _each_picture(self) -> Iterator[tuple[str, PipelineView, str]]:
        views = sorted(self.pipelines, key=lambda view: view is not self.best)
        for kind in PICTURE_KINDS:
            named = ((kind, view, name) for view in views if (name := view.picture(kind)))
            yield from islice(named, 1)

    @property
    def other_pictures(self) -> list[tuple[PipelineView, str]]:
        """Pipeline and name of the pictures of no known kind, in the order of the pipelines."""
        known = tuple(f"_{kind}.png" for kind in (*PICTURE_KINDS, "thumb"))
        return [
            (view, name)
            for view in self.pipelines
            for name in view.products
            if name.endswith(".png") and not name.endswith(known)
        ]

    @cached_property
    def state(self) -> DisplayState:
        """State that sums up the observation.

        A pipeline that rejected it counts only where no other accepted it, one that lacks something only where no
        other is done.
        """
        states = {view.state for view in self.pipelines}
        states = states - {DisplayState.REJECTED} or states
        states = states - {DisplayState.LACKING} or states
        return min(states, key=SUMS_UP.__getitem__, default=DisplayState.WAITING)

    @cached_property
    def has_products(self) -> bool:
        """Whether any pipeline made a product of it."""
        return any(view.products for view in self.pipelines)

    @property
    def has_tarball(self) -> bool:
        """Whether a tarball of its products is up to date; one of no products holds texts only."""
        return self.has_products and self.observation.can_be_sent_packed

    @cached_property
    def is_void(self) -> bool:
        """Whether its raw files are gone before anything was made of them: nothing is wrong, and nothing is to do."""
        return self.observation.raw_missing and not self.has_products

    @cached_property
    def word(self) -> str:
        """Its state as a page writes it."""
        if self.is_void:
            return RAW_FILES_GONE
        return next((view.word for view in self.pipelines if view.state is self.state), str(self.state))

    @cached_property
    def missing(self) -> str:
        """What is not there although the observation is done, and why, in a few words; empty if nothing is."""
        if self.state not in (DisplayState.DONE, DisplayState.PARTLY_DONE):
            return ""
        views = [view for view in self.pipelines if view.state is not DisplayState.REJECTED]
        steps = [step for view in views for step in view.steps if step.state in _MISSING]
        return ", ".join(dict.fromkeys(f"{step.name}: {step.word}" for step in steps))

    @property
    def version(self) -> str:
        """Changes whenever the night page has something else to show."""
        pictures = [view.products[name].get("sha256") for _, view, name in islice(self._each_picture(), 1)]
        return digest(self.words, self._strehl, self.reason, self.remark, pictures)

    @property
    def whole_version(self) -> str:
        """Changes whenever something about the observation does."""
        document = {key: self.observation.document.get(key) for key in ("seeing", "comment", "distributed")}
        return digest(self.words, document, *(view.version for view in self.pipelines))

    @property
    def pictures_version(self) -> str:
        """Changes whenever a picture does, or a mark on it."""
        pictures = [view.products[name].get("sha256") for _, view, name in self.pictures]
        return digest(
            pictures, [view.marks for view in self.pipelines], [name for _, name in self.other_pictures], self.reason
        )

    @cached_property
    def measured(self) -> dict[str, Any]:
        """Measured values of the first pipeline with pictures, single values only."""
        steps = self.best.steps if self.best else ()
        return {
            key: value
            for step in steps
            for key, value in step.record.results.items()
            if isinstance(value, str | int | float) and value != ""
        }

    @property
    def highlights(self) -> dict[str, Any]:
        """The most important measured values."""
        return {key: self.measured[key] for key in FIRST_LOOKED_AT if key in self.measured}

    @property
    def strehl(self) -> float | None:
        """Strehl ratio [%] of the first pipeline that measured it."""
        return self._strehl[0]

    @property
    def strehl_error(self) -> float | None:
        """Its error [%]; None if it is not known."""
        return self._strehl[1]

    @cached_property
    def _strehl(self) -> tuple[float | None, float | None]:
        keys = ("ratio_percent", "ratio_error_percent")
        for value, error in (tuple(view.result("strehl", key) for key in keys) for view in self.pipelines):
            if is_number(value):
                return float(value), float(error) if is_number(error) and error > 0 else None
        return None, None

    @cached_property
    def flag(self) -> str | None:
        """Flag of the Strehl ratio; empty for a good one."""
        found = (view.result("strehl", "flag") for view in self.pipelines)
        return next((str(flag) for flag in found if flag and flag != "OK"), None)

    @cached_property
    def troubles(self) -> list[tuple[PipelineView, StepView]]:
        """Steps that failed or were rejected."""
        return [] if self.is_void else troubles_of(self.pipelines)

    @property
    def lacking(self) -> list[tuple[PipelineView, StepView]]:
        """Steps that wait for what does not exist yet."""
        return [] if self.is_void else lacking_of(self.pipelines)

    @property
    def reason(self) -> str:
        """Why the first of them failed or was rejected."""
        return next((f"{step.name}: {step.record.message}" for _, step in self.troubles), "")

    @cached_property
    def words(self) -> str:
        """Text that the filter box looks at."""
        classified = (view.record.classified_as or "" for view in self.pipelines)
        state = (self.state, self.word, self.missing)
        flags = (self.flag or "", self.quality)
        parts = (self.name, self.id, self.observation.filter, f"p{self.program}", *state, *flags)
        return " ".join((*parts, *classified)).lower()


RAW_FILES_GONE = "raw files gone"
"""What is said of an observation of which there is nothing."""
SORTS = {
    "time": lambda card: card.observation.date_utc,
    "name": lambda card: card.name.lower(),
    "filter": lambda card: card.observation.filter,
    "strehl": lambda card: -1.0 if card.strehl is None else card.strehl,
    "state": lambda card: SUMS_UP[card.state],
}


CHOICES = {"sort": tuple(SORTS), "order": ("asc", "desc")}
"""Parameters of a selection that take no other values."""


@dataclass(frozen=True)
class Selection:
    """Which observations of a night are shown, and in which order; as in the address of the page."""

    text: str = ""
    sort: str = "time"
    descending: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, str]) -> "Selection":
        """Read the parameters of an address; invalid ones are ignored."""
        sort = arguments.get("sort", "time")
        return cls(
            arguments.get("q", "")[:100], sort if sort in SORTS else "time", arguments.get("order", "") == "desc"
        )

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of an address that keeps this selection."""
        found = {"q": self.text, "sort": "" if self.sort == "time" else self.sort}
        return {key: value for key, value in {**found, "order": "desc" if self.descending else ""}.items() if value}

    def apply(self, cards: Iterable[Card]) -> list[Card]:
        """Return the cards that hold every word, in order: by programme, then by the chosen order."""
        words = self.text.lower().split()
        kept = [card for card in cards if all(word in card.words for word in words)]
        ordered = sorted(kept, key=SORTS[self.sort], reverse=self.descending)
        return sorted(ordered, key=lambda card: natural(card.program))
