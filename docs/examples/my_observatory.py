"""An observatory of one's own: light curves that lie in a folder, one text file for each source.

Use it in a project::

    project:
      name: events
      obs_names: [my_observatory.VirtualFolder]
    observatories:
      FOLDER: {photometry: /data/ogle, gap: 0}
"""

from pathlib import Path
from typing import Any

import numpy as np

from obsarchive.errors import ConfigError
from surveys.observatory import Fetched, Row, VirtualObservatory
from surveys.observatory.parameters import ParsObservatory


class ParsFolder(ParsObservatory):
    """What is known of the folder."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.photometry = self.add_par("photometry", ".", str, "folder of the files NAME.dat", critical=False)
        self.filter = self.add_par("filter", "I", str, "filter of all files")
        self.time_offset = self.add_par("time_offset", 0.0, float, "what is added to the times", unit="d")


class VirtualFolder(VirtualObservatory):
    """Reads files of three columns: heliocentric Julian date, magnitude, error."""

    pars_class = ParsFolder
    name = "FOLDER"

    def fetch_data_from_observatory(self, cat_row: Row, **_: Any) -> Fetched:
        """Return what the file of a source holds; nothing if there is none."""
        folder = Path(self.pars.photometry)
        if not folder.is_dir():
            raise ConfigError(f"no folder {folder.absolute()}: correct 'photometry' of the observatory {self.name}")
        path = folder / f"{cat_row['name']}.dat"
        if not path.exists():
            return None, {}
        hjd, mag, error = np.loadtxt(path, unpack=True, usecols=(0, 1, 2), comments=("#", "\\", "|"))
        facts = {"filter": self.pars.filter, "time_offset": self.pars.time_offset}
        return {"hjd": hjd, "mag": mag, "magerr": error}, facts
