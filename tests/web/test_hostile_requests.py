"""A bounded part of what ``benchmarks/fuzz.py`` sends to the portal."""

from typing import Any

import pytest
from hostile_requests import Attack
from hypothesis import HealthCheck, given, settings

from obsarchive.web import Portal
from obsarchive.web.framework import authorization
from tests.fuzz.kinds import limited

EXAMPLES = 200


def test_hostile_requests_are_answered(app: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorization, "MOST_REQUESTS", 10**9)
    attack = Attack(app)

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(attack.requests)
    def inner(asked: dict[str, Any]) -> None:
        with limited():
            attack.send(asked)

    inner()
