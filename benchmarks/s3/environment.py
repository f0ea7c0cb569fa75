"""Environment: one S3 store and one PostgreSQL on this machine; each server gets a bucket and a database of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.s3.distance import Distance
from benchmarks.scale import Bench
from benchmarks.servers import Running
from tests.support.postgresql import Cluster
from tests.support.s3_server import REGION, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.content import Source
    from benchmarks.scale import Scale
    from benchmarks.scenarios import Scenario, Setting
    from benchmarks.servers import Server


class S3Stage:
    """The stage of servers that keep their content in a bucket."""

    def __init__(self, directory: Path, store: S3Server, cluster: Cluster) -> None:
        self._directory = directory
        self._store = store
        self._cluster = cluster

    @contextlib.contextmanager
    def bench(self, scenario: Scenario, server: Server, scale: Scale, content: Source) -> Iterator[Bench]:
        """Start the server over a new bucket and a new database; the bucket is gone afterwards."""
        bucket = self._store.new_bucket()
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self._store.data / bucket, ignore_errors=True)
            endpoint, beside = self._store.endpoint, [self._store.pid, self._cluster.pid]
            if seconds := scenario.setting.delay_seconds:
                distance = stack.enter_context(Distance(self._directory, self._store.port, seconds))
                endpoint = distance.url
                beside.append(distance.pid)
            variables = self._variables(scenario.setting, endpoint, bucket)
            placed = dataclasses.replace(server, settings=(*server.settings, *variables.items()))
            running = stack.enter_context(Running(placed, self._directory))
            yield Bench(running, scale, content, self._store, tuple(beside))

    def _variables(self, setting: Setting, endpoint: str, bucket: str) -> dict[str, str]:
        return {
            "bucket": bucket,
            "region": REGION,
            "endpoint": endpoint,
            "access": self._store.access,
            "secret": self._store.secret,
            "database": self._cluster.create(),
            "redirect": "true" if setting.redirect else "false",
            "streamed": "false" if setting.redirect else "true",
            "redirect_switch": "on" if setting.redirect else "off",
        }


@contextlib.contextmanager
def stage(directory: Path) -> Iterator[S3Stage]:
    """Start the store and the database in ``directory``; both are gone when the context ends."""
    with contextlib.ExitStack() as stack:
        inside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-s3-", dir=directory)))
        inside.chmod(0o711)  # the database server is not root
        store = stack.enter_context(S3Server(inside / "store"))
        cluster = Cluster(inside / "postgresql", fsync=True, tcp=True)
        stack.callback(cluster.remove)
        yield S3Stage(inside, store, cluster)
