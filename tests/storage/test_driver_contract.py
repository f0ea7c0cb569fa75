"""The contract of every driver and decorator: objects. Uploads, listings and processes have files of their own."""

from __future__ import annotations

import hashlib
import math
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.storage.driver import CHUNK_SIZE, StorageDriver
from registry.storage.errors import (
    AlreadyExists,
    ObjectTooLarge,
    PathNotFound,
    PreconditionFailed,
    UnsupportedOperation,
)
from tests.storage.drivers import DriverCase, cases
from tests.storage.uploads import publish
from tests.storage.workers import add_one

KEY = "team/app/index.json"

with_appends = pytest.mark.parametrize("case", cases(lambda case: case.capabilities.appends), indirect=True)
without_appends = pytest.mark.parametrize("case", cases(lambda case: not case.capabilities.appends), indirect=True)
with_links = pytest.mark.parametrize("case", cases(lambda case: case.capabilities.links), indirect=True)
without_links = pytest.mark.parametrize("case", cases(lambda case: not case.capabilities.links), indirect=True)
concurrent = pytest.mark.parametrize(
    "case", cases(lambda case: case.concurrent and case.capabilities.conditional_writes), indirect=True
)
conditional = pytest.mark.parametrize("case", cases(lambda case: case.capabilities.conditional_writes), indirect=True)


def content(driver: StorageDriver, key: str) -> bytes:
    return driver.read(key, max_bytes=1 << 24)[0]


def test_the_row_of_the_table_says_what_the_driver_says(driver: StorageDriver, case: DriverCase) -> None:
    assert driver.capabilities == case.capabilities
    assert driver.name == driver.name.lower()


# ---- writing and reading


def test_what_was_written_is_read_with_its_stat(driver: StorageDriver) -> None:
    before = time.time()
    written = driver.write(KEY, b"{}")
    data, stat = driver.read(KEY, max_bytes=2)
    assert data == b"{}"
    assert stat == driver.stat(KEY)
    assert stat.is_same(written)
    assert stat.size == 2
    assert before - 1 <= stat.modified <= time.time() + 1


def test_the_names_that_share_bytes_are_counted(driver: StorageDriver) -> None:
    driver.write(KEY, b"{}")
    assert driver.stat_links(KEY) == (driver.stat(KEY), 1)
    if driver.capabilities.links:
        driver.link(KEY, "b/x")
        assert driver.stat_links(KEY) == driver.stat_links("b/x") == (driver.stat(KEY), 2)
        driver.delete(["b/x"])
        assert driver.stat_links(KEY).links == 1
    with pytest.raises(PathNotFound):
        driver.stat_links("missing")


def test_an_empty_object_is_an_object(driver: StorageDriver) -> None:
    driver.write(KEY, b"")
    assert driver.read(KEY, max_bytes=0) == (b"", driver.stat(KEY))
    with driver.open(KEY) as reader:
        assert reader.read(1) == b""


def test_an_absent_key_is_not_found(driver: StorageDriver) -> None:
    driver.write(KEY, b"{}")
    for absent in ("nothing", "team/nothing", "nothing/at/all", f"{KEY}/below-an-object", "team/" + "x" * 200):
        with pytest.raises(PathNotFound):
            driver.stat(absent)
        with pytest.raises(PathNotFound):
            driver.read(absent, max_bytes=10)
        with pytest.raises(PathNotFound):
            driver.open(absent)


def test_a_prefix_is_no_object(driver: StorageDriver) -> None:
    driver.write(KEY, b"{}")
    for prefix in ("team", "team/app"):
        with pytest.raises(PathNotFound):
            driver.stat(prefix)
        with pytest.raises(PathNotFound):
            driver.read(prefix, max_bytes=10)
        with pytest.raises(PathNotFound):
            driver.open(prefix)


def test_a_bounded_read_refuses_a_larger_object(driver: StorageDriver) -> None:
    driver.write(KEY, b"12345")
    with pytest.raises(ObjectTooLarge):
        driver.read(KEY, max_bytes=4)
    assert content(driver, KEY) == b"12345"


