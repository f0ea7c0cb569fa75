"""Multipart uploads of a bucket: which are told as uploads, and since when nothing has come."""

from __future__ import annotations

import time

import pytest

from registry.storage.driver import StorageDriver
from registry.storage.s3.driver import S3Driver
from tests.storage.drivers import S3, cases

pytestmark = pytest.mark.parametrize("case", cases(lambda case: case.name in {"s3", "s3-moto"}), indirect=True)

KEY = "storage/blobs/sha256/" + "ab" * 32
THEIRS = ("docker/registry/v2/repositories/app/_uploads/one/data", "storage/app/blobs/sha256/" + "cd" * 32)
PART = bytes(S3.part_size)
TICK = 1.1
"""Stores tell times in seconds."""
ARRIVAL = 10.0
"""A part is sent while the next is filled, and may take as long."""


def test_an_upload_at_its_final_key_is_as_old_as_its_last_part(driver: StorageDriver) -> None:
    """Else the clean-up would abort one request that lasts longer than uploads may lie there."""
    with driver.open_upload("u1") as writer:
        writer.resume(driver.start_upload("u1"), offset=0, key=KEY)
        writer.write(PART + b"-")
        began = _only(driver)
        time.sleep(TICK)
        writer.write(PART)
        deadline = time.monotonic() + ARRIVAL
        while _only(driver) <= began:
            assert time.monotonic() < deadline, "its second part does not count"
            time.sleep(ARRIVAL / 100)
        writer.publish(KEY)
    assert list(driver.uploads()) == []


@pytest.mark.parametrize("key", THEIRS)
def test_what_another_registry_gathers_below_the_same_root_is_no_upload_of_ours(
    driver: StorageDriver, key: str
) -> None:
    assert isinstance(driver, S3Driver)
    theirs, checked = driver._multiparts.create(key)
    assert list(driver.uploads()) == []
    driver.discard_upload("one")
    assert driver._multiparts.send(key, theirs, 1, b"theirs", checked=checked).tag, "their upload was aborted"


def _only(driver: StorageDriver) -> float:
    """When the only upload was last changed."""
    [entry] = driver.uploads()
    return entry.modified
