"""Dotted paths into documents: they lead to declared fields, and one module alone writes them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from obsarchive.core import document_paths
from obsarchive.core.document_paths import PipelinePaths, StatusField, StepField, night_signature
from obsarchive.core.document_types.nights import NightDocument
from obsarchive.core.document_types.observations import ObservationDocument
from obsarchive.core.document_types.steps import PipelineDocument, PipelineStatus, ProductEntry, StepDocument
from tests.document_checks import resolves

ROOT = Path(__file__).parents[2]
CONSTANTS = {name: value for name, value in vars(document_paths).items() if name.isupper() and isinstance(value, str)}
KINDS = (ObservationDocument, NightDocument)
OF_PIPELINES = (PipelineDocument, PipelineStatus, StepDocument, ProductEntry)
WITH_DATABASE = ("store", "daemon", "web", "cli")


def is_path(text: str) -> bool:
    """Whether a text, whose unknown parts are ``*``, is the beginning of a path to a nested field."""
    parts = [part or "*" for part in text.removeprefix("$").split(".")]
    return len(parts) > 1 and "*" not in parts[0] and any(resolves(parts, kind) for kind in KINDS)


def is_path_of_pipeline(text: str) -> bool:
    """Whether an unknown block is followed by a field of a pipeline, of a step or of a product."""
    first, *parts = text.split(".")
    return first == "*" and bool(parts) and "*" not in parts[0] and any(resolves(parts, kind) for kind in OF_PIPELINES)


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every string but docstrings; unknown parts of f-strings are ``*``."""
    within = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values}
    within |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(v.value if isinstance(v, ast.Constant) else "*" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in within:
            yield node.lineno, node.value


def paths_in(file: Path) -> list[str]:
    has_database = file.relative_to(ROOT).parts[1] in WITH_DATABASE
    return [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for line, text in texts(ast.parse(file.read_text()))
        if is_path(text) or (has_database and is_path_of_pipeline(text))
    ]


def test_no_other_module_writes_a_path() -> None:
    files = [
        file for folder in ("obsarchive", "pipelines", "surveys") for file in sorted((ROOT / folder).rglob("*.py"))
    ]
    assert len(files) > 200
    found = [path for file in files for path in paths_in(file)]
    own = [path for path in found if path.startswith("obsarchive/core/document_paths.py:")]
    assert len(own) >= len(CONSTANTS)
    assert sorted(set(found) - set(own)) == []


@pytest.mark.parametrize(
    "source",
    [
        '"raw_data.signature"',
        '"$seeing.median_arcsec"',
        'f"pipelined.{name}.status.force_redo"',
        'f"coordinates.{axis}_deg"',
        '"raw_data." + key',
        'f"{block}.status.done"',
        'f"{block}.steps.{step}.products.$.bytes"',
        'f"{step}.state"',
    ],
)
def test_paths_are_recognised(source: str) -> None:
    (_, text), *_ = texts(ast.parse(source).body[0].value if "+" not in source else ast.parse(source).body[0])
    assert is_path(text) or is_path_of_pipeline(text)


@pytest.mark.parametrize(
    "text", ["status.json", "night.html", "strehl.{id}.png", "distributed.worker.preload", "*.fits", "*.*", "name"]
)
def test_names_of_files_and_settings_are_none(text: str) -> None:
    assert not is_path(text)
    assert not is_path_of_pipeline(text)


@pytest.mark.parametrize("path", [*CONSTANTS.values(), night_signature("dark")], ids=str)
def test_every_path_leads_to_a_declared_field(path: str) -> None:
    assert any(resolves(path.split("."), kind) for kind in KINDS)


@pytest.mark.parametrize("paths", [PipelinePaths.of_observation("toy"), PipelinePaths.of_night("calib")], ids=str)
def test_every_path_of_a_pipeline_leads_to_a_declared_field(paths: PipelinePaths) -> None:
    kind = ObservationDocument if "." in paths.block else NightDocument
    found = [paths.steps, paths.last_modified, paths.classified_as, paths.result("reduce", "flag")]
    found += [paths.status(field) for field in get_args(StatusField)]
    found += [paths.step("reduce", field) for field in get_args(StepField)]
    assert [path for path in found if not resolves(path.split("."), kind)] == []


def test_every_field_of_a_step_and_of_a_status_has_a_path() -> None:
    assert set(get_args(StepField)) == set(get_type_hints(StepDocument))
    assert set(get_args(StatusField)) == set(get_type_hints(PipelineStatus))
