"""What is done to an observation or a night: one class a pipeline. This is the folder that an adopter edits."""
