"""The decision chain: the pipelines of the configuration, in its order, with the rules that select observations."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from obsarchive.config.field_types import import_class
from obsarchive.config.model import Config
from obsarchive.core.rules import Rule, compile_rule
from obsarchive.errors import ConfigError
from obsarchive.names import is_night
from obsarchive.pipeline.declaration import InputKind, Pipeline


@dataclass(frozen=True)
class ChainEntry:
    """A pipeline of the decision chain.

    Attributes
    ----------
    pipeline : Pipeline
        With its settings.
    applies : Rule
        Selects the observations to be processed.
    settings, step_settings : mapping
        As configured: they are sent to the workers.
    when : str
        Text of the rule.
    """

    pipeline: Pipeline
    applies: Rule
    settings: Mapping[str, object]
    step_settings: Mapping[str, Mapping[str, object]]
    when: str = "True"


def decision_chain(config: Config) -> list[ChainEntry]:
    """Make the pipelines of the configuration, in its order.

    Raises
    ------
    ConfigError
        When a class is no pipeline, two pipelines have the same name, or a setting is wrong.
    """
    chain: list[ChainEntry] = []
    for place, entry in enumerate(config.pipelines):
        kind = import_class(entry.cls)
        if not issubclass(kind, Pipeline) or not kind.name:
            raise ConfigError(f"pipelines.{place}.class: {entry.cls} is no subclass of Pipeline with a name")
        if any(link.pipeline.name == kind.name for link in chain):
            raise ConfigError(f"pipelines.{place}: a pipeline called {kind.name!r} stands before")
        try:
            pipeline = kind(entry.settings, entry.steps)
        except ConfigError as err:
            raise ConfigError(f"pipelines.{place}: {err}") from err
        chain.append(ChainEntry(pipeline, compile_rule(entry.when), entry.settings, entry.steps, entry.when))
    return chain


def obstacle_to_redo(chain: Sequence[ChainEntry], pipeline: str, subject: str, document: Mapping[str, Any]) -> str:
    """Return why a pipeline cannot be done again for an observation or night; empty if it can.

    Parameters
    ----------
    chain : sequence of ChainEntry
        Pipelines of observations and of nights.
    pipeline : str
        Name of the pipeline.
    subject : str
        Name of the observation or night.
    document : mapping
        Its document.

    Returns
    -------
    str
    """
    scope = "night" if is_night(subject) else "observation"
    link = next((link for link in chain if link.pipeline.name == pipeline), None)
    if link is None:
        return f"no pipeline {pipeline!r}; there are {', '.join(entry.pipeline.name for entry in chain)}"
    if link.pipeline.scope != scope:
        return f"{pipeline} is a pipeline of {link.pipeline.scope}s; {subject} is not one"
    return "" if link.applies(document) else f"{pipeline} is not for this {scope}: its rule is {link.when}"


def digest_of(chain: Iterable[ChainEntry], max_retries: int) -> str:
    """Return 16 hex digits that change with what decides which steps are due: pipelines, rules, steps, retries.

    Parameters
    ----------
    chain : iterable of ChainEntry
        Pipelines.
    max_retries : int
        How often a failed step is tried again.

    Returns
    -------
    str
    """
    text = [f"{max_retries}"]
    for link in chain:
        text.append(f"{link.pipeline.name} {link.when!r}")
        steps = link.pipeline.steps.values()
        text.extend(sorted(f"{s.name} {s.after} {s.follows} {s.reads} {s.uses}" for s in steps))
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def steps_of(
    chain: Iterable[ChainEntry], scope: str = "observation", uses: Collection[InputKind] | None = None
) -> list[tuple[str, str]]:
    """Return the steps of a decision chain.

    Parameters
    ----------
    chain : iterable of ChainEntry
        Pipelines.
    scope : str
        ``observation`` or ``night``: which pipelines are considered.
    uses : collection of str, optional
        Only steps that use one of these inputs; all steps by default.

    Returns
    -------
    list of (str, str)
        Names of the pipeline and of the step.
    """
    return [
        (link.pipeline.name, step.name)
        for link in chain
        for step in link.pipeline.steps.values()
        if link.pipeline.scope == scope and (uses is None or not set(uses).isdisjoint(step.uses))
    ]
