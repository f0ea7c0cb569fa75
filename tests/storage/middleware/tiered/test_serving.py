"""What clients are served: from the directory when it has it, and from the store whatever the directory does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from registry.storage.driver import StorageDriver
from registry.storage.errors import PathNotFound, StorageError, StorageUnavailable
from registry.storage.memory import MemoryDriver
from registry.storage.middleware.faults import Fault, FaultyDriver
from registry.storage.middleware.tiered.cached_file import BLOCK
from registry.storage.middleware.tiered.directory import RETRY_SECONDS, CacheDirectory
from registry.storage.middleware.tiered.observer import CacheObserver
from registry.storage.middleware.tiered.serving import ServingDriver
from tests.storage.middleware.tiered.tiers import Blob, World, blob, damage


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def kept(world: World, size: int, seed: int = 1) -> Blob:
    """A blob that the store and the directory have."""
    each = blob(size, seed)
    world.put(each)
    assert world.read(each) == each.data
    assert world.file(each).exists()
    return each


def test_what_was_read_once_is_not_asked_for_again(world: World) -> None:
    each = kept(world, 3 * BLOCK + 5)
    assert world.asked == 1
    assert world.read(each) == each.data
    assert world.asked == 1
    assert world.counts.counts["get", "blob", "fault_hit"] == 1
    assert world.counts.counts["get", "blob", "hit"] == 1
    assert world.counts.counts["bytes", "blob", "written"] == len(each.data)
    assert world.counts.counts["bytes", "blob", "read"] == len(each.data)


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 17])
@pytest.mark.parametrize("step", [1000, BLOCK, BLOCK + 1, 1 << 20])
def test_each_range_is_that_of_the_store(world: World, size: int, step: int) -> None:
    each = kept(world, size)
    for offset in {0, 1, size // 2, BLOCK - 1, BLOCK, size - 1, size, size + 1}:
        for length in (None, 0, 1, 7, BLOCK, BLOCK + 1, size, size + 100):
            with world.store.inner.open(each.key, offset=offset, length=length) as reader:
                expected = reader.read(1 << 20)
            assert world.read(each, offset=offset, length=length, step=step) == expected
    assert world.asked == 1


def test_a_reader_fills_buffers(world: World) -> None:
    each = kept(world, 3 * BLOCK + 5)
    with world.driver.serving.open(each.key, offset=3) as reader:
        buffer = bytearray(2 * BLOCK)
        got = b""
        while count := reader.read_into(memoryview(buffer)):  # type: ignore[attr-defined]
            got += buffer[:count]
    assert got == each.data[3:]


def test_a_kept_blob_says_of_itself_what_the_store_says(world: World) -> None:
    each = kept(world, 100)
    with world.driver.serving.open(each.key) as reader:
        assert reader.stat == world.driver.stat(each.key)


def test_the_store_may_be_away_for_what_is_kept(tmp_path: Path) -> None:
    each = blob(100)
    world = World(tmp_path)
    world.put(each)
    world.read(each)
    away = FaultyDriver(world.store, [Fault(times=None)])
    serving = ServingDriver(away, world.blobs, world.metadata)
    with serving.open(each.key) as reader:
        assert reader.read(1000) == each.data
    with pytest.raises(StorageUnavailable):
        serving.open(blob(5, 2).key)
    assert world.counts.counts["get", "blob", "error"] == 1


def test_what_is_nowhere_is_a_miss(world: World) -> None:
    with pytest.raises(PathNotFound):
        world.read(blob(10))
    assert world.counts.counts["get", "blob", "fault_miss"] == 1


@pytest.mark.parametrize("key", ["team/app/index.json", "storage/blobs/sha512/" + "0" * 128, ".gc/state.json"])
def test_what_no_digest_names_is_never_kept(world: World, key: str) -> None:
    world.driver.write(key, b"one")
    for _ in range(2):
        assert world.driver.serving.read(key, max_bytes=10)[0] == b"one"
        with world.driver.serving.open(key) as reader:
            assert reader.read(10) == b"one"
    assert world.files() == []
    assert not list((world.path / "metadata").glob("??"))


def test_a_part_is_not_kept_for_the_whole(world: World) -> None:
    each = blob(3 * BLOCK)
    world.put(each)
    assert world.read(each, offset=1) == each.data[1:]
    assert world.read(each, length=10) == each.data[:10]
    with world.driver.serving.open(each.key) as reader:
        reader.read(BLOCK)  # and the client leaves
    assert world.files() == []
    assert world.counts.counts["put", "blob", "unfinished"] == 1


def test_bytes_that_are_not_those_of_the_digest_are_not_kept(world: World) -> None:
    each = blob(1000)
    world.store.inner.write(each.key, b"x" * 1000)
    assert world.read(each) == b"x" * 1000  # the rows' business: what was not hashed is hashed on its way
    assert world.files() == []
    assert world.counts.counts["put", "blob", "wrong"] == 1


def test_of_many_readers_one_fills(world: World) -> None:
    each = blob(20 * BLOCK)
    world.put(each)
    readers = [world.driver.serving.open(each.key) for _ in range(10)]
    assert len(world.files()) == 1
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda reader: b"".join(iter(lambda: reader.read(BLOCK), b"")), readers)
        assert all(data == each.data for data in done)
    for reader in readers:
        reader.close()
    assert world.files() == [world.file(each)]


# ---- check 24 of the tier: a wrong byte


@pytest.mark.parametrize("position", [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, 3 * BLOCK + 4])
def test_check_24_a_wrong_byte_is_never_served_and_the_file_is_filled_again(world: World, position: int) -> None:
    each = kept(world, 3 * BLOCK + 5)
    damage(world.file(each), position)
    assert world.read(each, step=BLOCK) == each.data
    assert not world.file(each).exists()
    assert world.counts.counts["error", "blob"] == 1
    assert world.read(each) == each.data
    assert world.file(each).exists()
    asked = world.asked
    assert world.read(each) == each.data
    assert world.asked == asked


def test_check_24_a_range_that_meets_the_wrong_byte_gets_the_right_one(world: World) -> None:
    each = kept(world, 3 * BLOCK)
    damage(world.file(each), BLOCK + 7)
    assert world.read(each, length=BLOCK) == each.data[:BLOCK]
    assert world.read(each, offset=BLOCK + 7, length=1) == each.data[BLOCK + 7 : BLOCK + 8]
    assert not world.file(each).exists()


def test_check_24_whatever_byte_of_a_file_is_wrong_no_wrong_byte_leaves(world: World) -> None:
    each = kept(world, BLOCK + 100)
    whole = world.file(each).read_bytes()
    for position in [*range(0, len(each.data), 997), *range(len(each.data), len(whole))]:
        world.file(each).write_bytes(whole)
        damage(world.file(each), position)
        assert world.read(each) == each.data, position


@pytest.mark.parametrize("cut", [1, 10, 50, 200, BLOCK, 2 * BLOCK])
def test_check_24_a_file_that_is_cut_or_grown_is_never_served(world: World, cut: int) -> None:
    each = kept(world, 3 * BLOCK)
    with world.file(each).open("r+b") as file:
        file.truncate(world.file(each).stat().st_size - cut)
    assert world.read(each) == each.data
    assert world.read(each) == each.data
    with world.file(each).open("ab") as file:
        file.write(b"x" * cut)
    assert world.read(each) == each.data


def test_check_24_a_file_of_another_digest_is_not_believed(world: World) -> None:
    one, other = kept(world, 1000, 1), kept(world, 1000, 2)
    world.file(other).replace(world.file(one))
    assert world.read(one) == one.data


def test_a_wrong_byte_of_a_blob_that_the_store_has_lost_cuts_the_answer(world: World) -> None:
    each = kept(world, 3 * BLOCK)
    world.store.inner.delete([each.key])
    damage(world.file(each), 2 * BLOCK)
    with world.driver.serving.open(each.key) as reader:
        assert reader.read(2 * BLOCK) == each.data[: 2 * BLOCK]
        with pytest.raises(StorageError):
            reader.read(BLOCK)


# ---- check 24: the directory fails


def vanish(world: World, _monkeypatch: pytest.MonkeyPatch) -> None:
    (world.path / "blobs").rename(world.path / "elsewhere")


def become_a_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vanish(world, monkeypatch)
    (world.path / "blobs").write_text("")


def failing(name: str, error: OSError) -> Callable[[World, pytest.MonkeyPatch], None]:
    """A call of the system that fails, but for the eight bytes of the count, which has its block already."""
    works = getattr(os, name)

    def fail(descriptor: int, data: bytes, *rest: int) -> int:
        if name == "pwrite" and len(data) == 8:
            done: int = works(descriptor, data, *rest)
            return done
        raise error

    return lambda _world, monkeypatch: monkeypatch.setattr(os, name, fail)


FAILURES = {
    "vanished": vanish,
    "no directory": become_a_file,
    "full": failing("pwrite", OSError(28, "No space left on device")),
    "quota": failing("pwrite", OSError(122, "Disk quota exceeded")),
    "broken": failing("pwrite", OSError(5, "Input/output error")),
    "read only": failing("ftruncate", OSError(30, "Read-only file system")),
    "unreadable": failing("preadv", OSError(5, "Input/output error")),
    "refused": failing("ftruncate", PermissionError(13, "Permission denied")),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_check_24_whatever_the_directory_does_clients_get_their_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    old, new, later = kept(world, 3 * BLOCK, 1), blob(3 * BLOCK, 2), blob(3 * BLOCK, 3)
    world.put(new)
    world.put(later)
    with monkeypatch.context() as patched:
        FAILURES[failure](world, patched)
        assert world.read(old) == old.data
        assert world.read(new) == new.data
        assert world.read(new, offset=5, length=BLOCK) == new.data[5 : 5 + BLOCK]
        errors = world.counts.counts["error", "blob"]
        assert errors
        assert world.read(later) == later.data
        assert world.counts.counts["error", "blob"] == errors  # it is left alone for a while
    if failure == "no directory":
        (world.path / "blobs").unlink()
    if not (world.path / "blobs").exists():
        (world.path / "elsewhere").rename(world.path / "blobs")
    world.time.now += RETRY_SECONDS + 1
    assert world.read(later) == later.data
    assert world.file(later).exists()


def test_a_directory_that_cannot_be_made_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    world = World(tmp_path / "world")
    each = blob(100)
    world.put(each)
    broken = CacheDirectory(tmp_path / "file" / "below", 1 << 20, CacheObserver("blob", world.counts))
    with ServingDriver(world.store, broken, None).open(each.key) as reader:
        assert reader.read(1000) == each.data
    assert world.counts.counts["error", "blob"] == 1


def test_a_disk_that_is_full_makes_room_for_what_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    olds = [kept(world, 3 * BLOCK, seed) for seed in range(20)]
    for age, each in enumerate(olds):
        os.utime(world.file(each), (1000 + age, 1000))
    new = blob(3 * BLOCK, 99)
    world.put(new)
    with monkeypatch.context() as patched:
        FAILURES["full"](world, patched)
        assert world.read(new) == new.data
    assert [world.file(each).exists() for each in olds] == [False] * 2 + [True] * 18


# ---- metadata


def test_a_manifest_that_was_read_once_is_not_asked_for_again(world: World) -> None:
    each = blob(500)
    stat = world.put(each)
    for _ in range(3):
        assert world.driver.serving.read(each.key, max_bytes=500) == (each.data, stat)
    assert world.asked == 1
    assert world.counts.counts["get", "metadata", "hit"] == 2
    assert world.files() == []


def test_a_wrong_byte_of_a_manifest_is_never_served(world: World) -> None:
    each = blob(500)
    world.put(each)
    world.driver.serving.read(each.key, max_bytes=500)
    (file,) = (world.path / "metadata").glob("??/*")
    for position in range(0, file.stat().st_size, 7):
        whole = file.read_bytes()
        damage(file, position)
        assert world.driver.serving.read(each.key, max_bytes=500)[0] == each.data
        assert file.read_bytes() == whole


def test_what_proves_something_of_the_store_reads_the_store(world: World) -> None:
    each = kept(world, 500)
    world.driver.serving.read(each.key, max_bytes=500)
    world.store.inner.write(each.key, b"rotten")
    assert world.driver.read(each.key, max_bytes=10)[0] == b"rotten"
    with world.driver.open(each.key) as reader:
        assert reader.read(100) == b"rotten"
    assert hashlib.sha256(world.read(each)).hexdigest() == each.digest


# ---- the log


def test_each_read_is_logged_where_that_is_wanted(tmp_path: Path) -> None:
    store: StorageDriver = MemoryDriver()
    directory = CacheDirectory(tmp_path, 1 << 20, CacheObserver("blob", log_requests=True))
    serving = ServingDriver(FaultyDriver(store, [Fault("open", blob(5, 2).key)]), directory, None)
    each = blob(10)
    store.write(each.key, each.data)
    with capture_logs() as logged:
        for _ in range(2):
            with serving.open(each.key) as reader:
                assert reader.read(100) == each.data
        with pytest.raises(StorageUnavailable):
            serving.open(blob(5, 2).key)
    lines = [entry["event"] for entry in logged]
    starts = [line.split(' "')[0] for line in lines if '"storage/' in line]
    assert starts == ["B GET", "F GET", "W PUT", "B GET", "F GET", "B GET", "E GET"], lines
    assert any(f'B GET "{each.key}" (sha256:{each.digest})' in line for line in lines)
    assert any(f'W PUT "{each.key}" 10 bytes kept' in line for line in lines)
    assert any(" hit elapsed=" in line for line in lines)
    assert any(" err=" in line and " elapsed=" in line for line in lines)
