"""Plate solutions, star matching, spherical geometry, time scales."""
