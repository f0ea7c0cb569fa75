"""Large blobs in an S3 store: how their parts are checked, copied, and read."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from registry.storage.errors import PathNotFound, PreconditionFailed, StorageUnavailable
from registry.storage.object_store.reader import REOPENED
from registry.storage.s3 import multipart
from registry.storage.s3.driver import S3Driver
from registry.storage.s3.requests import S3Request
from registry.storage.s3.responses import BytesDamaged
from registry.storage.s3.signature import UNSIGNED
from tests.storage.drivers import S3, s3_server, s3_settings
from tests.storage.s3.answering_store import Answer, AnsweringStore
from tests.storage.uploads import NO_STATE
from tests.support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from registry.storage.driver import UploadState

    Open = Callable[..., S3Driver]

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]

PART = S3.part_size
DATA = random.Random(5).randbytes(2 * PART + 300_000)
KEY = "storage/blobs/sha256/00"
MIB = 1 << 20


@pytest.fixture
def calls() -> Counter[str]:
    """How often the store was asked for what."""
    return Counter()


@pytest.fixture
def replica(calls: Counter[str], request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens drivers of one root of a bucket, as replicas do. Nothing but what was published is left."""
    opened: list[S3Driver] = []

    def observe(_driver: str, operation: str, _kind: str | None, _seconds: float, _failed: bool) -> None:
        calls[operation] += 1

    def do(**changes: object) -> S3Driver:
        settings = s3_settings().model_copy(update=changes)
        opened.append(S3Driver(settings, f"parts/{request.node.name}", observe=observe))
        return opened[-1]

    yield do
    for driver in opened:
        driver.close()
    last = S3Driver(s3_settings(), f"parts/{request.node.name}")
    left = [key for key, _ in last._objects.keys("") if not key.startswith("storage/")]
    pending = list(last._multiparts.pending())
    last.close()
    assert (left, pending) == ([], [])


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    server = s3_server()
    with FaultProxy(server.port, secret=server.secret) as running:
        yield running


def add(driver: S3Driver, state: UploadState, offset: int, data: bytes) -> UploadState:
    with driver.open_upload("u") as writer:
        writer.resume(state, offset=offset)
        writer.write(data)
        return writer.flush()


def publish(driver: S3Driver, state: UploadState, size: int) -> None:
    with driver.open_upload("u") as writer:
        writer.resume(state, offset=size)
        writer.publish(KEY)
    driver.discard_upload("u", state)


def content(driver: S3Driver) -> bytes:
    return driver.read(KEY, max_bytes=len(DATA) + 1)[0]


def received(driver: S3Driver) -> bytes:
    """The content, through a buffer."""
    buffer, data = memoryview(bytearray(MIB)), bytearray()
    with driver.open(KEY) as reader:
        while count := reader.read_into(buffer):
            data += buffer[:count]
    return bytes(data)


# How parts are checked.


@pytest.mark.parametrize("checksums", ["auto", "crc32c", "sha256"])
def test_the_store_is_asked_once_whether_it_compares(replica: Open, calls: Counter[str], checksums: str) -> None:
    driver = replica(checksums=checksums)
    for _ in range(2):
        calls.clear()
        state = add(driver, NO_STATE, 0, DATA)
        publish(driver, state, len(DATA))
        calls_of_one = Counter(calls)
    assert content(driver) == DATA
    assert calls_of_one["upload_part"] == 3
    assert driver._multiparts._checks.compares() == (checksums != "sha256")
    assert calls_of_one["put_object"] == 1  # the rest of the addition: the store was asked with the first upload


def test_a_part_that_is_full_at_the_end_of_an_addition_is_sent_as_one(replica: Open, calls: Counter[str]) -> None:
    driver = replica(checksums="sha256")
    data = DATA[: 2 * PART]
    state = add(driver, NO_STATE, 0, data)
    assert (calls["upload_part"], calls["put_object"]) == (2, 0)
    state = add(driver, state, len(data), DATA[2 * PART :])
    publish(driver, state, len(DATA))
    assert content(driver) == DATA


