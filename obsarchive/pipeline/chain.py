"""The decision chain: the pipelines of the configuration, in its order, with the rules that say what they are for."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from obsarchive.config.field_types import import_class
from obsarchive.config.model import Config
from obsarchive.core.rules import Rule, compile_rule
from obsarchive.errors import ConfigError
from obsarchive.pipeline.declaration import InputKind, Pipeline


@dataclass(frozen=True)
class ChainEntry:
    """One link of the decision chain: a pipeline and the observations it is for."""

    pipeline: Pipeline
    applies: Rule
    settings: Mapping[str, object]
    step_settings: Mapping[str, Mapping[str, object]]


def decision_chain(config: Config) -> list[ChainEntry]:
    """Make the pipelines of the configuration, in its order.

    Raises
    ------
    ConfigError
        When a class is no pipeline, two have one name, or a setting is wrong.
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
        chain.append(ChainEntry(pipeline, compile_rule(entry.when), entry.settings, entry.steps))
    return chain


def steps_of(
    chain: Iterable[ChainEntry], scope: str = "observation", uses: Collection[InputKind] | None = None
) -> list[tuple[str, str]]:
    """Steps of the pipelines of observations or of nights: the pipeline's name and the step's.

    `uses`: only those that use one of these things.
    """
    return [
        (link.pipeline.name, step.name)
        for link in chain
        for step in link.pipeline.steps.values()
        if link.pipeline.scope == scope and (uses is None or not set(uses).isdisjoint(step.uses))
    ]
