"""Targets whose coordinates were mistyped: told with their distance and the likely reason."""

import re
from pathlib import Path

import numpy as np
import pytest

from obsarchive.errors import ArchiveError, ConfigError
from obsarchive.execution.work import run_locally
from obsarchive.timeseries import config as configuration
from obsarchive.timeseries.light_curve_at import light_curve_at
from obsarchive.timeseries.reduction import Reduction
from obsarchive.timeseries.target_position import explain_distance

CENTRE = (65.0, -23.0)
RNG = np.random.default_rng(1)
STARS = CENTRE[0] + RNG.uniform(-0.1, 0.1, 50), CENTRE[1] + RNG.uniform(-0.1, 0.1, 50)


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ((65.0, -21.0), r"^2\.0. deg from the middle of the field at 65\.\d+ -2\d\.\d+$"),
        ((65.0, -22.7), r"^1\d\.\d\d arcmin from"),
        ((337.0, 65.0), "swapped: 65"),
        ((65.0 / 15, -23.0), "in hours where degrees were read: 65"),
        ((65.0 * 15 % 360, -23.0), "from the middle"),
        ((65.0, 23.0), "declination seems to have the wrong sign"),
        ((295.0, -23.0), "right ascension seems to have the wrong sign"),
    ],
)
def test_a_confusion_is_named(position: tuple[float, float], words: str) -> None:
    assert re.search(words, explain_distance(position, STARS))


@pytest.mark.parametrize("zero", [0.0, 359.95])
def test_a_field_may_be_at_zero_hours(zero: float) -> None:
    stars = (zero + RNG.uniform(-0.1, 0.1, 50)) % 360, 5 + RNG.uniform(-0.1, 0.1, 50)
    assert explain_distance((5.0, zero % 360 if zero < 90 else zero - 360), stars).count("swapped") == 1


def retarget(dataset: Path, ra: object, dec: object) -> None:
    path = dataset / configuration.CONFIGURATION
    lines = [line for line in path.read_text().splitlines() if line.strip().lower().split(":")[0] not in ("ra", "dec")]
    at = next(n for n, line in enumerate(lines) if line.startswith("target:"))
    path.write_text("\n".join([*lines[: at + 1], f"  RA: {ra}", f"  Dec: {dec}", *lines[at + 1 :]]) + "\n")


def test_a_target_outside_every_frame_fails_with_its_distance(dataset: Path) -> None:
    target = configuration.load(dataset).target
    retarget(dataset, target.ra_deg / 15, target.dec_deg)
    outcome = Reduction(dataset, run_locally, cache=dataset / "cache").reduce()
    assert outcome.state == "failed"
    assert "is on none of the frames, but" in outcome.message
    assert "in hours where degrees were read" in outcome.message
    assert "reduction_config.yaml" in outcome.message
    retarget(dataset, target.ra_deg, target.dec_deg + 0.75 * 384 * 0.39 / 3600)  # next to the frames
    outcome = Reduction(dataset, run_locally, cache=dataset / "cache").reduce()
    assert "arcmin from the middle of the field" in outcome.message
    retarget(dataset, target.ra_deg, target.dec_deg)
    assert Reduction(dataset, run_locally, cache=dataset / "cache").reduce().state == "done"
    with pytest.raises(ArchiveError, match=r"is on none of the 4 frames, but .* deg from the middle"):
        light_curve_at(dataset, target.ra_deg, target.dec_deg + 2)


@pytest.mark.parametrize(("ra", "dec"), [("-25:30:30.5", "17:30:25.5"), (10.0, 262.5), ("x", 1.0), (361.0, 1.0)])
def test_impossible_coordinates_are_refused(dataset: Path, ra: object, dec: object) -> None:
    retarget(dataset, ra, dec)
    with pytest.raises(ConfigError, match=r"line \d+: target.*swapped"):
        configuration.load(dataset)
