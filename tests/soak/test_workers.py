"""Two worker processes on one disk and one SQLite are one registry (I3, I8, I11)."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.soak import disk
from tests.soak.budget import SEED, announce, budget
from tests.soak.client import Client
from tests.soak.loss import require_kept
from tests.soak.sockets import serving_process
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

CONFIG = Blob(b"{}")
HUNG = 300.0
"""Seconds after which what is waited for hangs."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    announce()
    with RegistryProcess(tmp_path_factory.mktemp("workers"), {"http": {"workers": 2}}) as process:
        yield process


@pytest.fixture
def pair(server: RegistryProcess) -> Iterator[tuple[Client, Client]]:
    """Two connections that two different workers serve."""
    by_worker: dict[int, Client] = {}
    clients = []
    deadline = time.monotonic() + HUNG
    while len(by_worker) < 2:
        assert time.monotonic() < deadline, "only one process accepts connections"
        client = Client(server.port)
        clients.append(client)
        by_worker.setdefault(serving_process(client, server), client)
    first, second = by_worker.values()
    yield first, second
    for client in clients:
        client.close()


def has_tags(directory: Path, count: int) -> bool:
    """Whether an index has so many tags."""
    return len(disk.tags(directory)) == count


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what happens behind the answers."""
    deadline = time.monotonic() + HUNG
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def in_parallel(count: int, work: Callable[[int], None]) -> None:
    """Run ``work`` in so many threads that begin together; raises the first failure."""
    barrier, failures = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as failure:  # noqa: BLE001 - raised below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_the_requests_of_an_upload_may_land_on_any_worker(pair: tuple[Client, Client]) -> None:
    chance = random.Random(SEED)
    parts = [chance.randbytes(size) for size in (70_000, 1, 300_000, 0, 5)]
    for pattern in itertools.product((0, 1), repeat=4):
        blob = Blob(b"".join(parts) + bytes(pattern))
        first, second, third, last = (pair[worker] for worker in pattern)
        location = first.begin("workers/uploads")
        offset = 0
        for client, part in zip(
            (second, third, first, last, second), (*parts[:4], parts[4] + bytes(pattern)), strict=True
        ):
            if part:
                content_range = {"Content-Range": f"{offset}-{offset + len(part) - 1}"}
                reply = client.call("PATCH", location, part, content_range)
                assert reply.status == 202, (pattern, reply)
                location = reply.location
                offset += len(part)
            status = third.call("GET", location)
            assert (status.status, status.headers["range"]) == (204, f"0-{offset - 1}")
        last.finish(location, blob.digest, b"")
        for client in pair:
            assert client.call("GET", f"/v2/workers/uploads/blobs/{blob.digest}").body == blob.data
            assert client.call("GET", location).status == 404


def test_a_session_can_be_cancelled_and_corrected_on_the_other_worker(pair: tuple[Client, Client]) -> None:
    first, second = pair
    location = first.begin("workers/cancelled")
    assert first.call("PATCH", location, b"abc").status == 202
    refused = second.call("PATCH", location, b"x", {"Content-Range": "5-5"})
    assert refused.status == 416
    assert second.call("DELETE", location).status == 204
    assert first.call("PATCH", location, b"def").status == 404


def test_a_blob_in_sha512_may_be_uploaded_through_two_workers(pair: tuple[Client, Client]) -> None:
    first, second = pair
    blob = Blob(b"one half and the other", "sha512")
    location = first.begin("workers/sha512")
    assert first.call("PATCH", location, blob.data[:9]).status == 202
    assert second.call("PATCH", location, blob.data[9:]).status == 202
    first.finish(location, blob.digest, b"")
    assert second.call("GET", f"/v2/workers/sha512/blobs/{blob.digest}").body == blob.data


def test_what_one_worker_acknowledged_the_other_serves_at_once(pair: tuple[Client, Client]) -> None:
    """Reads from memory included: every answer of the second worker is asked for before and after the change."""
    first, second = pair
    first.push_blob("workers/fresh", CONFIG)
    path = "/v2/workers/fresh/manifests/moving"
    for number in range(budget(sample=100, full=2000)):
        manifest = image(CONFIG, [], annotations={"number": str(number)})
        writer, reader = (first, second) if number % 2 else (second, first)
        before = reader.call("GET", path)
        writer.push_manifest("workers/fresh", manifest, "moving")
        after = reader.call("GET", path)
        assert after.body == manifest.data, (number, before.body, after)
        assert reader.call("HEAD", path).headers["docker-content-digest"] == manifest.digest
        if number % 5 == 0:
            assert writer.call("DELETE", path).status == 202
            assert reader.call("GET", path).status == 404
            assert "moving" not in reader.tags("workers/fresh")
        if number % 7 == 0:
            assert writer.call("DELETE", f"/v2/workers/fresh/manifests/{manifest.digest}").status == 202
            assert reader.call("GET", f"/v2/workers/fresh/manifests/{manifest.digest}").status == 404


def test_tags_pushed_at_once_to_one_repository_all_survive(server: RegistryProcess) -> None:
    each, repository = budget(sample=20, full=200), "workers/tags"

    def push(number: int) -> None:
        with Client(server.port) as client:
            if not client.has_blob(repository, CONFIG.digest):
                client.push_blob(repository, CONFIG)
            for count in range(each):
                manifest = image(CONFIG, [], annotations={"client": f"{number}", "count": f"{count}"})
                client.push_manifest(repository, manifest, f"client{number}-{count}")

    in_parallel(16, push)
    wanted = {f"client{number}-{count}" for number in range(16) for count in range(each)}
    with Client(server.port) as client:
        assert set(client.tags(repository)) == wanted
    wait_for(lambda: set(disk.tags(server.root / repository)) == wanted)


def test_a_blob_pushed_to_many_repositories_at_once_is_stored_once(server: RegistryProcess) -> None:
    for count in range(budget(sample=10, full=100)):
        blob = Blob(random.Random(SEED + count).randbytes(200_000))

        def push(number: int, blob: Blob = blob) -> None:
            with Client(server.port) as client:
                client.push_blob(f"workers/dedupe{number}", blob, ("post", "put", "chunks", "stream")[number % 4])

        in_parallel(8, push)
        assert len(disk.identities(server.root, blob.digest)) == 1, "one inode for all repositories"


def test_a_blob_that_a_manifest_was_accepted_for_is_there_whatever_was_deleted_meanwhile(
    server: RegistryProcess,
) -> None:
    """Clients push a blob and a manifest that needs it while others delete that blob as fast as they can.

    The manifest is refused where the blob went first; once it is accepted nothing takes the blob away (I2, I7).
    """
    repository, blob = "workers/contested", Blob(b"pushed and deleted" * 500)
    manifest = image(CONFIG, [blob])
    path = f"/v2/{repository}/blobs/{blob.digest}"
    stored = server.root / repository / "blobs" / "sha256" / blob.digest.split(":")[1]
    accepted = 0

    def contest(number: int) -> None:
        nonlocal accepted
        with Client(server.port) as client:
            for count in range(4):
                if number % 2:
                    reply = client.call("DELETE", path)
                    assert reply.status in {202, 404, 405}, reply
                    continue
                client.push_blob(repository, blob, ("post", "chunks")[count % 2])
                headers = {"Content-Type": manifest.media_type}
                reply = client.call("PUT", f"/v2/{repository}/manifests/{manifest.digest}", manifest.data, headers)
                assert reply.status in {201, 400}, reply
                if reply.status == 201:
                    accepted += 1
                    pulled = client.call("GET", path)
                    require_kept(
                        (pulled.status, pulled.body == blob.data) == (200, True), "accepted, and its blob is gone"
                    )

    with Client(server.port) as client:
        client.push_blob(repository, CONFIG)
        for _ in range(budget(sample=60, full=600)):
            in_parallel(6, contest)
            here = client.call("HEAD", f"/v2/{repository}/manifests/{manifest.digest}").status == 200
            reply = client.call("GET", path)
            assert stored.exists() == (reply.status == 200), reply
            if here:
                require_kept((reply.status, reply.body == blob.data) == (200, True), reply.status)
                assert client.call("DELETE", path).status == 405
                assert client.call("DELETE", f"/v2/{repository}/manifests/{manifest.digest}").status == 202
        assert accepted, "no manifest was ever accepted"
        client.push_blob(repository, blob)
        assert client.call("GET", path).body == blob.data


def test_a_repository_that_many_push_to_first_is_made_once(server: RegistryProcess) -> None:
    for count in range(budget(sample=8, full=100)):
        repository = f"workers/born{count}"

        def push(number: int, repository: str = repository) -> None:
            manifest = image(CONFIG, [], annotations={"client": f"{number}"})
            with Client(server.port) as client:
                client.push_blob(repository, CONFIG)
                client.push_manifest(repository, manifest, f"client{number}")

        in_parallel(8, push)
        with Client(server.port) as client:
            assert client.tags(repository) == [f"client{number}" for number in range(8)]
        wait_for(partial(has_tags, server.root / repository, 8))


def test_a_blob_mounted_while_its_source_deletes_it_is_readable_where_it_was_mounted(server: RegistryProcess) -> None:
    announce()
    chance = random.Random(SEED)
    blob = Blob(b"mounted from under a deletion" * 200)
    mounted = 0
    for count in range(budget(sample=40, full=800)):
        target = f"workers/mount{count % 5}"
        pause = chance.uniform(0, 0.01)  # each of them comes first at times

        def contest(number: int, target: str = target, pause: float = pause) -> None:
            nonlocal mounted
            with Client(server.port) as client:
                if number == 0:
                    time.sleep(pause)
                    assert client.call("DELETE", f"/v2/workers/source/blobs/{blob.digest}").status in {202, 404}
                elif client.mount(f"{target}-{number}", blob.digest, "workers/source"):
                    mounted += 1
                    reply = client.call("GET", f"/v2/{target}-{number}/blobs/{blob.digest}")
                    require_kept((reply.status, reply.body == blob.data) == (200, True), reply.status)

        with Client(server.port) as client:
            client.push_blob("workers/source", blob)
            in_parallel(4, contest)
            for number in range(1, 4):
                reply = client.call("DELETE", f"/v2/{target}-{number}/blobs/{blob.digest}")
                assert reply.status in {202, 404}, reply
    assert mounted, "nothing was ever mounted"


def test_an_upload_that_many_close_at_once_is_one_blob(server: RegistryProcess) -> None:
    repository = "workers/closed"
    for count in range(budget(sample=10, full=200)):
        blob = Blob(f"closed by all, {count}".encode() * 3000)
        with Client(server.port) as client:
            location = client.begin(repository)
            assert client.call("PATCH", location, blob.data).status == 202
        statuses: list[int] = []

        def close(number: int, blob: Blob = blob, location: str = location, statuses: list[int] = statuses) -> None:
            with Client(server.port) as client:
                if number == 5:
                    reply = client.call("DELETE", location)
                else:
                    reply = client.call("PUT", f"{location}?digest={blob.digest}", b"")
                statuses.append(reply.status)

        in_parallel(6, close)
        assert set(statuses) <= {201, 204, 404, 409}, statuses
        with Client(server.port) as client:
            reply = client.call("GET", f"/v2/{repository}/blobs/{blob.digest}")
            require_kept(reply.status == (200 if 201 in statuses else 404), statuses)
            if reply.status == 200:
                assert reply.body == blob.data
            assert client.call("GET", location).status == 404


def test_a_manifest_deleted_and_pushed_again_stays(server: RegistryProcess) -> None:
    """The bytes of a deleted manifest are unlinked behind the answer: not those of one that came back meanwhile."""
    repository, manifest = "workers/returning", image(CONFIG, [], annotations={"comes": "back"})
    with Client(server.port) as client:
        client.push_blob(repository, CONFIG)
        for number in range(budget(sample=30, full=500)):
            client.push_manifest(repository, manifest, "tag")
            assert client.call("DELETE", f"/v2/{repository}/manifests/{manifest.digest}").status == 202
            time.sleep(random.Random(number).choice([0, 0, 0.3, 1.1]))
            client.push_manifest(repository, manifest, "tag")
            assert client.call("GET", f"/v2/{repository}/manifests/tag").body == manifest.data
        time.sleep(1.5)
        assert client.call("GET", f"/v2/{repository}/manifests/{manifest.digest}").body == manifest.data
        wait_for(lambda: disk.tags(server.root / repository) == {"tag": manifest.digest})
