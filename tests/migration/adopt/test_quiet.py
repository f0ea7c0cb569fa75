"""The second listing of a pass: which changes it tells."""

from __future__ import annotations

from registry.migration.adopt.quiet import changes
from registry.migration.source.detection import classify
from registry.migration.source.inventory import Inventory
from registry.migration.source.objects import KeyInfo, ObjectKind
from registry.storage.memory import MemoryDriver
from tests.support.source_world import fill


def test_a_second_listing_tells_what_came_went_and_changed() -> None:
    driver, inventory = MemoryDriver(), Inventory()
    fill(driver, {"app/index.json": b"1", "b/index.json": b"1", "c/oci-layout": b"1", "z": b"1"})
    inventory.fill(driver, classify, lambda _: None)
    assert list(changes(inventory, driver, lambda _: None)) == []
    fill(driver, {"a/index.json": b"new", "app/index.json": b"other", "storage/migrations/0001/x": b"", "zz": b""})
    driver.delete(["b/index.json", "z"])
    found = list(changes(inventory, driver, lambda _: None))
    assert [(change.key, change.before is None, change.now is None) for change in found] == [
        ("a/index.json", True, False),
        ("app/index.json", False, False),
        ("b/index.json", False, True),
        ("z", False, True),
        ("zz", True, False),
    ]
    assert found[1].before != found[1].now
    assert found[1].entry == KeyInfo(ObjectKind.INDEX, "app")
