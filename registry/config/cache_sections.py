"""*Cache section* of the settings: directories of this machine in front of a bucket.

Tests: ``tests/config/test_cache_check.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from registry.config.sections import Section
from registry.config.sizes import Size  # noqa: TC001 - pydantic reads it


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


Directory = Annotated[Path | None, BeforeValidator(_none_if_empty)]


class CacheSettings(Section):
    """Directories of this machine that keep what clients read from a bucket."""

    metadata_directory: Directory = None
    """Directory for manifests that are read from the bucket; null or empty: none, and no file is made."""
    blob_directory: Directory = None
    """Directory for blobs that pass through this machine; null or empty: none, and no file is made."""
    max_bytes: Size = 10 << 30
    """Bytes, or text such as "50GiB", of the files of each directory; what was not used for longest goes."""
    write: Literal["through", "behind"] = "through"
    """When a push is answered: through, when the bucket has it; behind, before, which this release refuses."""
    durable: bool = False
    """Whether the directories outlive a restart of the machine, which write behind needs."""
    max_tasks: int = Field(default=0, ge=0)
    """Uploads to the bucket at a time with write behind; 0: one for each core."""
    log_requests: bool = False
    """Log each read of the cache and what it keeps: lines that begin with B, F, E and W."""

    @property
    def is_on(self) -> bool:
        """Whether there is a directory."""
        return self.metadata_directory is not None or self.blob_directory is not None
