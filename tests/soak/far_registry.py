"""Two replicas behind nginx over a bucket and a PostgreSQL server, and what must hold of the bucket."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any

from tests.soak import truth
from tests.soak.client import Client
from tests.support.replicas import Replicas

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.soak.history import History
    from tests.support.postgresql import Cluster
    from tests.support.s3_server import S3Server

PART = 5 << 20
SIZES = (0, 1, 1, 5000, 60_000, 60_000, 400_000, PART + 100_000)
"""Of layers: some in the row, some in pieces, some in parts."""
SETTLE = 600.0
"""Seconds after which what is done behind the answers hangs; a busy machine may need many."""
REF_NAME = "org.opencontainers.image.ref.name"


class FarRegistry:
    """See the module."""

    def __init__(self, directory: Path, store: S3Server, cluster: Cluster) -> None:
        self.bucket = store.new_bucket()
        storage = store.storage(self.bucket)
        storage["s3"] |= {"part_size": PART}  # type: ignore[operator]
        self.database = cluster.create()
        self.replicas = Replicas(
            directory, {"storage": storage, "database": {"url": self.database}}, next_upstream=True
        )
        self._cluster = cluster
        self._s3 = store.client()

    @property
    def ports(self) -> list[int]:
        """Where a client may ask."""
        return [self.replicas.port, *(replica.port for replica in self.replicas.replicas)]

    def kill_one(self, chance: random.Random) -> None:
        """SIGKILL to a replica, which starts again after a moment."""
        victim = chance.randrange(len(self.replicas.replicas))
        self.replicas.kill(victim)
        time.sleep(chance.uniform(0, 0.5))
        self.replicas.replicas[victim].start()

    def lose_database(self) -> None:
        """All of it, under clients that use it."""
        self._cluster.empty(self.database)

    def rebuild(self) -> dict[str, Any]:
        """``registry rebuild``; its report."""
        return self.replicas.replicas[0].run("rebuild", timeout=SETTLE)

    def expire_uploads(self, seconds: float) -> None:
        """Start the replicas anew, with ``storage.upload_expiry``."""
        self.replicas.stop()
        for replica in self.replicas.replicas:
            replica.config["storage"]["upload_expiry"] = seconds
        self.replicas.start()

    def check(self, history: History) -> None:
        """Whatever was acknowledged is there, through both replicas and on the bucket."""
        for replica in self.replicas.replicas:
            with Client(replica.port) as client:
                truth.check_tags(client, history)
                truth.check_images(client, history)
        with Client(self.replicas.port) as client:
            # For ten seconds after each replica has failed once nginx asks neither, and answers 502 by itself.
            settle(lambda: client.call("GET", "/v2/").status == 200, "nginx asks replicas again")
            for repository in sorted({repository for repository, *_ in history.tags()}):
                wanted = {tag: client.digest_of_tag(repository, tag) for tag in client.tags(repository)}
                settle(lambda: self._index_tags(repository) == wanted, f"index.json of {repository}")  # noqa: B023

    def check_nothing_is_left(self) -> None:
        """Of uploads, after they have expired."""
        settle(lambda: not self._multiparts(), "multipart uploads are aborted")
        settle(lambda: not self._keys("stowage/.uploads/"), "abandoned uploads are removed")

    def close(self) -> None:
        """Free the client of the bucket."""
        self._s3.close()

    def _index_tags(self, repository: str) -> dict[str, str]:
        body = self._s3.get_object(Bucket=self.bucket, Key=f"stowage/{repository}/index.json")["Body"].read()
        named = [entry for entry in json.loads(body)["manifests"] if REF_NAME in entry.get("annotations", {})]
        assert len({entry["annotations"][REF_NAME] for entry in named}) == len(named), "a tag is listed twice"
        return {entry["annotations"][REF_NAME]: entry["digest"] for entry in named}

    def _multiparts(self) -> list[Any]:
        return list(self._s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()))

    def _keys(self, prefix: str) -> list[Any]:
        return list(self._s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", ()))


def settle(condition: Callable[[], bool], what: str) -> None:
    """Wait for what happens behind the answers."""
    deadline = time.monotonic() + SETTLE
    while not condition():
        assert time.monotonic() < deadline, f"not within {SETTLE} s: {what}"
        time.sleep(0.2)
