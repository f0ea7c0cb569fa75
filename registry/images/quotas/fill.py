"""*Fill*: how much of its quotas a repository has, as an operator asks for it.

Tests: ``tests/cli/test_access.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from registry.database.quotas import groups
from registry.oci.quotas import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.database.engine import Database
    from registry.oci.quotas import Quota


class Fill(NamedTuple):
    """A quota and its use."""

    quota: Quota
    used: int | None
    """Bytes, None if that is not known."""

    def __str__(self) -> str:
        """A line for a person."""
        used = "an unknown part" if self.used is None else shown(self.used)
        return f"{self.quota}: {used} of {shown(self.quota.limit)} used"

    def document(self) -> dict[str, Any]:
        """As a JSON value."""
        return {"repositories": list(self.quota.patterns), "used": self.used, "limit": self.quota.limit}


def count_fills(database: Database, quotas: Iterable[Quota]) -> list[Fill]:
    """The use of each quota, counted now. Raises DatabaseError."""
    with database.snapshot() as connection:
        return [
            Fill(quota, groups.count(connection, quota.group).used + groups.received(connection, quota.group).get())
            for quota in quotas
        ]
