"""What is read from the headers of frames."""

import numpy as np
from astropy.io import fits

from obsarchive.timeseries.frame_table import merged_header


def test_a_card_without_a_value_leaves_the_primary_header_its_own() -> None:
    primary = fits.PrimaryHDU(header=fits.Header({"FILTER": "rp", "OBJECT": None}))
    image = fits.ImageHDU(np.zeros((3, 4)), fits.Header({"FILTER": None, "EXPTIME": 30.0}), name="SCI")
    found = merged_header(fits.HDUList([primary, image]))
    assert (found["FILTER"], found["EXPTIME"], found.get("OBJECT")) == ("rp", 30.0, None)
