"""What is documented under /api/openapi.json answers as documented, whatever it is asked (schemathesis)."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok

from tests.hostile.place import Place

EXAMPLES = 20
"""Requests to each operation."""


def test_documented_operations_answer_as_documented(place: Place) -> None:
    url = f"http://{place.address.host}:{place.address.port}/api/openapi.json"
    found = list(schemathesis.openapi.from_url(url).get_all_operations())
    assert found, "nothing is documented"
    for operation in found:
        assert isinstance(operation, Ok), operation
        _exercise(operation.ok())


def _exercise(operation: Any) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def send(case: Any) -> None:
        case.call_and_validate()

    send()
