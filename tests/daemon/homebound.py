"""A pipeline that the daemon can import and its workers cannot, like one that is not installed on their machines."""

import multiprocessing
from typing import Any

from obsarchive.pipeline import Pipeline, Workspace, step

if multiprocessing.current_process().name != "MainProcess":
    raise ImportError("not installed on this machine")


class Homebound(Pipeline):
    name = "homebound"

    @step(makes=[])
    def stay(self, work: Workspace) -> dict[str, Any]:
        return {}
