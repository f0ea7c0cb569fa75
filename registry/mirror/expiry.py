"""*Expiry* of rows about upstreams: what is over is forgotten page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.database import leases
from registry.database.mirrors import mirror_tags, remote_misses
from registry.mirror.arrivals import LEASE_PREFIX

if TYPE_CHECKING:
    from registry.database.engine import Database

PAGE: Final = 1000
"""Rows of one transaction."""
_LEASES_AFTER: Final = 3600.0
"""Seconds after which the lease of a killed process has no use."""


def expire_rows(database: Database, *, page: int = PAGE) -> None:
    """Forget misses that are over, what is known of tags that are not here, and leases of killed processes.

    Any process, any number at once. Each page is a transaction of its own. Raises DatabaseError.
    """
    is_more = True
    while is_more:
        with database.transaction(durable=False) as connection:
            is_more = remote_misses.remove_over(connection, count=page) == page
    place: mirror_tags.Place | None = mirror_tags.BEGINNING
    while place is not None:
        with database.transaction(durable=False) as connection:
            place = mirror_tags.remove_left(connection, place, count=page)
    is_more = True
    while is_more:
        with database.transaction(durable=False) as connection:
            removed = leases.remove_over(connection, LEASE_PREFIX, seconds=_LEASES_AFTER, count=page)
        is_more = removed == page
