"""What an adopter subclasses: a pipeline, its steps, and the workspace that a step is given."""

from obsarchive.pipeline.declaration import InputKind, NoSettings, Pipeline, Step, step
from obsarchive.pipeline.workspace import ProgressCallback, Task, Workspace

__all__ = ["InputKind", "NoSettings", "Pipeline", "ProgressCallback", "Step", "Task", "Workspace", "step"]
