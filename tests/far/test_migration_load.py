"""Clients pull and push while a bucket is migrated there and back: no read fails, and no write but by the cut's 503."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.clients.wire import Wire, until
from tests.far.conftest import Config
from tests.far.test_migration import command
from tests.migration.test_registries import many
from tests.migration.world import ARM, SHARED, Repository, distribution, per_repository
from tests.payloads import Blob, image
from tests.servers import RegistryProcess
from tests.stores.s3_server import S3Server

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw")]


class Load:
    """Threads that pull every image there is, and push new ones, until they are told to stop."""

    def __init__(self, addresses: list[str], repositories: list[Repository]) -> None:
        """Of replicas; pushes go to the first one."""
        self._addresses = addresses
        self._repositories = repositories
        self._stop = threading.Event()
        self.reads: Counter[int] = Counter()
        self.writes: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.pushed: list[Repository] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        pulling = [threading.Thread(target=self._pull, args=(address,)) for address in 2 * self._addresses]
        threads = [*pulling, threading.Thread(target=self._push)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _pull(self, address: str) -> None:
        wire = Wire(address)
        while not self._stop.is_set():
            for repository in [*self._repositories, *self.pushed]:
                for tag, manifest in repository.tags.items():
                    self._read(wire, f"/v2/{repository.name}/manifests/{tag}", manifest.data)
                for blob in repository.blobs:
                    self._read(wire, f"/v2/{repository.name}/blobs/{blob.digest}", blob.data)
                if self._stop.is_set():
                    return

    def _read(self, wire: Wire, path: str, data: bytes) -> None:
        answer = wire.request("GET", path, headers={"Accept": "*/*"})
        self.reads[answer.status] += 1
        if answer.body != data:
            self.wrong.append(f"{path}: {answer.status} {answer.body[:200]!r}")

    def _push(self) -> None:
        wire, number = Wire(self._addresses[0]), 0
        while not self._stop.is_set():
            layer = Blob(f"pushed under load {number}".encode())
            made = image(ARM, [SHARED, layer])
            name, number = f"load/app-{number % 5}", number + 1
            pushed = all(self._upload(wire, name, blob) for blob in (ARM, SHARED, layer))
            if pushed:
                headers = {"Content-Type": made.media_type}
                answer = wire.request("PUT", f"/v2/{name}/manifests/v{number}", made.data, headers)
                self.writes[answer.status] += 1
                if answer.status == 201:
                    self.pushed = [*self.pushed[-20:], Repository(name, {f"v{number}": made}, [], [layer])]

    def _upload(self, wire: Wire, name: str, blob: Blob) -> bool:
        answer = wire.request("POST", f"/v2/{name}/blobs/uploads/?digest={blob.digest}", blob.data)
        if answer.status == 202:
            location = answer.headers["location"]
            mark = "&" if "?" in location else "?"
            answer = wire.request("PUT", f"{location}{mark}digest={blob.digest}", blob.data)
        self.writes[answer.status] += 1
        return answer.status == 201


@pytest.mark.parametrize(
    ("layout", "database"),
    [
        ("per-repository", "config"),
        pytest.param("distribution", "shared_config", marks=pytest.mark.tools("initdb", "pg_ctl", "postgres")),
    ],
    ids=["per-repository", "distribution-postgresql-two-replicas"],
)
def test_under_load_there_and_back_and_there(
    layout: str, database: str, store: S3Server, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    config: Config = request.getfixturevalue(database)
    replicas = 2 if database == "shared_config" else 1
    content = many(8, 5)
    bucket = store.new_bucket()
    client = store.client()
    tree = (per_repository if layout == "per-repository" else distribution)(content)
    for key, data in tree.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()
    config["storage"] = store.storage(bucket) | {"root_directory": "/"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    with ExitStack() as stack:
        servers = [stack.enter_context(RegistryProcess(tmp_path / f"stowage-{n}", config)) for n in range(replicas)]
        assert command(file, "--adopt-only")[1]["state"] == "adopted"
        load = Load([server.address for server in servers], content)
        with load.running():
            until(lambda: load.writes[201] > 8 and load.reads[200] > 100, "clients are at work")
            code, document = command(file, "--adopt-only")
            assert (code, document["problems"]) == (0, [])
            code, document = command(file)
            assert (code, document.get("state")) == (0, "consolidated"), document
            assert set(load.writes) == {201}
            code, document = command(file, "--rollback")
            assert (code, document.get("state")) == (0, "rolled-back"), document
            before = load.writes[503]
            until(lambda: load.writes[503] > before + 3, "pushes are refused")
            code, document = command(file)
            assert (code, document.get("state")) == (0, "consolidated"), document
            pushed = load.writes[201]
            until(lambda: load.writes[201] > pushed + 3, "pushes are taken again")
            code, document = command(file, "--finalize")
            assert (code, document.get("state")) == (0, "finalized"), document
        assert load.wrong == []
        assert set(load.reads) == {200}
        assert set(load.writes) == {201, 503}
        assert len(load.pushed) > 5
