"""What the pipelines share: sequences of frames, calibration, and steps that several have."""
