"""The inventory: what a listing becomes, and what it leaves out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from registry import migration
from registry.migration.source.detection import classify
from registry.migration.source.inventory import Inventory
from registry.migration.source.listing import fingerprint_of
from registry.migration.source.objects import KeyInfo, ObjectKind
from registry.migration.source.tables import BATCH
from registry.storage.errors import StorageUnavailable
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from tests.support.source_world import AMD, data_key, fill, path

_STATEMENT = re.compile(r"\b(SELECT .* FROM|INSERT (OR \w+ )?INTO|DELETE FROM|UPDATE \w+ SET|CREATE TABLE) ")
HEX = "ab" * 32
LONG = "cd" * 64
KEYS = {
    f"app/blobs/sha256/{HEX}": KeyInfo(ObjectKind.BLOB, "app", f"sha256:{HEX}"),
    f"zot/team/app/blobs/sha512/{LONG}": KeyInfo(ObjectKind.BLOB, "zot/team/app", f"sha512:{LONG}"),
    f"storage/blobs/sha256/{HEX}": KeyInfo(ObjectKind.OUR_BLOB, "", f"sha256:{HEX}"),
    f"storage/app/blobs/sha256/{HEX}": KeyInfo(ObjectKind.BLOB, "storage/app", f"sha256:{HEX}"),
    "storage/migrations/0001/state.json": None,
    ".uploads/1/data": None,
    ".probe/12": None,
    "app/index.json": KeyInfo(ObjectKind.INDEX, "app"),
    "app/oci-layout": KeyInfo(ObjectKind.MARKER, "app"),
    "app/.journal/0000000000000001.json": KeyInfo(ObjectKind.OUR_RECORD, "app"),
    "app/.uploads/12-34": KeyInfo(ObjectKind.UPLOAD, "app"),
    "app/.sync/12/x": KeyInfo(ObjectKind.UPLOAD, "app"),
    "_trivy/db/trivy.db": KeyInfo(ObjectKind.LEFT),
    "zot/_cosign/key.pub": KeyInfo(ObjectKind.LEFT),
    "index.json": KeyInfo(ObjectKind.UNKNOWN),
    f"blobs/sha256/{HEX}": KeyInfo(ObjectKind.UNKNOWN),
    "app/blobs/sha256/abc": KeyInfo(ObjectKind.UNKNOWN),
    f"app/blobs/blake3/{HEX}": KeyInfo(ObjectKind.UNKNOWN),
    f"app//blobs/sha256/{HEX}": KeyInfo(ObjectKind.UNKNOWN),
    "holiday.jpg": KeyInfo(ObjectKind.UNKNOWN),
    data_key(AMD.digest): KeyInfo(ObjectKind.DATA, "", AMD.digest),
    f"docker/registry/v2/blobs/sha256/00/{HEX}/data": KeyInfo(ObjectKind.UNKNOWN),
    f"docker/registry/v2/repositories/a/b/_layers/sha256/{HEX}/link": KeyInfo(
        ObjectKind.LAYER_LINK, "a/b", f"sha256:{HEX}"
    ),
    f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{HEX}/link": KeyInfo(
        ObjectKind.REVISION_LINK, "a", f"sha256:{HEX}"
    ),
    "docker/registry/v2/repositories/a/_manifests/tags/v1/current/link": KeyInfo(ObjectKind.TAG_LINK, "a"),
    f"docker/registry/v2/repositories/a/_manifests/tags/v1/index/sha256/{HEX}/link": KeyInfo(
        ObjectKind.OLD_TAG_LINK, "a", f"sha256:{HEX}"
    ),
    "docker/registry/v2/repositories/a/_uploads/1/startedat": KeyInfo(ObjectKind.UPLOAD, "a"),
    f"docker/registry/v2/repositories/a/_manifests/revisions/sha256/{HEX}/signatures/sha256/{HEX}/link": KeyInfo(
        ObjectKind.LEFT, "a"
    ),
    "docker/registry/v2/repositories/a/_manifests/what": KeyInfo(ObjectKind.UNKNOWN),
    "scheduler-state.json": KeyInfo(ObjectKind.LEFT),
}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_says_what_its_object_is(key: str) -> None:
    assert classify(key) == KEYS[key]


def test_a_listing_is_kept_but_for_what_is_ours_and_hidden() -> None:
    driver = MemoryDriver()
    fill(driver, {f"app/blobs/{path(AMD.digest)}": AMD.data, "app/.uploads/1": b"x", ".probe/1": b"", "x/y": b"?"})
    heard: list[int] = []
    with Inventory() as inventory:
        assert inventory.fill(driver, classify, heard.append) == 4
        rows = inventory.rows("SELECT key, kind, size, etag FROM object ORDER BY key")
    assert heard == [4]
    assert [row[:3] for row in rows] == [
        ("app/.uploads/1", "upload", 1),
        (f"app/blobs/{path(AMD.digest)}", "blob", len(AMD.data)),
        ("x/y", "unknown", 1),
    ]
    assert rows[1][3] == driver.stat(rows[1][0]).etag


def test_results_longer_than_a_page_are_whole() -> None:
    with Inventory() as inventory:
        inventory.put("bad", [(f"{number:05}",) for number in range(2 * BATCH + 1)])
        inventory.put("bad", [("00000",)])
        assert len(list(inventory.each("SELECT key FROM bad ORDER BY key"))) == 2 * BATCH + 1


def test_a_file_that_cannot_grow_says_where_it_is() -> None:
    with Inventory() as inventory:
        inventory.do("PRAGMA max_page_count = 100")
        with pytest.raises(OSError, match=r"temporary file of the review: .* full; SQLITE_TMPDIR names"):
            inventory.put("bad", [(f"{number:0900}",) for number in range(1000)])


def test_a_listing_that_fails_in_its_middle_fails_as_a_whole() -> None:
    inner = MemoryDriver()
    fill(inner, {f"app/{number:04}": b"" for number in range(600)})
    driver = FaultyDriver(inner, [Fault("list", first=2)])
    with Inventory() as inventory, pytest.raises(StorageUnavailable):
        inventory.fill(driver, classify, lambda _count: None)


def test_no_two_listings_have_one_fingerprint() -> None:
    listings: list[list[tuple[str, int, str]]] = [
        [], [("a", 1, "x")], [("a", 11, "x")], [("a", 1, "1x")], [("a", 1, "x"), ("b", 1, "x")], [('a",1,"x', 1, "x")],
    ]  # fmt: skip
    assert len({fingerprint_of(listing) for listing in listings}) == len(listings)


def test_statements_on_the_tables_stand_in_six_modules() -> None:
    """All others ask by name, so that the schema can change."""
    found = set()
    for file in Path(migration.__file__).parent.rglob("*.py"):
        constants = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant))
        if any(isinstance(node.value, str) and _STATEMENT.search(node.value) for node in constants):
            found.add(f"{file.parent.name}/{file.stem}")
    tables = {"source/tables", "source/listing", "source/inventory"}
    assert found == tables | {"source/checks", "review/counts", "finalize/plan"}
