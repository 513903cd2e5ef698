"""The map of the sky, against the projection of matplotlib."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.projections.geo import MollweideAxes

from obsarchive.web.pages.sky_map import HEIGHT, WIDTH, mollweide


@given(ra=st.floats(0, 360), dec=st.floats(-90, 90))
def test_places_are_those_of_matplotlib(ra: float, dec: float) -> None:
    longitude = np.radians((ra + 180) % 360 - 180)
    theirs = MollweideAxes.MollweideTransform(1).transform([[longitude, np.radians(dec)]])[0]
    x, y = mollweide(ra, dec)
    assert x == pytest.approx(-theirs[0] / (2 * np.sqrt(2)) * WIDTH / 2, abs=0.05)
    assert y == pytest.approx(-theirs[1] / np.sqrt(2) * HEIGHT / 2, abs=0.05)


def test_the_map_is_part_of_a_search(archive, as_user) -> None:
    page = as_user("ana").get("/search?name=HD").text
    assert page.count("<circle") == 1
    assert "Sky map" in page
