"""State of a night on which decisions depend: its masters and those of other nights, and the PSF library."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from obsarchive.core.documents import Night, Observation
from obsarchive.core.masters import CalibrationNeed, Master, choose
from obsarchive.daemon.reference_groups import without_target
from obsarchive.names import days_apart, target_of
from obsarchive.pipeline import InputKind
from obsarchive.science.imaging.calibration import DETECTOR, dark_mode_for

Subject = Observation | Night
BORROWED: dict[InputKind, str] = {"other_darks": "dark", "other_flats": "flat"}
"""Uses that stand for masters of other nights, and their kind."""


@dataclass(frozen=True)
class NightContext:
    """State of the night of a subject: raw files, masters, needs, and the masters of all nights."""

    raw: Mapping[InputKind, str] = field(default_factory=dict)
    """Signature of the night's raw files by kind (:func:`.night_files.signatures`)."""
    masters: tuple[Master, ...] = ()
    """Masters of the subject's night."""
    elsewhere: tuple[Master, ...] = ()
    """Masters that other nights made from their own files."""
    needs: frozenset[CalibrationNeed] = frozenset()
    copies_from: str = ""
    """Night whose masters an administrator wants in place of the subject's own."""
    library: "Library" = field(default_factory=lambda: Library())
    science: str = ""
    """Signature of the results of the night's observations; empty while a step is due for them."""
    reductions: str = ""
    """Signature of what the night's reference stars are chosen from; empty while that is not known yet."""
    awaits_references: bool = False
    """Whether the night's reference stars are still to be chosen."""
    may_pack: bool = True
    """Whether no other reference stars are expected, after which the night's observations would be packed again."""


@dataclass(frozen=True)
class Library:
    """Signatures of the PSF library, as :func:`.reference_groups.signatures` returns them, and its stars."""

    groups: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    """Observations that it holds, and those that were removed."""
    counts: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    """Number of observations that it holds, by the same keys as the signatures."""

    def signature(self, observation: Observation) -> str:
        """Return the signature of the references for an observation: of its own night, and of all nights."""
        group = _group(observation)
        return self._text(self._key(group, observation.night), self._key(group))

    def former_signature(self, observation: Observation) -> str:
        """Return the signature as earlier versions recorded it: with the target itself."""
        telescope, filter_name, _ = _group(observation)
        return self._text((telescope, filter_name, observation.night), (telescope, filter_name))

    def _text(self, *keys: tuple[str, ...]) -> str:
        return " ".join(self.groups.get(key, "none") for key in keys)

    def count(self, observation: Observation) -> int:
        """Return the number of references for an observation."""
        return self.counts.get(self._key(_group(observation)), 0)

    def _key(self, group: tuple[str, str, str], *night: str) -> tuple[str, ...]:
        """Return the key of a group without the target itself, or of the whole group if it does not hold that."""
        telescope, filter_name, target = group
        without = (telescope, filter_name, *night, without_target(target))
        return without if without in self.groups else (telescope, filter_name, *night)


def _group(observation: Observation) -> tuple[str, str, str]:
    return str(observation.document.get("telescope") or ""), observation.filter, target_of(observation.id)


def masters_for(need: CalibrationNeed, masters: Iterable[Master]) -> tuple[Master | None, Master | None]:
    """Return the master dark and flat that fit an observation.

    Parameters
    ----------
    need : CalibrationNeed
        What the observation needs.
    masters : iterable of Master
        Masters to choose from.

    Returns
    -------
    (Master or None, Master or None)
        Dark and flat; None if there is none that fits.
    """
    have = list(masters)
    darks = {master.key: master.shape for master in have if master.kind == "dark"}
    key = dark_mode_for(need.mode, need.shape, darks, need.detector or DETECTOR) if need.shape else need.mode
    flat = choose(have, "flat", need.filter)
    if flat and need.shape and any(side < wanted for side, wanted in zip(flat.shape, need.shape, strict=True)):
        flat = None
    return choose(have, "dark", key), flat


def substitutes(kind: str, night: str, context: NightContext) -> tuple[Master, ...]:
    """Return masters of other nights for those that a night lacks, of the nearest nights.

    Parameters
    ----------
    kind : str
        ``dark`` or ``flat``.
    night : str
        The night that lacks them, ``yyyymmdd``.
    context : NightContext
        Its needs, its own masters, those of other nights, and the night that it should copy, which comes first.

    Returns
    -------
    tuple of Master
        Sorted by label.
    """
    place = 0 if kind == "dark" else 1
    own = [master for master in context.masters if master.own]
    wanted = [master for master in context.elsewhere if master.night == context.copies_from]
    lacking = [
        need
        for need in context.needs
        if masters_for(need, own)[place] is None or masters_for(need, wanted)[place] is not None
    ]
    if not lacking:  # of most nights; the masters of all nights are many
        return ()
    fitting = [master for master in context.elsewhere if master.kind == kind]
    nearest_first = sorted(fitting, key=lambda master: (days_apart(master.night, night), master.night))
    found: dict[str, Master] = {}
    for need in lacking:
        nearest = next((m for m in wanted + nearest_first if masters_for(need, [m])[place]), None)
        if nearest is not None:
            found[nearest.label] = nearest
    return tuple(found[label] for label in sorted(found))
