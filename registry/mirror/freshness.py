"""*Freshness* of tags: when the upstream is asked, and how old what is served may be."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from registry.database.mirrors.mirror_tags import MirrorTagRow

_LONGEST: Final = 300.0


class Verdict(enum.Enum):
    """What becomes of a request for a tag that is here."""

    FRESH = "fresh"
    """It is served as what the upstream has."""
    STALE = "stale"
    """It is served as what the upstream had: another process asks, or it is too early to ask again."""
    ASK = "ask"
    """The upstream is asked whether it is still that."""


def judge(row: MirrorTagRow, *, ttl: float, is_fixed: bool, is_offline: bool) -> Verdict:
    """``is_fixed``: the tag never changes. An age below 0 is that of a clock which was set back, and counts as none."""
    if is_fixed or (row.age is not None and 0 <= row.age < ttl and not row.is_gone):
        return Verdict.FRESH
    return Verdict.ASK if row.may_ask and not is_offline else Verdict.STALE


def age_of(row: MirrorTagRow) -> float:
    """Seconds since the tag was last known to be that; since it was set here where nothing else is known."""
    return row.age if row.age is not None and row.age >= 0 else max(row.age_here, 0.0)


def headers_of(source: str, age: float | None, *, is_stale: bool) -> dict[str, str]:
    """The headers that say how old an answer is (RFC 9111, section 5.1; RFC 7234, section 5.5.1)."""
    headers = {"X-Artifact-Source": source}
    if age is not None:
        headers["Age"] = str(int(age))
    if is_stale:
        headers["Warning"] = '110 - "Response is Stale"'
    return headers


def backoff(fails: int) -> float:
    """Seconds until the next request after one without an answer; ``fails`` came in a row before it."""
    return min(float(2 ** min(fails, 10)), _LONGEST)
