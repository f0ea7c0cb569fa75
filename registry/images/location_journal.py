"""Where the bytes are that another registry brought: the journal of migrations on storage (proposal 0005).

``rebuild`` reads it before anything else, so that a lost database loses no place. Shards and bases hold no times and no
names of processes: the same bucket gives the same bytes, however often whoever wrote them was killed.
"""

from __future__ import annotations

import contextlib
import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import orjson

from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.storage.errors import PathNotFound, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from registry.storage.driver import ObjectStat, StorageDriver

MIGRATIONS: Final = "storage/migrations"
"""The directory of the journals of all migrations."""
VERSION: Final = 1
"""Of the formats; another one is not understood."""
PLACES: Final = 3
"""Places that a line of blobs names at most."""
BASE: Final = ".original.json"
"""The name of a base; begins with a dot, so that none of a repository is like it."""

_MAX_STATE = 1 << 20
_MAX_SHARD = 256 << 20
_MAX_BASE = 1 << 30
_ID = re.compile(r"[0-9]{4,}")

T = TypeVar("T")


class UnknownJournal(StorageError):
    """The journal is of a later release, or damaged: nothing may be done that could contradict it."""


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
    """The kind of the original's layout."""
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
        with _understanding(key):
            document = _versioned(data)
            shut = document["read_only"]
            return cls(
                id=_text(document["id"]),
                revision=_number(document["revision"]),
                state=Phase(document["state"]),
                layout=_text(document["layout"]),
                prefixes=tuple(_text(prefix) for prefix in document["prefixes"]),
                passes=_number(document["passes"]),
                began=_text(document["began"]),
                changed=_text(document["changed"]),
                writer=_text(document["writer"]),
                read_only=None if shut is None else ReadOnly(_text(shut["since"]), _text(shut["reason"])),
                counts={_text(name): _number(count) for name, count in document["counts"].items()},
            )


class Place(NamedTuple):
    """An object of the original with the bytes of a blob."""

    key: str
    signature: str
    verified: bool
    """We have hashed the object with this signature."""


class BlobLine(NamedTuple):
    """Where a blob is, the original's places at most PLACES of them, by key."""

    digest: Digest
    size: int
    """Bytes."""
    places: tuple[Place, ...]
    copy: str | None = None
    """The signature of our verified copy at ``storage/blobs/``, if there is one."""

    def serialise(self) -> bytes:
        """One line of a shard, line feed included."""
        document = {
            "digest": str(self.digest),
            "size": self.size,
            "at": [{"key": at.key, "signature": at.signature, "verified": at.verified} for at in self.places],
            "copy": None if self.copy is None else {"signature": self.copy},
        }
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def parse(cls, line: bytes, key: str = "") -> BlobLine:
        """Read a line of a shard. Raises UnknownJournal."""
        with _understanding(key):
            document = orjson.loads(line)
            copy = document["copy"]
            return cls(
                Digest.parse(_text(document["digest"])),
                _number(document["size"]),
                tuple(
                    Place(_text(at["key"]), _text(at["signature"]), verified=_flag(at["verified"]))
                    for at in document["at"]
                ),
                None if copy is None else _text(copy["signature"]),
            )


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
    """Of the repository's keys in the listing, its index left out."""
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
        with _understanding(key):
            document = _versioned(data)
            index = document["index"]
            return cls(
                name=_text(document["name"]),
                prefix=_text(document["prefix"]),
                index=None if index is None else IndexAt(_text(index["key"]), _text(index["signature"])),
                fingerprint=_text(document["fingerprint"]),
                overwritten=_flag(document["overwritten"]),
                tags={_text(tag): Digest.parse(_text(digest)) for tag, digest in document["tags"].items()},
                manifests={
                    Digest.parse(_text(digest)): Named(_text(said["mediaType"]), _number(said["size"]))
                    for digest, said in document["manifests"].items()
                },
            )


def state_key(migration: str) -> str:
    """Of the state of a migration."""
    return f"{MIGRATIONS}/{migration}/state.json"


def problems_key(migration: str) -> str:
    """Of the problems that its last pass found."""
    return f"{MIGRATIONS}/{migration}/problems.jsonl"


def shard_of(digest: Digest) -> str:
    """The name of the shard that a blob is in: ``sha256-ab``."""
    return f"{digest.algorithm}-{digest.encoded[:2]}"


def shards_prefix(migration: str) -> str:
    """The directory of shards."""
    return f"{MIGRATIONS}/{migration}/blobs"


def shard_key(migration: str, shard: str) -> str:
    """Of a shard, by its name."""
    return f"{shards_prefix(migration)}/{shard}.jsonl"


def repositories_prefix(migration: str) -> str:
    """The directory of what is kept of repositories."""
    return f"{MIGRATIONS}/{migration}/repositories"


