"""Numpy in, numpy or a dataclass out: knows no file, database, cluster or web."""
