"""One reduction at a time in a dataset; which datasets a file selects."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from simulated import reduce

from obsarchive.errors import ConfigError
from obsarchive.io import dataset_lock
from obsarchive.io.dataset_lock import LOCK, STALE_S, DatasetLock, DatasetLockedError, holder
from obsarchive.simulation import field as demo_field
from obsarchive.simulation.star_field import StarField
from obsarchive.timeseries import selection

NOW = datetime(2024, 6, 25, 12, tzinfo=UTC)


def test_a_lock_keeps_others_out_and_goes(tmp_path: Path) -> None:
    with DatasetLock(tmp_path, "first"):
        told = json.loads((tmp_path / LOCK).read_text())
        assert told["host"] == socket.gethostname()
        assert told["pid"] == os.getpid()
        assert told["run"] == "first"
        with pytest.raises(DatasetLockedError, match="run first"), DatasetLock(tmp_path, "second"):
            pytest.fail("both hold it")
    assert not (tmp_path / LOCK).exists()


def test_a_lock_goes_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), DatasetLock(tmp_path, "first"):
        _ = 1 / 0
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    script = "import sys, os\nfrom pathlib import Path\nfrom obsarchive.io.dataset_lock import DatasetLock\n"
    script += "DatasetLock(Path(sys.argv[1]), 'lost').__enter__()\nos._exit(9)\n"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert (tmp_path / LOCK).exists()
    assert holder(tmp_path) is None
    with DatasetLock(tmp_path, "next"):
        assert holder(tmp_path).run == "next"


@pytest.mark.parametrize("text", ["", "2024-07-01T00:00:00", '{"host": "far-away", "pid": 1}'])
def test_a_lock_that_nobody_can_check_counts_until_it_is_old(tmp_path: Path, text: str) -> None:
    path = tmp_path / LOCK
    path.write_text(text)
    assert holder(tmp_path) is not None
    old = time.time() - STALE_S - 10
    os.utime(path, (old, old))
    assert holder(tmp_path) is None


def test_a_lock_is_kept_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_lock, "BEAT_S", 0.02)
    with DatasetLock(tmp_path, "long"):
        os.utime(tmp_path / LOCK, (1, 1))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime < 100:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work(name: int) -> None:
        nonlocal inside, most
        while True:
            try:
                with DatasetLock(tmp_path, str(name)):
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    time.sleep(0.01)
                    with lock:
                        inside -= 1
                    return
            except DatasetLockedError:
                time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1
    assert not (tmp_path / LOCK).exists()


def test_a_locked_dataset_is_left_alone(dataset: Path) -> None:
    with DatasetLock(dataset, "other"):
        outcome = reduce(dataset)
    assert outcome.state == "locked"
    assert reduce(dataset).state == "unchanged"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Datasets of several targets, instruments and dates; the frames are small."""
    for name, day in (("A/sinistro/gp", 0), ("A/sinistro/ip", 3), ("B/qhy/w", 5), ("B/floyds/20240601", 5)):
        folder = tmp_path / "data" / name
        field = StarField(n_stars=3)
        frame = field.frame(0, 60480.0 + day + 0.999)
        folder.mkdir(parents=True)
        demo_field.write_frame(folder / "x-e91.fits", frame, field, packed=name.endswith("gp"))
        demo_field.write_configuration(folder, field)
    (tmp_path / "data" / "C" / "sinistro" / "ip").mkdir(parents=True)
    return tmp_path


def chosen(tree: Path, group: str, **more: object) -> list[str]:
    lines = [f"      {key}: {value}" for key, value in {"group": f"'{group}'", **more}.items()]
    path = tree / "manager.yaml"
    path.write_text(
        "    log_dir: logs\n    data_reduction_dir: data\n    software_dir: /opt/nothing\n"
        "    instrument_list: ['sinistro', 'qhy']\n    max_parallel: 5\n    dataset_selection:\n" + "\n".join(lines)
    )
    found = selection.select(selection.load(path), NOW)
    return [folder.relative_to(tree / "data").as_posix() for folder in found]


def test_all(tree: Path) -> None:
    more = {"file": "'None'", "start_date": "'None'", "end_date": "'None'", "ndays": 0}
    assert chosen(tree, "all", **more) == ["A/sinistro/gp", "A/sinistro/ip", "B/qhy/w"]


def test_the_selection_has_the_name_of_the_older_documentation_as_well(tree: Path) -> None:
    assert chosen(tree, "all") == ["A/sinistro/gp", "A/sinistro/ip", "B/qhy/w"]
    path = tree / "manager.yaml"
    path.write_text(path.read_text().replace("dataset_selection", "data_selection"))
    assert selection.load(path).dataset_selection.group == "all"


def test_both_days_of_a_range_count(tree: Path) -> None:
    assert chosen(tree, "date", start_date="2024-06-19", end_date="'2024-06-19'") == ["A/sinistro/gp"]
    assert chosen(tree, "date", start_date="2024-06-20", end_date="2024-06-22") == ["A/sinistro/ip"]
    assert chosen(tree, "date", start_date="2024-06-23", end_date="2024-06-24") == ["B/qhy/w"]


def test_recent_days_may_be_parts_of_a_day(tree: Path) -> None:
    assert chosen(tree, "recent", ndays=0.6) == ["B/qhy/w"]
    assert chosen(tree, "recent", ndays=3) == ["A/sinistro/ip", "B/qhy/w"]


def test_a_list_of_datasets(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tree / "list.txt").write_text("A/sinistro/ip\n\n# later\nnowhere/x/y\n")
    assert chosen(tree, "file", file="list.txt") == ["A/sinistro/ip"]
    assert "nowhere/x/y" in caplog.text


def test_locked_ones_are_left_out(tree: Path) -> None:
    with DatasetLock(tree / "data" / "A" / "sinistro" / "ip", "other"):
        assert chosen(tree, "all") == ["A/sinistro/gp", "B/qhy/w"]


@pytest.mark.parametrize(
    ("group", "more", "told"),
    [
        ("some", {}, "group"),
        ("date", {"start_date": "2024-06-19"}, "end_date"),
        ("date", {"start_date": "2024-06-19", "end_date": "2024-06-01"}, "must not come after"),
        ("recent", {}, "ndays"),
        ("file", {}, "file"),
        ("file", {"file": "gone.txt"}, "gone.txt"),
    ],
)
def test_what_makes_no_sense_is_told(tree: Path, group: str, more: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        chosen(tree, group, **more)
