"""Permits: after one was withdrawn, nothing of its task reaches its place."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from obsarchive.errors import Superseded, WorkerLost
from obsarchive.io.atomic import atomic_path, atomic_write
from obsarchive.io.permit import discard, is_withdrawn, required, take, withdraw


@pytest.fixture
def permit(tmp_path: Path) -> Path:
    folder = tmp_path / "permits" / "task"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    folders = [Path(tempfile.mkdtemp(dir=place)) for place in ("/dev/shm", "/var/tmp")]  # noqa: S108 - two disks
    yield next(folder for folder in folders if folder.stat().st_dev != tmp_path.stat().st_dev)
    for folder in folders:
        shutil.rmtree(folder)


def test_a_task_is_begun_once(permit: Path) -> None:
    take(permit)
    with pytest.raises(WorkerLost, match="was lost"):
        take(permit)
    withdraw(permit)
    with pytest.raises(Superseded, match="before it began"):
        take(permit)
    withdraw(permit)  # nothing is there any more


def test_products_pass_through_the_permit(permit: Path, tmp_path: Path) -> None:
    product = tmp_path / "night" / "product"
    with atomic_path(product, permit) as part:
        assert part.parent == permit
        part.write_bytes(b"whole")
    assert product.read_bytes() == b"whole"
    assert list(permit.iterdir()) == []


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["same disk", "another disk"])
def test_a_file_that_is_being_written_when_the_permit_goes_is_not_published(
    permit: Path, tmp_path: Path, other_disk: Path, is_elsewhere: bool
) -> None:
    folder = other_disk if is_elsewhere else tmp_path / "night"
    atomic_write(folder / "product", b"newer", permit)
    with (
        pytest.raises(Superseded, match="nothing more is published"),
        required(permit),
        atomic_path(folder / "product", permit) as part,
    ):
        part.write_bytes(b"late")
        withdraw(permit)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("product", b"newer")]
    assert is_withdrawn(permit)


def test_nothing_is_removed_without_the_permit(permit: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text("of an earlier attempt")
    discard(tmp_path / "first", permit)
    discard(tmp_path / "absent", permit)
    withdraw(permit)
    with pytest.raises(FileNotFoundError):
        discard(tmp_path / "second", permit)
    assert not (tmp_path / "first").exists()
    assert (tmp_path / "second").exists()


def test_other_errors_of_a_disk_stay_what_they_are(permit: Path) -> None:
    with pytest.raises(IsADirectoryError), required(permit):
        permit.read_bytes()
    with pytest.raises(FileNotFoundError), required(None):
        (permit / "absent").read_bytes()


def test_nothing_appears_after_the_permit_went_whatever_is_written_meanwhile(tmp_path: Path) -> None:
    for number in range(20):
        permit, folder = tmp_path / f"permit{number}", tmp_path / f"night{number}"
        permit.mkdir()
        writers = [threading.Thread(target=_write_on, args=(folder, permit, name)) for name in "abc"]
        for writer in writers:
            writer.start()
        while not folder.exists() or len(list(folder.iterdir())) < number + 3:
            time.sleep(0.001)
        withdraw(permit)
        there = sorted(path.name for path in folder.iterdir())
        for writer in writers:
            writer.join()
        assert sorted(path.name for path in folder.iterdir()) == there
        assert not permit.exists()


def _write_on(folder: Path, permit: Path, name: str) -> None:
    with suppress(Superseded):
        for number in range(100_000):
            with required(permit):
                atomic_write(folder / f"{name}{number}", b"x", permit)