def test_the_etag_changes_with_the_bytes(driver: StorageDriver) -> None:
    etags = [driver.write(KEY, b"%03d" % number).etag for number in range(200)]
    assert len(set(etags)) == len(etags)


@pytest.mark.parametrize(
    "key",
    [
        "", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./a", "a/./b", "a/.", ".", "a//b", "a/", "/", "a\0b",
        ".uploads/x", ".uploads", ".locks/00", "a/.tmp-x", ".tmp-x",
    ],
)  # fmt: skip
def test_a_key_that_leads_elsewhere_is_refused_by_every_method(driver: StorageDriver, key: str) -> None:
    driver.write(KEY, b"{}")
    driver.start_upload("u")
    calls: list[Callable[[], object]] = [
        lambda: driver.stat(key),
        lambda: driver.read(key, max_bytes=1),
        lambda: driver.open(key),
        lambda: driver.write(key, b""),
        lambda: driver.delete([key]),
        lambda: driver.delete_once(key, etag="e", deadline=math.inf),
        lambda: publish(driver, "u", key),
    ]
    if key:
        calls += [lambda: list(driver.list(key)), lambda: list(driver.children(key))]
    if driver.capabilities.appends:
        calls.append(lambda: driver.append(key, b"x\n"))
    if driver.capabilities.links:
        calls += [lambda: driver.link(KEY, key), lambda: driver.link(key, "team/other")]
    for call in calls:
        with pytest.raises(ValueError, match="not a storage key"):
            call()
    assert [found for found, _ in driver.list("")] == [KEY]


@pytest.mark.parametrize("key", ["a.b/c..d", "...", "a/...", ".journal/x", "a/.journal/x", "a/ b", "a/ü", "-", "a/.t"])
def test_a_key_that_only_looks_odd_is_served(driver: StorageDriver, key: str) -> None:
    driver.write(key, b"odd")
    assert content(driver, key) == b"odd"
    assert [found for found, _ in driver.list("")] == [key]


# ---- readers


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 10, b"89"), (10, None, b""), (11, 5, b""),
     (4, 0, b"")],
)  # fmt: skip
def test_a_reader_gives_its_range(driver: StorageDriver, offset: int, length: int | None, expected: bytes) -> None:
    driver.write(KEY, b"0123456789")
    with driver.open(KEY, offset=offset, length=length) as reader:
        assert reader.stat == driver.stat(KEY)
        parts = []
        while part := reader.read(3):
            assert len(part) <= 3
            parts.append(part)
        assert b"".join(parts) == expected
        assert reader.read(3) == b""


def test_a_reader_keeps_its_version_when_the_object_is_replaced_or_deleted(driver: StorageDriver) -> None:
    old = os.urandom(3 * CHUNK_SIZE)
    driver.write(KEY, old)
    with driver.open(KEY) as first, driver.open(KEY) as second:
        assert first.read(10) == old[:10]
        driver.write(KEY, b"new")
        assert second.read(10) == old[:10]
        driver.delete([KEY])
        rest = b""
        while part := first.read(CHUNK_SIZE):
            rest += part
        assert rest == old[10:]


def test_the_file_descriptor_of_a_reader_is_the_whole_object(driver: StorageDriver) -> None:
    driver.write(KEY, b"0123456789")
    with driver.open(KEY, offset=4, length=2) as reader:
        descriptor = reader.fileno()
        if descriptor is not None:
            assert os.pread(descriptor, 100, 0) == b"0123456789"
        assert reader.read(9) == b"45"


