"""A bounded part of what ``benchmarks/fuzz.py`` does: no crash, no hang, nothing outside the folder."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.kinds import KINDS, Kind, run

EXAMPLES = 80


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_hostile_inputs_are_taken_or_refused(kind: Kind) -> None:
    with tempfile.TemporaryDirectory() as folder:

        @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(kind.inputs)
        def inner(drawn: Any) -> None:
            run(kind, drawn, Path(folder))

        inner()
