"""Two worker processes behind one port: clients at the same time, each request on whichever worker takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import Layout, digest_of, layout_content, random_bytes, tar
from tests.clients.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.support.backends import Backend
    from tests.support.servers import Registry

pytestmark = [pytest.mark.clients, pytest.mark.tools("crane", "regctl")]


@pytest.fixture(scope="module")
def two_workers(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = backend.registry(tmp_path_factory.mktemp("workers"), {"http": {"workers": 2}})
    server.start()
    try:
        yield server
    finally:
        server.stop()


def test_pushes_of_many_tags_at_the_same_time_are_all_kept(
    two_workers: Registry, new_client: Callable[[str], Client], tmp_path: Path
) -> None:
    wire = Wire(two_workers.address)
    shared = tar({"shared": random_bytes(100_000, "shared")})
    layouts = {}
    for number in range(8):
        made = Layout(tmp_path / f"layout-{number}")
        made.tag("1", made.image([shared, tar({"own": str(number).encode()})]))
        layouts[f"tag-{number}"] = made.directory
    running = [
        new_client("crane").start("push", directory, f"{two_workers.address}/workers/tags:{tag}")
        for tag, directory in layouts.items()
    ]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
    assert wire.tags("workers/tags") == sorted(layouts)
    for tag, directory in layouts.items():
        assert wire.content("workers/tags", tag) == layout_content(directory)


def test_blobs_in_chunks_from_several_clients(
    two_workers: Registry, new_client: Callable[[str], Client], tmp_path: Path
) -> None:
    blobs = [random_bytes(700_000, number) for number in range(4)]
    running = []
    for number, data in enumerate(blobs):
        client = new_client("regctl")
        sizes = ("--blob-chunk=65536", "--blob-max=65536")
        client.run("registry", "set", "--tls=disabled", "--skip-check", *sizes, two_workers.address)
        (tmp_path / str(number)).write_bytes(data)
        with (tmp_path / str(number)).open("rb") as content:
            running.append(client.start("blob", "put", f"{two_workers.address}/workers/chunks", stdin=content.fileno()))
    for process, data in zip(running, blobs, strict=True):
        out, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
        assert out.decode().strip() == digest_of(data)
        path = f"/v2/workers/chunks/blobs/{digest_of(data)}"
        assert Wire(two_workers.address).request("GET", path).body == data
