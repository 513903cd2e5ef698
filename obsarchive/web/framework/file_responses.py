"""File responses: only products that the database knows, and only from their folder of the archive."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Response, request, send_file

from obsarchive.core.archive_paths import Layout
from obsarchive.names import is_night
from obsarchive.web.framework.authorization import audit, not_found
from obsarchive.web.framework.context import portal

SHOWN_INLINE = {".png": "image/png", ".txt": "text/plain; charset=utf-8", ".csv": "text/plain; charset=utf-8"}
DOWNLOADED = {".fits": "application/fits", ".bz2": "application/x-bzip2", ".json": "application/json"}
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""Nothing in a file may act; browsers show plain pictures and text with a style of their own."""


def csv_attachment(header: Iterable[str], rows: Iterable[Iterable[Any]], filename: str) -> Response:
    """Return a table as a CSV file in which no text is a formula of a spreadsheet.

    Parameters
    ----------
    header : iterable of str
        Names of the columns.
    rows : iterable of iterable
        Their values.
    filename : str
        Name of the file.

    Returns
    -------
    Response
        The file.
    """
    return as_attachment(Response(csv_text(header, rows), mimetype="text/csv"), filename)


def csv_text(header: Iterable[str], rows: Iterable[Iterable[Any]], line_end: str = "\n") -> str:
    """Return a table as CSV in which no text is a formula of a spreadsheet; arguments as above."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return text.getvalue()


def _harmless(value: Any) -> Any:
    """Escape a text that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def as_attachment(response: Response, filename: str) -> Response:
    """Let browsers store a response under a name; headers are ASCII, other letters are encoded (RFC 6266).

    Parameters
    ----------
    response : Response
        Content of the file.
    filename : str
        Its name; characters that are no text become ``_``.

    Returns
    -------
    Response
        The same.
    """
    name = "".join("_" if unicodedata.category(letter).startswith("C") else letter for letter in filename)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    names = {"filename": plain}
    if plain != name:
        names["filename*"] = f"UTF-8''{quote(name, safe='')}"
    response.headers.set("Content-Disposition", "attachment", **names)
    return response


def send(path: Path, night: str, record: Mapping[str, Any], name: str = "") -> Response:
    """Send a file of a night; browsers may cache it, but must revalidate it each time.

    Parameters
    ----------
    path : Path
        The file.
    night : str
        Night ``yyyymmdd`` whose folder holds it.
    record : mapping
        Record of the product: its checksum, if known.
    name : str, optional
        Name under which browsers store it; that of the file by default.

    Returns
    -------
    Response
        The file; 404 when there is none.
    """
    found = resolve_product_path(path, portal().layout, night)
    if found is None:
        not_found()
    return send_found(found, record, name)


def send_found(found: Path, record: Mapping[str, Any], name: str = "") -> Response:
    """Send a file whose path was checked.

    Parameters
    ----------
    found : Path
        The file.
    record : mapping
        Its checksum, if known.
    name : str, optional
        Name under which browsers store it; that of the file by default.

    Returns
    -------
    Response
        The file.
    """
    inline = SHOWN_INLINE.get(found.suffix)
    response = send_file(
        found,
        mimetype=inline or DOWNLOADED.get(found.suffix, "application/octet-stream"),
        as_attachment=inline is None,
        download_name=name or found.name,
        conditional=True,
        etag=str(record["sha256"]) if record.get("sha256") else True,
        max_age=0,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = FILE_POLICY
    if inline != SHOWN_INLINE[".png"]:
        audit("download", path=request.path)
    return response


def resolve_product_path(path: Path, layout: Layout, night: str) -> Path | None:
    """Return the real path of a file of a night.

    The folder of a night itself may be a link to another disk; nothing below it may.

    Parameters
    ----------
    path : Path
        Path of the file.
    layout : Layout
        Paths of the archive.
    night : str
        Night ``yyyymmdd`` whose folder holds the file.

    Returns
    -------
    Path or None
        None when there is no such file, or links or dots lead out of the folder.
    """
    if not is_night(night):
        return None
    try:
        base = layout.night(night).resolve(strict=True)
        found = path.resolve(strict=True)
        is_direct = found == base / path.relative_to(layout.night(night))
    except (OSError, ValueError, RuntimeError):
        return None
    return found if is_direct and found.is_file() else None
