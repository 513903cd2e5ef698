"""What was done to a frame before, by the headers of the programs that do it."""

from typing import Any

import pytest

from obsarchive.io.reduction_state import reduction_state


@pytest.mark.parametrize(
    ("cards", "done"),
    [
        ({}, set()),
        ({"RLEVEL": 0, "FLATCOR": "", "CALSTAT": "", "FLATCORR": "PERFORM", "SOFTNAME": "MaxIm"}, set()),
        ({"FLATCOR": False, "ZEROCOR": "none"}, set()),
        ({"RLEVEL": 91}, {"dark", "flat"}),
        ({"ZEROCOR": "Mar 26 20:11 Zero level correction image is Zero.fits"}, {"dark"}),
        ({"FLATCOR": "Mar 26 20:11 Flat field image is FlatV.fits with scale=27291."}, {"flat"}),
        ({"CALSTAT": "BDF"}, {"dark", "flat"}),
        ({"CALSTAT": "BD"}, {"dark"}),
        ({"SOFTNAME": "SWarp", "SOFTVERS": "2.41.5"}, {"dark", "flat"}),
        ({"BIASCORR": "COMPLETE", "FLATCORR": "COMPLETE"}, {"dark", "flat"}),
    ],
)
def test_calibrations_that_were_applied(cards: dict[str, Any], done: set[str]) -> None:
    found = reduction_state(cards)
    assert set(found) == done
    assert all(card.partition(" = ")[0] in cards for card in found.values())
