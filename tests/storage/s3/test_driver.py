"""Uploads to an S3 bucket: which multipart uploads are told as uploads, since when nothing came, and readable ones."""

from __future__ import annotations

import time

import orjson
import pytest

from registry.storage.driver import StorageDriver
from registry.storage.errors import UnsupportedOperation
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


def test_an_upload_that_was_not_started_as_readable_has_a_state_that_former_releases_know(
    driver: StorageDriver,
) -> None:
    data = bytes(driver.capabilities.part_bytes + (1 << 20))
    state = driver.start_upload("u1")
    assert state.note == ""
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.write(data)
        state = writer.flush()
    noted = orjson.loads(state.note)
    assert noted["target"]
    assert not {"readable", "segments"} & noted.keys()
    with pytest.raises(UnsupportedOperation, match="not started as readable"):
        driver.read_upload("u1", state, size=1)


def test_a_readable_upload_has_one_object_for_each_part_and_none_where_one_is_enough(driver: StorageDriver) -> None:
    part = driver.capabilities.part_bytes
    for number, size in enumerate((part, 2 * part + 5)):
        state = driver.start_upload(f"u{number}", readable=True)
        with driver.open_upload(f"u{number}") as writer:
            writer.resume(state, offset=0, key=f"storage/blobs/sha256/{number}")
            writer.write(bytes(size))
            assert [entry.upload_id for entry in driver.uploads()] == ([] if not number else ["u1"])
            assert writer.publish(f"storage/blobs/sha256/{number}").size == size
    assert list(driver.uploads()) == []
