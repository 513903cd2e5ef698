"""A pipeline that an adopter adds to an archive."""

from typing import Any

from obsarchive.pipeline import Pipeline, Workspace, step


class Remark(Pipeline):
    name = "remark"

    @step(makes=["remark.txt"], uses=["science"])
    def write(self, work: Workspace) -> dict[str, Any]:
        work.publish("remark.txt", b"observed")
        return {}
