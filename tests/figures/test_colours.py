"""Colours of the filters, for eyes that tell red from green and for those that do not."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from obsarchive.figures import night
from obsarchive.figures.night import Curve
from obsarchive.figures.plot_style import FILTER_COLOURS, SECOND_COLOURS, SECOND_DASHES, curve_styles
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


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("palette", [FILTER_COLOURS, IN_SCRIPT])
def test_curves_of_other_pipelines_are_told_apart_by_all_eyes(palette: dict[str, str], eyes: str) -> None:
    colours = [*palette.values(), *SECOND_COLOURS]
    seen = [lab(SEEN[eyes] @ linear(colour)) for colour in colours]
    for second in (-2, -1):
        apart = [np.linalg.norm(seen[second] - other) for other in seen[: len(palette)]]
        assert min(apart) > LEAST, colours[int(np.argmin(apart))]
    assert np.linalg.norm(seen[-1] - seen[-2]) > LEAST


def test_every_curve_of_a_plot_has_a_colour_and_a_line_of_its_own() -> None:
    curves = [(name, pipeline) for name in ("lp600", "Sr") for pipeline in ("faint_star", "bright_star")]
    styles = curve_styles(curves)
    assert len({style["color"] for style in styles.values()}) == 4
    assert len({str(style["linestyle"]) for style in styles.values()}) == 4
    assert styles["Sr", "bright_star"]["color"] == FILTER_COLOURS["r"], "the first one looks as its filter"
    assert curve_styles([("Sr", "faint_star")])["Sr", "faint_star"]["color"] == FILTER_COLOURS["r"]
    in_script = re.findall(r'{ colour: "(#\w+)", dash: \[(.*?)\] }', SCRIPT.read_text())
    assert [colour for colour, _ in in_script] == list(SECOND_COLOURS)
    assert [tuple(map(int, dash.split(","))) for _, dash in in_script] == list(SECOND_DASHES)


def test_the_plot_of_a_night_names_its_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(night, "encoded", lambda figure: drawn.append(figure) or b"")
    separations = np.linspace(0.2, 1.5, 10)
    curves = [Curve("lp600", name, separations, separations) for name in ("bright_star", "faint_star", "bright_star")]
    night.contrast_of_night(curves, "Contrast curves of 20260314")
    lines = drawn[0].axes[0].get_lines()
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == [
        "lp600, bright star",
        "lp600, faint star",
        "median of 3",
    ]
    looks = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines[:3]}
    assert len(looks) == 2
    night.contrast_of_night(curves[:1], "Contrast curves of 20260314")
    assert drawn[1].axes[0].get_legend().get_texts()[0].get_text() == "lp600", "one pipeline needs no name"
