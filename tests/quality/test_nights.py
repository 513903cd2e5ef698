"""Where the figures of simulated nights look for what is true."""

import numpy as np
import pytest

from benchmarks.quality.nights import FAINT, FINE_ARCSEC, snr_at_companion
from obsarchive.science.psf.subtraction import MARGIN_PX, STAMP_SIDE


@pytest.mark.parametrize("side", [STAMP_SIDE, STAMP_SIDE + 2 * MARGIN_PX])
def test_the_companion_is_read_where_it_is_in_maps_with_and_without_a_margin(side):
    dy, dx = (round(c / FINE_ARCSEC) for c in (FAINT.dy_arcsec, FAINT.dx_arcsec))
    snr = np.zeros((side, side))
    snr[side // 2 + dy, side // 2 + dx] = 14.0
    assert snr_at_companion(snr) == 14.0
