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
from tests.soak.loss import require_kept
from tests.soak.pushers import Crowd
from tests.soak.sockets import serving_process
from tests.support.payloads import Blob
from tests.support.servers import RegistryProcess

KILLS = budget(sample=8, full=200)
CLIENTS = 8
REPOSITORIES = ("kill/one", "kill/two", "kill/one/below")
EXPIRY = 5.0
"""Seconds: ``storage.upload_expiry`` of the last start."""
ABANDONED = 5000
"""Uploads of a process that died: enough to kill the server between the first removal and the last."""
SETTLE = 600.0
"""Seconds after which what is done behind the answers hangs; a busy machine may need many."""


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_kill_loses_a_push(tmp_path: Path) -> None:
    announce()
    chance = random.Random(SEED)
    history = History()
    with RegistryProcess(tmp_path, {"http": {"workers": 2}}) as server:
        with Crowd(CLIENTS, partial(Client, server.port), REPOSITORIES, history, SEED) as crowd:
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
            _settle(lambda: crowd.pushed >= KILLS, "pushes are acknowledged")
        print(f"{crowd.pushed} pushes acknowledged, {KILLS} kills")  # noqa: T201
        server.stop()
        server.config["storage"]["upload_expiry"] = EXPIRY
        server.start()
        _check_everything(server, history)
        server.kill()
        _lose_database(server.root)
        server.start()
        _check_everything(server, history)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced_while_the_other_serves(tmp_path: Path) -> None:
    """The parent lives on: what the dead worker had begun is finished by its successor or by the other worker."""
    announce()
    chance = random.Random(SEED)
    history = History()
    with RegistryProcess(tmp_path, {"http": {"workers": 2}, "storage": {"upload_expiry": EXPIRY}}) as server:
        processes = len(list(server.processes()))
        with Crowd(4, partial(Client, server.port), REPOSITORIES, history, SEED) as crowd:
            crowd.resume()
            for _ in range(budget(sample=4, full=60)):
                time.sleep(chance.uniform(0.5, 1.5))
                with Client(server.port) as client:
                    os.kill(serving_process(client, server), signal.SIGKILL)
                crowd.check()
                _settle(lambda: len(list(server.processes())) == processes, "the worker is replaced")
            _settle(lambda: crowd.pushed > 10, "pushes are acknowledged")
        _check_everything(server, history)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    """The session outlives the server, at an offset that was told before or a later one, and its bytes are right."""
    announce()
    chance = random.Random(SEED)
    with RegistryProcess(tmp_path, {"http": {"workers": 2}}) as server:
        for _ in range(budget(sample=2, full=30)):
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


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_cleaning_up_goes_on_after_a_kill_in_the_middle(tmp_path: Path) -> None:
    """A killed process keeps the lease of its work for a while only."""
    server = RegistryProcess(tmp_path, {"http": {"workers": 2}, "storage": {"upload_expiry": EXPIRY}})
    with server:
        server.stop()
        while not (left := _left_by_a_killed_cleaning(server)):
            pass  # the kill came after the last removal
        server.start()
        _settle(lambda: len(disk.uploads(server.root)) < left, "cleaning up goes on")
        _settle(lambda: disk.uploads(server.root) == [], "abandoned uploads are removed")


def _left_by_a_killed_cleaning(server: RegistryProcess) -> int:
    """How many abandoned uploads are left when a server is killed after the first removal that is seen."""
    directory, long_ago = server.root / ".uploads", time.time() - 3600
    for _ in range(ABANDONED):
        path = directory / str(uuid.uuid4())
        path.write_bytes(b"of a process that died")
        os.utime(path, (long_ago, long_ago))
    server.start()
    _settle(lambda: sum(1 for _ in directory.iterdir()) < ABANDONED, "cleaning up begins", pause=0.005)
    server.kill()
    return len(disk.uploads(server.root))


def _lose_database(root: Path) -> None:
    shutil.rmtree(root / ".database", ignore_errors=True)


def _check_disk(root: Path, *, deep: bool) -> None:
    """What is on disk at the moment of a crash is whole, even before the server has started again."""
    for directory in disk.repositories(root):
        disk.read_index(directory)
    if deep:
        require_kept(disk.wrong_blobs(root) == [], "wrong bytes")


def _check_everything(server: RegistryProcess, history: History) -> None:
    with Client(server.port) as client:
        truth.check_tags(client, history)
        truth.check_images(client, history)
        for repository in REPOSITORIES:
            _settle(partial(_index_is_current, server.root, client, repository), "index.json has every tag")
    require_kept(disk.wrong_blobs(server.root) == [], "wrong bytes")
    assert disk.strangers(server.root) == []
    _settle(lambda: disk.uploads(server.root) == [], "abandoned uploads are removed")


def _index_is_current(root: Path, client: Client, repository: str) -> bool:
    return disk.tags(root / repository) == {
        tag: client.digest_of_tag(repository, tag) for tag in client.tags(repository)
    }


def _settle(condition: Callable[[], bool], what: str, *, pause: float = 0.2) -> None:
    deadline = time.monotonic() + SETTLE
    while not condition():
        assert time.monotonic() < deadline, f"not within {SETTLE} s: {what}"
        time.sleep(pause)
