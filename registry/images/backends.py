"""Backends: storage and database, on which everything in this package works, and the policy that it keeps.

Tests: ``tests/images/test_write_gate.py``.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registry.images.index_file import IndexFile
from registry.images.keyed_locks import KeyedLocks
from registry.images.layout import Layout
from registry.images.omissions import Omissions
from registry.images.repository_memory import RepositoryMemory
from registry.oci.immutable_tags import ImmutableTags

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.engine import Database
    from registry.storage.driver import StorageDriver


MAX_MANIFEST = 8 << 20
"""Bytes of the largest manifest that is read from storage, however small those are that clients may push."""


def holder_name() -> str:
    """The name of this process as a holder of leases."""
    return f"{os.uname().nodename}:{os.getpid()}:{threading.get_native_id()}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration decides about content."""

    lease: float = 3600.0
    """Seconds that a blob is safe from collection after a client was told that it is here (I7)."""
    dedupe: bool = True
    """Share the bytes of a blob between repositories, where each has its own blobs."""
    delete: bool = True
    """Clients may delete."""
    manifest_bytes: int = MAX_MANIFEST
    """Bytes of the largest manifest that clients may push."""
    accept_missing_blobs: bool = False
    accept_missing_manifests: bool = False
    immutable: ImmutableTags = field(default_factory=ImmutableTags)
    """Tags that stay what they are."""
    upload_expiry: float = 86400.0
    """Seconds after which an upload that no client continued goes."""
    uploads: int = 20_000
    """Upload sessions that may be open."""
    uploads_per_address: int = 5_000
    """Upload sessions that one address may have open."""


@dataclass(frozen=True)
class Backends:
    """Storage and database, with what is needed to use them together."""

    driver: StorageDriver
    database: Database
    policy: Policy = field(default_factory=Policy)
    clock: Callable[[], float] = time.time
    """Seconds since the epoch."""
    holder: str = field(default_factory=holder_name)
    """The name under which this process holds leases."""

    index_locks: KeyedLocks = field(default_factory=KeyedLocks)
    """By repository: no other thread looks at an index between its write and the note of it in the row."""
    memory: RepositoryMemory = field(default_factory=RepositoryMemory)
    """What this process remembers of each repository."""
    omissions: Omissions = field(default_factory=Omissions)
    """What this process has found on storage that it does not serve."""

    @property
    def layout(self) -> Layout:
        """The keys of this store."""
        return self._layout

    @property
    def index_file(self) -> IndexFile:
        """The ``index.json`` of each repository of this store."""
        return self._index_file

    def __post_init__(self) -> None:
        object.__setattr__(self, "_layout", Layout(self.driver.capabilities))
        object.__setattr__(self, "_index_file", IndexFile(self.driver))

    _layout: Layout = field(init=False, repr=False)
    _index_file: IndexFile = field(init=False, repr=False)
