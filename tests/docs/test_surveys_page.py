"""What docs/surveys.md shows works: its Python from top to bottom, its files, its commands, its parameters."""

import re
from pathlib import Path
from unittest import mock

import matplotlib as mpl
import pytest
import yaml

from obsarchive.cli.commands import OTHERS, STAGES
from obsarchive.cli.main import surveys as main
from obsarchive.database.embedded_mongod import Server
from obsarchive.store import Store
from surveys import database, dataset
from surveys.analysis import ParsAnalysis
from surveys.finder import ParsFinder
from surveys.formats.photometry_formats import FORMATS
from surveys.observatory.parameters import ParsObservatory
from surveys.project import ParsProject
from surveys.quality import ParsQuality
from surveys.simulator import ParsSimulator

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "surveys.md").read_text()
SECTIONS = {
    "project": ParsProject,
    "observatories": ParsObservatory,
    "analysis": ParsAnalysis,
    "finder": ParsFinder,
    "quality": ParsQuality,
    "simulator": ParsSimulator,
}


@pytest.fixture
def surveys_here(mongo_server: Server, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dataset, "DATA_ROOT", tmp_path / "data")
    store = Store(mongo_server.uri, database_name)
    store.surveys.ensure_indexes()
    database.use(store)
    yield tmp_path
    database.use(None)
    store.close()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_python_of_the_page_runs(surveys_here: Path) -> None:
    mpl.use("agg")
    names: dict[str, object] = {}
    with mock.patch.dict(FORMATS):
        for number, block in enumerate(blocks("python"), 1):
            exec(compile(block, f"block {number} of surveys.md", "exec"), names)  # noqa: S102 - that is the test
    assert names["run"].analysed == 20  # type: ignore[attr-defined]
    assert names["run"].detections > 3  # type: ignore[attr-defined]
    assert names["indices"].tolist() == [-1, -1]  # type: ignore[attr-defined]


def test_the_file_and_the_commands_of_the_page_work(surveys_here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (surveys_here / "first.yaml").write_text(blocks("yaml")[0])
    commands = re.findall(r"python -m surveys (.*)", blocks("sh")[0])
    assert len(commands) == 3
    for command in commands:
        assert main([*command.split(), "--data", str(surveys_here / "data")]) == 0
    assert "300 analysed" in capsys.readouterr().out
    assert (surveys_here / "data" / "FIRST_LOOK" / "efficiency.png").exists()
    assert not (surveys_here / "efficiency.png").exists()


def test_every_command_is_described() -> None:
    described = set(re.findall(r"^\| `python -m surveys (\w+) PROJECT.yaml` \|", PAGE, re.MULTILINE))
    assert described == {*STAGES, *OTHERS}


def test_parameters_are_as_the_page_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\| ", PAGE, re.MULTILINE)
    assert len(rows) > 15
    for name, section, default in rows:
        pars = SECTIONS[section]()
        assert name in pars, name
        if default.strip():
            assert pars[name] == yaml.safe_load(default), name


def test_examples_are_small_and_shown() -> None:
    for name in ("my_observatory.py", "my_analysis.py"):
        assert f"examples/{name}" in PAGE
        assert len((DOCS / "examples" / name).read_text().splitlines()) < 70
