"""The driver of Google Cloud Storage and a store that fails: what is repeated, and what is raised."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry.clocks import boot_seconds
from registry.config.sections import GcsSettings
from registry.storage.driver import CHUNK_SIZE, ObjectReader, StorageDriver
from registry.storage.errors import (
    AlreadyExists,
    PathNotFound,
    PreconditionFailed,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreMisconfigured,
    Throttled,
    Unanswered,
    UploadNotResumable,
)
from registry.storage.gcs.driver import GcsDriver
from registry.storage.object_store.parts import PartBuffers
from tests.storage.gcs import store as gcs_store
from tests.storage.gcs.faults import (
    Fault,
    Faults,
    Rule,
    cut_after,
    lose,
    lose_as,
    reset,
    silence,
    stall_after,
    status,
    text,
)
from tests.storage.uploads import NO_STATE
from tests.support.servers import free_port

pytestmark = pytest.mark.tools(gcs_store.PROGRAM)

KEY = "team/app/index.json"
BLOB = "storage/blobs/sha256/00"
ATTEMPTS = 3


@pytest.fixture
def faults() -> Iterator[Faults]:
    with Faults(gcs_store.endpoint()) as server:
        yield server


@pytest.fixture
def driver(faults: Faults) -> Iterator[GcsDriver]:
    changed = {"endpoint_url": faults.address, "attempts": ATTEMPTS, "read_timeout": 1.0}
    opened = GcsDriver(gcs_store.new_bucket().model_copy(update=changed), gcs_store.ROOT)
    opened._buffers = PartBuffers(1000, 2)
    opened._objects.retry._retrying.sleep = lambda _: None
    yield opened
    opened.close()


def publish_parts(driver: StorageDriver) -> None:
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0, key=BLOB)
        writer.write(b"x" * 3500)
        writer.publish(BLOB)
    driver.discard_upload("u1")


def read_open(driver: StorageDriver) -> None:
    with driver.open("there") as reader:
        rest(reader)


OPERATIONS: dict[str, Callable[[StorageDriver], object]] = {
    "stat": lambda driver: driver.stat("there"),
    "read": lambda driver: driver.read("there", max_bytes=100),
    "open": read_open,
    "write": lambda driver: driver.write(KEY, b"x"),
    "write if absent": lambda driver: driver.write(KEY, b"x", if_absent=True),
    "write if same": lambda driver: driver.write("there", b"x", if_etag=driver.stat("there").etag),
    "list": lambda driver: list(driver.list("")),
    "children": lambda driver: list(driver.children("")),
    "delete": lambda driver: driver.delete(["there"]),
    "delete many": lambda driver: driver.delete(["there", "a", "b"]),
    "uploads": lambda driver: list(driver.uploads()),
    "discard": lambda driver: driver.discard_upload("u1"),
    "copy": lambda driver: driver.copy("there", BLOB, size=50, if_etag=driver.stat("there").etag),
    "check": lambda driver: driver.check(),
    "upload": publish_parts,
}
SOME_OPERATIONS = ("open", "write if absent", "list", "delete many", "upload")
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())

PASSING: dict[str, tuple[Fault, type[StorageError]]] = {
    "500": (status(500), StorageUnavailable),
    "502": (text(502, b"<html>Bad Gateway</html>"), StorageUnavailable),
    "503": (status(503), Throttled),
    "504": (status(504), StorageUnavailable),
    "408": (status(408), StorageUnavailable),
    "429": (status(429), Throttled),
    "403 rate": (status(403, reason="rateLimitExceeded"), Throttled),
    "reset": (reset, StorageUnavailable),
    "silence": (silence, StorageUnavailable),
    "lost": (lose, StorageUnavailable),
    "lost as 503": (lose_as(503), Throttled),
    "cut": (cut_after(3), StorageUnavailable),
    "stall": (stall_after(3), StorageUnavailable),
    "damaged": (status(400, 'Provided CRC32C "AAAAAA==" does not match', "invalid"), StorageUnavailable),
}
"""What goes away by itself."""
LATE = ("504", "silence", "stall")
"""The request may still be carried out."""

LASTING: dict[str, tuple[Fault, type[StorageError], str]] = {
    "401": (status(401, "Invalid Credentials"), StoreMisconfigured, "storage.gcs.credentials_file"),
    "403": (status(403, "no access", "forbidden"), StoreMisconfigured, "storage.gcs.bucket"),
    "404 bucket": (
        status(404, "The specified bucket does not exist.", "notFound"),
        StoreMisconfigured,
        "storage.gcs.bucket",
    ),
    "404 bucket as text": (
        text(404, b"The specified bucket does not exist."),
        StoreMisconfigured,
        "storage.gcs.bucket",
    ),
    "400": (status(400, "Invalid bucket name: 'x'", "invalid"), StoreMisconfigured, "Invalid bucket name"),
    "302": (status(302, headers={"Location": "http://127.0.0.1/"}), StoreMisconfigured, "storage.gcs.endpoint_url"),
    "507": (status(507), StorageFull, "507"),
    "403 quota": (status(403, reason="quotaExceeded"), StorageFull, "quotaExceeded"),
}
"""What does not."""


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        *((operation, fault) for operation in OPERATIONS for fault in ("503", "reset", "lost")),
        *(
            (operation, fault)
            for operation in SOME_OPERATIONS
            for fault in PASSING
            if not (fault in LATE and operation.startswith("delete"))
        ),
    ],
)
def test_what_fails_once_is_done_again(driver: GcsDriver, faults: Faults, operation: str, fault: str) -> None:
    driver.write("there", b"x" * 50)
    faults.seen.clear()
    faults.rules.append(Rule(PASSING[fault][0], times=1))
    OPERATIONS[operation](driver)
    assert faults.rules[0].times == 0
    assert len(faults.seen) > 1


@pytest.mark.parametrize("fault", LATE)
@pytest.mark.parametrize("operation", ["delete", "delete many"])
def test_a_delete_that_may_still_be_carried_out_is_not_repeated(
    driver: GcsDriver, faults: Faults, operation: str, fault: str
) -> None:
    """It could come after what was published since (I7)."""
    faults.rules.append(Rule(PASSING[fault][0], times=1))
    with pytest.raises(Unanswered):
        OPERATIONS[operation](driver)
    assert len(faults.seen) == 1


@pytest.mark.parametrize("fault", ["500", "503", "silence", "reset"])
def test_a_delete_that_is_to_be_sent_once_is_and_names_its_generation(
    driver: GcsDriver, faults: Faults, fault: str
) -> None:
    etag = driver.write("there", b"x").etag
    faults.seen.clear()
    faults.rules.append(Rule(PASSING[fault][0], times=1))
    with pytest.raises(PASSING[fault][1]):
        driver.delete_once("there", etag=etag, deadline=boot_seconds() + 30)
    (asked,) = faults.seen
    assert asked.method == "DELETE"
    assert asked.target.endswith(f"?ifGenerationMatch={etag}")


@every_operation
@pytest.mark.parametrize(
    ("fault", "error"), [PASSING[name] for name in ("500", "429", "reset")], ids=["500", "429", "reset"]
)
def test_what_always_fails_is_given_up_and_told_in_our_words(
    driver: GcsDriver,
    faults: Faults,
    operation: Callable[[StorageDriver], object],
    fault: Fault,
    error: type[StorageError],
) -> None:
    driver.write("there", b"x" * 50)
    faults.seen.clear()
    faults.rules.append(Rule(fault))
    with pytest.raises(error):
        operation(driver)
    assert ATTEMPTS <= len(faults.seen) <= 2 * ATTEMPTS  # an upload also tries to free what it sent


@pytest.mark.parametrize(("fault", "error"), PASSING.values(), ids=PASSING)
def test_each_failure_has_its_error(driver: GcsDriver, faults: Faults, fault: Fault, error: type[StorageError]) -> None:
    driver.write("there", b"x" * 50)
    faults.rules.append(Rule(fault))
    with pytest.raises(error):
        driver.stat("there")


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"{}", b"[]", b""])
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "delete"])
def test_an_answer_that_is_not_of_the_store_is_none(
    driver: GcsDriver, faults: Faults, operation: str, body: bytes
) -> None:
    driver.write("there", b"x" * 50)
    faults.rules.append(Rule(text(200, body)))
    with pytest.raises(StorageUnavailable):
        OPERATIONS[operation](driver)


@pytest.mark.parametrize("operation", SOME_OPERATIONS)
@pytest.mark.parametrize(("fault", "error", "says"), LASTING.values(), ids=LASTING)
def test_a_refusal_is_not_repeated_and_says_what_to_check(
    driver: GcsDriver,
    faults: Faults,
    operation: str,
    fault: Fault,
    error: type[StorageError],
    says: str,
) -> None:
    driver.write("there", b"x" * 50)
    faults.seen.clear()
    faults.rules.append(Rule(fault))
    with pytest.raises(error, match=says):
        OPERATIONS[operation](driver)
    assert len(faults.seen) <= 3


def test_a_bucket_that_is_not_there_is_told_by_its_key(faults: Faults) -> None:
    settings = gcs_store.new_bucket().model_copy(update={"bucket": "another-bucket"})
    driver = GcsDriver(settings, gcs_store.ROOT)
    for operation in ("check", "list", "write", "upload"):
        with pytest.raises(StoreMisconfigured, match=r"storage\.gcs\.bucket"):
            OPERATIONS[operation](driver)
    driver.close()


@every_operation
def test_a_store_where_no_server_listens_is_unavailable(operation: Callable[[StorageDriver], object]) -> None:
    changed = {"endpoint_url": f"http://127.0.0.1:{free_port()}", "attempts": 2}
    driver = GcsDriver(gcs_store.new_bucket().model_copy(update=changed), "")
    with pytest.raises(StorageUnavailable):
        operation(driver)
    driver.close()


# ---- readers


def rest(reader: ObjectReader) -> bytes:
    parts = []
    while part := reader.read(CHUNK_SIZE):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("offset", "length"), [(0, None), (7, None), (100_000, 1_500_000)])
def test_a_reader_goes_on_where_its_connection_broke(
    driver: GcsDriver, faults: Faults, offset: int, length: int | None
) -> None:
    data = os.urandom(3 * CHUNK_SIZE)
    written = driver.write(BLOB, data)
    faults.seen.clear()
    faults.rules += [Rule(cut_after(700_000), times=1), Rule(reset, times=1), Rule(stall_after(100_000), times=1)]
    faults.rules.append(Rule(cut_after(100_000), times=1))
    end = len(data) if length is None else offset + length
    with driver.open(BLOB, offset=offset, length=length) as reader:
        assert rest(reader) == data[offset:end]
    assert all(f"generation={written.etag}" in seen.target for seen in faults.seen[1:])


def test_a_reader_gives_up_when_connections_go_on_breaking(driver: GcsDriver, faults: Faults) -> None:
    driver.write(BLOB, os.urandom(3 * CHUNK_SIZE))
    faults.rules.append(Rule(cut_after(1000)))
    with driver.open(BLOB) as reader, pytest.raises(StorageUnavailable):
        rest(reader)


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_reader_never_goes_on_in_another_version(driver: GcsDriver, faults: Faults, change: str) -> None:
    driver.write(BLOB, b"1" * 3_000_000)
    faults.rules.append(Rule(cut_after(700_000), method="GET", times=1))
    with driver.open(BLOB) as reader:
        if change == "replaced":
            driver.write(BLOB, b"2" * 3_000_000)
        else:
            driver.delete([BLOB])
        with pytest.raises(StorageUnavailable, match="while it was read"):
            rest(reader)


# ---- bodies


def test_a_part_that_the_store_does_not_take_is_given_up_and_its_memory_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts, and reads nothing
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        settings = GcsSettings(
            bucket="bucket", endpoint_url=address, anonymous=True, attempts=2, connect_timeout=0.2, read_timeout=0.2
        )
        driver = GcsDriver(settings, "")
        data = bytearray(20 << 20)
        begin = time.monotonic()
        with pytest.raises(StorageUnavailable) as raised:
            driver._objects.put(BLOB, data)
        assert time.monotonic() - begin < 40
        del data[10:]  # a BufferError, were a slice of it alive in the traceback
        assert raised.value.key == BLOB
        driver.close()


def test_bytes_that_look_like_the_protocol_are_only_bytes(driver: GcsDriver, faults: Faults) -> None:
    driver.write(KEY, b"x")
    boundary = faults.seen[-1].headers["content-type"].rpartition("=")[2]
    data = f"--{boundary}\r\n\r\n--{boundary}--\r\n".encode() * 2
    driver.write(KEY, data)
    assert driver.read(KEY, max_bytes=1000)[0] == data


# ---- lost answers


@pytest.mark.parametrize("fault", [lose, lose_as(500), lose_as(503)])
def test_a_conditional_write_whose_answer_was_lost_is_known_by_its_bytes(
    driver: GcsDriver, faults: Faults, fault: Fault
) -> None:
    faults.rules.append(Rule(fault, part="uploadType", times=1))
    first = driver.write(KEY, b"first", if_absent=True)
    assert driver.stat(KEY).is_same(first)
    faults.rules.append(Rule(fault, part="uploadType", times=1))
    second = driver.write(KEY, b"second", if_etag=first.etag)
    assert driver.stat(KEY).is_same(second)


@pytest.mark.parametrize("absent", [True, False])
def test_a_conditional_write_whose_answer_was_lost_is_no_excuse_for_another_ones_bytes(
    driver: GcsDriver, faults: Faults, absent: bool
) -> None:
    etag = "1" if absent else driver.write(KEY, b"old").etag

    def another_writes(handler: object) -> None:
        driver.write(KEY, b"another")
        reset(handler)  # type: ignore[arg-type]

    faults.rules += [Rule(another_writes, part="ifGenerationMatch", times=1)]
    with pytest.raises(AlreadyExists if absent else PreconditionFailed):
        driver.write(KEY, b"ours", if_absent=absent, if_etag=None if absent else etag)
    assert driver.read(KEY, max_bytes=10)[0] == b"another"


@pytest.mark.parametrize("size", [10, 3500])
@pytest.mark.parametrize("replace", [True, False])
def test_a_publication_whose_answer_was_lost_is_repeated(
    driver: GcsDriver, faults: Faults, size: int, replace: bool
) -> None:
    data = os.urandom(size)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(data)
        faults.rules.append(Rule(lose, part="uploadType" if size < 1000 else "compose", times=1))
        published = writer.publish(BLOB, replace=replace)
    assert driver.stat(BLOB).is_same(published)
    assert driver.read(BLOB, max_bytes=size)[0] == data


# ---- copies


def test_another_generation_is_not_copied(driver: GcsDriver) -> None:
    old = driver.write("there", b"source")
    driver.write("there", b"SOURCE")
    with pytest.raises(PreconditionFailed):
        driver.copy("there", BLOB, size=6, if_etag=old.etag)
    with pytest.raises(PathNotFound):
        driver.stat(BLOB)


def test_a_store_that_ignores_the_condition_is_found_out_by_the_size(driver: GcsDriver, faults: Faults) -> None:
    there = driver.write("there", b"source")
    copied = {"done": True, "resource": {"size": "7", "generation": "9", "updated": "2026-01-01T00:00:00Z"}}
    faults.rules.append(Rule(text(200, json.dumps(copied).encode()), part="rewriteTo", times=1))
    with pytest.raises(PreconditionFailed):
        driver.copy("there", BLOB, size=6, if_etag=there.etag)


def test_a_copy_that_takes_several_requests_goes_on_where_it_was(driver: GcsDriver, faults: Faults) -> None:
    there = driver.write("there", b"source")
    for token in ("one", "two"):
        part = "rewriteToken=one" if token == "two" else "rewriteTo"
        faults.rules.insert(0, Rule(text(200, b'{"rewriteToken": "%s"}' % token.encode()), part=part, times=1))
    driver.copy("there", BLOB, size=6, if_etag=there.etag)
    assert driver.read(BLOB, max_bytes=6)[0] == b"source"
    asked = [seen.target for seen in faults.seen if "rewriteTo" in seen.target]
    assert ["rewriteToken=one" in asked[1], "rewriteToken=two" in asked[2], len(asked)] == [True, True, 3]


def test_a_copy_that_is_not_done_and_does_not_go_on_has_failed(driver: GcsDriver, faults: Faults) -> None:
    there = driver.write("there", b"source")
    faults.rules.append(Rule(text(200, b"{}"), part="rewriteTo", times=1))
    with pytest.raises(StorageUnavailable):
        driver.copy("there", BLOB, size=6, if_etag=there.etag)


# ---- deletions


def test_of_many_deletions_only_those_that_failed_are_asked_for_again(driver: GcsDriver, faults: Faults) -> None:
    keys = [f"a/{number}" for number in range(5)]
    for key in keys:
        driver.write(key, b"x")

    def one_fails(handler: object) -> None:
        code, headers, body = handler.ask()  # type: ignore[attr-defined]
        last = body.rindex(b"HTTP/1.1 200 OK")
        body = body[:last] + b"HTTP/1.1 503 Slow" + body[last + 15 :]
        handler.answer(code, headers, body)  # type: ignore[attr-defined]

    faults.rules.append(Rule(one_fails, part="/batch/", times=1))
    faults.seen.clear()
    driver.delete(keys)
    assert [seen.method for seen in faults.seen] == ["POST", "DELETE"]
    assert list(driver.list("")) == []


def test_a_deletion_that_is_refused_is_no_deletion(driver: GcsDriver, faults: Faults) -> None:
    def one_fails(handler: object) -> None:
        code, headers, body = handler.ask()  # type: ignore[attr-defined]
        handler.answer(code, headers, body.replace(b"200 OK", b"403 Forbidden", 1))  # type: ignore[attr-defined]

    for key in ("a/1", "a/2"):
        driver.write(key, b"x")
    faults.rules.append(Rule(one_fails, part="/batch/"))
    with pytest.raises(StoreMisconfigured):
        driver.delete(["a/1", "a/2"])


def test_250_deletions_are_three_requests(driver: GcsDriver, faults: Faults) -> None:
    keys = [f"a/{number}" for number in range(250)]
    for key in keys[:120]:
        driver.write(key, b"")
    faults.seen.clear()
    driver.delete(keys)
    assert faults.count("POST", "/batch/storage/v1") == len(faults.seen) == 3
    assert list(driver.list("")) == []


# ---- uploads


def test_a_part_that_could_not_be_sent_ends_the_writer_and_not_the_upload(driver: GcsDriver, faults: Faults) -> None:
    data = os.urandom(300_000)
    driver._buffers = PartBuffers(270_000, 2)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(data)
        kept = writer.flush()
        faults.rules.append(Rule(status(500), part="uploadType"))
        with pytest.raises(StorageUnavailable):
            writer.write(data * 5)
        with pytest.raises(UploadNotResumable):
            writer.write(b"more")
        with pytest.raises(UploadNotResumable):
            writer.flush()
        faults.rules.clear()
    with driver.open_upload("u1") as writer:
        writer.resume(kept, offset=len(data))
        writer.write(data)
        writer.publish(BLOB)
    driver.discard_upload("u1", kept)
    assert driver.read(BLOB, max_bytes=1 << 20)[0] == data * 2
    assert list(driver.uploads()) == []


@pytest.mark.parametrize(("size", "kept"), [(3500, True), (3501, False)])
def test_an_object_of_the_same_size_is_the_same_one_unless_it_is_to_be_replaced(
    driver: GcsDriver, size: int, kept: bool
) -> None:
    old = driver.write(BLOB, b"o" * size)
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(b"n" * 3500)
        assert writer.publish(BLOB).is_same(old) is kept
        assert driver.read(BLOB, max_bytes=4000)[0][:1] == (b"o" if kept else b"n")
        writer.publish(BLOB, replace=True)
    assert driver.read(BLOB, max_bytes=4000)[0] == b"n" * 3500


def test_publishing_what_was_discarded_says_so(driver: GcsDriver, faults: Faults) -> None:
    with driver.open_upload("u1") as writer:
        writer.resume(NO_STATE, offset=0)
        writer.write(b"n" * 3500)
        faults.rules.append(Rule(status(404, "Object bucket/x not found.", "notFound"), part="compose"))
        with pytest.raises(PathNotFound):
            writer.publish(BLOB)


def test_a_driver_that_is_closed_holds_no_connection_although_an_error_of_it_is_kept(
    driver: GcsDriver, faults: Faults
) -> None:
    with pytest.raises(PathNotFound) as kept:
        driver.stat("missing")
    assert connections_to(int(faults.address.rpartition(":")[2])) == 1
    driver.close()
    assert connections_to(int(faults.address.rpartition(":")[2])) == 0
    assert kept.value.__traceback__ is not None


def connections_to(port: int) -> int:
    """The sockets of this process that are connected to a port of this machine."""
    found = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as connection:
            found += connection.getpeername()[1:2] == (port,)
    return found
