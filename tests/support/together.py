"""*Together*: processes that serve one storage over one database, two workers of one server or two replicas."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.postgresql import Cluster


@contextmanager
def serving_together(
    directory: Path, config: Mapping[str, Mapping[str, Any]], cluster: Cluster | None
) -> Iterator[list[RegistryProcess]]:
    """Two workers of one server over SQLite; with a ``cluster``, two replicas over a database of it."""
    if cluster is None:
        servers = [RegistryProcess(directory / "one", {**config, "http": {"workers": 2}})]
    else:
        shared = {"storage": {"root_directory": str(directory / "root")}, "database": {"url": cluster.create_current()}}
        servers = [RegistryProcess(directory / name, {**config, **shared}) for name in ("one", "two")]
    try:
        for server in servers:
            server.start()
        yield servers
        for server in servers:
            server.stop()
    finally:
        for server in servers:
            if server.running:
                server.kill()
