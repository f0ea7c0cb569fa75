"""Hashing what storage holds: the proof that bytes are those of their digest (I1, I6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.oci.digest import Digest, new_hasher
from registry.storage.driver import CHUNK_SIZE

if TYPE_CHECKING:
    from registry.storage.driver import ObjectReader, StorageDriver


def hash_reader(reader: ObjectReader, algorithm: str) -> Digest:
    """The digest of everything that ``reader`` still gives, in bounded memory (I9)."""
    hasher = new_hasher(algorithm)
    while chunk := reader.read(CHUNK_SIZE):
        hasher.update(chunk)
    return Digest.from_hasher(hasher)


def is_intact(driver: StorageDriver, key: str, digest: Digest) -> bool:
    """Whether the object ``key`` has the bytes of ``digest``. Raises PathNotFound, StorageError."""
    with driver.open(key) as reader:
        return hash_reader(reader, digest.algorithm) == digest
