"""A driver that is written in under 200 lines and one row of the factory: the registry serves from it.

That it keeps the contract is in the suite, for which it is a row like every other driver.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.storage.object_store import directory_registry, directory_store
from tests.storage.object_store.directory_store import CAPABILITIES
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIG, LAYER = Blob(b"{}"), Blob(os.urandom(3 * CAPABILITIES.part_bytes + 5))
IMAGE = image(CONFIG, [LAYER])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    program = [sys.executable, str(Path(directory_registry.__file__))]
    with RegistryProcess(tmp_path, command=program) as started:
        yield started


def ask(
    registry: RegistryProcess, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[HTTPResponse, bytes]:
    """The answer with its body, which is no error."""
    connection = HTTPConnection("127.0.0.1", registry.port, timeout=60)
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    assert answer.status < 300, (answer.status, data)
    return answer, data


def push(registry: RegistryProcess, blob: Blob, *, pieces: int) -> None:
    """An upload in so many pieces, and none with its end."""
    location = ask(registry, "POST", "/v2/team/app/blobs/uploads/")[0].headers["Location"]
    size = -(-len(blob.data) // pieces)
    for begin in range(0, len(blob.data), size):
        piece = blob.data[begin : begin + size]
        headers = {"Content-Range": f"{begin}-{begin + len(piece) - 1}", "Content-Type": "application/octet-stream"}
        location = ask(registry, "PATCH", location, piece, headers)[0].headers["Location"]
    ask(registry, "PUT", f"{location}{'&' if '?' in location else '?'}digest={blob.digest}")


def test_the_driver_is_small() -> None:
    lines = Path(directory_store.__file__).read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) < 200


def test_an_image_is_pushed_to_it_and_pulled_also_after_a_restart(registry: RegistryProcess) -> None:
    push(registry, CONFIG, pieces=1)
    push(registry, LAYER, pieces=3)
    ask(registry, "PUT", "/v2/team/app/manifests/v1", IMAGE.data, {"Content-Type": IMAGE.media_type})
    for restarted in (False, True):
        if restarted:
            registry.restart()
        answer, data = ask(registry, "GET", "/v2/team/app/manifests/v1")
        assert (answer.headers["Docker-Content-Digest"], data) == (IMAGE.digest, IMAGE.data)
        for blob in (CONFIG, LAYER):
            assert ask(registry, "GET", f"/v2/team/app/blobs/{blob.digest}")[1] == blob.data
    kept = {path.name.rpartition("%2F")[2] for path in (registry.root / "store/objects").iterdir()}
    assert {blob.digest.removeprefix("sha256:") for blob in (CONFIG, LAYER)} <= kept
