"""New blob: what is to become a member of a repository, with the rows that come with it.

Tests: ``tests/images/publication/test_blob_publication.py``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.database.blob_locations import LocationRow
    from registry.database.blobs import BlobRow
    from registry.database.repositories import RepositoryRow
    from registry.database.transaction import Transaction
    from registry.images.blob_locations import Location
    from registry.images.records.journal import PendingChange
    from registry.oci.digest import Digest
    from registry.storage.driver import ObjectStat

    class Put(Protocol):
        """Puts the verified bytes at a key, durably and atomically; can be repeated.

        Unless ``replace``, an object of the same size that is there may be taken for these bytes.
        """

        def __call__(self, key: str, *, replace: bool) -> ObjectStat:
            """Raises StorageError."""
            ...

    Write = Callable[[int], PendingChange | None]
    """Writes more rows, given the blob's id; returns what is to be recorded. Raises what makes the whole undone."""
    Commit = Callable[[Transaction, "Keep"], Write]
    """More rows of the same transaction: asks for what they depend on, and waits for nothing."""


class Look(NamedTuple):
    """What the rows said of a blob and of the location where a repository has it."""

    blob: BlobRow | None
    location: LocationRow | None
    at: float
    """When they were asked, by this machine's ``clocks.boot``."""


class Keep(enum.Enum):
    """How a transaction keeps the row of the repository."""

    HELD = "held"
    """It stays, and other transactions may change it."""
    LOCKED = "locked"
    """No other changes it: what is decided depends on rows of the repository."""
    ALONE = "alone"
    """Nor does one that holds it go on: what is decided depends on blobs that the repository lacks."""


class KeepMore(Exception):
    """What a transaction found has to be decided with the repository kept otherwise; nothing was written."""

    def __init__(self, keep: Keep) -> None:
        super().__init__(keep)
        self.keep = keep


@dataclass(frozen=True, slots=True)
class NewBlob:
    """What is to become a member of a repository."""

    repository: RepositoryRow
    digest: Digest
    size: int
    """Bytes."""
    put: Put
    """Is called if the bytes are not in place already; raises PathNotFound if it has none."""
    commit: Commit | None = None
    """More rows of the transaction."""
    keep: Keep = Keep.HELD
    """How ``commit`` needs the repository; it may raise KeepMore, and is called again then. HELD for all but manifests,
    which say by themselves what came that was withheld."""
    source: Location | None = None
    """Where ``put`` takes bytes from that may be unverified; where repositories share locations, it is shared."""
    under_quota: bool = False
    """It is refused where a quota has no room for it. What is there already, and manifests, only count."""
    session: str = ""
    """The id of the upload session whose bytes these are."""

    @property
    def is_plain(self) -> bool:
        """It is no manifest: that it came may have to be recorded, since a manifest may name it that lacked it."""
        return self.keep is Keep.HELD
