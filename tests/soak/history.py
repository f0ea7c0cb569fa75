"""What clients tried and what was acknowledged, so that afterwards every state can be judged possible or not."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.payloads import Blob, Manifest


@dataclass(eq=False)
class Attempt:
    """One push of a manifest under one tag. Times are of the monotonic clock."""

    repository: str
    tag: str
    manifest: Manifest
    blobs: tuple[Blob, ...]
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    acknowledged: bool = False
    deletion_tried: bool = False
    """The client went on to delete it; only done with tags that no other client uses."""
    deletion_acknowledged: bool = False
    manifest_deleted: bool = False
    """And it was the manifest, not only the tag."""


class History:
    """Every attempt of every client. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attempts: dict[tuple[str, str], list[Attempt]] = defaultdict(list)

    def begin(self, repository: str, tag: str, manifest: Manifest, blobs: tuple[Blob, ...]) -> Attempt:
        """To be called before the manifest is sent."""
        attempt = Attempt(repository, tag, manifest, blobs)
        with self._lock:
            self._attempts[repository, tag].append(attempt)
        return attempt

    def end(self, attempt: Attempt, *, acknowledged: bool) -> None:
        """To be called with the answer, or with the end of the connection."""
        with self._lock:
            attempt.ended, attempt.acknowledged = time.monotonic(), acknowledged

    def acknowledged(self) -> list[Attempt]:
        """Every attempt that was answered with 201, and that no client has tried to take back."""
        return [attempt for attempt in self._all() if attempt.acknowledged and not attempt.deletion_tried]

    def deleted(self) -> list[Attempt]:
        """Every attempt whose deletion was answered with 202."""
        return [attempt for attempt in self._all() if attempt.deletion_acknowledged]

    def tags(self) -> Iterator[tuple[str, str, set[str], bool]]:
        """(repository, tag, digests that it may point at, whether it must be there) for every tag that was tried."""
        with self._lock:
            for (repository, tag), attempts in self._attempts.items():
                possible = {attempt.manifest.digest for attempt in attempts if _may_be_last(attempt, attempts)}
                if any(attempt.deletion_acknowledged for attempt in attempts):
                    possible = set()
                tried = any(attempt.deletion_tried for attempt in attempts)
                yield repository, tag, possible, not tried and any(attempt.acknowledged for attempt in attempts)

    def _all(self) -> list[Attempt]:
        with self._lock:
            return [attempt for attempts in self._attempts.values() for attempt in attempts]


def _may_be_last(attempt: Attempt, attempts: list[Attempt]) -> bool:
    """No other was acknowledged that began only after this one had ended, with an answer or without."""
    return attempt.ended is None or not any(
        other.acknowledged and other.began > attempt.ended for other in attempts if other is not attempt
    )
