"""*Mirrored manifest*: a manifest of a mirror with what clients are told of where it came from.

Tests: ``tests/mirror/test_manifests.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from registry.mirror.freshness import headers_of

if TYPE_CHECKING:
    from registry.images.manifest_store import FoundManifest

FOR_EVER: Final = float("inf")


class MirroredManifest(NamedTuple):
    """What is served."""

    found: FoundManifest
    source: Literal["remote", "cache"]
    """Whether the upstream has just sent it, or it was here."""
    age: float | None = None
    """Seconds since the upstream last said that the tag is this; None for what was asked for by its digest."""
    is_stale: bool = False
    """The upstream could not be asked whether it is still that, or has it no more."""
    fresh_for: float = 0.0
    """Seconds for which memory may give this answer."""

    def kept_headers(self) -> dict[str, str]:
        """The same for an answer that is kept: it comes from here, and its age grows."""
        return {"X-Artifact-Source": "cache"}

    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        return headers_of(self.source, self.age, is_stale=self.is_stale)
