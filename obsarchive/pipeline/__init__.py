"""What an adopter subclasses: a pipeline, its steps, and the workspace that a step is given.

The workspace, with what it needs to read FITS files, is imported by whoever asks for it: the decision chain does not.
"""

from typing import TYPE_CHECKING, Any

from obsarchive.pipeline.declaration import InputKind, NoSettings, Pipeline, Step, step

if TYPE_CHECKING:
    from obsarchive.pipeline.task import Task
    from obsarchive.pipeline.workspace import ProgressCallback, Workspace

__all__ = ["InputKind", "NoSettings", "Pipeline", "ProgressCallback", "Step", "Task", "Workspace", "step"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from obsarchive.pipeline import workspace

    return getattr(workspace, name)