def test_asking_costs_three_requests(replica: Open, calls: Counter[str]) -> None:
    assert replica()._multiparts._checks.compares()
    assert calls == {"put_object": 2, "delete_object": 1}


@pytest.mark.parametrize("first", ["crc32c", "sha256"])
@pytest.mark.parametrize("then", ["crc32c", "sha256"])
def test_an_upload_goes_on_as_it_began_in_whatever_process(replica: Open, first: str, then: str) -> None:
    cut = PART + 700_000
    state = add(replica(checksums=first), NO_STATE, 0, DATA[:cut])
    other = replica(checksums=then)
    state = add(other, state, cut, DATA[cut:])
    publish(other, state, len(DATA))
    assert content(other) == DATA


def test_a_damaged_part_is_refused_and_sent_again(replica: Open, calls: Counter[str]) -> None:
    driver = replica(checksums="crc32c", attempts=2)
    multipart, checked = driver._multiparts.create(KEY)
    assert checked
    request = S3Request(
        "upload_part", "PUT", {"x-amz-checksum-crc32c": "AAAAAA=="}, {"partNumber": "1", "uploadId": multipart}, b"x"
    )
    with pytest.raises(BytesDamaged):
        driver._bucket.send(KEY, request._replace(payload=UNSIGNED))
    assert calls["upload_part"] == 2
    driver._multiparts.abort(KEY, multipart)


@pytest.mark.parametrize(
    ("answers", "compares"),
    [
        ([200, 200], False),
        ([400], False),
        ([501], False),
        ([200, 400], True),
        ([200, 500], False),
        ([200, 503], False),
    ],
)
def test_a_store_compares_if_it_takes_the_right_checksum_and_refuses_a_wrong_one(
    answers: list[int], compares: bool
) -> None:
    with AnsweringStore() as store:
        store.answers.extend(Answer(status) for status in answers)
        driver = S3Driver(S3.model_copy(update={"endpoint_url": store.url, "attempts": 1}), "")
        assert driver._multiparts._checks.compares() is compares
        driver.close()
    sums = [asked.headers["x-amz-checksum-crc32c"] for asked in store.asked if asked.method == "PUT"]
    assert len(set(sums)) == len(sums) == len(answers)
    assert {asked.headers["x-amz-content-sha256"] for asked in store.asked if asked.method == "PUT"} == {UNSIGNED}


def test_a_store_that_does_not_answer_is_asked_again() -> None:
    with AnsweringStore() as store:
        store.answers.append(Answer(500))
        driver = S3Driver(S3.model_copy(update={"endpoint_url": store.url, "attempts": 1}), "")
        with pytest.raises(StorageUnavailable):
            driver._multiparts._checks.compares()
        store.answers.extend([Answer(200), Answer(400)])
        assert driver._multiparts._checks.compares()
        driver.close()


# How they are copied.


