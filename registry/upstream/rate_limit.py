"""*Rate limit*: what an upstream says about how often it may be asked, and how long a mirror then waits."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST: Final = 3600.0
"""Seconds that an upstream is left alone at most, whatever it says: then a request finds out."""
_FIRST, _LAST = 60.0, 900.0
_REMAINING: Final = re.compile(r"\s*(\d{1,12})\s*(?:;|$)", re.ASCII)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks for (Retry-After: seconds or a date), None if it has no such header that makes sense.

    A date is compared with that of the answer, and with ``now`` (seconds since the epoch) where it has none: the
    clocks of two machines differ.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:12]), LONGEST)
    until = _time_of(value)
    if until is None:
        return None
    sent = _time_of(headers.get("Date", ""))
    return min(max(until - (now if sent is None else sent), 0.0), LONGEST)


def remaining(headers: Mapping[str, str]) -> int | None:
    """Requests that are left in this window (``ratelimit-remaining: 76;w=21600``); None if the answer does not say."""
    found = _REMAINING.match(headers.get("RateLimit-Remaining", ""))
    return int(found[1]) if found is not None else None


def pause_after(fails: int, seconds: float | None) -> float:
    """Seconds for which an upstream that limits is not asked: what it says, else a minute, doubled to 15.

    ``fails`` counts the limited answers in a row before this one.
    """
    if seconds is not None:
        return min(max(seconds, 1.0), LONGEST)
    return float(min(_FIRST * 2 ** min(fails, 10), _LAST))


def _time_of(value: str) -> float | None:
    try:
        time = parsedate_to_datetime(value)
        return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
