"""Archives whose daemons want the lease of a database."""

from obsarchive.store.jobs import Archive


def archive_on(host: str, path: str = "/archive", identifier: str = "one") -> Archive:
    """Return an archive that a daemon on some host works on; by default always the same one."""
    return Archive(identifier, host, path)
