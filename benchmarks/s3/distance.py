"""Distance: a proxy in a process of its own that adds network delay in front of the store."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from tests.support.program import Program
from tests.support.servers import HOST


class Distance(Program):
    """The proxy in a process of its own, in front of the store at the port given."""

    name: ClassVar[str] = "distance"

    def __init__(self, directory: Path, store_port: int, seconds: float) -> None:
        super().__init__(directory)
        self._store_port = store_port
        self._seconds = seconds

    def command(self) -> list[str]:
        """Return the command."""
        return [
            sys.executable,
            str(Path(__file__).with_name("network_delay.py")),
            str(self.port),
            str(self._store_port),
            str(self._seconds),
        ]

    def ready(self) -> bool:
        """Whether it listens."""
        with closing(socket.socket()) as probe:
            return probe.connect_ex((HOST, self.port)) == 0
