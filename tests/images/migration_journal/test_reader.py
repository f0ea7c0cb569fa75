"""The journal of migrations on storage: what is written is read again, and what is not understood stops everything."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from registry.images.migration_journal import reader as journal
from registry.images.migration_journal.documents import (
    Baseline,
    IndexAt,
    ManifestInfo,
    MigrationState,
    Phase,
    ReadOnly,
    ShardEntry,
    SourceLocation,
    UnknownJournal,
    serialise_shard,
    shard_of,
)
from registry.images.migration_journal.reader import MigrationJournalReader
from registry.oci.digest import Digest
from registry.storage.memory import MemoryDriver

ONE, TWO = Digest.of(b"one"), Digest.of(b"two", "sha512")
STATE = MigrationState(
    id="0001",
    revision=7,
    state=Phase.ADOPTED,
    layout="per-repository",
    prefixes=("zot",),
    passes=2,
    began="2026-11-25T03:00:00Z",
    changed="2026-11-25T03:10:00Z",
    writer="host:12:ab",
    counts={"repositories": 3},
)
LINE = ShardEntry(
    ONE, 3, (SourceLocation("zot/app/blobs/sha256/x", '"a"', verified=False), SourceLocation("k", "b", verified=True))
)
BASE = Baseline(
    name="app",
    prefix="zot",
    index=IndexAt("zot/app/index.json", '"s"'),
    fingerprint="sha256:f",
    overwritten=False,
    tags={"v2": ONE, "v1": TWO},
    manifests={ONE: ManifestInfo("application/x", 3)},
)


@pytest.mark.parametrize("state", [STATE, replace(STATE, read_only=ReadOnly("2026-11-25T03:00:00Z", "rolled back"))])
def test_a_state_is_read_as_it_was_written(state: MigrationState) -> None:
    assert MigrationState.parse(state.serialise()) == state


@pytest.mark.parametrize("line", [LINE, LINE._replace(copy='"c"'), ShardEntry(TWO, 0, ())])
def test_a_line_of_blobs_is_read_as_it_was_written(line: ShardEntry) -> None:
    assert ShardEntry.parse(line.serialise()) == line


@pytest.mark.parametrize("base", [BASE, replace(BASE, index=None, prefix="", overwritten=True)])
def test_a_base_is_read_as_it_was_written(base: Baseline) -> None:
    assert Baseline.parse(base.serialise()) == base


def test_the_same_content_gives_the_same_bytes() -> None:
    again = replace(BASE, tags=dict(reversed(BASE.tags.items())))
    assert again.serialise() == BASE.serialise()
    assert serialise_shard([LINE, LINE._replace(digest=TWO)]) == serialise_shard([LINE._replace(digest=TWO), LINE])


def test_the_formats_are_those_of_the_proposal() -> None:
    assert STATE.serialise() == (
        b'{"version":1,"id":"0001","revision":7,"state":"adopted","layout":"per-repository","prefixes":["zot"],'
        b'"passes":2,"began":"2026-11-25T03:00:00Z","changed":"2026-11-25T03:10:00Z","writer":"host:12:ab",'
        b'"read_only":null,"counts":{"repositories":3}}'
    )
    line = ShardEntry(ONE, 3, (SourceLocation("k", "s", verified=False),), "c")
    said = b'{"digest":"%s","size":3,"at":[{"key":"k","signature":"s","verified":false}],"copy":{"signature":"c"}}\n'
    assert line.serialise() == said % ONE.encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document | {"version": 2},
        lambda document: {name: value for name, value in document.items() if name != "revision"},
        lambda document: document | {"state": "flying"},
        lambda document: document | {"revision": "7"},
        lambda document: document | {"read_only": True},
        lambda _document: [],
    ],
)
def test_a_state_that_is_not_understood_is_an_error(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(UnknownJournal):
        MigrationState.parse(orjson.dumps(damage(orjson.loads(STATE.serialise()))), "key")


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b'{"version":2}'])
def test_what_is_cut_short_is_an_error(data: bytes) -> None:
    for parse in (MigrationState.parse, ShardEntry.parse, Baseline.parse):
        with pytest.raises(UnknownJournal):
            parse(data)


def test_nothing_on_storage_is_no_migration() -> None:
    read = MigrationJournalReader(MemoryDriver())
    assert read.ids() == []
    assert read.newest() is None
    assert read.base("app") is None
    assert read.ours("app") is None


def test_the_newest_migration_counts() -> None:
    driver = MemoryDriver()
    for migration in ("0002", "10000", "0001", "notes"):
        driver.write(journal.state_key(migration), replace(STATE, id=migration).serialise())
    driver.write(journal.shard_key("20000", "sha256-aa"), b"")  # its run was killed before it had a state
    read = MigrationJournalReader(driver)
    assert read.ids() == ["0001", "0002", "10000", "20000"]
    found = read.newest()
    assert found is not None
    state, stat = found
    assert state.id == "10000"
    assert stat == driver.stat(journal.state_key("10000"))
    assert [each.id for each, _ in read.states()] == ["0001", "0002", "10000"]


def test_shards_come_one_by_one_with_their_lines() -> None:
    driver = MemoryDriver()
    lines = [ShardEntry(digest, 3, ()) for digest in (ONE, TWO)]
    for line in lines:
        driver.write(journal.shard_key("0001", shard_of(line.digest)), serialise_shard([line]))
    driver.write(f"{journal.shards_prefix('0001')}/note.txt", b"of another tool")
    read = MigrationJournalReader(driver)
    assert list(read.shards("0001")) == [(shard_of(line.digest), [line]) for line in sorted(lines)]
    assert list(read.shards("0002")) == []


def test_a_base_is_the_newest_of_any_migration() -> None:
    driver = MemoryDriver()
    newer = replace(BASE, fingerprint="sha256:g")
    other = replace(BASE, name="team/other")
    driver.write(journal.base_key("0001", "app"), BASE.serialise())
    driver.write(journal.base_key("0001", "team/other"), other.serialise())
    driver.write(journal.base_key("0002", "app"), newer.serialise())
    driver.write(journal.saved_index_key("0002", "app"), b"{}")
    read = MigrationJournalReader(driver)
    assert read.base("app") == newer
    assert read.base("team/other") == other
    assert list(read.bases("0001")) == ["app", "team/other"]


def test_ours_is_what_the_newest_rollback_kept() -> None:
    driver = MemoryDriver()
    driver.write(journal.ours_key("0001", "app"), b"1")
    driver.write(journal.ours_key("0002", "app"), b"2")
    assert MigrationJournalReader(driver).ours("app") == b"2"