def test_clients_are_served_what_the_store_has(driver: StorageDriver) -> None:
    data = os.urandom(3 * CHUNK_SIZE + 5)
    key = f"storage/blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    stat = driver.write(key, data)
    for _ in range(2):
        found, seen = driver.serving.read(key, max_bytes=len(data))
        assert found == data
        assert seen.is_same(stat)
        with driver.serving.open(key, offset=5, length=CHUNK_SIZE) as part:
            assert b"".join(iter(lambda: part.read(CHUNK_SIZE), b"")) == data[5 : 5 + CHUNK_SIZE]
        with driver.serving.open(key) as reader:
            assert reader.stat.is_same(stat)
            assert b"".join(iter(lambda: reader.read(CHUNK_SIZE), b"")) == data
    driver.delete([key])
    with pytest.raises(PathNotFound):
        driver.serving.open(key)
    with pytest.raises(PathNotFound):
        driver.serving.read(key, max_bytes=len(data))


def test_a_reader_may_be_closed_twice(driver: StorageDriver) -> None:
    driver.write(KEY, b"x")
    reader = driver.open(KEY)
    reader.close()
    reader.close()
    assert reader.read(1) == b""


# ---- conditional writes


@conditional
def test_if_absent_creates_once(driver: StorageDriver) -> None:
    first = driver.write(KEY, b"first", if_absent=True)
    with pytest.raises(AlreadyExists):
        driver.write(KEY, b"second", if_absent=True)
    data, stat = driver.read(KEY, max_bytes=10)
    assert data == b"first"
    assert stat.is_same(first)


@conditional
def test_if_etag_replaces_that_version_only(driver: StorageDriver) -> None:
    first = driver.write(KEY, b"first")
    second = driver.write(KEY, b"second", if_etag=first.etag)
    with pytest.raises(PreconditionFailed):
        driver.write(KEY, b"third", if_etag=first.etag)
    data, stat = driver.read(KEY, max_bytes=10)
    assert data == b"second"
    assert stat.is_same(second)


@conditional
def test_if_etag_fails_where_the_object_is_gone(driver: StorageDriver) -> None:
    first = driver.write(KEY, b"first")
    driver.delete([KEY])
    with pytest.raises(PreconditionFailed):
        driver.write(KEY, b"second", if_etag=first.etag)
    with pytest.raises(PreconditionFailed):
        driver.write("new/key", b"second", if_etag=first.etag)
    assert list(driver.list("")) == []


@conditional
def test_an_empty_etag_is_of_no_object_and_does_not_mean_that_there_is_none(driver: StorageDriver) -> None:
    with pytest.raises(PreconditionFailed):
        driver.write(KEY, b"first", if_etag="")
    assert list(driver.list("")) == []
    driver.write(KEY, b"first")
    with pytest.raises(PreconditionFailed):
        driver.write(KEY, b"second", if_etag="")
    assert content(driver, KEY) == b"first"


@concurrent
def test_no_conditional_write_of_eight_threads_is_lost(driver: StorageDriver) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(add_one, driver, KEY) for _ in range(80)]:
            done.result()
    assert content(driver, KEY) == b"80"
    assert list(driver.uploads()) == []


@concurrent
def test_one_of_many_creators_wins(driver: StorageDriver) -> None:
    barrier = threading.Barrier(8)

    def create(number: int) -> bool:
        barrier.wait()
        try:
            driver.write(KEY, b"%d" % number, if_absent=True)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert content(driver, KEY) == b"%d" % won.index(True)


@concurrent
def test_a_reader_meets_whole_versions_only(driver: StorageDriver) -> None:
    versions = [bytes([65 + number]) * (1000 * number + 1) for number in range(8)]
    driver.write(KEY, versions[0])
    stop = threading.Event()

    def read() -> int:
        seen = 0
        while not stop.is_set():
            assert content(driver, KEY) in versions
            seen += 1
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for _ in range(10):
            for version in versions:
                driver.write(KEY, version)
        stop.set()
        assert all(reader.result() for reader in readers)


# ---- deleting


def test_delete_removes_and_does_not_mind_what_is_missing(driver: StorageDriver) -> None:
    for key in ("a/1", "a/2", "b/1"):
        driver.write(key, b"x")
    driver.delete(key for key in ("a/1", "missing", "no/such/prefix", "a/2/below", "a", "a/2", "a/1"))
    assert [key for key, _ in driver.list("")] == ["b/1"]
    driver.delete([])


