"""*Remote misses*: rows of what an upstream did not have, for a while in which it is not asked again.

A row says nothing of content that is here. Moments are by the wall clock of the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

_PUT = Statement(
    "INSERT INTO remote_miss (mirror, key, until) VALUES (:mirror, :key, wall_now() + :seconds)"
    " ON CONFLICT (mirror, key) DO UPDATE SET until = excluded.until"
)
_FIND = Statement("SELECT until - wall_now() FROM remote_miss WHERE mirror = :mirror AND key = :key")
_REMOVE_OVER = Statement(
    "DELETE FROM remote_miss WHERE (mirror, key) IN"
    " (SELECT mirror, key FROM remote_miss WHERE until < wall_now() ORDER BY until LIMIT :count)"
)


def put(connection: Transaction, mirror: str, key: str, *, seconds: float) -> None:
    """Note that the upstream has no such content, for so long from now on."""
    connection.execute(_PUT, {"mirror": mirror, "key": key, "seconds": float(seconds)})


def left(connection: Transaction, mirror: str, key: str, *, most: float) -> Later[float]:
    """Seconds for which it counts that the upstream does not have it; 0 if it does not.

    A row that would count for more than ``most`` was written by another clock, or for other settings: it does not.
    """

    def count(seconds: float) -> float:
        return seconds if 0 < seconds <= most else 0.0

    found = connection.execute(_FIND, {"mirror": mirror, "key": key})
    return found.later(lambda rows: count(row[0]) if (row := rows.first()) else 0.0)


def remove_over(connection: Transaction, *, count: int) -> int:
    """Forget what counts no more, at most ``count`` rows. How many these were."""
    return connection.execute(_REMOVE_OVER, {"count": count}).rowcount
