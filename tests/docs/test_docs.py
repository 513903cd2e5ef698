"""The documentation is complete, and what it says exists: keys, rules, commands, steps, links, examples."""

import argparse
import importlib
import inspect
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python
from pymongo import MongoClient
from test_mongoshrc import CHANGE_OWNER, DISTRIBUTE_AGAIN, FORCE_REDO, REMOVE_PSF_LIBRARY

import pipelines
from obsarchive.cli.commands import parser_of, whole_parser
from obsarchive.cli.main import readable
from obsarchive.config import loading, model
from obsarchive.core.rules import FIELDS, compile_rule
from obsarchive.pipeline import Pipeline
from obsarchive.pipeline.chain import decision_chain

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SURVEYS = (ROOT / "docs" / "surveys.md").read_text()
MONGO_SHELL = (ROOT / "docs" / "mongo_shell.md").read_text()
RAW_DATA = (ROOT / "docs" / "raw_data.md").read_text()

NEEDED = "*needed*"
NOT_READ = {"source"}
"""Fields of the configuration that do not come from the file."""
SMALLEST = {
    "paths": {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"},
    "pipelines": [{"class": "pipelines.night.Calibration"}],
}


def blocks(text: str, language: str) -> list[str]:
    """Fenced blocks of a language, indented ones too."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def rows(text: str, columns: int) -> dict[str, list[str]]:
    """Rows of tables that begin with a name in backquotes, by that name."""
    found = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.MULTILINE)
    cells = {name: [cell.strip() for cell in rest.split(" | ")] for name, rest in found}
    return {name: rest for name, rest in cells.items() if len(rest) == columns - 1}


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# configuration


def models_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """Sections inside an annotation, with what stands for the level between."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
        return
    origin = get_origin(annotation)
    between = "[]" if origin is tuple else ".*" if origin is dict else ""
    for inner in get_args(annotation):
        yield from ((between + place, model) for place, model in models_in(inner))


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return f"`{json.dumps(field.default_factory())}`"
    if field.default is PydanticUndefined:
        return NEEDED
    return f"`{json.dumps(to_jsonable_python(field.default))}`"


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key below a section, with its default as the tables show it."""
    for name, field in model.model_fields.items():
        if name in NOT_READ:
            continue
        key = prefix + (field.alias or name)
        inner = list(models_in(field.annotation))
        if prefix and isinstance(field.default, BaseModel):
            pass  # a section within a section: its keys are told one by one
        elif prefix and not (inner and inner[0][0] == ".*"):
            yield key, default_of(field)
        elif prefix:
            yield key, "`{}`"
        for place, found in inner:
            yield from keys_of(found, f"{key}{place}.")


def test_every_key_and_default_is_documented():
    documented = {key: cells[0] for key, cells in rows(CONFIGURATION, 3).items() if key not in FIELDS}
    known = dict(keys_of(model.Config))
    assert len(known) > 50  # the walk reaches the inner sections
    assert documented == known


@pytest.mark.parametrize("page", [pytest.param(page, id=relative(page)) for page in PAGES])
def test_keys_that_are_mentioned_exist(page):
    sections = "|".join(name for name in model.Config.model_fields if name not in NOT_READ)
    named = re.findall(rf"`((?:{sections})\.[\w.*\[\]]+)`", page.read_text())
    # the others are classes and modules
    named = [name for name in named if name == name.lower() and not is_module(name)]
    assert set(named) - {key for key, _ in keys_of(model.Config)} - set(FIELDS) == set()


def is_module(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


def test_every_section_has_a_chapter():
    chapters = " ".join(re.findall(r"^## (.*)$", CONFIGURATION, re.MULTILINE))
    sections = [name for name in model.Config.model_fields if name not in NOT_READ]
    assert [name for name in sections if not re.search(rf"\b{name}\b", chapters)] == []


def test_every_field_of_rules_is_documented():
    words = {str: "text", float: "number"}
    described = {name: cells[0] for name, cells in rows(CONFIGURATION, 3).items() if name in FIELDS}
    assert described == {name: words[kind] for name, kind in FIELDS.items()}


@pytest.mark.parametrize("rule", [line for block in blocks(CONFIGURATION, "rule") for line in block.splitlines()])
def test_rules_compile(rule):
    assert compile_rule(rule)({}) in (True, False)


JSON_BLOCKS = [
    pytest.param(json_text, id=f"{relative(page)}-{number}")
    for page in PAGES
    if page.name != "adapting.md"  # needs its own module, see test_adapting
    for number, json_text in enumerate(blocks(page.read_text(), "json"))
]


def secrets_in(value: Any) -> Iterator[tuple[str, str]]:
    match value:
        case {"env": name} | {"file": name} if len(value) == 1:
            yield next(iter(value)), name
        case dict():
            yield from chain.from_iterable(secrets_in(inner) for inner in value.values())
        case list():
            yield from chain.from_iterable(map(secrets_in, value))


@pytest.mark.parametrize("text", JSON_BLOCKS)
def test_json_is_a_valid_configuration(text, tmp_path, monkeypatch):
    shown = json.loads(text)
    if "class" in shown:  # an entry of the decision chain, of a module of the reader's
        assert shown.keys() <= {field.alias or name for name, field in model.PipelineEntry.model_fields.items()}
        compile_rule(shown.get("when", "True"))
        return
    for kind, name in secrets_in(shown):
        if kind == "env":
            monkeypatch.setenv(name, "x" * 40)
        else:
            (tmp_path / name).write_text("x" * 40)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**SMALLEST, **shown}))
    loading.load(path)


def test_the_smallest_configuration_is_complete(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(blocks(CONFIGURATION, "json")[0])
    loaded = loading.load(path)
    assert loaded.telescope_of("VIC", datetime(2026, 3, 14, tzinfo=UTC).date()) == "KPNO_2.1m"
    decision_chain(loaded)


# pipelines


def shipped_pipelines() -> list[type[Pipeline]]:
    modules = [importlib.import_module(f"pipelines.{found.name}") for found in pkgutil.iter_modules(pipelines.__path__)]
    classes = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Pipeline) and kind.name and kind.__module__ == module.__name__
    }
    return sorted(classes, key=lambda kind: kind.name)


def page_of(pipeline: type[Pipeline]) -> str:
    """Text of the page of a pipeline: the one that begins with its class."""
    opening = f"\n\nClass `{pipeline.__module__}.{pipeline.__qualname__}`"
    texts = [page.read_text() for page in (ROOT / "docs" / "pipelines").glob("*.md")]
    found = [text for text in texts if opening in text]
    assert len(found) == 1, f"expected one page in docs/pipelines with the paragraph {opening.strip()} …"
    return found[0]


SHIPPED = [pytest.param(kind, id=kind.name) for kind in shipped_pipelines()]


@pytest.mark.parametrize("pipeline", SHIPPED)
def test_every_step_is_documented(pipeline):
    headings = "\n".join(re.findall(r"^#+ .*$", page_of(pipeline), re.MULTILINE))
    assert [name for name in pipeline.steps if f"Step `{name}`" not in headings] == []


@pytest.mark.parametrize("pipeline", SHIPPED)
def test_every_product_is_documented(pipeline):
    page = page_of(pipeline)
    products = [
        re.sub(r"\{(\w+)\}", r"<\1>", name.replace("{id}", "ID")) for s in pipeline.steps.values() for name in s.makes
    ]
    assert [name for name in products if f"`{name}`" not in page] == []


def settings_of(kind: type, prefix: str) -> dict[str, str]:
    if not is_dataclass(kind):
        return {}
    plain = TypeAdapter(kind).dump_python(kind(), mode="json")
    return {f"{prefix}.{f.name}": f"`{json.dumps(plain[f.name])}`" for f in fields(kind)}


@pytest.mark.parametrize("pipeline", SHIPPED)
def test_every_setting_of_a_pipeline_is_documented(pipeline):
    known = settings_of(pipeline.Settings, "settings")
    for name, step in pipeline.steps.items():
        known |= settings_of(step.settings, f"steps.{name}")
    tables = rows(page_of(pipeline), 3)
    documented = {key: cells[0] for key, cells in tables.items() if key.startswith(("settings.", "steps."))}
    assert documented == known


# commands


def shell_lines() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks(page.read_text(), "sh"):
            for line in block.splitlines():
                if "obsarchive" in line or "archiver.py" in line or "server_data_archive.py" in line:
                    yield pytest.param(line, id=f"{relative(page)}: {line.strip()[:60]}")


def understood_by(line: str) -> tuple[argparse.ArgumentParser, list[str]] | None:
    """Parser and arguments of a documented command of ours, which may stand in a pipe or in $(…)."""
    for pattern, parser in (
        (r"(^|[ (/])obsarchive (?P<arguments>[^)|]*)", whole_parser("obsarchive")),
        (r"python archiver\.py (?P<arguments>[^)|]*)", parser_of("daemon", "archiver.py")),
        (r"python server_data_archive\.py (?P<arguments>[^)|]*)", parser_of("serve", "server_data_archive.py")),
    ):
        if found := re.search(pattern, line):
            return parser, shlex.split(found["arguments"], comments=True)
    return None


@pytest.mark.parametrize("line", list(shell_lines()))
def test_documented_commands_are_understood(line):
    ours = understood_by(line)
    if ours is None:
        assert "--preload obsarchive.execution.cluster" in line
        assert callable(importlib.import_module("obsarchive.execution.cluster").dask_setup)
        return
    parser, arguments = ours
    options = parser.parse_args(readable(arguments))
    assert not isinstance(getattr(options, "config", None), str) or options.config == "config.json"


def subcommands() -> dict[str, argparse.ArgumentParser]:
    parser = whole_parser("obsarchive")
    return next(a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [text for action in parser._actions for text in action.option_strings if text not in ("-h", "--help")]


@pytest.mark.parametrize("name", list(subcommands()))
def test_every_command_is_documented(name):
    parser = subcommands()[name]
    actions = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {"": parser})
    for action, its_parser in actions.items():
        words = " ".join(filter(None, (name, action)))
        own = " config.json" if any(a.dest == "config" and not a.option_strings for a in its_parser._actions) else " "
        page, program = (SURVEYS, "python -m") if name == "surveys" else (OPERATIONS, "obsarchive")
        assert f"{program} {words}{own}" in page
        assert [option for option in options_of(its_parser) if option not in page] == []


def test_every_option_of_the_daemon_is_documented():
    options = options_of(parser_of("daemon", "archiver.py"))
    assert [option for option in options if f"| `{option}" not in OPERATIONS] == []


def test_every_target_of_make_exists():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    named = {target for page in PAGES for target in re.findall(r"(?:^|`)make (\w+)", page.read_text(), re.MULTILINE)}
    assert {"run", "test"} <= named <= set(targets)


# links


def slug(heading: str) -> str:
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
    return plain.replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", [pytest.param(page, id=relative(page)) for page in PAGES])
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]]
    index += (ROOT / "docs" / "products.md").read_text()  # the index of the pages of products
    assert [page for page in pages if page != "index.md" and f"]({page})" not in index] == []


# the Mongo shell


def test_the_shell_commands_are_the_tested_ones():
    shown = [block.strip() for block in blocks(MONGO_SHELL, "js")]
    assert [c for c in (DISTRIBUTE_AGAIN, FORCE_REDO, CHANGE_OWNER, REMOVE_PSF_LIBRARY) if c.strip() not in shown] == []


def test_the_python_equivalents_do_what_they_say(mongo_server, database_name):
    forced, other = "4_351_Yrsa_VIC_lp600_o_20160925_110427.040912", "5_Titan_VIC_Si_o_20160925_110527.040912"
    with MongoClient(mongo_server.uri) as client:
        objects, aux = client[database_name]["objects"], client[database_name]["aux"]
        objects.insert_many(
            {"_id": name, "science_program": {"program_id": name[0]}, "distributed": {"status": True}}
            for name in (forced, other)
        )
        aux.insert_one({"_id": "20160925", "psf_lib": [{"observation": other}]})
        namespace: dict[str, Any] = {"uri": mongo_server.uri.replace("/admin?", f"/{database_name}?")}
        for block in blocks(MONGO_SHELL, "python"):
            exec(block, namespace)  # noqa: S102 - our own page
        namespace["client"].close()
        yrsa, titan = objects.find_one({"_id": forced}), objects.find_one({"_id": other})
        assert [document["distributed"]["status"] for document in (yrsa, titan)] == [False, False]
        assert yrsa["pipelined"]["faint_star"]["status"] == {"force_redo": True}
        assert "pipelined" not in titan
        assert yrsa["science_program"]["program_PI"] == "asteroids"
        assert "program_PI" not in titan["science_program"]
        assert aux.find_one() == {"_id": "20160925"}


# adapters


def test_the_example_of_an_adapter_works():
    namespace: dict[str, Any] = {}
    for block in blocks(RAW_DATA, "python"):
        exec(block, namespace)  # noqa: S102 - our own page
    adapter = namespace["Numbered"]({"program": "7"})
    science = adapter.identify(Path("raw/20260314/sci-003661-HD95735-Si.fits"))
    assert science.observation == "7_HD95735_CAM_Si_o_20260314_010101.000000"
    assert science.date_utc == datetime(2026, 3, 14, 1, 1, 1, tzinfo=UTC)
    assert adapter.identify(Path("raw/20260314/drk-000001-none-Si.fits")).kind == "dark"
    assert adapter.identify(Path("raw/20260314/notes.txt")).kind == "ignored"
    assert adapter.describe({"EXPTIME": "long", "NAXIS1": 300, "NAXIS2": 200}) == {"mode": "0", "shape": [200, 300]}
