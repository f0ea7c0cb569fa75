"""Places: what releases take over from each other, a directory with SQLite, or a bucket with PostgreSQL."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import psycopg

from tests.soak.client import Client
from tests.soak.disk import REF_NAME
from tests.support.backends import Config, merged
from tests.support.servers import RegistryProcess, program
from tests.upgrade.filling import ACCEPTING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgresql import Cluster
    from tests.support.s3_server import S3Server

PART = 5 << 20


class Place(Protocol):
    """One storage and one database, which registries of several releases use, one after the other or together."""

    shared: ClassVar[bool]
    """All repositories share all blobs."""
    config: Config
    root: Path
    """Where the objects are, as files, by their keys."""

    def lose_database(self) -> None:
        """Everything in it, while no registry runs."""

    def copied(self, directory: Path) -> Place:
        """A place with the same content, while no registry runs; what it needs of a directory is in this one."""


class Directory:
    """A directory, with the database in it."""

    shared: ClassVar[bool] = False

    def __init__(self, directory: Path) -> None:
        self.root = directory / "storage"
        self.config = merged(ACCEPTING, {"storage": {"root_directory": str(self.root), "fsync": False}})

    def lose_database(self) -> None:
        """See Place."""
        shutil.rmtree(self.root / ".database")

    def copied(self, directory: Path) -> Directory:
        """See Place."""
        made = Directory(directory)
        shutil.copytree(self.root, made.root)
        return made


class Bucket:
    """A bucket, and a PostgreSQL database."""

    shared: ClassVar[bool] = True

    def __init__(self, store: S3Server, cluster: Cluster, database: str | None = None) -> None:
        bucket = store.new_bucket()
        storage: dict[str, Any] = store.storage(bucket)
        storage["s3"] |= {"part_size": PART}
        self.root = store.data / bucket / "stowage"
        self.config = merged(ACCEPTING, {"storage": storage, "database": {"url": database or cluster.create()}})
        self._store, self._cluster = store, cluster

    def lose_database(self) -> None:
        """See Place."""
        self._cluster.empty(str(self.config["database"]["url"]))

    def copied(self, directory: Path) -> Bucket:
        """See Place."""
        made = Bucket(self._store, self._cluster, self._copied_database())
        # Unfinished uploads are beside the objects, and what the store says of objects is in attributes of files.
        shutil.copytree(self.root.parent, made.root.parent, dirs_exist_ok=True)
        return made

    def _copied_database(self) -> str:
        while True:
            try:
                return self._cluster.copy(str(self.config["database"]["url"]))
            except psycopg.errors.ObjectInUse:  # by a process that was killed, and whose end is not seen yet
                continue


class Tenancy:
    """The registries of one place: which release serves it, and what stands on storage."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place = place
        self._directory = directory

    def registry(self, command: list[str] | None = None) -> RegistryProcess:
        """A registry of a release, by default of this one, which is not started."""
        name = "former" if command else "present"
        return RegistryProcess(self._directory / name, self.place.config, command or program())

    @contextmanager
    def served(self, command: list[str] | None = None) -> Iterator[Client]:
        """Serve the place for a block, and stop cleanly."""
        process = self.registry(command)
        with process, Client(process.port) as client:
            yield client

    def rebuild(self, command: list[str] | None = None) -> dict[str, Any]:
        """``registry rebuild``, which finds no problem; its report."""
        report = self.registry(command).run("rebuild")
        assert report["problems"] == [], report
        return report

    def database_url(self) -> str:
        """For SQLAlchemy; the database is there."""
        url = self.place.config.get("database", {}).get("url")
        return str(url or f"sqlite:///{next(self.place.root.rglob('*.db'))}")

    def tags_in_index(self, name: str) -> dict[str, str]:
        """The tags that have been folded."""
        document = json.loads((self.place.root / name / "index.json").read_bytes())
        named = [entry for entry in document["manifests"] if REF_NAME in entry.get("annotations", {})]
        return {entry["annotations"][REF_NAME]: entry["digest"] for entry in named}
