"""The snapshot: what a listing becomes, and what it leaves out."""

from __future__ import annotations

import pytest

from registry.migration.detection import classify
from registry.migration.original_layout import Entry, ObjectKind
from registry.migration.snapshot import BATCH, Snapshot
from registry.storage.errors import StorageUnavailable
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.migration.world import AMD, data_key, fill, path

HEX = "ab" * 32
LONG = "cd" * 64
KEYS = {
    f"app/blobs/sha256/{HEX}": Entry(ObjectKind.BLOB, "app", f"sha256:{HEX}"),
    f"zot/team/app/blobs/sha512/{LONG}": Entry(ObjectKind.BLOB, "zot/team/app", f"sha512:{LONG}"),
    f"storage/blobs/sha256/{HEX}": Entry(ObjectKind.OUR_BLOB, "", f"sha256:{HEX}"),
    f"storage/app/blobs/sha256/{HEX}": Entry(ObjectKind.BLOB, "storage/app", f"sha256:{HEX}"),
    "storage/migrations/0001/state.json": None,
    ".uploads/1/data": None,
    ".probe/12": None,
    "app/index.json": Entry(ObjectKind.INDEX, "app"),
    "app/oci-layout": Entry(ObjectKind.MARKER, "app"),
    "app/.journal/0000000000000001.json": Entry(ObjectKind.OUR_RECORD, "app"),
    "app/.uploads/12-34": Entry(ObjectKind.UPLOAD, "app"),
    "app/.sync/12/x": Entry(ObjectKind.UPLOAD, "app"),
    "_trivy/db/trivy.db": Entry(ObjectKind.LEFT),
    "zot/_cosign/key.pub": Entry(ObjectKind.LEFT),
    "index.json": Entry(ObjectKind.UNKNOWN),
    f"blobs/sha256/{HEX}": Entry(ObjectKind.UNKNOWN),
    "app/blobs/sha256/abc": Entry(ObjectKind.UNKNOWN),
    f"app/blobs/blake3/{HEX}": Entry(ObjectKind.UNKNOWN),
    f"app//blobs/sha256/{HEX}": Entry(ObjectKind.UNKNOWN),
    "holiday.jpg": Entry(ObjectKind.UNKNOWN),
    data_key(AMD.digest): Entry(ObjectKind.DATA, "", AMD.digest),
    f"docker/registry/v2/blobs/sha256/00/{HEX}/data": Entry(ObjectKind.UNKNOWN),
    f"docker/registry/v2/repositories/a/b/_layers/sha256/{HEX}/link": Entry(
        ObjectKind.LAYER_LINK, "a/b", f"sha256:{HEX}"
    ),
    f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{HEX}/link": Entry(
        ObjectKind.REVISION_LINK, "a", f"sha256:{HEX}"
    ),
    "docker/registry/v2/repositories/a/_manifests/tags/v1/current/link": Entry(ObjectKind.TAG_LINK, "a"),
    f"docker/registry/v2/repositories/a/_manifests/tags/v1/index/sha256/{HEX}/link": Entry(
        ObjectKind.OLD_TAG_LINK, "a", f"sha256:{HEX}"
    ),
    "docker/registry/v2/repositories/a/_uploads/1/startedat": Entry(ObjectKind.UPLOAD, "a"),
    f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{HEX}/signatures/sha256/{HEX}/link": Entry(
        ObjectKind.LEFT, "a"
    ),
    "docker/registry/v2/repositories/a/_manifests/what": Entry(ObjectKind.UNKNOWN),
    "scheduler-state.json": Entry(ObjectKind.LEFT),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_says_what_its_object_is(key: str) -> None:
    assert classify(key) == KEYS[key]


def test_a_listing_is_kept_but_for_what_is_ours_and_hidden() -> None:
    driver = MemoryDriver()
    fill(driver, {f"app/blobs/{path(AMD.digest)}": AMD.data, "app/.uploads/1": b"x", ".probe/1": b"", "x/y": b"?"})
    heard: list[int] = []
    with Snapshot() as snapshot:
        assert snapshot.fill(driver, classify, heard.append) == 4
        rows = snapshot.rows("SELECT key, kind, size, signature FROM object ORDER BY key")
    assert heard == [4]
    assert [row[:3] for row in rows] == [
        ("app/.uploads/1", "upload", 1),
        (f"app/blobs/{path(AMD.digest)}", "blob", len(AMD.data)),
        ("x/y", "unknown", 1),
    ]
    assert rows[1][3] == driver.stat(rows[1][0]).signature


def test_results_longer_than_a_page_are_whole() -> None:
    with Snapshot() as snapshot:
        snapshot.put("bad", [(f"{number:05}",) for number in range(2 * BATCH + 1)])
        snapshot.put("bad", [("00000",)])
        assert len(list(snapshot.each("SELECT key FROM bad ORDER BY key"))) == 2 * BATCH + 1


def test_a_file_that_cannot_grow_says_where_it_is() -> None:
    with Snapshot() as snapshot:
        snapshot.do("PRAGMA max_page_count = 100")
        with pytest.raises(OSError, match=r"temporary file of the review: .* full; SQLITE_TMPDIR names"):
            snapshot.put("bad", [(f"{number:0900}",) for number in range(1000)])


def test_a_listing_that_fails_in_its_middle_fails_as_a_whole() -> None:
    inner = MemoryDriver()
    fill(inner, {f"app/{number:04}": b"" for number in range(600)})
    driver = FaultyDriver(inner, [Fault("list", first=2)])
    with Snapshot() as snapshot, pytest.raises(StorageUnavailable):
        snapshot.fill(driver, classify, lambda _count: None)


def test_a_second_listing_tells_what_came_went_and_changed() -> None:
    driver, snapshot = MemoryDriver(), Snapshot()
    fill(driver, {"app/index.json": b"1", "b/index.json": b"1", "c/oci-layout": b"1", "z": b"1"})
    snapshot.fill(driver, classify, lambda _: None)
    assert list(snapshot.changes(driver, classify, lambda _: None)) == []
    fill(driver, {"a/index.json": b"new", "app/index.json": b"other", "storage/migrations/0001/x": b"", "zz": b""})
    driver.delete(["b/index.json", "z"])
    found = list(snapshot.changes(driver, classify, lambda _: None))
    assert [(change.key, change.before is None, change.now is None) for change in found] == [
        ("a/index.json", True, False),
        ("app/index.json", False, False),
        ("b/index.json", False, True),
        ("z", False, True),
        ("zz", True, False),
    ]
    assert found[1].before != found[1].now
    assert found[1].entry == Entry(ObjectKind.INDEX, "app")
