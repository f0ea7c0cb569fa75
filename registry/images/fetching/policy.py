"""*Policy* of fetches: how many there are, and how long they wait for what.

Tests: ``tests/images/fetching/test_hub.py``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Times are in seconds."""

    fetches: int = 8
    """Fetches that a process leads at once for each mirror; each has a thread."""
    ring: int = 4 << 20
    """Bytes of each fetch that are kept in memory for clients that keep up."""
    lease: float = 15.0
    """How long a leader may be silent before another process leads."""
    renewal: float = 5.0
    """Between two renewals of leases."""
    poll: float = 0.2
    """Between two looks at the fetches that other processes lead."""
    flush: float = 0.5
    """Between two moments at which other processes can read what has come."""
    flush_bytes: int = 8 << 20
    """Bytes after which they can, where a store has no parts."""
    pause: float = 10.0
    """After a failure of the upstream that says nothing of time; doubled with each that follows."""
    longest_pause: float = 300.0
    throttled: float = 60.0
    """As ``pause``, where the upstream wants fewer requests."""
    longest_throttled: float = 900.0
    negative: float = 60.0
    """How long an upstream is not asked again for what it does not have, or has with wrong bytes."""
    follow_timeout: float = 20.0
    """How long a client waits for another process where its bytes cannot be read before the end."""
    ahead: int = 64 << 20
    """Bytes beyond what has come, from which on a range is not waited for."""
    passings: int = 8
    """Clients of each mirror that have bytes beside a fetch at a time; further ones wait for it."""
    silence: float = 30.0
    """How long the database may be silent before clients that follow other processes are cut."""
    ending: float = 5.0
    """How long a process that ends waits for leaders which are at the store, or connect to an upstream."""
    expiry: float = 3600.0
    """How long the bytes of a fetch stay that no process goes on with."""
    fills: bool = True
    """A fetch goes on when its last client has left."""
