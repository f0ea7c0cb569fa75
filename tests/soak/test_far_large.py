"""Blobs past what S3 copies in one request, and many large ones at once: streamed, within bounds of memory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.soak.budget import budget
from tests.soak.large_blob import MIB, LargeBlob, LargeClient
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800), pytest.mark.tools("versitygw")]

COPIED = 5 << 30
"""Bytes that S3 copies in one request."""
MEMORY = 400 * MIB
"""Of a server, at most."""
HUNG = 600.0
"""Seconds after which the store hangs."""
PARALLEL = 8
LOWERED = """\
import sys
from registry.storage.s3 import multipart
multipart.COPY_BYTES, multipart.COPY_PART = {bytes}, {part}
from registry.cli.main import main
sys.argv[0] = "registry"
main()
"""


@pytest.fixture
def server(store: S3Server, tmp_path: Path) -> Iterator[RegistryProcess]:
    """Its bucket is removed with the test: what is in it is large."""
    bucket = store.new_bucket()
    storage = store.storage(bucket)
    storage["s3"] |= {"read_timeout": HUNG}  # type: ignore[operator] # the store of the tests copies what it completes
    process = RegistryProcess(tmp_path, {"storage": storage})
    yield process
    if process.running:
        process.kill()
    shutil.rmtree(store.data / bucket, ignore_errors=True)  # a store that is at work removes files meanwhile


@pytest.fixture
def lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies more than 32 MiB in parts of 8."""
    script = tmp_path / "lowered.py"
    script.write_text(LOWERED.format(bytes=32 * MIB, part=8 * MIB))
    monkeypatch.setenv("STOWAGE_TEST_PROGRAM", f"{sys.executable} {script}")


def copies(store: S3Server) -> int:
    """Parts that the store has copied since the last time."""
    found = sum(call.kind == "UploadPartCopy" for call in store.calls())
    store.reset_calls()
    return found


def round_trip(server: RegistryProcess, blob: LargeBlob, push: Callable[[LargeClient, LargeBlob], None]) -> None:
    client = LargeClient(server.port, "large/blob")
    push(client, blob)
    client.pull(blob)
    assert server.peak_memory() < MEMORY, f"{server.peak_memory() / MIB:.0f} MiB"


@pytest.mark.parametrize("more", [0, 1, 5 * MIB], ids=["at", "a-byte-above", "above"])
def test_a_staged_blob_around_what_is_copied_at_once(
    lowered: None, server: RegistryProcess, store: S3Server, more: int
) -> None:
    server.start()
    copies(store)
    round_trip(server, LargeBlob(32 * MIB + more, seed=more), LargeClient.push_staged)
    assert copies(store) == (5 if more else 0)
    server.stop()


WAYS = {"known-digest": (LargeClient.push_at_once, 0), "staged": (LargeClient.push_staged, 41)}
"""How such a blob is pushed, and in how many requests the store copies it; a sample has the staged one above."""
SIZE = budget(sample=1 << 30, full=COPIED) + 5 * MIB + 1
"""In a sample it is more than twice what a server may have in memory, in a full run more than S3 copies at once."""


@pytest.mark.parametrize("way", list(WAYS)[: budget(sample=1, full=2)])
def test_a_blob_that_no_memory_holds(server: RegistryProcess, store: S3Server, way: str) -> None:
    push, copied = WAYS[way]
    server.start()
    copies(store)
    round_trip(server, LargeBlob(SIZE, seed=copied), push)
    assert copies(store) == copied
    server.stop()


def test_many_large_blobs_at_once(server: RegistryProcess) -> None:
    server.start()
    client = LargeClient(server.port, "large/many")
    with ThreadPoolExecutor(PARALLEL) as pool:
        size = budget(sample=128, full=1024) * MIB
        blobs = list(pool.map(lambda seed: LargeBlob(size, seed), range(PARALLEL)))
        pushes = [client.push_staged, client.push_at_once]
        for done in [pool.submit(pushes[number % 2], blob) for number, blob in enumerate(blobs)]:
            done.result()
        pushed = server.peak_memory()
        list(pool.map(client.pull, blobs))
    print(f"peak {pushed / MIB:.0f} MiB while pushing, {server.peak_memory() / MIB:.0f} MiB in all")  # noqa: T201
    assert server.peak_memory() < MEMORY
    server.stop()
