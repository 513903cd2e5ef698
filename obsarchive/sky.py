"""Pictures of the sky around a target, from the one survey service that is configured; kept on disk.

The service is outside the archive: it is asked with a time limit, its answers have a largest size, redirections are not
followed, and only what is a picture is kept and passed on.
"""

import hashlib
import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from PIL import Image

from obsarchive.config import SkyService
from obsarchive.errors import ArchiveError

log = logging.getLogger(__name__)

MAX_BYTES = 4_000_000
MAX_SIDE = 4096
MAX_KEPT = 5000
"""Pictures that are kept; the ones used least recently go first."""
FORMATS = ("PNG", "JPEG", "GIF")
AGENT = "Archiver (observatory archive)"


class SkyUnavailable(ArchiveError):
    """The service has no picture now; says why."""


class Sky:
    """Asks a service and keeps what it gives.

    Parameters
    ----------
    service : SkyService
        Where pictures come from.
    folder : Path
        Where they are kept.
    """

    def __init__(self, service: SkyService, folder: Path) -> None:
        self.service, self.folder = service, folder

    def picture(self, ra_deg: float, dec_deg: float) -> Path:
        """Return the path of a picture (PNG), north up, east left.

        Raises
        ------
        SkyUnavailable
            The service cannot be reached, is too slow, or sends something else.
        """
        ra, dec = round(ra_deg, 5), round(dec_deg, 5)
        url = self.service.url.format(ra=ra, dec=dec, size=self.service.field_arcsec / 3600, pixels=self.service.pixels)
        path = self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.png"
        if path.exists():
            path.touch()
            return path
        content = _as_png(self._ask(url))
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{time.monotonic_ns()}.part")
        part.write_bytes(content)
        part.replace(path)
        self._tidy()
        return path

    def _ask(self, url: str) -> bytes:
        limit_s = self.service.timeout_s
        until = time.monotonic() + limit_s
        try:
            with httpx.stream("GET", url, timeout=limit_s, headers={"User-Agent": AGENT}) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise SkyUnavailable(f"the survey service answered {answer.status_code}")
                return b"".join(_limited(answer.iter_bytes(), until))
        except (httpx.HTTPError, httpx.InvalidURL) as err:
            raise SkyUnavailable(f"the survey service cannot be reached: {type(err).__name__}") from err

    def _tidy(self) -> None:
        kept = sorted(self.folder.glob("*.png"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-MAX_KEPT]:
            path.unlink(missing_ok=True)


def _limited(chunks: Iterator[bytes], until: float) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > MAX_BYTES:
            raise SkyUnavailable(f"the survey service sent more than {MAX_BYTES} bytes")
        if time.monotonic() > until:
            raise SkyUnavailable("the survey service is too slow")
        yield chunk


def _as_png(content: bytes) -> bytes:
    """Decode a picture and write it anew, so that nothing else of what came is passed on."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if max(picture.size) > MAX_SIDE:
                raise SkyUnavailable(f"the survey service sent a picture of {picture.size} pixels")
            buffer = io.BytesIO()
            picture.convert("L" if picture.mode in ("1", "L", "I", "F", "I;16") else "RGB").save(buffer, "PNG")
    except (OSError, ValueError, SyntaxError) as err:
        raise SkyUnavailable("the survey service sent no picture") from err
    return buffer.getvalue()
