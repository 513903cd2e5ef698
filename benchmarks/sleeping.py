"""A pipeline whose step only sleeps; a module of its own, as every process of a step imports it."""

import time
from typing import Any

from obsarchive.pipeline import Pipeline, Workspace, step


class Sleeping(Pipeline):
    """A pipeline of one step that sleeps as long as the file ``seconds`` says."""

    name = "sleeping"

    @step(makes=["{id}.txt"], uses=["science"])
    def sleep(self, work: Workspace) -> dict[str, Any]:
        """Sleep, and write a file."""
        time.sleep(float((work.task.tmp.parent / "seconds").read_text()))
        work.publish("{id}.txt", b"slept\n")
        return {}
