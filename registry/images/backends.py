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
from registry.oci.quotas import Quotas

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

    lease: float = 86400.0
    """Seconds that content is safe from collection after a client was told that it is here (I7)."""
    grace: float = 86400.0
    """Seconds that content is safe from collection after it has fallen out of use (I14)."""
    undelete_window: float = 1209600.0
    """Seconds for which what was deleted can be restored."""
    dedupe: bool = True
    """Share the bytes of a blob between repositories, where each has its own blobs."""
    delete: bool = True
    """Clients may delete."""
    manifest_bytes: int = MAX_MANIFEST
    """Bytes of the largest manifest that clients may push."""
    accept_missing_blobs: bool = False
    accept_missing_manifests: bool = False
    mirrored: frozenset[str] = frozenset()
    """What the names of mirrored repositories begin with, before a slash: there everything that is named may be missing
    until a client asks for it."""
    immutable: ImmutableTags = field(default_factory=ImmutableTags)
    """Tags that stay what they are."""
    quotas: Quotas = field(default_factory=Quotas)
    """How many bytes groups of repositories may have."""
    pull_interval: float = 3600.0
    """Seconds for which further pulls of a manifest are not written down."""
    claim: float = 60.0
    """Seconds for which a deleter has a blob for itself; with half of it gone it does not begin any more (I7)."""
    unclear: float = 900.0
    """Seconds after a claim in which a store may still carry out a delete whose answer was not seen."""
    tombstone: float = 86400.0
    """Seconds for which the row of a blob stays whose object was deleted; what was read of it counts half as long."""
    upload_expiry: float = 86400.0
    """Seconds after which an upload that no client continued goes."""
    uploads: int = 20_000
    """Upload sessions that may be open."""
    uploads_per_address: int = 5_000
    """Upload sessions that one address may have open."""

    def may_lack_blobs(self, repository: str) -> bool:
        """Whether manifests of a repository are accepted that name blobs which it lacks."""
        return self.accept_missing_blobs or self.is_mirrored(repository)

    def may_lack_manifests(self, repository: str) -> bool:
        """Whether indexes of a repository are accepted that name manifests which it lacks."""
        return self.accept_missing_manifests or self.is_mirrored(repository)

    def is_mirrored(self, repository: str) -> bool:
        """Whether the content of a repository comes from an upstream."""
        return any(repository.startswith(f"{prefix}/") for prefix in self.mirrored)

    def is_lease_due(self, left: float) -> bool:
        """Whether of a lease less than half is left, so that it is renewed before a client is told of the content."""
        return self.lease > 0 and left < self.lease / 2


@dataclass(frozen=True)
class Backends:
    """Storage and database, with what is needed to use them together."""

    driver: StorageDriver
    database: Database
    policy: Policy = field(default_factory=Policy)
    clock: Callable[[], float] = time.time
    """Seconds since the epoch, by the clock of the database."""
    holder: str = field(default_factory=holder_name)
    """The name under which this process holds leases."""

    index_locks: KeyedLocks = field(default_factory=KeyedLocks)
    """By repository: no other thread looks at an index between its write and the note of it in the row."""
    memory: RepositoryMemory = field(default_factory=RepositoryMemory)
    """What this process remembers of each repository."""
    omissions: Omissions = field(default_factory=Omissions)
    """What this process has found on storage that it does not serve."""

    layout: Layout = field(init=False, repr=False)
    """The keys of this store."""
    index_file: IndexFile = field(init=False, repr=False)
    """The ``index.json`` of each repository of this store."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", Layout(self.driver.capabilities))
        object.__setattr__(self, "index_file", IndexFile(self.driver))
