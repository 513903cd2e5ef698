"""A pipeline whose step kills the process that runs it."""

import os
import signal
from typing import Any

from obsarchive.pipeline import Pipeline, Workspace, step


class Poison(Pipeline):
    name = "poison"

    @step(makes=[])
    def die(self, work: Workspace) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}
