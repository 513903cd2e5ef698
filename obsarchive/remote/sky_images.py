"""Pictures of the sky around a target, from the one survey service that is configured; kept on disk.

The service is outside the archive: it is asked with a time limit, its answers have a largest size, redirections are not
followed, and only what is a picture is kept and passed on.
"""

import hashlib
import io
from pathlib import Path

from PIL import Image

from obsarchive.config.model import SkyService
from obsarchive.remote.answer_files import cached_file
from obsarchive.remote.http import ServiceTimeoutError, request_once

MAX_BYTES = 4_000_000
MAX_SIDE = 4096
MAX_CACHED = 5000
"""Pictures that are cached; the ones used least recently go first."""
FORMATS = ("PNG", "JPEG", "GIF")


class SkyImageError(ServiceTimeoutError):
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

        Parameters
        ----------
        ra_deg, dec_deg : float
            Its centre [deg].

        Returns
        -------
        Path
            The file in the cache.

        Raises
        ------
        SkyImageError
            The service cannot be reached, is too slow, or sends something else.
        """
        ra, dec = round(ra_deg, 5), round(dec_deg, 5)
        url = self.service.url.format(ra=ra, dec=dec, size=self.service.field_arcsec / 3600, pixels=self.service.pixels)
        path = self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.png"
        timeout_s = self.service.timeout_s

        def ask() -> bytes:
            return _as_png(request_once("the survey service", url, SkyImageError, timeout_s, (MAX_BYTES, timeout_s)))

        return cached_file(path, ask, MAX_CACHED)


def _as_png(content: bytes) -> bytes:
    """Decode a picture and write it anew, so that nothing else of what came is passed on."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            if max(picture.size) > MAX_SIDE:
                raise SkyImageError(f"the survey service sent a picture of {picture.size} pixels")
            buffer = io.BytesIO()
            picture.convert("L" if picture.mode in ("1", "L", "I", "F", "I;16") else "RGB").save(buffer, "PNG")
    except (OSError, ValueError, SyntaxError) as err:
        raise SkyImageError("the survey service sent no picture") from err
    return buffer.getvalue()
