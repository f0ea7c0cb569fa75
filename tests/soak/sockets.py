"""Which process serves a connection, as the kernel tells it (Linux)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def server_of(client_port: int, server_port: int, processes: Iterable[int]) -> int | None:
    """The one of ``processes`` that has accepted the connection from ``client_port``; None while nobody has."""
    inode = _inode(local=server_port, remote=client_port)
    if inode is None:
        return None
    for pid in processes:
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) == f"socket:[{inode}]":
                        return pid
    return None


def _inode(*, local: int, remote: int) -> str | None:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(fields[column].split(":")[1], 16) for column in (1, 2)]
        if ports == [local, remote]:
            return fields[9]
    return None
