"""Comparisons on real data with second programs; each module has functions that return rows."""
