"""Hostile inputs of every kind that the archive reads."""
