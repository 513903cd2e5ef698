"""The configuration file is edited while the daemon runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from obsarchive.config.loading import load
from obsarchive.daemon.config_watch import ConfigWatch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    write(path)
    return path


def write(path: Path, **sections: Any) -> None:
    places = {"raw": ["raw"], "archive": "archive", "tmp": "tmp", "logs": "logs"}
    path.write_text(json.dumps({"paths": places, "pipelines": []} | sections))


def look_twice(watch: ConfigWatch) -> None:
    watch.look()
    watch.look()


def test_a_valid_change_is_noticed_when_the_file_has_settled(file: Path) -> None:
    watch = ConfigWatch(load(file))
    look_twice(watch)
    assert watch.new is None
    write(file, daemon={"max_retries": 7})
    watch.look()
    assert watch.new is None
    watch.look()
    assert watch.new is not None
    assert watch.new.daemon.max_retries == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ('{"paths": {}}', "paths.raw"),
        (None, "no such file"),
        ({"pipelines": [{"class": "pipelines.night.Nothing"}]}, "Nothing"),
        ({"paths": {"raw": ["raw"], "archive": "elsewhere", "tmp": "tmp", "logs": "logs"}}, "need a restart"),
        ({"database": {"db": "other"}}, "need a restart"),
    ],
)
def test_any_other_change_is_reported_and_the_old_configuration_kept(file: Path, content: Any, words: str) -> None:
    watch = ConfigWatch(load(file))
    if content is None:
        file.unlink()
    elif isinstance(content, str):
        file.write_text(content)
    else:
        write(file, **content)
    look_twice(watch)
    assert watch.new is None
    assert words in watch.problem
    write(file)
    look_twice(watch)
    assert (watch.new, watch.problem) == (None, "")
