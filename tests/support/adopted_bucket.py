"""What a migration leaves on storage, written by hand: objects of a source, shards, states and indexes of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from registry.images.migration_journal import reader as journal
from registry.images.migration_journal.documents import (
    MigrationState,
    Phase,
    ShardEntry,
    SourceLocation,
    serialise_shard,
    shard_of,
)
from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.index import LAYOUT_FILE, Index
from tests.support.registry_world import NAME, Pushed

if TYPE_CHECKING:
    from registry.storage.driver import StorageDriver

PREFIX = "zot"
MIGRATION = "0001"
STATE = MigrationState(
    id=MIGRATION,
    revision=1,
    state=Phase.ADOPTED,
    layout="per-repository",
    prefixes=(PREFIX,),
    passes=1,
    began="2026-11-25T03:00:00Z",
    changed="2026-11-25T03:00:00Z",
    writer="host:1:aa",
)
TAKEN = "io.stowage.migration"
"""The annotation of an index of ours that has what the source had."""


def source_key(digest: Digest, repository: str = NAME) -> str:
    """Where the source has the bytes of a digest."""
    return f"{PREFIX}/{repository}/blobs/{digest.algorithm}/{digest.encoded}"


def put_source_object(
    driver: StorageDriver, data: bytes, *, verified: bool = False, repository: str = NAME
) -> ShardEntry:
    """An object of the source; the line that a pass writes of it."""
    digest = Digest.of(data)
    key = source_key(digest, repository)
    stat = driver.write(key, data)
    return ShardEntry(digest, len(data), (SourceLocation(key, stat.etag, verified),))


def write_shards(driver: StorageDriver, lines: list[ShardEntry], migration: str = MIGRATION) -> None:
    """All shards anew."""
    shards: dict[str, list[ShardEntry]] = {}
    for line in lines:
        shards.setdefault(shard_of(line.digest), []).append(line)
    for shard, of_shard in shards.items():
        driver.write(journal.shard_key(migration, shard), serialise_shard(of_shard))


def write_state(driver: StorageDriver, **changes: Any) -> MigrationState:
    """``state.json``."""
    state = replace(STATE, **changes)
    driver.write(journal.state_key(state.id), state.serialise())
    return state


def write_taken_index(driver: StorageDriver, images: dict[str, Pushed], name: str = NAME) -> None:
    """Our index of a repository that was taken, with these tags."""
    index = Index.empty()
    for tag, made in images.items():
        index.set_tag(tag, Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data)))
    index.folded = 0
    document = orjson.loads(index.serialise())
    document["annotations"][TAKEN] = MIGRATION
    driver.write(f"{name}/oci-layout", LAYOUT_FILE)
    driver.write(f"{name}/index.json", orjson.dumps(document))


def lines_of(driver: StorageDriver, made: Pushed) -> list[ShardEntry]:
    """The objects of an image in the source; its manifest was hashed."""
    return [
        put_source_object(driver, made.manifest.data, verified=True),
        put_source_object(driver, made.config.data),
        put_source_object(driver, made.layer.data),
    ]


def adopt_image(driver: StorageDriver, made: Pushed, tag: str = "v1") -> list[ShardEntry]:
    """All that a pass leaves of an image."""
    lines = lines_of(driver, made)
    write_shards(driver, lines)
    write_state(driver)
    write_taken_index(driver, {tag: made})
    return lines


def foreign_index(made: Pushed, tag: str = "v1") -> bytes:
    """An index as another registry writes it."""
    index = Index.empty()
    index.set_tag(tag, Descriptor(made.manifest.media_type, made.digest, len(made.manifest.data)))
    return index.serialise()


def content(driver: StorageDriver, prefix: str = "") -> dict[str, bytes]:
    """Every object and its bytes."""
    return {key: driver.read(key, max_bytes=1 << 20)[0] for key, _ in driver.list(prefix)}
