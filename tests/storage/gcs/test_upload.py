"""Large uploads to Google Cloud Storage: parts, compositions, and what killed writers leave."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from registry.storage.driver import CHUNK_SIZE, TAIL_BYTES, ObjectReader, StorageDriver, UploadState
from registry.storage.errors import ObjectTooLarge, UploadOffsetMismatch
from registry.storage.gcs.driver import GcsDriver
from registry.storage.gcs.upload_state import MOST_SOURCES, GCSUploadState, Part
from registry.storage.object_store.parts import PartBuffers
from tests.storage.gcs import store as gcs_store
from tests.storage.uploads import NO_STATE

pytestmark = pytest.mark.tools(gcs_store.PROGRAM)

BLOB = "storage/blobs/sha256/00"
KIB = 1 << 10

Calls = Counter[str]
Open = Callable[..., GcsDriver]


@pytest.fixture
def calls() -> Calls:
    """How often the store was asked for what."""
    return Counter()


@pytest.fixture
def replica(calls: Calls) -> Iterator[Open]:
    """Opens drivers of one bucket, as replicas do."""
    opened: list[GcsDriver] = []
    settings = gcs_store.new_bucket()

    def observe(driver: str, operation: str, _kind: str | None, _seconds: float, failed: bool) -> None:
        assert (driver, failed) == ("gcs", False)
        calls[operation] += 1

    def do(part: int = 256 * KIB, spare: int = 2) -> GcsDriver:
        driver = GcsDriver(settings, gcs_store.ROOT, observe=observe)
        driver._buffers = PartBuffers(part, spare)
        opened.append(driver)
        return driver

    yield do
    for driver in opened:
        assert sorted(key for key, _ in driver._objects.keys("") if not key.startswith("storage/")) == []
        driver.close()


def bytes_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def rest(reader: ObjectReader) -> bytes:
    parts = []
    while part := reader.read(CHUNK_SIZE):
        parts.append(part)
    return b"".join(parts)


def content(driver: StorageDriver) -> bytes:
    with driver.open(BLOB) as reader:
        return rest(reader)


@pytest.mark.parametrize("spare", [0, 2])
@pytest.mark.parametrize("key", [BLOB, None])
@pytest.mark.parametrize(
    ("part", "size", "chunk"),
    [
        (256 * KIB, 256 * KIB, 256 * KIB),
        (256 * KIB, 256 * KIB + 1, 70_001),
        (256 * KIB, 1500 * KIB, 300_007),
        (256 * KIB, 3 * 1024 * KIB, 1024 * KIB),
        (1024 * KIB, 5_000_000, 999_999),
        (1024 * KIB, 4 * 1024 * KIB, 5 * 1024 * KIB),
        (1000, 33_500, 777),
    ],
)
def test_an_upload_is_published_by_its_writer(
    replica: Open, part: int, size: int, chunk: int, key: str | None, spare: int
) -> None:
    driver, data = replica(part, spare), bytes_of(size)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0, key=key)
        for begin in range(0, size, chunk):
            writer.write(data[begin : begin + chunk])
        published = writer.publish(BLOB)
    assert published.size == size
    assert driver.stat(BLOB).is_same(published)
    assert content(driver) == data
    assert list(driver.uploads()) == []


@pytest.mark.parametrize("chunk", [100 * KIB, 256 * KIB, 300_007, 1024 * KIB])
@pytest.mark.parametrize("killed", [False, True])
def test_each_chunk_comes_to_another_replica(replica: Open, chunk: int, killed: bool) -> None:
    data, state, offset = bytes_of(3_000_000), NO_STATE, 0
    while offset < len(data):
        if killed:
            dying = replica().open_upload("u1")
            dying.resume(state, offset=offset)
            dying.write(bytes_of(700_000))
            dying._own.clear()  # it never comes to free what it has sent
            dying.close()
        with replica().open_upload("u1") as writer:
            writer.resume(state, offset=offset)
            writer.write(data[offset : offset + chunk])
            state = writer.flush()
        assert len(state.tail) <= TAIL_BYTES
        offset += len(data[offset : offset + chunk])
    with replica().open_upload("u1") as writer:
        writer.resume(state, offset=offset)
        assert rest(writer.read()) == data
    with replica().open_upload("u1") as writer:
        writer.resume(state, offset=offset)
        writer.publish(BLOB)
    assert content(replica()) == data
    assert [entry.upload_id for entry in replica().uploads()] == ["u1"]
    replica().discard_upload("u1", state)


def committed(driver: GcsDriver, data: bytes) -> UploadState:
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(data)
        return writer.flush()


@pytest.mark.parametrize("offset", [0, 1, 999, 1000, 1001, 20_000, 32_000, 32_001, 39_999, 40_000, 40_499, 40_500])
def test_an_upload_goes_back_to_any_offset_and_the_old_state_stays_good(replica: Open, offset: int) -> None:
    data, other = bytes_of(40_500), bytes_of(5_555)
    driver = replica(1000)
    state = committed(driver, data)
    with replica(1000).open_upload("u1") as writer:
        writer.resume(state, offset=offset)
        writer.write(other)
        back = writer.flush()
    with replica(1000).open_upload("u1") as writer:
        writer.resume(back, offset=offset + len(other))
        writer.publish(BLOB)
    assert content(driver) == data[:offset] + other
    with replica(1000).open_upload("u1") as writer:
        writer.resume(state, offset=len(data))
        writer.publish(BLOB, replace=True)
    assert content(driver) == data
    driver.discard_upload("u1", back)


def test_more_bytes_than_there_are_is_a_mismatch(replica: Open) -> None:
    driver = replica(1000)
    state = committed(driver, bytes_of(40_500))
    with driver.open_upload("u1") as writer, pytest.raises(UploadOffsetMismatch):
        writer.resume(state, offset=40_501)
    driver.discard_upload("u1", state)


@pytest.mark.parametrize(
    ("parts", "inserts", "composes", "batches"),
    [(1, 1, 0, 0), (2, 2, 1, 1), (31, 31, 1, 1), (32, 32, 2, 1), (33, 33, 2, 1), (63, 63, 2, 1), (64, 64, 3, 1),
     (200, 200, 7, 3), (1100, 1100, 36, 12)],
)  # fmt: skip
def test_what_an_upload_costs(
    replica: Open, calls: Calls, parts: int, inserts: int, composes: int, batches: int
) -> None:
    driver, data = replica(1000), bytes_of(parts * 1000)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0, key=BLOB)
        writer.write(data)
        writer.publish(BLOB)
    driver.discard_upload("u1", NO_STATE)
    expected = {"objects.insert": inserts, "objects.compose": composes, "batch": batches}
    assert calls == {name: count for name, count in expected.items() if count}
    assert content(driver) == data


def test_a_state_stays_small_however_many_parts_there_are(replica: Open) -> None:
    state, offset = NO_STATE, 0
    driver = replica(1000)
    for _ in range(40):
        with driver.open_upload("u1") as writer:
            writer.resume(state, offset=offset)
            writer.write(bytes_of(20_000))
            state = writer.flush()
        offset += 20_000
        assert len(state.note) < 5000
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=offset)
        writer.publish(BLOB)
    assert content(driver) == bytes_of(20_000) * 40
    driver.discard_upload("u1", state)


def test_a_writer_that_publishes_goes_on(replica: Open) -> None:
    driver = replica(1000)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        for times in range(1, 5):
            writer.write(bytes_of(10_500))
            writer.publish(BLOB)
            assert content(driver) == bytes_of(10_500) * times


def test_a_writer_reads_publishes_and_its_state_is_published_again(replica: Open) -> None:
    data = bytes_of(50_500)
    state = committed(replica(1000), data)
    for _ in range(2):
        with replica(1000).open_upload("u1") as writer:
            writer.resume(state, offset=len(data))
            with writer.read() as reader:
                assert rest(reader) == data
            writer.publish(BLOB, replace=True)
    replica().discard_upload("u1", state)
    replica().discard_upload("u1", state)
    assert content(replica()) == data


def test_a_writer_that_is_given_up_leaves_what_was_committed_and_nothing_else(replica: Open) -> None:
    driver = replica(1000)
    state = committed(driver, bytes_of(3000))
    before = [key for key, _ in driver._objects.keys(".uploads/")]
    with driver.open_upload("u1") as writer:
        writer.resume(state, offset=3000)
        writer.write(bytes_of(40_000))
    assert [key for key, _ in driver._objects.keys(".uploads/")] == before
    driver.discard_upload("u1")


def test_an_upload_that_no_row_knows_is_found_and_freed(replica: Open) -> None:
    driver = replica(1000)
    for name in ("u1", "u2"):
        dying = driver.open_upload(name)
        dying.resume(NO_STATE, offset=0)
        dying.write(bytes_of(5000))
        dying._own.clear()
        dying.close()
    assert sorted(entry.upload_id for entry in driver.uploads()) == ["u1", "u2"]
    driver.discard_upload("u1")
    assert [entry.upload_id for entry in driver.uploads()] == ["u2"]
    driver.discard_upload("u2")


def test_an_upload_has_at_most_what_one_object_can_have(replica: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.storage.gcs.upload.MOST_BYTES", 5000)
    with replica(1000).open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(bytes_of(5000))
        with pytest.raises(ObjectTooLarge):
            writer.write(bytes_of(2000))


def test_the_parts_of_a_plan_are_few_and_keep_their_order() -> None:
    plan, most = GCSUploadState(), 0
    for number in range(40_000):
        plan.parts.append(Part(f"{number}", 1, 0))
        while count := plan.due():
            assert count == MOST_SOURCES
            plan.merge(count, plan.parts[-count].name)
        most = max(most, len(plan.parts))
        begins = [int(part.name) for part in plan.parts]
        assert begins == sorted(begins)
    assert plan.size == 40_000
    assert most <= 31 * 4
    assert GCSUploadState.parse(plan.note()) == plan
