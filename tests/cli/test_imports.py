"""What commands import: help and mistakes are answered by argparse alone, small commands without the pipelines."""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from obsarchive.cli.commands import DEMO_NIGHT, whole_parser
from obsarchive.simulation.night import NIGHT

ROOT = Path(__file__).parents[2]
PARSERS = {"obsarchive", "obsarchive.cli", "obsarchive.cli.main", "obsarchive.cli.commands", "obsarchive.errors"}
PYTHONS = {*sys.stdlib_module_names, "sitecustomize", "usercustomize", "org"}
"""The last one is what the standard library looks for under Jython."""
LARGE = {
    *("astropy", "scipy", "numba", "matplotlib", "dask", "distributed", "pandas", "photutils", "h5py", "pyarrow"),
    *("xarray", "erfa", "PIL", "httpx", "flask", "sep"),
}


def imported_by(*arguments: str, code: int = 0) -> set[str]:
    """Return the modules that a new process imports, but for those of Python itself."""
    command = [sys.executable, "-X", "importtime", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert ended.returncode == code, ended.stderr
    names = re.findall(r"^import time: .*\| +(\S+)$", ended.stderr, re.MULTILINE)
    return {name for name in names if name.partition(".")[0] not in PYTHONS and name[0] != "_"}


def subcommands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command."""
    yield words
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from subcommands(inner, (*words, name))


@pytest.mark.parametrize("words", [pytest.param(w, id=" ".join(w)) for w in subcommands(whole_parser("obsarchive"))])
def test_help_imports_nothing_but_the_parsers(words: tuple[str, ...]) -> None:
    assert imported_by("-m", "obsarchive", *words, "--help") == PARSERS


@pytest.mark.parametrize("program", [("archiver.py",), ("server_data_archive.py",), ("-m", "surveys")])
def test_help_of_the_older_forms_imports_nothing_more(program: tuple[str, ...]) -> None:
    assert imported_by(*program, "--help") - {"surveys"} == PARSERS
    assert imported_by(*program, code=2) - {"surveys"} == PARSERS


def test_status_imports_what_reads_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    status = {"state": "idle", "run": "1", "pid": 1, "host": "h", "updated": "now", "running": [], "last_errors": []}
    (tmp_path / "logs" / "status.json").write_text(json.dumps(status))
    config = json.loads((ROOT / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "paths": {**config["paths"], "logs": "logs"}}))
    imported = imported_by("-m", "obsarchive", "status", str(tmp_path / "config.json"))
    reading = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "numpy"}
    assert {name.partition(".")[0] for name in imported} <= reading | {"obsarchive"}
    ours = {".".join(name.split(".")[:2]) for name in imported if name.startswith("obsarchive.")}
    assert ours == {f"obsarchive.{name}" for name in ("cli", "config", "core", "errors", "names")}


@pytest.mark.parametrize("module", ["users", "verify", "daemon"])
def test_small_commands_import_nothing_large(module: str) -> None:
    """The daemon belongs to them until its configuration has been read."""
    imported = {name.partition(".")[0] for name in imported_by("-c", f"import obsarchive.cli.{module}")}
    assert "pydantic" in imported
    assert imported & LARGE == set()


def test_the_help_names_the_night_that_is_simulated() -> None:
    assert DEMO_NIGHT == NIGHT
