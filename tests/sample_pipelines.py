"""Pipelines of the tests of this folder: a plain one, and one whose steps end in every possible way."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from obsarchive.errors import ArchiveError, NotReady, Unprocessable
from obsarchive.pipeline import Pipeline, Workspace, step


@dataclass(frozen=True)
class ToySettings:
    text: str = "starlight"


@dataclass(frozen=True)
class CopySettings:
    copies: int = 1
    strict: bool = False


class Toy(Pipeline):
    """Writes a text, copies it, and looks at the outcome."""

    name = "toy"
    Settings = ToySettings

    @step(makes=["{id}.txt"])
    def write(self, work: Workspace) -> dict[str, Any]:
        work.publish("{id}.txt", self.settings.text.encode())
        return {"letters": len(self.settings.text)}

    @step(makes=["copies/copy_{number}.txt"], after=["write"], uses=["science"], settings=CopySettings)
    def copy(self, work: Workspace) -> dict[str, Any]:
        for number in range(work.settings.copies):
            work.publish(f"copies/copy_{number}.txt", work.product("{id}.txt").read_bytes())
        return {"of": work.results("write")["letters"]}

    @step(makes=[], follows=["copy"])
    def look(self, work: Workspace) -> dict[str, Any]:
        return {}


class Other(Pipeline):
    """A second link of the chain."""

    name = "other"

    @step(makes=["other.txt"])
    def write(self, work: Workspace) -> dict[str, Any]:
        return {}


class ToyCalibration(Pipeline):
    """A night's masters."""

    name = "calib"
    scope = "night"
    precedes_science = True

    @step(makes=["dark_{mode}.fits"], uses=["dark", "other_darks"])
    def darks(self, work: Workspace) -> dict[str, Any]:
        return {}

    @step(makes=["flat_{filter}.fits"], follows=["darks"], uses=["flat", "dark", "other_flats"])
    def flats(self, work: Workspace) -> dict[str, Any]:
        return {}


def note_pid(work: Workspace, name: str, pid: int) -> None:
    """Tell the test which process to look after."""
    (work.task.tmp / name).write_text(str(pid))


class Endings(Pipeline):
    """One step for each way in which a step can end."""

    name = "endings"

    @step(makes=["image.fits"])
    def succeed(self, work: Workspace) -> dict[str, Any]:
        work.publish_fits("image.fits", np.ones((4, 5)))
        (work.scratch() / "intermediate").write_text("x")
        return {"classified_as": "high_flux", "ratio_percent": np.float32(12.5)}

    @step(makes=[])
    def odd_values(self, work: Workspace) -> dict[str, Any]:
        return {
            "nan": np.nan,
            "infinite": [1.0, -np.inf],
            "array": np.array([[1, 2], [3, 4]], np.uint8),
            "flag": np.bool_(True),
            "nested": {"count": np.int64(7), 5: (np.float64("nan"), "five")},
            "huge": 2**70,
            "text": "lone \ud800 surrogate, NUL \0",
        }

    @step(makes=[])
    def reject(self, work: Workspace) -> dict[str, Any]:
        raise Unprocessable("no guide star", "zero_flux")

    @step(makes=[])
    def not_ready(self, work: Workspace) -> dict[str, Any]:
        raise NotReady("no master dark yet")

    @step(makes=[])
    def fail(self, work: Workspace) -> dict[str, Any]:
        raise ArchiveError("the disk sulks")

    @step(makes=[])
    def bug(self, work: Workspace) -> dict[str, Any]:
        return {"ratio": 1 / len("")}

    @step(makes=[])
    def bug_with_a_hostile_message(self, work: Workspace) -> dict[str, Any]:
        raise ValueError("\udcff" + 10**6 * "x")

    @step(makes=["image.fits", "table.txt"])
    def forget_a_product(self, work: Workspace) -> dict[str, Any]:
        work.publish_fits("image.fits", np.ones((4, 5)))
        return {}

    @step(makes=[])
    def report(self, work: Workspace) -> dict[str, Any]:
        for number in range(3):
            work.progress(number / 3, f"part {number}")
        return {}

    @step(makes=[])
    def hang(self, work: Workspace) -> dict[str, Any]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (work.scratch() / "intermediate").write_text("x")
        note_pid(work, "hanging", os.getpid())
        time.sleep(600)
        return {}

    @step(makes=[])
    def eat_memory(self, work: Workspace) -> dict[str, Any]:
        eaten = []
        while True:
            eaten.append(b"x" * 20_000_000)
            time.sleep(0.01)

    @step(makes=[])
    def kill_itself(self, work: Workspace) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    @step(makes=[])
    def leave(self, work: Workspace) -> dict[str, Any]:
        sys.exit(3)

    @step(makes=[])
    def start_a_program(self, work: Workspace) -> dict[str, Any]:
        note_pid(work, "program", subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        return {}

    @step(makes=[])
    def die_with_a_child_left(self, work: Workspace) -> dict[str, Any]:
        child = os.fork()
        if child == 0:
            time.sleep(600)
        note_pid(work, "child", child)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}


def task_values(tmp_path: Path, obs_id: str) -> dict[str, Any]:
    """What a task of an observation needs, beside its pipeline and step."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    document = {"_id": obs_id, "night": "20160925", "camera": "VIC"}
    return {"document": document, "archive": tmp_path / "archive", "tmp": tmp_path / "tmp"}
