"""Verification: the bytes of an object, hashed before they are served or while they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.oci.digest import Digest, new_hasher
from registry.storage.driver import CHUNK_SIZE
from registry.storage.errors import StorageError
from registry.storage.wrapped_reader import WrappedReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry.storage.driver import ObjectReader, StorageDriver


def hash_reader(reader: ObjectReader, algorithm: str) -> Digest:
    """The digest of everything that ``reader`` still gives, in bounded memory (I9)."""
    hasher = new_hasher(algorithm)
    while chunk := reader.read(CHUNK_SIZE):
        hasher.update(chunk)
    return Digest.from_hasher(hasher)


def hash_object(driver: StorageDriver, key: str, digest: Digest) -> str | None:
    """The etag of the object ``key`` if its bytes are those of ``digest``, else None.

    Raises PathNotFound, StorageError.
    """
    with driver.open(key) as reader:
        return reader.stat.etag if hash_reader(reader, digest.algorithm) == digest else None


class WrongBytes(StorageError):
    """An object has other bytes than its name says; its last bytes were kept back."""


class VerifyingReader(WrappedReader):
    """Reads a whole object (see ObjectReader), and gives its last bytes only when all of them are known to be right."""

    def __init__(self, inner: ObjectReader, digest: Digest, on_end: Callable[[bool], None]) -> None:
        """``on_end`` hears, once, whether the bytes are those of ``digest``."""
        super().__init__(inner)
        self._digest = digest
        self._on_end = on_end
        self._hasher = new_hasher(digest.algorithm)
        self._left = inner.stat.size

    def read(self, size: int) -> bytes:
        """See ObjectReader. Raises WrongBytes in place of the last bytes when these are not the right ones."""
        data = self._inner.read(size)
        if not data:
            return data
        self._hasher.update(data)
        self._left -= len(data)
        if self._left == 0:
            right = Digest.from_hasher(self._hasher) == self._digest
            self._on_end(right)
            if not right:
                raise WrongBytes(self._digest, "the object has other bytes than its name says")
        return data
