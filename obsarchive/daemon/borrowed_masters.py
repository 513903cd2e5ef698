"""Masters that a night copies from other nights: only while they are whole, so that damage does not spread."""

import logging
from collections.abc import Iterable

from obsarchive.core.archive_paths import Layout
from obsarchive.core.documents import Night
from obsarchive.core.masters import Master
from obsarchive.core.step_state import State
from obsarchive.io.atomic import sha256
from obsarchive.store import Nights

log = logging.getLogger(__name__)

PIPELINE = "calib"


def are_made_again(masters: Iterable[Master], nights: Nights, layout: Layout) -> bool:
    """Whether masters of other nights are to be waited for, because they are damaged and made again.

    The rolling audit may come to a damaged file weeks later; who copies it compares it with its checksum before.

    Parameters
    ----------
    masters : iterable of Master
        What is to be copied.
    nights : Nights
        Where it is recorded how they were made.
    layout : Layout
        Paths of the archive.

    Returns
    -------
    bool

    Raises
    ------
    OSError
        One cannot be read.
    """
    return any([_is_made_again(master, nights, layout) for master in masters])


def _is_made_again(master: Master, nights: Nights, layout: Layout) -> bool:
    path = layout.calibration(master.night) / f"{master.label}.fits"
    source = Night(nights.find(master.night) or {"_id": master.night})
    for step, made in source.pipeline(PIPELINE).steps().items():
        checksums = [product.get("sha256") for product in made.products if product.get("name") == path.name]
        if not checksums or made.state is State.FAILED or (path.exists() and sha256(path) in checksums):
            continue
        if nights.invalidate(master.night, (PIPELINE, step)):
            log.warning("%s %s.%s: made again, %s is damaged", master.night, PIPELINE, step, path.name)
        return True
    return False
