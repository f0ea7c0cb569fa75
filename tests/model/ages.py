"""When what was done last, so far as it decides what a collection may take; in seconds of the registry's clock."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
LEASE = HOUR
GRACE = 2 * HOUR
WINDOW = DAY
"""``gc.undelete_window``."""
UPLOAD_EXPIRY = DAY
UNTAGGED = 3 * HOUR
"""``gc.untagged_after``, in runs that have it."""
PUSHED_WITHIN = 6 * HOUR
"""Of the rule of retention."""
PASSING = (37 * MINUTE, 5 * HOUR, 3 * DAY)
"""How long nothing happens."""
SLACK = 10 * MINUTE
"""For what an example itself takes, and the clock that moves while the registry settles: nothing is expected within."""


@dataclass(frozen=True)
class Removed:
    """A manifest in the trash."""

    at: float
    batch: frozenset[str]
    """What was removed in the same request."""


@dataclass
class Ages:
    """Of all repositories. What never was is long ago."""

    touched: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """When a client was last told that content is here, by digest: a lease is one for all repositories."""
    used: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    """When a manifest, or what it names, was last in use, by repository and digest."""
    tag_changed: dict[tuple[str, str], float] = field(default_factory=dict)
    """When a tag was given another manifest, by repository and tag."""
    tag_set: dict[tuple[str, str], float] = field(default_factory=dict)
    """When it was last set, perhaps to what it was."""
    removed: dict[tuple[str, str], Removed] = field(default_factory=dict)
    """The trash, by repository and digest."""
    sessions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Uploads that are open: the repository, and when the client last went on, by location."""

    def is_leased(self, digest: str, now: float) -> bool:
        """Whether it must stay: a lease is renewed when less than half of it is left."""
        return now - self.touched[digest] < LEASE / 2 - SLACK

    def is_in_grace(self, name: str, digest: str, now: float) -> bool:
        """Whether it was in use until so lately that it must stay."""
        return now - self.used[name, digest] < GRACE - SLACK

    def is_uploading(self, name: str, now: float) -> bool:
        """Whether a client uploads to a repository, which loses nothing then."""
        return any(each == name and now - at < LEASE - SLACK for each, at in self.sessions.values())
