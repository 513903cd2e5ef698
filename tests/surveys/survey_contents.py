"""Everything that a project made, to be compared."""

from pathlib import Path
from typing import Any

from obsarchive.store import Store
from surveys.formats.hdf5_light_curves import PhotometryFile
from surveys.histograms import Histogram

KINDS = ("sources", "raw_photometry", "lightcurves", "detections", "properties")
MOMENTS = ("fetched", "made", "expires")
"""Leaves that tell when something was done."""


def everything(store: Store, root: Path) -> dict[str, Any]:
    """All documents, light curves and histograms, without the moments at which they were made."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        for document in store.surveys.find(kind, {}):
            found[f"{kind} {document['_id']}"] = {key: document[key] for key in document if key not in MOMENTS}
    for path in sorted(root.rglob("*.h5")):
        file = PhotometryFile(path)
        for key, record in file.read_many(file.keys()):
            columns = {name: values.tobytes() for name, values in record.columns.items()}
            found[f"{path.relative_to(root)} {key}"] = (columns, record.altdata)
    for path in sorted(root.rglob("*.nc")):
        found[str(path.relative_to(root))] = Histogram.load(path)
    return found
