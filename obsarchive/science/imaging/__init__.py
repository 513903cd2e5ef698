"""Calibration, combination, drizzling and deconvolution of images."""
