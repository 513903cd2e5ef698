"""Documents of the published Robo-AO archiver, brought to the form of this one.

Its blocks of pipelines stay as they are: :class:`obsarchive.core.documents.PipelineRecord` reads their numbers.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from obsarchive.core.document_paths import RAW_MISSING
from obsarchive.core.documents import SCHEMA
from obsarchive.core.values import as_mapping
from obsarchive.instruments.robo_ao import RoboAO
from obsarchive.names import ObservationName
from obsarchive.store import Document, Observations

log = logging.getLogger(__name__)


def take_over(observations: Observations) -> int:
    """Bring all documents of the published archiver to the present form; return their number.

    Parameters
    ----------
    observations : Observations
        The collection.
    """
    taken = 0
    for document in observations.without_night():
        try:
            fields = present_form(document)
        except ValueError as err:
            log.warning("a document of the collection objects is no observation: %s", err)
            continue
        observations.set_fields(document["_id"], {**fields, **observations.reopened()})
        taken += 1
    if taken:
        log.info("took over %d observation(s) of the published archiver", taken)
    return taken


def present_form(document: Mapping[str, Any]) -> Document:
    """Return the fields that a document lacks, or has in another form.

    Raises
    ------
    ValueError
        Its name is not that of an observation.
    """
    name = ObservationName.parse(str(document["_id"]))
    cards = list(_cards(document))
    place = as_mapping(document.get("coordinates"))
    header = dict(zip(("TELRA", "TELDEC"), place.get("radec_str") or (), strict=False))
    header |= {card["key"]: card["value"] for card in cards}
    described = {key: value for key, value in RoboAO().describe(header).items() if value is not None}
    return {
        **described,
        "coordinates": {**place, **as_mapping(described.get("coordinates"))},
        "fits_header": cards,
        "night": f"{name.date_utc:%Y%m%d}",
        "schema": SCHEMA,
        RAW_MISSING: True,  # until they are seen
    }


def _cards(document: Mapping[str, Any]) -> Iterator[Document]:
    """Yield the header, which was kept as ``{key: value}`` or ``{key: [value, comment]}``."""
    for key, found in as_mapping(document.get("fits_header")).items():
        value, comment = found if isinstance(found, list) and len(found) == 2 else (found, "")
        yield {"key": str(key), "value": value, "comment": str(comment)}
