"""Moments: times as records and indexes write them, RFC 3339 in UTC with milliseconds, and as the database has them.

Tests: ``tests/oci/test_index.py``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_TEXT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|\+00:00)")

_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def is_moment(text: str) -> bool:
    """Whether ``text`` is RFC 3339 in UTC, by its form."""
    return bool(_TEXT.fullmatch(text))


def to_text(seconds: float) -> str:
    """Seconds since the epoch as text. Less than a millisecond is cut off.

    A time outside the range of dates, as files and indexes of other tools may have, becomes the nearest date.
    """
    return datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC).isoformat(timespec="milliseconds")


def to_seconds(text: str | None) -> float | None:
    """Seconds since the epoch, which ``to_text`` gives back; None if ``text`` is None or no moment."""
    if text is None or not is_moment(text):
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def whole(seconds: float) -> float:
    """``seconds`` without less than a millisecond: ``to_text`` says all of it, so that database and record agree."""
    return round(min(max(seconds, _FIRST), _LAST) * 1_000_000) // 1000 / 1000
