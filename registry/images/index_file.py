"""Index file: the ``index.json`` of a repository on storage, and the marker beside it that makes an image layout."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from registry.images.layout import Layout
from registry.oci.errors import ManifestInvalid
from registry.oci.index import LAYOUT_FILE, Index, Owner
from registry.storage.errors import AlreadyExists, ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from registry.storage.driver import ObjectStat, StorageDriver

MAX_INDEX = 1 << 30
"""Bytes of the largest ``index.json`` that is read."""


class IndexFile:
    """The index files of one store, by repository. Any thread. Every method raises StorageError."""

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver

    def read(self, repository: str) -> tuple[bytes, ObjectStat]:
        """The bytes. Raises PathNotFound if there is no index, ObjectTooLarge for one above MAX_INDEX."""
        return self._driver.read(Layout.index(repository), max_bytes=MAX_INDEX)

    def etag(self, repository: str) -> str:
        """The etag of the index; "" if there is none."""
        try:
            return self._driver.stat(Layout.index(repository)).etag
        except PathNotFound:
            return ""

    def owner(self, repository: str) -> Owner:
        """Whose index is there; EMPTY if there is none."""
        try:
            data, _ = self.read(repository)
        except PathNotFound:
            return Owner.EMPTY
        except ObjectTooLarge:
            return Owner.FOREIGN
        return owner_of(data)

    def write(self, repository: str, data: bytes, etag: str) -> str:
        """Replace the index that has ``etag``; "" creates one, with its marker. Returns the new etag.

        Raises PreconditionFailed or AlreadyExists if there is another index by now.
        """
        if etag:
            return self._driver.write(Layout.index(repository), data, if_etag=etag).etag
        self.create_marker(repository)
        return self._driver.write(Layout.index(repository), data, if_absent=True).etag

    def create(self, repository: str) -> str:
        """Make an empty image layout, unless there is an index. Returns its etag; "" if there was one."""
        try:
            return self.write(repository, Index.empty().serialise(), "")
        except AlreadyExists:
            return ""

    def create_marker(self, repository: str) -> None:
        """Make the file ``oci-layout``, unless it is there."""
        with contextlib.suppress(AlreadyExists):
            self._driver.write(Layout.marker(repository), LAYOUT_FILE, if_absent=True)


def owner_of(data: bytes) -> Owner:
    """Whose index ``data`` is; bytes that are no index are FOREIGN, so that they are kept."""
    try:
        return Index.parse(data).owner
    except ManifestInvalid:
        return Owner.FOREIGN
