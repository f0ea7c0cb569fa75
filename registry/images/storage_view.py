"""What storage says of one repository: its index, the records after it, and the manifests that the database lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from registry.images.several import map_several
from registry.oci.digest import Digest
from registry.oci.errors import ManifestInvalid
from registry.oci.index import Index
from registry.oci.manifest import parse_manifest
from registry.oci.record import Record
from registry.storage.errors import ObjectTooLarge, PathNotFound

if TYPE_CHECKING:
    from collections.abc import Container

    from registry.images.journal import Journal
    from registry.images.stores import Stores
    from registry.oci.descriptor import Descriptor
    from registry.oci.manifest import Manifest

MAX_INDEX = 1 << 30
"""Bytes of the largest ``index.json`` that is read."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class View:
    """What storage says of a repository at one moment."""

    index: Index
    """As it is on storage, until the records are applied."""
    signature: str
    folded: int
    """The last record that the writer of ``index.json`` had seen."""
    records: dict[int, bytes]
    """Those after ``folded``."""
    manifests: dict[Digest, tuple[Manifest, int]] = field(default_factory=dict)
    """Read and verified: (manifest, size)."""

    @property
    def last(self) -> int:
        """The highest sequence number that storage knows."""
        return max(self.records, default=self.folded)


class StorageReader:
    """Reads views. Any thread."""

    def __init__(self, stores: Stores, journal: Journal) -> None:
        self._stores = stores
        self._journal = journal

    def read(self, name: str) -> View | None:
        """The view without its manifests; None when there is no index. Raises StorageError, ManifestInvalid."""
        try:
            data, stat = self._stores.driver.read(self._stores.layout.index(name), max_bytes=MAX_INDEX)
        except PathNotFound:
            return None
        index = Index.parse(data)
        return View(index, stat.signature, index.folded, self._journal.after(name, index.folded))

    def load_manifests(self, name: str, known: Container[str], view: View) -> None:
        """Read, hash and parse every manifest that the database does not know, and the children of indexes."""
        named = view.index.manifests()
        for line in view.records.values():
            record = Record.parse(line)
            if record.descriptor is not None:
                named[record.descriptor.digest] = record.descriptor
            elif record.digest is not None:
                named.pop(record.digest, None)
        waiting = {digest: descriptor for digest, descriptor in named.items() if digest not in known}
        seen: set[Digest] = set()
        while waiting:
            seen.update(waiting)
            level, waiting = list(waiting.values()), {}
            found = map_several(self._stores.driver.capabilities, partial(self._load, name), level)
            for descriptor, loaded in zip(level, found, strict=True):
                if loaded is None:
                    continue
                view.manifests[descriptor.digest] = loaded
                for child in loaded[0].children():
                    if child.digest not in seen and child.digest not in known:
                        waiting[child.digest] = child

    def _load(self, name: str, descriptor: Descriptor) -> tuple[Manifest, int] | None:
        key = self._stores.layout.blob(name, descriptor.digest)
        try:
            body, _ = self._stores.driver.read(key, max_bytes=max(self._stores.rules.manifest_bytes, 8 << 20))
            return _verified_manifest(body, descriptor), len(body)
        except PathNotFound:
            return None  # sparse content, or named by a tool that has not written it yet
        except (ManifestInvalid, ObjectTooLarge) as error:
            log.warning("a manifest was left out", repository=name, digest=descriptor.digest, reason=str(error))
            return None


def _verified_manifest(body: bytes, descriptor: Descriptor) -> Manifest:
    """The manifest that ``descriptor`` names. Raises ManifestInvalid when the bytes are others, or are none."""
    if Digest.of(body, descriptor.digest.algorithm) != descriptor.digest:
        raise ManifestInvalid("its bytes are not those of its digest")
    return parse_manifest(body, descriptor.media_type)