def base_key(migration: str, repository: str) -> str:
    """Of a repository's base."""
    return f"{repositories_prefix(migration)}/{repository}/{BASE}"


def saved_index_key(migration: str, repository: str) -> str:
    """Of the original's ``index.json``, where ours has its key."""
    return f"{repositories_prefix(migration)}/{repository}/.index"


def ours_key(migration: str, repository: str) -> str:
    """Of our ``index.json`` as it was when a rollback gave the key back."""
    return f"{repositories_prefix(migration)}/{repository}/.ours"


def serialise_shard(lines: Iterable[BlobLine]) -> bytes:
    """The content of a shard: one line for each digest, sorted."""
    return b"".join(line.serialise() for line in sorted(lines))


class LocationJournal:
    """Reads the journals of all migrations. Any thread; nothing is kept between two calls.

    Every method raises StorageError, and UnknownJournal for what it cannot understand.
    """

    def __init__(self, driver: StorageDriver) -> None:
        self._driver = driver

    def ids(self) -> list[str]:
        """Every migration that there was, the oldest first. One LIST."""
        found = [child.name for child in self._driver.children(MIGRATIONS) if child.is_prefix]
        return sorted((name for name in found if _ID.fullmatch(name)), key=int)

    def state(self, migration: str) -> tuple[MigrationState, ObjectStat] | None:
        """Its state; None where it has none: whoever began it was killed before."""
        key = state_key(migration)
        return self._read(key, _MAX_STATE, lambda data: MigrationState.parse(data, key))

    def states(self) -> list[tuple[MigrationState, ObjectStat]]:
        """Of every migration that has one, the oldest first."""
        return [found for migration in self.ids() if (found := self.state(migration)) is not None]

    def newest(self) -> tuple[MigrationState, ObjectStat] | None:
        """The state of the newest migration, which counts; None where there is none."""
        return next((found for migration in reversed(self.ids()) if (found := self.state(migration))), None)

    def shard(self, migration: str, shard: str) -> tuple[list[BlobLine], ObjectStat] | None:
        """The lines of one shard; None where there is none."""
        key = shard_key(migration, shard)
        return self._read(key, _MAX_SHARD, lambda data: [BlobLine.parse(line, key) for line in data.splitlines()])

    def shards(self, migration: str) -> Iterator[tuple[str, list[BlobLine]]]:
        """Every shard of a migration by its name, sorted, read one at a time."""
        prefix = shards_prefix(migration)
        for key, _ in self._driver.list(prefix):
            name = key.removeprefix(f"{prefix}/").removesuffix(".jsonl")
            found = self.shard(migration, name) if key == shard_key(migration, name) else None
            if found is not None:
                yield name, found[0]

    def bases(self, migration: str) -> Iterator[str]:
        """The names of the repositories that have a base in this migration, sorted by their keys."""
        prefix = f"{repositories_prefix(migration)}/"
        for key, _ in self._driver.list(prefix.removesuffix("/")):
            if key.endswith(f"/{BASE}"):
                yield key.removeprefix(prefix).removesuffix(f"/{BASE}")

    def base(self, repository: str) -> Base | None:
        """The base of a repository, the newest of any migration; None where none has one."""
        for migration in reversed(self.ids()):
            found = self.base_in(migration, repository)
            if found is not None:
                return found
        return None

    def base_in(self, migration: str, repository: str) -> Base | None:
        """The base of a repository in one migration."""
        key = base_key(migration, repository)
        found = self._read(key, _MAX_BASE, lambda data: Base.parse(data, key))
        return None if found is None else found[0]

    def ours(self, repository: str) -> bytes | None:
        """Our ``index.json`` as it was when the newest rollback gave its key back; None where none did."""
        for migration in reversed(self.ids()):
            found = self._read(ours_key(migration, repository), _MAX_BASE, bytes)
            if found is not None:
                return found[0]
        return None

    def _read(self, key: str, max_bytes: int, parse: Callable[[bytes], T]) -> tuple[T, ObjectStat] | None:
        try:
            data, stat = self._driver.read(key, max_bytes=max_bytes)
        except PathNotFound:
            return None
        return parse(data), stat


@contextlib.contextmanager
def _understanding(key: str) -> Iterator[None]:
    """What is written in another way than ours is not guessed at."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RegistryError) as error:
        raise UnknownJournal(key, f"is of a later release, or damaged: {error!r}") from error


def _versioned(data: bytes) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(data)
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r}")
    return document


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.80}")  # noqa: TRY004 - one kind of error for a damaged document
    return value


def _number(value: object) -> int:
    if type(value) is not int:  # bool is a subclass of int
        raise ValueError(f"not a number: {value!r:.80}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"not a flag: {value!r:.80}")  # noqa: TRY004 - as above
    return value
