"""What other processes do in the tests: module-level functions, so that a spawned interpreter finds them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from registry.storage.driver import StorageDriver
from registry.storage.errors import AlreadyExists, PathNotFound, PreconditionFailed, StorageFull
from registry.storage.local.driver import LocalDriver
from tests.storage import uploads
from tests.storage.drivers import case_named
from tests.storage.uploads import NO_STATE
from tests.support.processes import processes


def start(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """Begin ``work`` in a new interpreter."""
    process = processes().Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def finish(started: list[BaseProcess]) -> None:
    """Wait for their success."""
    for process in started:
        process.join(60)
        assert process.exitcode == 0


def kill_at(process: BaseProcess, ready: Path, delay: float) -> None:
    """SIGKILL ``delay`` seconds after ``ready`` was made, and wait for the end."""
    wait_for(ready)
    time.sleep(delay)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def wait_for(path: Path) -> None:
    """Until the other process has made the file."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def add_one(driver: StorageDriver, key: str) -> None:
    """Raise a counter by compare and swap, as the fold of an index does it."""
    while True:
        try:
            data, stat = driver.read(key, max_bytes=100)
        except PathNotFound:
            try:
                driver.write(key, b"1", if_absent=True)
            except AlreadyExists:
                continue
            return
        try:
            driver.write(key, b"%d" % (int(data) + 1), if_etag=stat.etag)
        except PreconditionFailed:
            continue
        return


def count(case: str, root: Path, times: int) -> None:
    driver = case_named(case).open(root)
    for _ in range(times):
        add_one(driver, "counter")


def append(case: str, root: Path, name: str, times: int) -> None:
    driver = case_named(case).open(root)
    for number in range(times):
        driver.append("team/.journal/1", f"{name} {number} {'x' * 3000}\n".encode())


def publish_and_die(root: Path, upload_id: str, key: str) -> None:
    """End, as if killed, with a whole temporary file beside ``key`` that only has to be renamed."""
    rename = os.rename

    def die(source: str, target: str, *, src_dir_fd: int | None, dst_dir_fd: int | None) -> None:
        if src_dir_fd is not None:
            os._exit(9)
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    os.rename = die  # type: ignore[assignment]
    uploads.publish(LocalDriver(root), upload_id, key)


def meet_file_size_limit(root: Path, upload_id: str) -> None:
    """Write more than RLIMIT_FSIZE allows; succeeds when that is a full disk."""
    driver = LocalDriver(root)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
    with driver.open_upload(upload_id) as writer:
        writer.resume(NO_STATE, offset=0)
        try:
            writer.write(b"x" * (1 << 17))
        except StorageFull:
            return
    raise AssertionError("the limit was not met")


def hold(case: str, root: Path, upload_id: str, ready: Path) -> None:
    """Write a part to an upload and sit on the right to it."""
    driver = case_named(case).open(root)
    writer = driver.open_upload(upload_id)
    writer.resume(NO_STATE, offset=0)
    writer.write(b"committed, uncommitted")
    writer.flush()
    ready.touch()
    threading.Event().wait()


def churn(root: Path, fsync: bool, seed: int, ready: Path, done: Path) -> None:
    """Publish blobs (some again, some over a damaged one), replace an index, append to a journal; note what is done."""
    driver = LocalDriver(root, fsync=fsync)
    chance = random.Random(seed)
    with done.open("ab", buffering=0) as notes:
        for number in range(10**5):
            data = chance.randbytes(chance.choice((0, 100, 5000, 300_000)))
            name = hashlib.sha256(data).hexdigest()
            key = f"team/app/blobs/sha256/{name}"
            publish(driver, f"u{number}", data, key, keep=chance.random() < 0.2)
            notes.write(f"blob {name}\n".encode())
            if chance.random() < 0.3:
                publish(driver, f"again{number}", data, key, keep=False)
            driver.write("team/app/index.json", json.dumps({"last": name, "padding": "x" * 20_000}).encode())
            record = {"number": seed * 10**6 + number, "length": 3000, "padding": "x" * 3000}
            driver.append("team/app/.journal/1", json.dumps(record).encode() + b"\n")
            notes.write(f"line {record['number']}\n".encode())
            ready.touch()


def publish(driver: StorageDriver, upload_id: str, data: bytes, key: str, *, keep: bool) -> None:
    state = driver.start_upload(upload_id)
    with driver.open_upload(upload_id) as writer:
        writer.resume(state, offset=0)
        writer.write(data)
        state = writer.flush()
        writer.publish(key)
    if not keep:
        driver.discard_upload(upload_id, state)


def upload_for_ever(root: Path, upload_id: str, ready: Path) -> None:
    with LocalDriver(root).open_upload(upload_id) as writer:
        writer.resume(NO_STATE, offset=0)
        for number in range(1 << 10):
            writer.write(b"x" * (1 << 20))
            if number == 4:
                ready.touch()
            time.sleep(0.01)
