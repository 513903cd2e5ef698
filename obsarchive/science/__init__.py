"""Science functions of the archive: numpy in, numpy or a dataclass out; no file, database, cluster or web."""
