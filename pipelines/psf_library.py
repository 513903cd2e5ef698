"""Reference stars for the PSF library: bright single stars of a night whose quality passes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from pydantic import PositiveInt

from obsarchive.core.documents import Observation, StepRecord
from obsarchive.core.step_state import State
from obsarchive.core.target_names import folded_names
from obsarchive.errors import Unprocessable
from obsarchive.figures.previews import Sky, thumbnail
from obsarchive.io import fits_products, psf_candidates, psf_library
from obsarchive.io.psf_library import Change, Entry, PsfLibrary
from obsarchive.pipeline import Pipeline, Workspace, step
from obsarchive.science.arrays import Float32Array
from obsarchive.science.psf.contrast import companion_of
from obsarchive.science.psf.subtraction import MARGIN_PX, STAMP_SIDE, central, cut_stamp
from pipelines.shared.night_results import nothing_found

log = logging.getLogger(__name__)

STACKS = ("100p", "20p")
"""Stacks of the bright-star pipeline from which references are cut; the first one decides."""
MAX_OTHERS = 20
"""Other stars with which the speckles of a candidate are subtracted, so that companions show."""
MOST_ROUNDS = 5
"""In which the stars of a night are compared with each other."""
SHOWN_ARCSEC = 2.0
"""Side of the thumbnail of a candidate [arcsec]."""


@dataclass(frozen=True)
class Settings:
    """Settings of the PSF library."""

    auto_add: bool = field(default=True, metadata={"help": "put candidates whose quality passes into the library"})
    per_filter: PositiveInt = field(
        default=200, metadata={"help": "most references of a telescope, filter and stack; the oldest go first"}
    )


class PsfCandidates(Pipeline):
    """Reference stars of a night for the PSF library."""

    name = "psflib"
    scope = "night"
    folder = "summary"
    follows_science = True
    Settings = Settings

    @step(makes=["psflib/{observation}.fits", "psflib/{observation}.png"], uses=["observations"], gives=["library"])
    def candidates(self, work: Workspace) -> dict[str, Any]:
        """Cut a stamp of every bright star; add those that are single and sharp to the library."""
        measured = [(o, o.pipeline("bright_star").step("strehl")) for o in work.observations]
        stars = [(observation, record) for observation, record in measured if record.state is State.DONE]
        if not stars:
            raise nothing_found(work, f"no star of {work.subject.id} has a Strehl ratio: none can serve as a reference")
        found = []
        for number, (observation, record) in enumerate(stars):
            work.progress(0.5 * number / len(stars), f"cutting {observation.document.get('name')}")
            try:
                found.append(_Candidate.cut(work, observation, record))
            except Unprocessable as err:
                log.info("%s is no candidate: %s", observation.id, err)
        work.progress(0.5, f"looking for companions of {len(found)} stars")
        _judge(found, _of_other_nights(PsfLibrary.read(work.layout), work.subject.night))
        for number, candidate in enumerate(found):
            work.progress(0.8 + 0.2 * number / len(found), f"writing {candidate.name}")
            candidate.publish(work)
        with psf_library.changed(work.layout) as change:
            added = [self._decide(candidate, change) for candidate in found]
            change.limit(self.settings.per_filter)
        documents = [{**candidate.to_document(), "added": is_in} for candidate, is_in in zip(found, added, strict=True)]
        return {"candidates": documents, "good": sum(not candidate.reason for candidate in found)}

    def _decide(self, candidate: "_Candidate", library: Change) -> bool:
        """Add a star, replace its stamps, or remove it; return whether it is in the library now."""
        is_held = library.holds(candidate.name)
        if candidate.reason and library.removable(candidate.name):
            log.info("%s leaves the PSF library: %s", candidate.name, candidate.reason)
            library.remove(candidate.name, "auto")
        elif is_held or (self.settings.auto_add and not candidate.reason):
            for entry, stamp in zip(candidate.entries, candidate.stamps.values(), strict=True):
                library.add(entry, stamp, "auto")
        return library.holds(candidate.name)


@dataclass
class _Candidate:
    """A star of the night: its stamps by stack, and why it cannot serve as a reference.

    Parameters
    ----------
    observation : Observation
        Its observation.
    entries : tuple of Entry
        What the library would hold of it.
    stamps : dict of str to ndarray
        By stack.
    target : ndarray
        Stamp of the first stack with a margin, as the subtraction of the star has it.
    core_px : float
        FWHM of its core [pixel].
    objection : str
        What speaks against it by itself; empty if nothing does.
    seen : SeenCompanion
        What its own subtraction has found.
    reason : str
        Why it cannot serve: the objection, or a companion.
    """

    observation: Observation
    entries: tuple[Entry, ...]
    stamps: dict[str, Float32Array]
    target: Float32Array
    core_px: float
    objection: str
    seen: "SeenCompanion"
    reason: str

    @property
    def name(self) -> str:
        return self.entries[0].observation

    @cached_property
    def star(self) -> frozenset[str]:
        """Names by which the star is known as the same; made once, as each is compared with all others."""
        return frozenset((self.entries[0].target, *folded_names(self.observation.document)))

    @classmethod
    def cut(cls, work: Workspace, observation: Observation, strehl: StepRecord) -> "_Candidate":
        """Cut and publish the stamps of a star."""
        folder = work.layout.observation(observation.night, observation.id) / "bright_star"
        with_margin, scale = {}, np.nan
        for stack in STACKS:
            image, header = fits_products.read_fits(folder / f"{stack}.fits")
            scale = float(header["PIXSCALE"])
            star = header["GUIDEY"] - 1.0, header["GUIDEX"] - 1.0
            with_margin[stack] = cut_stamp(image, star, STAMP_SIDE, MARGIN_PX)
        stamps = {stack: np.ascontiguousarray(central(stamp, STAMP_SIDE)) for stack, stamp in with_margin.items()}
        results = strehl.results
        entries = tuple(
            Entry(
                observation=observation.id,
                night=observation.night,
                telescope=str(observation.document.get("telescope") or ""),
                filter=observation.filter,
                stack=stack,
                pixel_arcsec=scale,
                strehl_percent=float(results.get("ratio_percent") or np.nan),
                fwhm_arcsec=float(results.get("fwhm_arcsec") or np.nan),
            )
            for stack in STACKS
        )
        core_px = float(results.get("core_arcsec") or results.get("fwhm_arcsec") or np.nan) / scale
        against, seen = objection(observation, results), SeenCompanion.of(observation)
        return cls(observation, entries, stamps, with_margin[STACKS[0]], core_px, against, seen, against or seen.text)

    def others(self, night: Sequence["_Candidate"], library: PsfLibrary) -> dict[str, Float32Array]:
        """Return stamps of other stars of the night and the library, by observation: those that can be references."""
        mine = self.entries[0]
        references = library.select(
            telescope=mine.telescope,
            filter=mine.filter,
            stack=mine.stack,
            pixel_arcsec=mine.pixel_arcsec,
            but=self.observation,
        )
        references = replace(references, entries=references.entries[-MAX_OTHERS:])
        others = dict(zip((entry.observation for entry in references.entries), references.stamps, strict=True))
        others |= {other.name: other.stamps[mine.stack] for other in night if other.can_be_reference_of(self)}
        return dict(list(others.items())[-MAX_OTHERS:])

    def companion(self, others: Mapping[str, Float32Array]) -> str:
        """Return a description of the companion found by subtracting other stars; empty if there is none.

        A star around which none can be seen, at the edge of its image, cannot serve either.
        """
        try:
            return companion_of(self.target, np.array(list(others.values())), self.core_px)
        except Unprocessable as err:
            return str(err)

    def can_be_reference_of(self, other: "_Candidate") -> bool:
        """Whether this is another star observed with the same optics, without an objection."""
        mine, its = self.entries[0], other.entries[0]
        same_optics = (mine.telescope, mine.filter) == (its.telescope, its.filter)
        return same_optics and self.star.isdisjoint(other.star) and not self.reason

    def publish(self, work: Workspace) -> None:
        """Write stamps and thumbnail."""
        name, entry = f"psflib/{self.name}", self.entries[0]
        work.publish_fits(
            f"{name}.fits", self.stamps, psf_candidates.header_of(entry, STACKS, self.reason), raw_files=()
        )
        middle = (STAMP_SIDE - 1) / 2
        side_px = min(SHOWN_ARCSEC / entry.pixel_arcsec, STAMP_SIDE)
        work.publish(
            f"{name}.png", thumbnail(self.stamps[entry.stack], Sky(entry.pixel_arcsec), (middle, middle), side_px)
        )

    def to_document(self) -> dict[str, Any]:
        entry = self.entries[0]
        return {
            "observation": entry.observation,
            "filter": entry.filter,
            "telescope": entry.telescope,
            "strehl_percent": entry.strehl_percent,
            "fwhm_arcsec": entry.fwhm_arcsec,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class SeenCompanion:
    """Companion that the subtraction of a star has found.

    Parameters
    ----------
    text : str
        Its description; empty if there is none.
    references : tuple of str
        Observations of the stars that were subtracted.
    """

    text: str = ""
    references: tuple[str, ...] = ()

    @classmethod
    def of(cls, observation: Observation) -> Self:
        """Return what the results of an observation hold."""
        results = observation.pipeline("bright_star").step("pca").results
        if not (detections := results.get("detections")):
            return cls()
        first = detections[0]
        text = f"companion at {first['separation_arcsec']:.2f} arcsec, {first['delta_mag']:.1f} mag fainter"
        return cls(text, tuple(results.get("references") or ()))

    def without(self, refused: set[str]) -> str:
        """Return its description if none of these stars was subtracted: it may be the companion of one of them."""
        return "" if refused.intersection(self.references) else self.text


def _of_other_nights(library: PsfLibrary, night: str) -> PsfLibrary:
    """Return the library without the stars of a night, so that its choice does not depend on an earlier one."""
    return replace(library, entries=tuple(entry for entry in library.entries if entry.night != night))


def _judge(found: Sequence[_Candidate], library: PsfLibrary) -> None:
    """Decide which stars are single, until no decision changes those of others.

    A double star that was not recognised yet leaves its companion in the stars from which it is subtracted.
    """
    companions: dict[tuple[str, ...], str] = {}
    for _ in range(MOST_ROUNDS):
        before = [candidate.reason for candidate in found]
        for candidate in found:
            others = candidate.others(found, library)
            key = (candidate.name, *others)
            if key not in companions:
                companions[key] = candidate.companion(others)
            refused = {other.name for other in found if other.reason}
            candidate.reason = candidate.objection or candidate.seen.without(refused) or companions[key]
        if [candidate.reason for candidate in found] == before:
            return


def objection(observation: Observation, strehl: Mapping[str, Any]) -> str:
    """Return why a star cannot serve as a reference; an empty text when it can.

    Parameters
    ----------
    observation : Observation
        Observation of the star.
    strehl : mapping
        Results of its Strehl ratio.

    Returns
    -------
    str
        What speaks against it by itself.
    """
    if strehl.get("flag") != "OK":
        return f"Strehl ratio flagged {strehl.get('flag')}: {strehl.get('flag_reason') or 'no reason given'}"
    if observation.pipeline("bright_star").classified_as == "faint":
        return "faint: its noise would be left in every star that it is subtracted from"
    return ""
