"""The live portal against its own description: schemathesis makes requests of it and checks every answer."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.core.failures import Failure, FailureGroup
from toy_archive import NIGHT

from obsarchive.web import Portal
from obsarchive.web.framework import authorization
from obsarchive.web.framework.authorization import SCOPES, digest_of

TOKEN = "arc_of_schemathesis"
EXAMPLES = 8


@pytest.fixture
def schema(app: Portal, archive: SimpleNamespace, sources: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(authorization, "MOST_REQUESTS", 10**9)
    monkeypatch.setattr(authorization, "MOST_BAD_TOKENS", 10**9)  # schemathesis sends wrong ones, too
    app.store.tokens.add(digest_of(TOKEN), "admin", "test", list(SCOPES), timedelta(days=1))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json", headers=headers)


def test_every_answer_is_as_described(schema: Any, archive: SimpleNamespace, sources: SimpleNamespace) -> None:
    """Parameters of paths are those of something that is there in half of the requests."""
    known = {"night": NIGHT, "obs_id": archive.own, "key": archive.datasets[0], "name": sources.event}
    known |= {"pipeline": "bright_star"}
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 18
    problems = {}
    for operation in operations:
        try:
            _check(operation, known)
        except (FailureGroup, Failure) as err:
            problems[operation.label] = str(err)
    assert problems == {}


def _check(operation: Any, known: dict[str, str]) -> None:
    """Send requests of one operation."""

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), is_there=st.booleans())
    def inner(case: Any, is_there: bool) -> None:
        if is_there:
            case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
        # no schema says which values of a search belong together: 400 names the reason
        case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"}, excluded_checks=[checks.positive_data_acceptance]
        )

    inner()
