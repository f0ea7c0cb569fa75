"""*Mirror states*: rows of how an upstream does, which all replicas share: its pause, and its failures in a row.

Moments are by the wall clock of the database; one that lies further in the future than any that is written, as after a
clock was set back, is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from registry.database.statement import Statement

if TYPE_CHECKING:
    from registry.database.transaction import Later, Transaction

LONGEST: Final = 3600.0
"""Seconds of the longest pause."""

_FIND = Statement(
    "SELECT paused_until - wall_now(), limits, fails, next_at - wall_now(), remaining, error"
    " FROM mirror_state WHERE mirror = :mirror"
)
_BEGIN = Statement(
    "INSERT INTO mirror_state (mirror, configuration) VALUES (:mirror, :configuration)"
    " ON CONFLICT (mirror) DO UPDATE SET configuration = excluded.configuration, paused_until = 0, limits = 0,"
    " fails = 0, next_at = 0, remaining = NULL, error = NULL, last_error = NULL, failed_at = NULL"
    " WHERE mirror_state.configuration <> excluded.configuration"
)
_IS_PAUSED = "mirror_state.paused_until > wall_now() AND mirror_state.paused_until <= wall_now() + :longest"
_PAUSE = Statement(
    "INSERT INTO mirror_state (mirror, configuration, paused_until, limits, error, last_error, failed_at)"  # noqa: S608 - a constant
    " VALUES (:mirror, '', wall_now() + :seconds, 1, :error, :error, wall_now()) ON CONFLICT (mirror) DO UPDATE SET"
    f" paused_until = CASE WHEN {_IS_PAUSED} THEN greatest(mirror_state.paused_until, excluded.paused_until)"
    " ELSE excluded.paused_until END,"
    f" limits = CASE WHEN {_IS_PAUSED} THEN mirror_state.limits ELSE mirror_state.limits + 1 END,"
    " error = excluded.error, last_error = excluded.last_error, failed_at = excluded.failed_at"
)
_FAIL = Statement(
    "INSERT INTO mirror_state (mirror, configuration, fails, next_at, error, last_error, failed_at)"
    " VALUES (:mirror, '', 1, wall_now() + :seconds, :error, :error, wall_now()) ON CONFLICT (mirror) DO UPDATE SET"
    " fails = mirror_state.fails + 1, next_at = excluded.next_at, error = excluded.error,"
    " last_error = excluded.last_error, failed_at = excluded.failed_at"
)
_NOTE = Statement(
    "UPDATE mirror_state SET last_error = :error, failed_at = wall_now() WHERE mirror = :mirror AND"
    " (last_error IS NULL OR last_error <> :error OR failed_at < wall_now() - :seconds OR failed_at > wall_now())"
)
_DESCRIBE = Statement(
    "SELECT configuration, paused_until - wall_now(), fails, next_at - wall_now(), remaining, last_error, failed_at"
    " FROM mirror_state WHERE mirror = :mirror"
)
_CLAIM = Statement(
    "UPDATE mirror_state SET next_at = wall_now() + :seconds WHERE mirror = :mirror"
    " AND (next_at <= wall_now() OR next_at > wall_now() + :seconds)"
)
_ANSWER = Statement("UPDATE mirror_state SET fails = 0, next_at = 0, error = NULL WHERE mirror = :mirror AND fails > 0")
_END_LIMITS = Statement(
    "UPDATE mirror_state SET limits = 0, error = NULL"  # noqa: S608 - a constant
    f" WHERE mirror = :mirror AND limits > 0 AND NOT ({_IS_PAUSED})"
)
_REMAINING = Statement(
    "UPDATE mirror_state SET remaining = :count WHERE mirror = :mirror AND (remaining IS NULL OR remaining <> :count)"
)


class MirrorStateRow(NamedTuple):
    """How the upstream of a mirror does."""

    pause: float
    """Seconds for which it wants no request; not positive if it wants any."""
    limits: int
    """Pauses in a row without an answer between them."""
    fails: int
    """Requests in a row without an answer."""
    wait: float
    """Seconds until one process may find out whether it answers again; not positive if one may now."""
    remaining: int | None
    """Requests that are left, by its last word; None if it does not say."""
    error: str | None
    """Why the last request failed; None if it did not."""

    @property
    def is_paused(self) -> bool:
        """Whether it wants no request now."""
        return 0 < self.pause <= LONGEST


class DescribedRow(NamedTuple):
    """What operators want to know of an upstream. See MirrorStateRow."""

    configuration: str
    """The settings that it was found out with."""
    pause: float
    fails: int
    wait: float
    remaining: int | None
    error: str | None
    """Why a request failed last; None if none ever did."""
    failed_at: float | None
    """When that was, in seconds since the epoch."""


def begin(connection: Transaction, mirror: str, configuration: str) -> None:
    """Have a row for a mirror with these settings: what was known of it with other ones is forgotten."""
    connection.execute(_BEGIN, {"mirror": mirror, "configuration": configuration})


def find(connection: Transaction, mirror: str) -> Later[MirrorStateRow | None]:
    """How the upstream does; None if nothing was ever noted."""
    return connection.execute(_FIND, {"mirror": mirror}).first_as(MirrorStateRow)


def describe(connection: Transaction, mirror: str) -> Later[DescribedRow | None]:
    """What operators want to know of an upstream; None if nothing was ever noted."""
    return connection.execute(_DESCRIBE, {"mirror": mirror}).first_as(DescribedRow)


def pause(connection: Transaction, mirror: str, *, seconds: float, error: str) -> None:
    """Have no process ask for so long; a pause that ends later stays as it is."""
    values = {"mirror": mirror, "seconds": float(min(seconds, LONGEST)), "longest": LONGEST, "error": error}
    connection.execute(_PAUSE, values)


def fail(connection: Transaction, mirror: str, *, seconds: float, error: str) -> None:
    """Note a request without an answer; the next ``claim`` is good after so long."""
    connection.execute(_FAIL, {"mirror": mirror, "seconds": float(seconds), "error": error})


def note(connection: Transaction, mirror: str, *, error: str, seconds: float) -> None:
    """Note an answer that was of no use; the same one not before ``seconds``."""
    connection.execute(_NOTE, {"mirror": mirror, "error": error, "seconds": float(seconds)})


def claim(connection: Transaction, mirror: str, *, seconds: float) -> bool:
    """Be the one request in so many seconds, over all processes, of an upstream that fails. False if another one is."""
    return bool(connection.execute(_CLAIM, {"mirror": mirror, "seconds": float(seconds)}).rowcount)


def answer(connection: Transaction, mirror: str) -> None:
    """Note an answer: failures are over, and so are limits, but a pause goes on to its end."""
    connection.execute(_ANSWER, {"mirror": mirror})
    connection.execute(_END_LIMITS, {"mirror": mirror, "longest": LONGEST})


def set_remaining(connection: Transaction, mirror: str, count: int) -> None:
    """Note how many requests are left, by the upstream's word."""
    connection.execute(_REMAINING, {"mirror": mirror, "count": count})
