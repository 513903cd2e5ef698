"""Guide stars, image alignment and frame ranking."""
