"""The directory: its budget, its temporary files, and what several processes do to it."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from registry.storage.driver import ObjectStat
from registry.storage.middleware.tiered.budget import COUNT, TEMPORARY, Budget, Busy, rounded
from registry.storage.middleware.tiered.cached_file import BLOCK, CachedFile, Origin, file_bytes
from registry.storage.middleware.tiered.directory import SLOW_SECONDS, CacheDirectory
from registry.storage.middleware.tiered.observer import CacheObserver
from tests.storage.middleware.tiered.tiers import Blob, Counts, World, blob, damage
from tests.storage.workers import finish, kill_at, start

MOST = 1 << 20
SIZE = 60_000
"""Bytes of a blob of which so many fit that what is rounded up matters."""


def stat_of(each: Blob) -> ObjectStat:
    return ObjectStat(len(each.data), "etag", 1.0)


def put(directory: CacheDirectory, each: Blob) -> bool:
    """Keep a blob; whether it is there."""
    directory.keep(each.digest, each.key, stat_of(each), each.data)
    return is_there(directory, each)


def is_there(directory: CacheDirectory, each: Blob) -> bool:
    found = directory.open(each.digest, each.key)
    if found is not None:
        found.close()
    return found is not None


def used(path: Path) -> int:
    """Bytes that the files take on the disk."""
    found = (each.stat() for each in path.rglob("*") if each.is_file() and each.name != COUNT)
    return sum({each.st_ino: each.st_blocks * 512 for each in found}.values())  # one may get its name meanwhile


def count_of(path: Path) -> int:
    return int.from_bytes((path / COUNT).read_bytes(), "big")


def make(path: Path, most: int = MOST, counts: Counts | None = None) -> CacheDirectory:
    return CacheDirectory(path, most, CacheObserver("blob", counts))


# ---- check 24: the budget


def test_check_24_the_budget_is_kept(tmp_path: Path) -> None:
    directory = make(tmp_path)
    for seed in range(100):
        assert put(directory, blob(SIZE, seed))
        assert used(tmp_path) <= MOST
        assert count_of(tmp_path) == Budget(tmp_path, MOST).contents().bytes
    assert used(tmp_path) > MOST / 2


def test_check_24_the_budget_of_small_files_counts_what_they_take_on_a_disk(tmp_path: Path) -> None:
    directory = make(tmp_path)
    for seed in range(400):
        directory.keep((each := blob(100, seed)).digest, each.key, stat_of(each), each.data)
    assert used(tmp_path) <= MOST


def test_check_24_several_processes_keep_one_budget(tmp_path: Path) -> None:
    started = [start(fill_many, tmp_path, 1000 * number, 60) for number in range(3)]
    budget = Budget(tmp_path, MOST)
    most = 0
    while any(process.is_alive() for process in started):
        with suppress(Busy, FileNotFoundError), budget._locked():  # nothing grows or goes while it is looked at
            most = max(most, used(tmp_path))
        time.sleep(0.002)
    budget.close()
    finish(started)
    assert 0 < most <= MOST * 1.05
    assert used(tmp_path) <= MOST
    assert count_of(tmp_path) >= Budget(tmp_path, MOST).contents().bytes


def fill_many(path: Path, first: int, count: int) -> None:
    """In a process of its own."""
    directory = make(path)
    for seed in range(first, first + count):
        directory.keep((each := blob(SIZE, seed)).digest, each.key, stat_of(each), each.data)


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    directory = make(tmp_path)
    blobs = [blob(SIZE, seed) for seed in range(15)]
    for each in blobs:
        assert put(directory, each)
    for age, each in enumerate(reversed(blobs)):
        os.utime(tmp_path / each.digest[:2] / each.digest, (1000 + age, 1000))
    assert is_there(directory, blobs[-1])  # which makes it the one that was used last
    for seed in range(15, 18):
        assert put(directory, blob(SIZE, seed))
    gone = {number for number, each in enumerate(blobs) if not is_there(directory, each)}
    assert gone
    assert gone == {14 - number for number in range(1, len(gone) + 1)}


def test_an_eviction_leaves_nine_tenths(tmp_path: Path) -> None:
    directory = make(tmp_path)
    before = 0
    for seed in range(40):
        before = count_of(tmp_path) if seed else 0
        assert put(directory, blob(SIZE, seed))
        if count_of(tmp_path) < before:
            break
    assert count_of(tmp_path) - rounded(file_bytes(SIZE)) <= 0.9 * MOST


def test_what_is_larger_than_the_budget_evicts_nothing(tmp_path: Path) -> None:
    counts = Counts()
    directory = make(tmp_path, counts=counts)
    assert put(directory, blob(SIZE))
    assert not put(directory, blob(MOST, 2))
    assert is_there(directory, blob(SIZE))
    assert counts.counts["put", "blob", "no_room"] == 1


def test_files_that_are_being_filled_count_before_they_are_full(tmp_path: Path) -> None:
    directory = make(tmp_path)
    fillings = [directory.begin(name, MOST // 2) for name in "ab"]
    for filling in fillings:
        assert filling is not None
        for _ in range(8):
            filling.write(b"x" * BLOCK)
            assert count_of(tmp_path) == Budget(tmp_path, MOST).contents().bytes <= MOST
    assert [filling is not None and filling.is_over for filling in fillings] == [False, True]  # both have no room
    for filling in fillings:
        assert filling is not None
        filling.drop()
    assert count_of(tmp_path) == 0
    assert used(tmp_path) == 0


def test_a_file_of_unknown_size_reserves_what_it_needs_and_gives_the_rest_back(tmp_path: Path) -> None:
    directory = make(tmp_path)
    each = blob(10 * BLOCK + 3)
    filling = directory.begin_unnamed()
    assert filling is not None
    for begin in range(0, len(each.data), 10_000):
        filling.write(each.data[begin : begin + 10_000])
    assert filling.keep(Origin(each.digest, each.key, stat_of(each)))
    (file,) = tmp_path.glob("??/*")
    assert count_of(tmp_path) == rounded(file.stat().st_size)
    assert is_there(directory, each)


def test_a_file_of_unknown_size_that_grows_beyond_the_budget_is_given_up(tmp_path: Path) -> None:
    counts = Counts()
    directory = make(tmp_path, counts=counts)
    filling = directory.begin_unnamed()
    assert filling is not None
    for _ in range(20):
        filling.write(b"x" * BLOCK)
    assert filling.is_over
    assert counts.counts["put", "blob", "no_room"] == 1
    assert count_of(tmp_path) == 0
    assert list(tmp_path.glob(f"{TEMPORARY}*")) == []


def test_a_count_that_is_too_high_is_put_right_where_it_would_evict(tmp_path: Path) -> None:
    directory = make(tmp_path)
    assert put(directory, blob(SIZE))
    (tmp_path / COUNT).write_bytes((10 * MOST).to_bytes(8, "big"))
    assert put(directory, blob(SIZE, 2))
    assert is_there(directory, blob(SIZE))
    assert count_of(tmp_path) == Budget(tmp_path, MOST).contents().bytes


@pytest.mark.parametrize("state", [b"", b"x"])
def test_a_count_that_is_lost_is_made_anew(tmp_path: Path, state: bytes) -> None:
    directory = make(tmp_path)
    assert put(directory, blob(SIZE))
    (tmp_path / COUNT).write_bytes(state)
    assert put(directory, blob(SIZE, 2))
    assert count_of(tmp_path) == Budget(tmp_path, MOST).contents().bytes


def test_a_directory_that_was_emptied_while_it_is_used_is_used_on(tmp_path: Path) -> None:
    directory = make(tmp_path)
    assert put(directory, blob(SIZE))
    for each in [*tmp_path.glob("??/*"), tmp_path / COUNT]:
        each.unlink()
    assert put(directory, blob(SIZE, 2))
    assert count_of(tmp_path) == Budget(tmp_path, MOST).contents().bytes


def test_a_process_that_counts_for_long_makes_no_other_one_wait(tmp_path: Path) -> None:
    directory, other = make(tmp_path), make(tmp_path)
    each = blob(SIZE)
    assert put(directory, each)
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        with other._budget._locked():
            ready.set()
            assert over.wait(60)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert ready.wait(60)
        assert not put(directory, blob(SIZE, 2))
        assert is_there(directory, each)
        over.set()
        held.result()
    assert put(directory, blob(SIZE, 2))


def test_a_reader_that_leaves_early_has_evicted_little(tmp_path: Path) -> None:
    directory = make(tmp_path)
    blobs = [blob(SIZE, seed) for seed in range(14)]
    for each in blobs:
        assert put(directory, each)
    filling = directory.begin("large", MOST - 100_000)
    assert filling is not None
    filling.write(b"x" * BLOCK)
    filling.drop()
    assert sum(is_there(directory, each) for each in blobs) > 10


def test_a_slow_reader_keeps_no_other_one_from_filling(tmp_path: Path) -> None:
    directory = make(tmp_path)
    each = blob(SIZE)
    slow = directory.begin(each.digest, SIZE)
    assert slow is not None
    slow.write(each.data[:1000])
    assert not put(directory, each)
    (temporary,) = tmp_path.glob(f"{TEMPORARY}*")
    before = temporary.stat()
    os.utime(temporary, (before.st_atime - 2 * SLOW_SECONDS, before.st_mtime))
    assert put(directory, each)
    slow.write(each.data[1000:])
    assert slow.keep(Origin(each.digest, each.key, stat_of(each)))
    assert is_there(directory, each)
    assert count_of(tmp_path) == Budget(tmp_path, MOST).contents().bytes


# ---- temporary files


def test_the_start_of_a_process_removes_temporary_files_of_dead_ones_alone(tmp_path: Path) -> None:
    directory = make(tmp_path)
    filling = directory.begin("a", 100)
    assert filling is not None
    filling.write(b"x")
    (tmp_path / f"{TEMPORARY}dead").write_bytes(b"x" * 10_000)
    make(tmp_path)
    assert [path.name for path in tmp_path.glob(f"{TEMPORARY}*")] == [f"{TEMPORARY}a"]
    assert not filling.is_over
    filling.drop()


def test_a_temporary_file_of_a_dead_process_stands_in_no_way(tmp_path: Path) -> None:
    directory = make(tmp_path)
    each = blob(SIZE)
    (tmp_path / f"{TEMPORARY}{each.digest}").write_bytes(b"x" * 10_000)
    assert put(directory, each)


def test_a_file_has_no_byte_more_than_it_needs(tmp_path: Path) -> None:
    directory = make(tmp_path)
    each = blob(SIZE)
    assert put(directory, each)
    size = (tmp_path / each.digest[:2] / each.digest).stat().st_size
    assert len(each.data) < size < len(each.data) + 1000


# ---- check 24: kill -9 while a file is filled


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06, 0.1])
def test_check_24_a_process_that_is_killed_while_it_fills_leaves_nothing_that_is_believed(
    tmp_path: Path, delay: float
) -> None:
    cache, ready = tmp_path / "cache", tmp_path / "ready"
    process = start(fill_for_ever, cache, ready)
    kill_at(process, ready, delay)
    directory = make(cache, 64 << 20)
    assert list(cache.glob(f"{TEMPORARY}*")) == []
    believed = 0
    for seed in range(2000):
        each = blob(LARGE, seed) if believed or seed < 3 else None
        if each is None:
            break
        found = directory.open(each.digest, each.key)
        if found is None:
            break
        buffer = memoryview(bytearray(LARGE))
        found.read_blocks(0, buffer)
        assert buffer == each.data
        found.close()
        believed += 1
    assert len(list(cache.glob("??/*"))) in {believed, believed + 1}
    assert put(directory, blob(SIZE, 5000))
    assert count_of(cache) >= Budget(cache, MOST).contents().bytes


LARGE = 20 * BLOCK + 11


def fill_for_ever(path: Path, ready: Path) -> None:
    """In a process of its own: blobs in small steps, one after the other, until the budget evicts."""
    directory = make(path, 64 << 20)
    for seed in range(40):
        each = blob(LARGE, seed)
        filling = directory.begin(each.digest, len(each.data))
        assert filling is not None
        for begin in range(0, len(each.data), 1000):
            filling.write(each.data[begin : begin + 1000])
            ready.touch()
        assert filling.keep(Origin(each.digest, each.key, stat_of(each)))
    signal.pause()


def test_a_file_without_its_end_is_not_believed(tmp_path: Path) -> None:
    directory = make(tmp_path)
    each = blob(SIZE)
    assert put(directory, each)
    file = tmp_path / each.digest[:2] / each.digest
    whole = file.read_bytes()
    for size in (0, 1, 30, SIZE, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert not is_there(directory, each)
        assert not file.exists()
    file.write_bytes(b"\0" * len(whole))  # what a power cut makes of what was not synced
    assert not is_there(directory, each)


def test_bytes_that_a_power_cut_has_lost_are_found(tmp_path: Path) -> None:
    world = World(tmp_path)
    each = blob(4 * BLOCK)
    world.put(each)
    world.read(each)
    with world.file(each).open("r+b") as file:
        file.seek(2 * BLOCK)
        file.write(b"\0" * 4096)
    assert world.read(each) == each.data


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    world = World(tmp_path)
    each = blob(SIZE)
    world.put(each)
    world.read(each)
    world.file(each).rename(tmp_path / "elsewhere")
    world.file(each).symlink_to(tmp_path / "elsewhere")
    assert world.read(each) == each.data
    assert (tmp_path / "elsewhere").exists()


def test_an_open_file_survives_its_eviction(tmp_path: Path) -> None:
    world = World(tmp_path)
    each = blob(4 * BLOCK)
    world.put(each)
    world.read(each)
    with world.driver.serving.open(each.key) as reader:
        first = reader.read(BLOCK)
        world.blobs.forget(each.digest)
        rest = b"".join(iter(lambda: reader.read(BLOCK), b""))
    assert first + rest == each.data
    assert world.asked == 1


def test_the_description_of_a_file_is_that_of_its_object(tmp_path: Path) -> None:
    directory = make(tmp_path)
    each = blob(SIZE)
    assert put(directory, each)
    file = CachedFile.open(tmp_path / each.digest[:2] / each.digest)
    assert file.origin == Origin(each.digest, each.key, stat_of(each))
    file.close()
    file.close()
    assert directory.open(each.digest, "other/" + each.key) is None
    damage(tmp_path / each.digest[:2] / each.digest, SIZE + 50)
    assert not is_there(directory, each)


# ---- check 24: killed at each step


STEPS = ("open", "ftruncate", "pwrite", "flock", "unlink", "rename", "mkdir")
"""What a filling process asks of the system."""
DIED = 9


def die_at(path: Path, name: str, number: int, after: bool) -> None:
    """In a process of its own: evict and fill, and end as if killed before or after the call of this number."""
    where: object = fcntl if name == "flock" else Path if name in {"unlink", "rename", "mkdir"} else os
    works = getattr(where, name)
    calls = 0

    def count(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            os._exit(DIED)
        result = works(*arguments, **options)
        if calls == number:
            os._exit(DIED)
        return result

    directory = make(path)
    setattr(where, name, count)
    with suppress(OSError):
        for seed in range(100, 108):
            put(directory, blob(SIZE, seed))
    os._exit(0)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", STEPS)
def test_check_24_killed_at_each_step_the_count_is_never_too_low_and_what_is_believed_is_right(
    tmp_path: Path, name: str, after: bool
) -> None:
    died = 0
    for number in (1, 2, 3, 4, 6, 9, 13):
        path = tmp_path / str(number)
        directory = make(path)
        for seed in range(14):
            assert put(directory, blob(SIZE, seed))  # so that the next ones evict
        process = start(die_at, path, name, number, after)
        process.join(60)
        assert process.exitcode in {0, DIED}
        died += process.exitcode == DIED
        assert count_of(path) >= Budget(path, MOST).contents().bytes
        again = make(path)
        assert list(path.glob(f"{TEMPORARY}*")) == []
        assert count_of(path) >= Budget(path, MOST).contents().bytes
        for seed in (*range(14), *range(100, 108)):
            assert_right(again, blob(SIZE, seed))
        for seed in range(200, 220):
            assert put(again, blob(SIZE, seed))
            assert used(path) <= MOST
    assert died >= 4


def assert_right(directory: CacheDirectory, each: Blob) -> None:
    """What is believed of a blob is its bytes."""
    found = directory.open(each.digest, each.key)
    if found is None:
        return
    buffer = memoryview(bytearray(len(each.data)))
    found.read_blocks(0, buffer)
    assert buffer == each.data
    found.close()


# ---- everything at once


def read_and_damage(path: Path, seed: int) -> None:
    """In a process of its own: four threads read blobs through a directory that is too small, and damage its files."""
    world = World(path, most=MOST)
    blobs = [blob(SIZE + number, number) for number in range(40)]
    for each in blobs:
        world.put(each)

    def work(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        for _ in range(150):
            each = chance.choice(blobs)
            offset = chance.choice([0, 0, 0, chance.randrange(SIZE)])
            assert world.read(each, offset=offset, step=chance.choice([1000, BLOCK, 1 << 20])) == each.data[offset:]
            if chance.random() < 0.1:
                with suppress(FileNotFoundError):
                    damage(world.file(each), chance.randrange(SIZE))
            if chance.random() < 0.05:
                world.blobs.forget(each.digest)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()
    assert world.counts.counts["get", "blob", "hit"]


def test_check_24_no_wrong_byte_leaves_while_processes_fill_evict_damage_and_forget(tmp_path: Path) -> None:
    finish([start(read_and_damage, tmp_path, seed) for seed in range(3)])
    assert count_of(tmp_path / "blobs") >= Budget(tmp_path / "blobs", MOST).contents().bytes
    assert used(tmp_path / "blobs") <= MOST
