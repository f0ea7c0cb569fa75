"""What is documented under /api/openapi.json answers as documented, whatever it is asked (schemathesis)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

from tests.support.servers import RegistryProcess

EXAMPLES = 6
"""Requests to each operation."""


def test_documented_operations_answer_as_documented(tmp_path: Path) -> None:
    import schemathesis  # slow to load, and of all workers one needs it
    from schemathesis.core.result import Ok

    with RegistryProcess(tmp_path, config={"storage": {"fsync": False}}) as server:  # its own: it is pushed to
        found = list(schemathesis.openapi.from_url(f"{server.url}/api/openapi.json").get_all_operations())
        assert found, "nothing is documented"
        for operation in found:
            assert isinstance(operation, Ok), operation
            _exercise(operation.ok())


def _exercise(operation: Any) -> None:
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def send(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    send()