def test_a_key_can_be_written_again_after_its_deletion(driver: StorageDriver) -> None:
    driver.write(KEY, b"x")
    driver.delete([KEY])
    with pytest.raises(PathNotFound):
        driver.stat(KEY)
    written = driver.write(KEY, b"x")
    assert driver.stat(KEY).is_same(written)


# ---- appends


@with_appends
def test_append_creates_and_adds(driver: StorageDriver) -> None:
    driver.append("team/app/.journal/1", b"one\n")
    driver.append("team/app/.journal/1", b"two\nthree\n")
    assert content(driver, "team/app/.journal/1") == b"one\ntwo\nthree\n"


@with_appends
def test_append_changes_the_etag(driver: StorageDriver) -> None:
    first = driver.write(KEY, b"one\n")
    driver.append(KEY, b"two\n")
    assert driver.stat(KEY).etag != first.etag


@with_appends
def test_concurrent_appends_are_never_mixed(driver: StorageDriver) -> None:
    lines = [b"%d-%d-" % (writer, number) + b"x" * (97 * writer) + b"\n" for writer in range(8) for number in range(10)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(driver.append, KEY, line) for line in lines]:
            done.result()
    assert sorted(content(driver, KEY).splitlines(keepends=True)) == sorted(lines)


@with_appends
def test_a_line_that_was_cut_short_spoils_itself_alone(driver: StorageDriver) -> None:
    driver.write(KEY, b"whole\ncut sho")
    driver.append(KEY, b"next\n")
    assert content(driver, KEY).splitlines() == [b"whole", b"cut sho", b"next"]


@without_appends
def test_a_driver_without_appends_says_so(driver: StorageDriver) -> None:
    with pytest.raises(UnsupportedOperation):
        driver.append(KEY, b"line\n")
    assert list(driver.list("")) == []


# ---- links


@with_links
def test_link_shares_the_bytes_of_an_object(driver: StorageDriver) -> None:
    source = driver.write("a/blobs/sha256/0", b"blob")
    linked = driver.link("a/blobs/sha256/0", "b/blobs/sha256/0")
    assert linked == source == driver.stat("b/blobs/sha256/0")
    driver.delete(["a/blobs/sha256/0"])
    assert content(driver, "b/blobs/sha256/0") == b"blob"


@with_links
def test_link_replaces_and_can_be_repeated(driver: StorageDriver) -> None:
    driver.write("a/x", b"source")
    driver.write("b/x", b"another, longer")
    for _ in range(2):
        driver.link("a/x", "b/x")
        assert content(driver, "b/x") == b"source"
    driver.link("a/x", "a/x")
    assert content(driver, "a/x") == b"source"
    assert list(driver.uploads()) == []


@with_links
def test_writing_to_one_name_leaves_the_other(driver: StorageDriver) -> None:
    driver.write("a/x", b"old")
    driver.link("a/x", "b/x")
    driver.write("a/x", b"new")
    assert content(driver, "b/x") == b"old"


@with_links
def test_link_of_a_missing_source_is_not_found(driver: StorageDriver) -> None:
    with pytest.raises(PathNotFound):
        driver.link("a/x", "b/x")
    driver.write("b/x", b"stays")
    with pytest.raises(PathNotFound):
        driver.link("a/x", "b/x")
    with pytest.raises(PathNotFound):
        driver.link("b", "c/x")
    assert [key for key, _ in driver.list("")] == ["b/x"]


@without_links
def test_a_driver_without_links_says_so(driver: StorageDriver) -> None:
    driver.write("a/x", b"source")
    with pytest.raises(UnsupportedOperation):
        driver.link("a/x", "b/x")


# ---- the store


def test_a_working_store_passes_its_check_and_keeps_nothing_of_it(driver: StorageDriver) -> None:
    driver.check()
    assert list(driver.list("")) == []
    assert list(driver.children("")) == []
    assert list(driver.uploads()) == []


def test_close_may_be_called_twice(driver: StorageDriver) -> None:
    driver.close()
    driver.close()
