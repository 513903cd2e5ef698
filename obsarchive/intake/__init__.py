"""Frames of online archives: asked for, fetched, checked, sorted into datasets."""
