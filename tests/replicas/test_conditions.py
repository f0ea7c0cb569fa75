"""A store that ignores conditional writes: found by the probe, and then one process writes, and no second one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.wire import Wire
from tests.replicas.conftest import Config
from tests.replicas.test_configuration import said
from tests.support.commands import finish
from tests.support.fault_proxy import FaultProxy
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess, free_port, program

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "initdb", "pg_ctl", "postgres")]

BLOB = Blob(b"{}")
IMAGE = image(BLOB, [])


@pytest.fixture
def ignorant(shared_config: Config, proxy: FaultProxy) -> Config:
    """Of registries over a store that lets every write through."""
    proxy.strip = {"if-match", "if-none-match"}
    shared_config["storage"]["s3"]["endpoint_url"] = proxy.url
    return shared_config


def push(wire: Wire, tag: str) -> int:
    """The status of the manifest's push."""
    posted = wire.request("POST", f"/v2/team/app/blobs/uploads/?digest={BLOB.digest}", BLOB.data)
    assert posted.status == 201, posted.body
    headers = {"Content-Type": IMAGE.media_type}
    return wire.request("PUT", f"/v2/team/app/manifests/{tag}", IMAGE.data, headers).status


def test_the_check_says_so(ignorant: Config, tmp_path: Path) -> None:
    code, document = said(ignorant, tmp_path, "config", "check")
    assert (code, document["problems"], document["conditional_writes"]) == (0, [], False)
    assert "only one process" in document["notes"][0]


def test_one_replica_serves_and_a_second_is_refused_until_the_first_has_ended(
    ignorant: Config, tmp_path: Path, replica: Callable[[Config], RegistryProcess]
) -> None:
    first = replica(ignorant)
    assert push(Wire(first.address), "v1") == 201
    code, document = said(ignorant, tmp_path, "serve")
    assert code == 3
    assert "ignores conditional writes" in document["message"]
    assert "another process" in document["message"]
    code, document = said(ignorant, tmp_path, "rebuild")
    assert code == 3, document
    first.stop()
    second = replica(ignorant)
    assert push(Wire(second.address), "v2") == 201
    assert Wire(second.address).tags("team/app") == ["v1", "v2"]


def test_several_workers_are_refused(ignorant: Config, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**ignorant, "http": {"port": free_port(), "workers": 2}}))
    done = finish([*program(), "serve", "--config", str(path)], directory=tmp_path)
    assert done.returncode == 3
    assert b"set http.workers to 1" in done.stderr
