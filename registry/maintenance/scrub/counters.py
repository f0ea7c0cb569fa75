"""*Counters*: what quotas have noted as used, against the rows that they count.

Tests: ``tests/maintenance/scrub/test_comparison.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.quotas import groups, usage
from registry.images.quotas.usage import COUNT_SECONDS
from registry.maintenance.scrub.report import CounterDifference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.images.backends import Backends


def differences(backends: Backends, *, repairs: bool) -> Iterator[CounterDifference]:
    """The quotas whose counter differs from a count in the same snapshot; with ``repairs`` the count is noted.

    A quota that was never asked has no counter. Raises DatabaseError.
    """
    for quota in backends.policy.quotas.all():
        with backends.database.snapshot() as connection:
            row = usage.find(connection, quota.key).get()
            counted = groups.count(connection, quota.group).used
        if row is None or row.used == counted:
            continue
        if repairs:
            with backends.database.transaction(durable=False) as connection:
                due_at = backends.clock() + COUNT_SECONDS
                usage.note(connection, quota.key, used=counted, added=row.added, due_at=due_at)
        yield CounterDifference(str(quota), row.used, counted, repairs)
