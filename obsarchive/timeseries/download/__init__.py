"""Frames of online archives: search, download, sorting into datasets."""
