"""*Status* of the tier: what the directories of the settings hold.

Tests: ``tests/cli/test_cache.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from registry.storage.middleware.tiered.budget import Budget, Contents

if TYPE_CHECKING:
    from pathlib import Path

    from registry.config.cache_sections import CacheSettings
    from registry.storage.middleware.tiered.observer import Tier


class TierStatus(NamedTuple):
    """What one directory holds."""

    tier: Tier
    directory: Path
    max_bytes: int
    contents: Contents | None
    """None if it cannot be read."""
    problem: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        contents = self.contents._asdict() if self.contents is not None else {}
        return {
            "tier": self.tier,
            "directory": str(self.directory),
            "max_bytes": self.max_bytes,
            **contents,
            **({"problem": self.problem} if self.problem is not None else {}),
        }


def status_of(cache: CacheSettings) -> list[TierStatus]:
    """Count the files of each directory that there is to be. Nothing is made or changed."""
    return [_status(tier, path, cache.max_bytes) for tier, path in _directories(cache) if path is not None]


def _directories(cache: CacheSettings) -> list[tuple[Tier, Path | None]]:
    return [("blob", cache.blob_directory), ("metadata", cache.metadata_directory)]


def _status(tier: Tier, path: Path, max_bytes: int) -> TierStatus:
    try:
        return TierStatus(tier, path, max_bytes, Budget(path, max_bytes).contents())
    except OSError as error:
        return TierStatus(tier, path, max_bytes, None, error.strerror or str(error))
