"""Memory does not grow with blobs: several large ones at once, up and down."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

from tests.server.sending import Client
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
PIECE = os.urandom(4 * MIB)
PIECES = 32
SIZE = PIECES * len(PIECE)
AT_ONCE = 4
CEILING = 200 * MIB


def test_blobs_of_128_mib_pass_within_200_mib_of_memory(tmp_path: Path) -> None:
    hasher = sha256()
    for _ in range(PIECES):
        hasher.update(PIECE)
    digest = f"sha256:{hasher.hexdigest()}"
    together = threading.Barrier(AT_ONCE)
    with RegistryProcess(tmp_path, {"storage": {"fsync": False}}) as server:

        def push(number: int) -> None:
            with Client(server.port) as client:
                session = client.start_upload(f"memory/of{number}")
                together.wait(30)
                client.begin("PATCH", session, SIZE)
                for _ in range(PIECES):
                    client.send(PIECE)
                assert client.answer().status == 202
                assert client.call("PUT", f"{session}?digest={digest}").status == 201

        def pull(number: int) -> None:
            with Client(server.port) as client:
                together.wait(30)
                client.begin("GET", f"/v2/memory/of{number}/blobs/{digest}", 0)
                response = client.opened()
                for _ in range(PIECES):
                    assert response.read(len(PIECE)) == PIECE
                assert response.read() == b""

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(push, range(AT_ONCE)))
            pushed = server.peak_memory()
            list(pool.map(pull, range(AT_ONCE)))
        assert pushed < CEILING, f"{pushed / MIB:.0f} MiB while pushing"
        assert server.peak_memory() < CEILING, f"{server.peak_memory() / MIB:.0f} MiB while pulling"
