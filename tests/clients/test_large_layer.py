"""A layer of 3 GiB: past every 32-bit limit, in a few MiB of memory, and the same bytes on the way back."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import LAYER, Layout, blob_path, random_bytes
from tests.clients.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Descriptor
    from tests.support.backends import Backend

pytestmark = [pytest.mark.clients, pytest.mark.tools("crane"), pytest.mark.timeout(400)]

MIB = 1 << 20
SIZES = {
    "gcs-sqlite": 256 * MIB,  # the server of the tests composes 35 MiB in a second, and nothing else meanwhile
    "s3-postgresql": 1024 * MIB,  # the soaks push more than 5 GiB there
}
SIZE = 3 * 1024 * MIB
MEMORY = 200 * MIB  # all processes of the server together, interpreter and libraries included
OF_PARTS = 64 * MIB  # in addition where the store takes parts, of 16 MiB, and its library is loaded


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that is removed at once: pytest keeps those of several runs, and these are large."""
    directory = tmp_path / "large"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def blocks(size: int) -> Iterator[bytes]:
    """Yield the layer in pieces of 1 MiB, each different from all others."""
    block = random_bytes(MIB)
    for number in range(size // MIB):
        yield number.to_bytes(8, "big") + block[8:]


def write_layer(layout: Layout, size: int) -> Descriptor:
    """Put the layer into a layout, written and hashed in pieces, and return its descriptor."""
    digest = hashlib.sha256()
    unnamed = layout.directory / "unnamed"
    with unnamed.open("wb") as file:
        for block in blocks(size):
            file.write(block)
            digest.update(block)
    name = f"sha256:{digest.hexdigest()}"
    blob_path(layout.directory, name).parent.mkdir(parents=True)
    unnamed.rename(blob_path(layout.directory, name))
    return {"mediaType": LAYER, "digest": name, "size": size}


def test_a_layer_of_gibibytes(backend: Backend, new_client: Callable[[str], Client], place: Path) -> None:
    size = SIZES.get(backend.name, SIZE)
    source = Layout(place / "source")
    layer = write_layer(source, size)
    source.tag("1", source.image([], extra_layers=[layer]))
    with backend.registry(place / "registry") as server:
        new_client("crane").run("push", source.directory, f"{server.address}/large/layer:1")
        shutil.rmtree(source.directory)
        assert Wire(server.address).manifest("large/layer", "1").json()["layers"] == [layer]

        pulling = new_client("crane").start("blob", f"{server.address}/large/layer@{layer['digest']}")
        assert pulling.stdout is not None
        pulled = hashlib.sha256()
        length = 0
        while piece := pulling.stdout.read(MIB):
            pulled.update(piece)
            length += len(piece)
        _, said = pulling.communicate(timeout=300)
        assert pulling.returncode == 0, said
        assert length == size
        assert f"sha256:{pulled.hexdigest()}" == layer["digest"]

        # The last block alone, from an offset beyond 31 bits.
        path = f"/v2/large/layer/blobs/{layer['digest']}"
        part = Wire(server.address).request("GET", path, headers={"Range": f"bytes={size - MIB}-"})
        assert part.status == 206
        assert part.headers["content-range"] == f"bytes {size - MIB}-{size - 1}/{size}"
        assert part.body == last_of(blocks(size))
        assert server.peak_memory() < MEMORY + (0 if backend.name == "local" else OF_PARTS), (
            f"{server.peak_memory() / MIB:.0f} MiB"
        )


def last_of(pieces: Iterator[bytes]) -> bytes:
    """Return the last piece without keeping the others."""
    last = b""
    for piece in pieces:
        last = piece
    return last
