"""What an adopter subclasses: a pipeline, its steps, and the workspace that a step is given."""

from obsarchive.pipeline.declaration import NoSettings, Pipeline, Step, Use, step
from obsarchive.pipeline.workspace import Progress, Task, Workspace

__all__ = ["NoSettings", "Pipeline", "Progress", "Step", "Task", "Use", "Workspace", "step"]
