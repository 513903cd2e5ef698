"""What is missing now, by cause: one entry for each, with what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from obsarchive.core.causes import AFTER, cause_of, kind_of
from obsarchive.core.step_state import State
from obsarchive.names import is_night
from obsarchive.store import StepProblem
from obsarchive.web.models.pipeline_views import DisplayState, PipelineView, digest, lacking_of, troubles_of
from obsarchive.web.models.view_models import Card

NO_REASON = "no reason given"
Key = tuple[str, str, str, str]
"""State, pipeline, step and cause."""


@dataclass
class ProblemsOfCause:
    """Steps that have no products for the same cause.

    Parameters
    ----------
    state : DisplayState
        Failed, rejected or lacking.
    pipeline, step : str
        Where.
    cause : str
        What their messages have in common.
    found : list of StepProblem
        The steps.
    """

    state: DisplayState
    pipeline: str
    step: str
    cause: str
    found: list[StepProblem] = field(default_factory=list)

    @property
    def word(self) -> str:
        """Its state as a page writes it."""
        lacks = self.found[0].record.lacks or "input"
        return f"waiting for {lacks}" if self.state is DisplayState.LACKING else str(self.state)

    @property
    def why(self) -> str:
        """The message if all have the same, else what they have in common."""
        messages = {problem.record.message for problem in self.found}
        kinds = {kind_of(message) for message in messages}
        common = messages if len(messages) == 1 else kinds
        return (common.pop() if len(common) == 1 else self.cause) or NO_REASON

    @property
    def action(self) -> str:
        """What to do about it."""
        return AFTER.get(State(self.state)) or cause_of(self.found[0].record.message).action

    @property
    def trouble_count(self) -> int:
        """How many of them failed or were rejected."""
        return trouble_count(self.found)

    @property
    def subjects(self) -> str:
        """What is concerned, as a page writes it."""
        count, kind = len(self.found), "night" if self.of_nights else "observation"
        nights = f" of {len(self.nights)} nights" if len(self.nights) > 1 and not self.of_nights else ""
        return f"{count} {kind}{'' if count == 1 else 's'}{nights}"

    @property
    def mark(self) -> str:
        """Text that tells it from others on a page."""
        return digest(self.key)

    @property
    def of_nights(self) -> bool:
        """Whether they are steps of nights rather than of observations."""
        return is_night(self.found[0].subject)

    @property
    def nights(self) -> list[str]:
        """Nights that are concerned, the newest first."""
        return sorted({problem.night for problem in self.found}, reverse=True)

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return str(self.state), self.pipeline, self.step, self.cause


def by_cause(problems: Iterable[StepProblem]) -> list[ProblemsOfCause]:
    """Return problems by their causes: failures first, then the commonest."""
    causes: dict[Key, ProblemsOfCause] = {}
    for problem in problems:
        group = ProblemsOfCause(DisplayState(problem.record.state), *problem.path, _cause(problem))
        causes.setdefault(group.key, group).found.append(problem)
    order = list(DisplayState)
    return sorted(causes.values(), key=lambda group: (order.index(group.state), -len(group.found), group.key))


def _cause(problem: StepProblem) -> str:
    # what a step lacks is common to many, why data are rejected is not: their numbers differ
    kind = kind_of(problem.record.message)
    if problem.record.state is State.LACKING:
        return kind
    # the name of a file may come first
    return next((part.strip() for part in kind.split(":") if part.strip(" …")), kind)


def problems_of(cards: Iterable[Card], night: str, pipelines: Iterable[PipelineView]) -> list[StepProblem]:
    """Return the problems of a night.

    Parameters
    ----------
    cards : iterable of Card
        Its observations.
    night : str
        The night, ``yyyymmdd``.
    pipelines : iterable of PipelineView
        Pipelines of the night itself.

    Returns
    -------
    list of StepProblem
        Of the night's own steps, then of those of its observations.
    """
    views = list(pipelines)
    own = [(night, night, found) for found in (*troubles_of(views), *lacking_of(views))]
    of_cards = [(card.id, card.name, found) for card in cards for found in (*card.troubles, *card.lacking)]
    return [
        StepProblem(subject, name, night, (view.name, step.name), step.record)
        for subject, name, (view, step) in (*own, *of_cards)
    ]


def trouble_count(problems: Iterable[StepProblem]) -> int:
    """Return how many steps failed or were rejected; what only waits is no trouble."""
    return sum(problem.record.state is not State.LACKING for problem in problems)
