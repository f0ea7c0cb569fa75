"""What the original said of a repository when it was last taken: ``.original.json`` (proposal 0005)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from registry.images.journal_document import VERSION, flag, number, text, understanding, versioned
from registry.oci.digest import Digest


class IndexAt(NamedTuple):
    """An ``index.json`` of the original, in one version."""

    key: str
    signature: str


class Named(NamedTuple):
    """What the original said of a manifest."""

    media_type: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Base:
    """What the original said of a repository when we last took it."""

    name: str
    prefix: str
    """What stands before the name in the original's keys; empty for none."""
    index: IndexAt | None
    """None where the layout has no indexes."""
    fingerprint: str
    """Of the repository's keys in the listing, its index left out; empty where the original has more than is said."""
    overwritten: bool
    """Our index is written over the original's key, whose bytes are kept in the journal."""
    tags: dict[str, Digest] = field(hash=False)
    manifests: dict[Digest, Named] = field(hash=False)

    def serialise(self) -> bytes:
        """The content of an ``.original.json``."""
        document = {
            "version": VERSION,
            "name": self.name,
            "prefix": self.prefix,
            "index": None if self.index is None else {"key": self.index.key, "signature": self.index.signature},
            "fingerprint": self.fingerprint,
            "overwritten": self.overwritten,
            "tags": {tag: str(digest) for tag, digest in sorted(self.tags.items())},
            "manifests": {
                str(digest): {"mediaType": named.media_type, "size": named.size}
                for digest, named in sorted(self.manifests.items())
            },
        }
        return orjson.dumps(document)

    @classmethod
    def parse(cls, data: bytes, key: str = "") -> Base:
        """Read an ``.original.json``. Raises UnknownJournal."""
        with understanding(key):
            document = versioned(data)
            index = document["index"]
            return cls(
                name=text(document["name"]),
                prefix=text(document["prefix"]),
                index=None if index is None else IndexAt(text(index["key"]), text(index["signature"])),
                fingerprint=text(document["fingerprint"]),
                overwritten=flag(document["overwritten"]),
                tags={text(tag): Digest.parse(text(digest)) for tag, digest in document["tags"].items()},
                manifests={
                    Digest.parse(text(digest)): Named(text(said["mediaType"]), number(said["size"]))
                    for digest, said in document["manifests"].items()
                },
            )
