"""Which process serves a connection, as the kernel tells it (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.soak.client import Client
    from tests.support.servers import RegistryProcess


def serving_process(client: Client, server: RegistryProcess) -> int:
    """The process of a server that has accepted this client's connection; opens it with a request."""
    assert client.call("GET", "/v2/").status == 200
    assert client.connection.sock is not None, "the connection is kept"
    inode = _inode(local=server.port, remote=client.connection.sock.getsockname()[1])
    for pid in server.processes():
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) == f"socket:[{inode}]":
                        return pid
    raise AssertionError("no process holds the connection that was just answered")


def _inode(*, local: int, remote: int) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(fields[column].split(":")[1], 16) for column in (1, 2)]
        if ports == [local, remote]:
            return fields[9]
    return None
