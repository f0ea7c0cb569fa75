"""Where the registries of a test run keep their content: ``--backend`` chooses, and the tests do not know.

A backend makes registries. What they need to run over (a store, a database server) it starts with the first and ends
with ``close``; each registry gets a bucket and a database of its own, which its restart finds again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from tests.support.gcs_server import GcsServer
from tests.support.postgresql import Cluster
from tests.support.replicas import Replicas
from tests.support.s3_server import S3Server
from tests.support.servers import Registry, RegistryProcess
from tests.support.tools import require_tools

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Config = dict[str, dict[str, object]]

LOCAL = "local"
"""The default: an unconfigured registry."""


class Backend(Protocol):
    """One way to run a registry."""

    name: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        """``directory`` is for what outlives a single registry."""

    def registry(self, directory: Path, config: Mapping[str, Mapping[str, object]] | None = None) -> Registry:
        """A registry over empty storage, not started yet; ``config`` overrides single keys of the configuration."""

    def close(self) -> None:
        """End what was started for all registries; may be called twice."""


class Local:
    """One ``registry serve`` on local disk with SQLite."""

    name: ClassVar[str] = LOCAL

    def __init__(self, directory: Path) -> None:
        pass

    def registry(self, directory: Path, config: Mapping[str, Mapping[str, object]] | None = None) -> RegistryProcess:
        """Its storage is ``directory / "storage"``."""
        return RegistryProcess(directory, config)

    def close(self) -> None:
        """Nothing is shared."""


class S3Postgresql:
    """Two replicas behind nginx over one S3 store and one PostgreSQL."""

    name: ClassVar[str] = "s3-postgresql"

    def __init__(self, directory: Path) -> None:
        require_tools("versitygw", "nginx", "initdb", "pg_ctl", "postgres")
        self.store = S3Server(directory / "s3")
        self.cluster: Cluster | None = None

    def registry(self, directory: Path, config: Mapping[str, Mapping[str, object]] | None = None) -> Replicas:
        """It has a bucket and a database of its own."""
        if not self.store.running:
            self.store.start()
        if self.cluster is None:
            self.cluster = Cluster()
        return Replicas(
            directory,
            merged(
                {
                    "storage": self.store.storage(self.store.new_bucket()),
                    "database": {"url": self.cluster.create()},
                },
                config or {},
            ),
        )

    def close(self) -> None:
        """Stop the store and remove the database server."""
        if self.store.running:
            self.store.stop()
        if self.cluster is not None:
            self.cluster.remove()
            self.cluster = None


class GcsSqlite:
    """One ``registry serve`` over a GCS store with SQLite beside it."""

    name: ClassVar[str] = "gcs-sqlite"

    def __init__(self, directory: Path) -> None:
        require_tools("fake-gcs-server")
        self.store = GcsServer(directory / "gcs")

    def registry(self, directory: Path, config: Mapping[str, Mapping[str, object]] | None = None) -> RegistryProcess:
        """It has a bucket of its own; the database is ``directory / "registry.db"``."""
        if not self.store.running:
            self.store.start()
        own: Config = {
            "storage": self.store.storage(self.store.new_bucket()),
            "database": {"url": f"sqlite:///{directory.resolve() / 'registry.db'}"},
        }
        return RegistryProcess(directory, merged(own, config or {}))

    def close(self) -> None:
        """Stop the store."""
        if self.store.running:
            self.store.stop()


_BACKENDS: tuple[type[Backend], ...] = (Local, S3Postgresql, GcsSqlite)
BACKENDS: Mapping[str, type[Backend]] = {backend.name: backend for backend in _BACKENDS}


def merged(config: Mapping[str, Mapping[str, object]], overrides: Mapping[str, Mapping[str, object]]) -> Config:
    """Return ``config`` with the keys of each section of ``overrides`` on top."""
    sections = [*config, *(name for name in overrides if name not in config)]
    return {name: {**config.get(name, {}), **overrides.get(name, {})} for name in sections}
