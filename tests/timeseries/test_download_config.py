"""The file data_download.yaml: as published, and what is wrong with it in words."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obsarchive.errors import ConfigError
from obsarchive.timeseries.download.download_config import Levels, load

PUBLISHED = """archives:
    lco:
        name: 'LCO'
        active: True
        url: 'https://archive-api.example.org/'
        token_envvar: 'LCO_TOKEN'
        proposals:
            - 'KEY2023B-001'
            - 2024
        reduction_level:
            image: 91
            spectrum: 90
log_dir: 'logs'
frame_list: 'logs/frame_list.txt'
data_download_dir: 'incoming'
data_reduction_dir: '/data/reduction/'
start_datetime: '2024-07-01 00:00'
end_datetime: '2024-08-31 23:59'
default_red_config: 'config/default_red_config.yaml'
"""
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def write(folder: Path, text: str) -> Path:
    path = folder / "data_download.yaml"
    path.write_text(text)
    return path


def test_the_published_file_is_accepted_as_it_is(tmp_path: Path) -> None:
    found = load(write(tmp_path, PUBLISHED))
    archive = found.archives["lco"]
    assert archive.proposals == ["KEY2023B-001", "2024"]
    assert archive.reduction_level.all == [90, 91]
    assert found.data_download_dir == tmp_path / "incoming"
    assert found.data_reduction_dir == Path("/data/reduction")
    assert found.window(NOW, None) == (datetime(2024, 7, 1, tzinfo=UTC), datetime(2024, 8, 31, 23, 59, tzinfo=UTC))


@pytest.mark.parametrize("value", ["none", "None", "'NONE'", "null", "since none", "~"])
def test_none_means_the_last_day(tmp_path: Path, value: str) -> None:
    found = load(write(tmp_path, PUBLISHED.replace("'2024-07-01 00:00'", value)))
    assert found.window(NOW, NOW - timedelta(days=9)) == (NOW - timedelta(days=1), NOW)


def test_since_last_overlaps_the_last_success(tmp_path: Path) -> None:
    text = PUBLISHED.replace("'2024-07-01 00:00'", "since_last").replace("'2024-08-31 23:59'", "none")
    found = load(write(tmp_path, text))
    last = NOW - timedelta(days=9)
    assert found.window(NOW, last) == (last - timedelta(hours=48), NOW)
    assert found.window(NOW, None) == (NOW - timedelta(days=1), NOW)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("log_dir: 'logs'\n", "", "log_dir: this key is needed"),
        ("log_dir:", "logdir:", "line 13: logdir: unknown key; did you mean 'log_dir'"),
        ("        url: 'https://archive-api.example.org/'\n", "", "line 2: archives.lco.url: this key is needed"),
        ("'https://archive-api.example.org/'", "'ftp://x'", "line 5: archives.lco.url"),
        ("active: True", "active: perhaps", "line 4: archives.lco.active"),
        ("image: 91", "image: reduced", "line 11: archives.lco.reduction_level.image"),
        ("'2024-07-01 00:00'", "'July'", "line 17: start_datetime: a time such as"),
        ("'2024-07-01 00:00'", "'2025-07-01 00:00'", "must come before"),
        ("archives:", "archives: [", "line 3: not YAML"),
        (PUBLISHED, "- a\n- b\n", "expected keys and values, found list"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write(tmp_path, PUBLISHED.replace(old, new))
    with pytest.raises(ConfigError) as told:
        load(path)
    assert str(path) in str(told.value)
    assert words in str(told.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "nothing.yaml")


def test_one_level_is_enough() -> None:
    assert Levels(image=91, spectrum=None).all == [91]
