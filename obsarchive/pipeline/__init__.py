"""What an adopter subclasses: a pipeline, its steps, and the workspace that a step is given."""

from obsarchive.pipeline.declaration import InputKind, NoSettings, Pipeline, Step, step
from obsarchive.pipeline.workspace import Progress, Task, Workspace

__all__ = ["InputKind", "NoSettings", "Pipeline", "Progress", "Step", "Task", "Workspace", "step"]
