"""Nothing acknowledged is lost and nothing wrong is left, whenever the server is killed (I1, I3, I8, I11)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.soak import disk, truth
from tests.soak.budget import SEED, announce, budget
from tests.soak.client import BROKEN, Client
from tests.soak.history import History
from tests.soak.pushers import Crowd
from tests.soak.sockets import serving_process
from tests.support.payloads import Blob
from tests.support.servers import RegistryProcess

KILLS = budget(sample=15, full=200)
CLIENTS = 8
REPOSITORIES = ("kill/one", "kill/two", "kill/one/below")
EXPIRY = 5.0
"""Seconds: ``storage.upload_expiry`` of the last start."""
SETTLE = 60.0
"""Seconds in which everything that is done behind the answers must be done."""


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_kill_loses_a_push(tmp_path: Path) -> None:
    announce()
    chance = random.Random(SEED)
    server = RegistryProcess(tmp_path, {"http": {"workers": 2}})
    history = History()
    crowd = Crowd(CLIENTS, partial(Client, server.port), REPOSITORIES, history, SEED)
    server.start()
    try:
        for number in range(KILLS):
            crowd.resume()
            time.sleep(chance.uniform(0.02, 1.2))
            server.kill()
            crowd.pause()
            crowd.check()
            _check_disk(server.root, deep=number % 10 == 0)
            if chance.random() < 0.15:
                _lose_database(server.root)
            server.start()
        crowd.resume()
        time.sleep(1)
        crowd.end()
        print(f"{crowd.pushed} pushes acknowledged, {KILLS} kills")  # noqa: T201
        assert crowd.pushed >= KILLS, "hardly anything was pushed between the kills"
        server.stop()
        server.config["storage"]["upload_expiry"] = EXPIRY
        server.start()
        _check_everything(server, history)
        server.kill()
        _lose_database(server.root)
        server.start()
        _check_everything(server, history)
        server.stop()
    except BaseException:
        if server.running:
            server.kill()
        raise


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced_while_the_other_serves(tmp_path: Path) -> None:
    """The parent lives on: what the dead worker had begun is finished by its successor or by the other worker."""
    announce()
    chance = random.Random(SEED)
    history = History()
    with RegistryProcess(tmp_path, {"http": {"workers": 2}, "storage": {"upload_expiry": EXPIRY}}) as server:
        crowd = Crowd(4, partial(Client, server.port), REPOSITORIES, history, SEED)
        crowd.resume()
        processes = len(list(server.processes()))
        for _ in range(budget(sample=6, full=60)):
            time.sleep(chance.uniform(0.5, 1.5))
            with Client(server.port) as client:
                os.kill(serving_process(client, server), signal.SIGKILL)
            crowd.check()
            _settle(lambda: len(list(server.processes())) == processes, "the worker is replaced")
        crowd.end()
        assert crowd.pushed > 10
        _check_everything(server, history)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    """The session outlives the server, at an offset that was told before or a later one, and its bytes are right."""
    announce()
    chance = random.Random(SEED)
    server = RegistryProcess(tmp_path, {"http": {"workers": 2}})
    for _ in range(budget(sample=3, full=30)):
        server.start()
        blob = Blob(chance.randbytes(12 << 20))
        half = len(blob.data) // 2
        with Client(server.port) as client:
            location = client.begin("kill/resumed")
            reply = client.call("PATCH", location, blob.data[:half])
            assert reply.status == 202, reply
        killer = threading.Timer(chance.uniform(0, 0.03), server.kill)
        killer.start()
        with Client(server.port) as client, suppress(*BROKEN):
            client.call("PATCH", location, blob.data[half:])
        killer.join()
        server.start()
        with Client(server.port) as client:
            told = client.call("GET", location)
            assert told.status == 204, told
            offset = int(told.headers["range"].removeprefix("0-")) + 1
            assert offset >= half
            if offset < len(blob.data):
                headers = {"Content-Range": f"{offset}-{len(blob.data) - 1}"}
                assert client.call("PATCH", location, blob.data[offset:], headers).status == 202
            client.finish(location, blob.digest, b"")
            assert client.call("GET", f"/v2/kill/resumed/blobs/{blob.digest}").body == blob.data
        server.stop()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_cleaning_up_goes_on_soon_after_a_kill_in_the_middle(tmp_path: Path) -> None:
    """Whoever was cleaning up when it was killed does not keep the others from it for long."""
    server = RegistryProcess(tmp_path, {"http": {"workers": 2}, "storage": {"upload_expiry": EXPIRY}})
    server.start()
    server.stop()
    directory = server.root / ".uploads"
    abandoned = 30_000
    long_ago = time.time() - 3600
    for _ in range(abandoned):
        path = directory / str(uuid.uuid4())
        path.write_bytes(b"of a process that died")
        os.utime(path, (long_ago, long_ago))
    server.start()
    deadline = time.monotonic() + SETTLE
    while sum(1 for _ in directory.iterdir()) >= abandoned:
        assert time.monotonic() < deadline, "cleaning up never began"
    server.kill()
    left = len(disk.uploads(server.root))
    assert left, "the kill came too late to be in the middle"
    server.start()
    _settle(lambda: len(disk.uploads(server.root)) < left, "cleaning up goes on")
    _settle(lambda: disk.uploads(server.root) == [], "abandoned uploads are removed")
    server.stop()


def _lose_database(root: Path) -> None:
    shutil.rmtree(root / ".database", ignore_errors=True)


def _check_disk(root: Path, *, deep: bool) -> None:
    """What is on disk at the moment of a crash is whole, even before the server has started again."""
    for directory in disk.repositories(root):
        disk.read_index(directory)
    if deep:
        assert disk.wrong_blobs(root) == []


def _check_everything(server: RegistryProcess, history: History) -> None:
    with Client(server.port) as client:
        truth.check_tags(client, history)
        truth.check_images(client, history)
        for repository in REPOSITORIES:
            _settle(partial(_index_is_current, server.root, client, repository), "index.json has every tag")
    assert disk.wrong_blobs(server.root) == []
    assert disk.strangers(server.root) == []
    _settle(lambda: disk.uploads(server.root) == [], "abandoned uploads are removed")


def _index_is_current(root: Path, client: Client, repository: str) -> bool:
    tags = disk.tags_at_rest(root / repository)
    return tags == {tag: client.digest_of_tag(repository, tag) for tag in client.tags(repository)}


def _settle(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SETTLE
    while not condition():
        assert time.monotonic() < deadline, f"not within {SETTLE} s: {what}"
        time.sleep(0.2)
