"""*World*: servers, collectors and the storage that they share, on local disk or in a bucket."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.cli.output import ExitCode
from tests.soak.collecting import shifted_program
from tests.soak.collecting.collectors import Machine
from tests.soak.collecting.times import CLAIM, SETTINGS, SETTLE, SKEW, UNCLEAR, UPLOAD_EXPIRY
from tests.support.servers import RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.postgresql import Cluster
    from tests.support.s3_server import S3Server

READ_TIMEOUT = 5.0


class World:
    """``servers`` are started and stopped by the test."""

    servers: list[Server]
    machines: list[Machine]

    @property
    def ports(self) -> list[int]:
        """Where clients may ask."""
        return [server.port for server in self.servers]

    def content(self) -> tuple[dict[str, set[str]], int]:
        """The digests on storage by repository (by an empty name where all share them), and the bytes of all."""
        raise NotImplementedError

    def start(self) -> None:
        """Start all servers."""
        for server in self.servers:
            server.start()

    def end(self) -> None:
        """Kill what runs."""
        for server in self.servers:
            if server.running:
                server.kill()

    def restart_without_a_schedule(self) -> None:
        """Stop the servers cleanly, and start them so that none of them collects."""
        for server in self.servers:
            server.restart_with({"interval": None})

    def collect_all(self) -> int:
        """``registry gc`` until nothing is left to remove; how many things went. Raises AssertionError.

        It has problems until the servers have completed the changes of processes that were killed.
        """
        removed, deadline = 0, time.monotonic() + SETTLE
        while True:
            done = self.servers[0].finished("gc")
            assert done.returncode in {ExitCode.DONE, ExitCode.PROBLEMS}, done
            found = json.loads(done.stdout)
            removed += len(found["removed"])
            if not (found["removed"] or found["waiting"] or found["kept"] or found["problems"]):
                return removed
            assert time.monotonic() < deadline, f"there is always more to collect: {json.dumps(found)[:3000]}"
            time.sleep(0.2)

    def usage(self) -> dict[str, Any]:
        """``registry usage`` of all repositories together."""
        total: dict[str, Any] = self.servers[0].run("usage")["total"]
        return total


class Server(RegistryProcess):
    """On a machine whose clock is wrong by ``skew``."""

    def __init__(self, directory: Path, config: Mapping[str, Mapping[str, object]], skew: float) -> None:
        script = str(Path(shifted_program.__file__))
        super().__init__(directory, config, [sys.executable, script, *(f"{each}" for each in (skew, CLAIM, UNCLEAR))])

    def restart_with(self, gc: Mapping[str, object]) -> None:
        """Restart with other settings of ``gc``."""
        self.stop()
        self.config["gc"] |= gc
        self.start()


class LocalWorld(World):
    """One machine with local disk and SQLite: two workers, a command beside them, and one clock."""

    def __init__(self, directory: Path) -> None:
        config: dict[str, dict[str, object]] = {
            "http": {"workers": 2},
            "gc": SETTINGS,
            "storage": {"upload_expiry": UPLOAD_EXPIRY},
        }
        self.servers = [Server(directory / "server", config, 0.0)]
        self.machines = [
            Machine(self.servers[0].config_path, directory / f"collector-{number}.log") for number in range(2)
        ]

    def content(self) -> tuple[dict[str, set[str]], int]:
        """See World."""
        found, sizes = defaultdict[str, set[str]](set), dict[int, int]()
        root = self.servers[0].root
        for path in root.rglob("blobs/sha256/*"):
            stat = path.stat()
            found[str(path.parents[2].relative_to(root))].add(f"sha256:{path.name}")
            sizes[stat.st_ino] = stat.st_size
        return dict(found), sum(sizes.values())


class FarWorld(World):
    """Two replicas and two collectors on machines of their own, with PostgreSQL and a bucket."""

    def __init__(self, directory: Path, store: S3Server, cluster: Cluster, late: str) -> None:
        """``late``: another address of the store, which collectors have."""
        self._bucket = store.new_bucket()
        self._client = store.client()
        storage = store.storage(self._bucket)
        storage["upload_expiry"] = UPLOAD_EXPIRY
        storage["s3"] |= {"read_timeout": READ_TIMEOUT}  # type: ignore[operator]
        config: dict[str, dict[str, object]] = {
            "storage": storage,
            "database": {"url": cluster.create()},
            "gc": SETTINGS,
        }
        skews = (-SKEW, SKEW)
        self.servers = [Server(directory / f"replica{skew:+.0f}", config, skew) for skew in skews]
        self.machines = [
            Machine(self.servers[0].config_path, directory / f"collector{skew:+.0f}.log", skew, late) for skew in skews
        ]

    def content(self) -> tuple[dict[str, set[str]], int]:
        """See World."""
        found, size = set[str](), 0
        for page in self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix="stowage/storage/blobs/"
        ):
            for each in page.get("Contents", ()):
                found.add(f"sha256:{each['Key'].rpartition('/')[2]}")
                size += each["Size"]
        return {"": found}, size

    def end(self) -> None:
        """See World."""
        super().end()
        self._client.close()
