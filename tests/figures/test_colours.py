"""Colours of the filters, for eyes that tell red from green and for those that do not."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from obsarchive.figures.plot_style import FILTER_COLOURS
from obsarchive.web.surveys.thumbnails import COLOURS

SCRIPT = Path(__file__).parents[2] / "static" / "plots.js"
IN_SCRIPT = dict(re.findall(r'(\w+): "(#[0-9a-f]{6})"', re.search(r"palette = {(.*?)}", SCRIPT.read_text())[1]))
SEEN = {
    "trichromacy": np.eye(3),
    # Machado, Oliveira & Fernandes 2009, IEEE TVCG 15, 1291, severity 1
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
LEAST = 17.0
"""Colour difference (CIE 1976) that small marks need; 2.3 is just seen on large areas."""


def linear(colour: str) -> np.ndarray:
    """Linear RGB of a colour of sRGB."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    t = TO_XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("palette", [FILTER_COLOURS, COLOURS, IN_SCRIPT])
def test_filters_of_surveys_are_told_apart_by_all_eyes(palette: dict[str, str], eyes: str) -> None:
    seen = {name: lab(SEEN[eyes] @ linear(colour)) for name, colour in palette.items() if name in "griz"}
    assert {"g", "r", "i"} <= seen.keys()
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > LEAST, (one, other)
