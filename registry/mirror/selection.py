"""*Selection*: which repositories of its upstream a mirror mirrors.

Tests: ``tests/mirror/test_manifests.py``, ``tests/mirror/test_tag_lists.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.oci.errors import NameUnknown
from registry.oci.glob import Glob

if TYPE_CHECKING:
    from registry.config.mirror_sections import MirrorSettings
    from registry.mirror.names import MirroredName


class Selection:
    """That of one mirror. Immutable; any thread."""

    def __init__(self, settings: MirrorSettings) -> None:
        self._globs = [Glob(pattern) for pattern in settings.repositories]

    def require(self, name: MirroredName) -> None:
        """Raises NameUnknown where the settings do not mirror it."""
        if not any(glob.matches(name.upstream, {}) for glob in self._globs):
            raise NameUnknown(f"mirror {name.mirror.name}: its settings (repositories) do not mirror {name.upstream}")
