"""Simulated nights, fields, speckle cubes and detectors: the truth of demos and tests."""
