"""The file that an identifier means, if the user may see it."""

from obsarchive.names import is_night
from obsarchive.web.framework.context import portal
from obsarchive.web.vo.archive_files import CALIBRATION, Archive, ArchiveFile, files_of, masters_of, read_did
from obsarchive.web.vo.client import viewer


def find_file(archive: Archive, did: str) -> ArchiveFile | None:
    """Return a file by its identifier; None if there is none that the user may see.

    Parameters
    ----------
    archive : Archive
        The archive.
    did : str
        Identifier of the file.

    Returns
    -------
    ArchiveFile or None
    """
    parts = read_did(archive.authority, did)
    if parts is None:
        return None
    subject, folder, name = parts
    return next((f for f in _of_subject(archive, subject, folder) if (f.folder, f.name) == (folder, name)), None)


def _of_subject(archive: Archive, subject: str, folder: str) -> list[ArchiveFile]:
    if folder == CALIBRATION and is_night(subject):
        return masters(archive, subject)
    seen = portal().store.files.observation(viewer(), subject)
    return list(files_of(archive, seen)) if seen else []


def masters(archive: Archive, night: str) -> list[ArchiveFile]:
    """Return the master darks and flats of a night in which the user has data."""
    found = portal().store.browse.night(viewer(), night)
    return list(masters_of(archive, found)) if found else []
