"""*Mirrored manifest*: a manifest of a mirror with what clients are told of where it came from.

Tests: ``tests/mirror/test_manifests.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

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

    def headers(self) -> dict[str, str]:
        """The headers that say so (RFC 9111, section 5.1; RFC 7234, section 5.5.1)."""
        headers: dict[str, str] = {"X-Artifact-Source": self.source}
        if self.age is not None:
            headers["Age"] = str(int(self.age))
        if self.is_stale:
            headers["Warning"] = '110 - "Response is Stale"'
        return headers
