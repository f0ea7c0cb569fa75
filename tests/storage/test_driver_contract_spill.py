"""The contract of every driver and decorator: uploads whose bytes leave memory before there is a whole part."""

from __future__ import annotations

import os
import random

import pytest

from registry.storage.driver import CHUNK_SIZE, TAIL_BYTES, StorageDriver
from tests.storage.test_driver_contract_uploads import BLOB, content, publish, whole

SIZES = (1, TAIL_BYTES + 1, CHUNK_SIZE + 1, 3 * CHUNK_SIZE)
PART = 5 << 20
"""Bytes of a part of the drivers that have parts."""


def test_what_was_spilled_is_in_no_memory_and_in_the_object(driver: StorageDriver) -> None:
    data = os.urandom(PART + 3 * CHUNK_SIZE)
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        for begin in range(0, len(data), CHUNK_SIZE):
            writer.write(data[begin : begin + CHUNK_SIZE])
            writer.spill()
            assert writer.held == 0
        writer.publish(BLOB)
    assert content(driver, BLOB) == data


@pytest.mark.parametrize("size", SIZES)
def test_an_upload_whose_key_is_known_is_spilled_too(driver: StorageDriver, size: int) -> None:
    data = os.urandom(PART + size)
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0, key=BLOB)
        writer.write(data[:size])
        writer.spill()
        writer.write(data[size:])
        writer.spill()
        writer.publish(BLOB)
    driver.discard_upload("u1", state)
    assert content(driver, BLOB) == data
    assert [entry.upload_id for entry in driver.uploads()] == []


@pytest.mark.parametrize("seed", range(3))
def test_writes_spills_flushes_and_other_writers_in_any_order_make_the_same_object(
    driver: StorageDriver, seed: int
) -> None:
    chance = random.Random(seed)
    kept = written = b""
    state = driver.start_upload("u1")
    for _ in range(4):
        with driver.open_upload("u1") as writer:
            writer.resume(state, offset=len(kept))
            written = kept
            for _ in range(chance.randrange(1, 6)):
                data = os.urandom(chance.choice(SIZES))
                writer.write(data)
                written += data
                if chance.random() < 0.6:
                    writer.spill()
                if chance.random() < 0.4:
                    state, kept = writer.flush(), written
            if chance.random() < 0.3:
                state, kept = writer.flush(), written
                assert whole(writer) == written
    assert publish(driver, "u1", state, len(kept)).size == len(kept)
    assert content(driver, BLOB) == kept


def test_nothing_is_spilled_before_an_upload_is_resumed_or_of_none(driver: StorageDriver) -> None:
    state = driver.start_upload("u1")
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=0)
        writer.spill()
        assert writer.flush().tail == b""
        assert writer.held == 0
