"""Datasets of a field: photometry of its frames, light curves, upload to a TOM."""
