"""Slow line: a registry whose tokens are short, behind a line on which a layer takes longer than they live."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tests.clients.guarded import RULES, Requests, seen, write_users
from tests.clients.layouts import Layout, random_bytes, tagged, tar
from tests.clients.machines import succeeded
from tests.support import short_tokens
from tests.support.servers import RegistryProcess
from tests.support.silent_proxy import SilentProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clients.machines import Transporter

LAYER = 2 << 20
"""Bytes, which no client makes fewer."""


class Line(NamedTuple):
    """A registry behind a slow line."""

    server: RegistryProcess
    proxy: SilentProxy

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"


@contextmanager
def line(directory: Path, *, token: int, layer: float) -> Iterator[Line]:
    """Tokens live for so many seconds, and the layer takes that many."""

    def slowly(data: bytes) -> bool:
        time.sleep(len(data) * layer / LAYER)
        return False

    auth: dict[str, object] = {"htpasswd": {"file": str(write_users(directory / "htpasswd"))}}
    command = [sys.executable, "-m", short_tokens.__name__, str(token)]
    sections: dict[str, dict[str, object]] = {"auth": auth, "access": {"rules": RULES}, "storage": {"fsync": False}}
    with RegistryProcess(directory, sections, command) as server, SilentProxy(server.port) as proxy:
        proxy.lose = slowly
        yield Line(server, proxy)


def large_layout(directory: Path) -> Path:
    """A layout with one image, `single`, of one layer."""
    made = Layout(directory)
    made.tag("single", made.image([tar({"large": random_bytes(LAYER, "large")})]))
    return made.directory


def push(machine: Transporter, slow: Line, layout: Path) -> None:
    """Push the image of a layout, with more than one token."""
    machine.logged_in("alice")
    requests, repository = Requests(slow.server), f"team/{machine.tools[0]}"
    succeeded(machine.push(layout, f"{slow.address}/{repository}:1"))
    assert seen(slow.server.address, repository, "1", "alice") == (200, tagged(layout, "single")["digest"])
    given = [each for each in requests.all() if (each.path, each.status) == ("/auth/token", 200)]
    assert len(given) > 1, requests.all()
