"""Documents: the lines and files of a migration's journal, as values.

Tests: ``tests/images/migration_journal/test_reader.py``.
"""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_LOCATIONS: Final = 3
"""Places that a line of blobs names at most."""


class SourceLocation(NamedTuple):
    """An object of the source registry with the bytes of a blob."""

    key: str
    etag: str
    verified: bool
    """We have hashed the object with this etag."""


class ShardEntry(NamedTuple):
    """Where a blob is: at most MAX_LOCATIONS locations of the source, by key."""

    digest: Digest
    size: int
    """Bytes."""
    locations: tuple[SourceLocation, ...]
    copy: str | None = None
    """The etag of our verified copy at ``storage/blobs/``, if there is one."""

    def serialise(self) -> bytes:
        """One line of a shard, line feed included."""
        document = {
            "digest": str(self.digest),
            "size": self.size,
            "at": [{"key": at.key, "signature": at.etag, "verified": at.verified} for at in self.locations],
            "copy": None if self.copy is None else {"signature": self.copy},
        }
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def parse(cls, line: bytes, key: str = "") -> ShardEntry:
        """Read a line of a shard. Raises UnknownJournal."""
        with understanding(key):
            document = orjson.loads(line)
            copy = document["copy"]
            return cls(
                Digest.parse(text(document["digest"])),
                number(document["size"]),
                tuple(
                    SourceLocation(text(at["key"]), text(at["signature"]), verified=flag(at["verified"]))
                    for at in document["at"]
                ),
                None if copy is None else text(copy["signature"]),
            )


def shard_of(digest: Digest) -> str:
    """The name of the shard that a blob is in: ``sha256-ab``."""
    return f"{digest.algorithm}-{digest.encoded[:2]}"


def serialise_shard(lines: Iterable[ShardEntry]) -> bytes:
    """The content of a shard: one line for each digest, sorted."""
    return b"".join(line.serialise() for line in sorted(lines))


class Phase(enum.StrEnum):
    """How far a migration is."""

    ADOPTING = "adopting"
    ADOPTED = "adopted"
    CONSOLIDATED = "consolidated"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    FINALIZING = "finalizing"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Why no change may commit, and from when on."""

    since: str
    """RFC 3339 in UTC."""
    reason: str
    """For clients."""


@dataclass(frozen=True, slots=True)
class MigrationState:
    """What ``state.json`` of a migration says."""

    id: str
    """``0001``, ``0002``, ..."""
    revision: int
    """Raised by one with each write of it."""
    state: Phase
    layout: str
    """The kind of the source layout."""
    prefixes: tuple[str, ...]
    """Below which no repository of ours may be."""
    passes: int
    began: str
    changed: str
    """RFC 3339 in UTC, as ``began``."""
    writer: str
    """The process that wrote it: host, process id, and a number by chance."""
    read_only: ReadOnly | None = None
    counts: dict[str, int] = field(default_factory=dict, hash=False)

    def serialise(self) -> bytes:
        """The content of ``state.json``."""
        read_only = self.read_only
        document = {
            "version": VERSION,
            "id": self.id,
            "revision": self.revision,
            "state": self.state,
            "layout": self.layout,
            "prefixes": list(self.prefixes),
            "passes": self.passes,
            "began": self.began,
            "changed": self.changed,
            "writer": self.writer,
            "read_only": None if read_only is None else {"since": read_only.since, "reason": read_only.reason},
            "counts": self.counts,
        }
        return orjson.dumps(document)

    @classmethod
    def parse(cls, data: bytes, key: str = "") -> MigrationState:
        """Read a ``state.json``; ``key`` names it in messages. Raises UnknownJournal."""
        with understanding(key):
            document = versioned(data)
            shut = document["read_only"]
            return cls(
                id=text(document["id"]),
                revision=number(document["revision"]),
                state=Phase(document["state"]),
                layout=text(document["layout"]),
                prefixes=tuple(text(prefix) for prefix in document["prefixes"]),
                passes=number(document["passes"]),
                began=text(document["began"]),
                changed=text(document["changed"]),
                writer=text(document["writer"]),
                read_only=None if shut is None else ReadOnly(text(shut["since"]), text(shut["reason"])),
                counts={text(name): number(count) for name, count in document["counts"].items()},
            )


class IndexAt(NamedTuple):
    """An ``index.json`` of the source registry, in one version."""

    key: str
    etag: str


class ManifestInfo(NamedTuple):
    """What the source registry said of a manifest."""

    media_type: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the source registry said of a repository when we last took it."""

    name: str
    prefix: str
    """What stands before the name in the source's keys; empty for none."""
    index: IndexAt | None
    """None where the layout has no indexes."""
    fingerprint: str
    """That of the repository's keys in the listing without its index; empty if the source has more than is said."""
    overwritten: bool
    """Our index is written over the source's key, whose bytes are kept in the journal."""
    tags: dict[str, Digest] = field(hash=False)
    manifests: dict[Digest, ManifestInfo] = field(hash=False)

    def serialise(self) -> bytes:
        """The content of an ``.original.json``."""
        document = {
            "version": VERSION,
            "name": self.name,
            "prefix": self.prefix,
            "index": None if self.index is None else {"key": self.index.key, "signature": self.index.etag},
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
    def parse(cls, data: bytes, key: str = "") -> Baseline:
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
                    Digest.parse(text(digest)): ManifestInfo(text(said["mediaType"]), number(said["size"]))
                    for digest, said in document["manifests"].items()
                },
            )


VERSION: Final = 1
"""The version of the formats; another one is not understood."""


class UnknownJournal(StorageError):
    """The journal is of a later release, or damaged: nothing may be done that could contradict it."""


@contextlib.contextmanager
def understanding(key: str) -> Iterator[None]:
    """For a block that reads what is at ``key``. Raises UnknownJournal for every value that it did not expect."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RegistryError) as error:
        raise UnknownJournal(key, f"is of a later release, or damaged: {error!r}") from error


def versioned(data: bytes) -> dict[str, Any]:
    """The document, which has a version that is understood. Raises ValueError, KeyError."""
    document: dict[str, Any] = orjson.loads(data)
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}")
    return document


def text(value: object) -> str:
    """A value that is text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.80}")  # noqa: TRY004 - one kind of error for a damaged document
    return value


def number(value: object) -> int:
    """A value that is a whole number. Raises ValueError."""
    if type(value) is not int:  # bool is a subclass of int
        raise ValueError(f"not a number: {value!r:.80}")
    return value


def flag(value: object) -> bool:
    """A value that is true or false. Raises ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"not a flag: {value!r:.80}")  # noqa: TRY004 - as above
    return value