@pytest.fixture
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies above 6 MiB are made in parts of 5 MiB."""
    monkeypatch.setattr(multipart, "COPY_BYTES", 6 * MIB)
    monkeypatch.setattr(multipart, "COPY_PART", 5 * MIB)


@pytest.mark.usefixtures("small_copies")
def test_what_is_large_is_copied_in_parts(replica: Open, calls: Counter[str]) -> None:
    driver = replica()
    state = add(driver, NO_STATE, 0, DATA)
    calls.clear()
    publish(driver, state, len(DATA))
    assert content(driver) == DATA
    assert calls["upload_part_copy"] == 3
    assert calls["copy_object"] == 0
    assert calls["create_multipart_upload"] == 1
    assert calls["complete_multipart_upload"] == 2


@pytest.mark.usefixtures("small_copies")
def test_a_copy_of_which_a_part_fails_leaves_nothing(replica: Open, proxy: FaultProxy) -> None:
    driver = replica(endpoint_url=proxy.url, attempts=1)
    state = add(driver, NO_STATE, 0, DATA)
    rule = proxy.fail("UploadPartCopy", query_contains="partNumber=2", status=500)
    with pytest.raises(StorageUnavailable):
        publish(driver, state, len(DATA))
    assert rule.hits == 1
    assert [pending.target for pending in driver._multiparts.pending()] == []
    with pytest.raises(PathNotFound):
        driver.stat(KEY)
    publish(driver, state, len(DATA))  # the client's next attempt
    assert content(driver) == DATA


@pytest.mark.usefixtures("small_copies")
def test_a_copy_that_was_killed_is_found_by_expiry(replica: Open, proxy: FaultProxy) -> None:
    driver = replica(endpoint_url=proxy.url, attempts=1)
    state = add(driver, NO_STATE, 0, DATA)
    proxy.fail("UploadPartCopy", query_contains="partNumber=2", status=500)
    proxy.fail("AbortMultipartUpload", status=500)  # as far as the store can tell, this process was killed
    with pytest.raises(StorageUnavailable):
        publish(driver, state, len(DATA))
    (abandoned,) = [entry for entry in driver.uploads() if entry.upload_id.startswith("part-")]
    driver.discard_upload(abandoned.upload_id)
    publish(driver, state, len(DATA))
    assert content(driver) == DATA


# How a version is copied.

SOURCE = "storage/zot/blobs/sha256/00"
TAG = '"other"'


def copies(driver: S3Driver, size: int = len(DATA), tag: str | None = None) -> None:
    there = driver.stat(SOURCE)
    driver.copy(SOURCE, KEY, size=size, if_etag=tag or there.etag)


@pytest.mark.usefixtures("small_copies")
@pytest.mark.parametrize("size", [6 * MIB, 6 * MIB + 1, len(DATA)])
def test_a_version_of_any_size_is_copied_inside_the_store(replica: Open, calls: Counter[str], size: int) -> None:
    driver = replica()
    driver.write(SOURCE, DATA[:size])
    calls.clear()
    copies(driver, size)
    assert calls["get_object"] == (size > 6 * MIB)  # the note of parts that a killed copy left
    assert calls["upload_part"] == 0
    assert content(driver) == DATA[:size]


@pytest.mark.usefixtures("small_copies")
def test_parts_of_another_version_are_not_copied_and_leave_nothing(replica: Open) -> None:
    driver = replica()
    driver.write(SOURCE, DATA)
    with pytest.raises(PreconditionFailed):
        copies(driver, tag=TAG)
    assert list(driver._multiparts.pending()) == []
    driver.delete([SOURCE])
    with pytest.raises(PathNotFound):
        driver.copy(SOURCE, KEY, size=len(DATA), if_etag=TAG)
    with pytest.raises(PathNotFound):
        driver.stat(KEY)
    (noted,) = driver.uploads()
    driver.discard_upload(noted.upload_id)


@pytest.mark.usefixtures("small_copies")
def test_a_copy_drops_the_parts_of_a_killed_one_and_no_others(replica: Open, proxy: FaultProxy) -> None:
    driver = replica(endpoint_url=proxy.url, attempts=1)
    driver.write(SOURCE, DATA)
    pushed, checked = driver._multiparts.create(KEY)  # by a client that pushes the same blob at this moment
    proxy.fail("UploadPartCopy", query_contains="partNumber=2", status=500)
    proxy.fail("AbortMultipartUpload", status=500)  # as far as the store can tell, this process was killed
    with pytest.raises(StorageUnavailable):
        copies(driver)
    assert len(list(driver._multiparts.pending())) == 2
    copies(replica())
    assert content(driver) == DATA
    assert [pending.multipart for pending in driver._multiparts.pending()] == [pushed]
    assert driver._multiparts.send(KEY, pushed, 1, b"theirs", checked=checked).tag
    driver._multiparts.abort(KEY, pushed)


@pytest.mark.usefixtures("small_copies")
def test_a_killed_copy_to_a_key_that_is_not_ours_is_found_by_expiry(replica: Open, proxy: FaultProxy) -> None:
    driver = replica(endpoint_url=proxy.url, attempts=1)
    source = driver.write(KEY, DATA)
    proxy.fail("UploadPartCopy", query_contains="partNumber=2", status=500)
    proxy.fail("AbortMultipartUpload", status=500)
    target = "storage/app/blobs/sha256/00"
    with pytest.raises(StorageUnavailable):
        driver.copy(KEY, target, size=len(DATA), if_etag=source.etag)
    multipart = f"{driver._bucket.root}{target}"
    listed = s3_server().client().list_multipart_uploads
    assert [entry["Key"] for entry in listed(Bucket=driver._bucket.name, Prefix=multipart)["Uploads"]] == [multipart]
    (abandoned,) = driver.uploads()
    driver.discard_upload(abandoned.upload_id)
    assert listed(Bucket=driver._bucket.name, Prefix=multipart).get("Uploads", []) == []


@pytest.mark.usefixtures("small_copies")
def test_parts_that_were_put_together_and_whose_answer_was_lost_are_a_copy(replica: Open, proxy: FaultProxy) -> None:
    """Else the source, which is there, would be taken for lost."""
    driver = replica(endpoint_url=proxy.url)
    driver.write(SOURCE, DATA)
    rule = proxy.fail("CompleteMultipartUpload", status=None, after=True)
    copies(driver)
    assert rule.hits == 1
    assert content(driver) == DATA


@pytest.mark.usefixtures("small_copies")
def test_parts_that_the_store_has_lost_are_no_lost_source(replica: Open, proxy: FaultProxy) -> None:
    driver = replica(endpoint_url=proxy.url)
    driver.write(SOURCE, DATA)
    proxy.fail("CompleteMultipartUpload", status=404)
    with pytest.raises(StorageUnavailable):
        copies(driver)
    copies(driver)
    assert content(driver) == DATA


# How they are read.


@pytest.mark.parametrize("size", [100_000, MIB, 2 * len(DATA)])
def test_a_reader_fills_a_buffer(replica: Open, size: int) -> None:
    driver = replica()
    driver.write(KEY, DATA)
    buffer, parts = memoryview(bytearray(size)), []
    with driver.open(KEY, offset=3, length=len(DATA) - 5) as reader:
        while count := reader.read_into(buffer):
            parts.append(bytes(buffer[:count]))
            parts.append(reader.read(7))  # the two may take turns
        assert reader.read_into(buffer) == 0
        assert reader.read(1) == b""
    assert b"".join(parts) == DATA[3:-2]
    assert all(len(part) == size for part in parts[:-2:2])


def test_a_reader_goes_on_through_connections_that_break(replica: Open, proxy: FaultProxy) -> None:
    driver = replica(endpoint_url=proxy.url)
    driver.write(KEY, DATA)
    proxy.cut("GetObject", response=3 * MIB, times=REOPENED)
    assert received(driver) == DATA
    proxy.cut("GetObject", response=MIB, times=None)
    with pytest.raises(StorageUnavailable):
        received(driver)


def test_a_store_that_copies_no_parts_is_sent_them(replica: Open, proxy: FaultProxy, calls: Counter[str]) -> None:
    refused = proxy.fail("UploadPartCopy", status=501, times=None)
    driver = replica(endpoint_url=proxy.url)
    for number in range(2):
        state = driver.start_upload(f"u{number}", readable=True)
        with driver.open_upload(f"u{number}") as writer:
            writer.resume(state, offset=0, key=f"{KEY}{number}")
            writer.write(DATA)
            state = writer.flush()
            writer.publish(f"{KEY}{number}")
        driver.discard_upload(f"u{number}", state)
        assert driver.read(f"{KEY}{number}", max_bytes=len(DATA))[0] == DATA
        if number == 0:
            asked = refused.hits
    assert refused.hits == asked, "it is asked no more"
    assert calls["upload_part"] == 6
