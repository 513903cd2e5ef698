"""A soak of the whole archive: real processes, a small simulated observatory, people at work, and random faults."""
