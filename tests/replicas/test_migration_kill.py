"""Real SIGKILLs, twenty of them on the way there and back, over a real store: the same command goes on each time."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.replicas.conftest import Config
from tests.replicas.test_migration import REGISTRY, ROOT, check_pulled, command
from tests.support.buckets import listing, push
from tests.support.commands import finish
from tests.support.payloads import Blob, image
from tests.support.s3_server import S3Server
from tests.support.servers import RegistryProcess
from tests.support.source_world import ARM, SHARED, Repository, per_repository, repositories

pytestmark = [pytest.mark.stores, pytest.mark.tools("versitygw", "crane")]


def killed(config: Path, step: int, *options: str) -> bool:
    """Whether the command was killed after that step; else it has ended well."""
    run = [REGISTRY, str(step), "migrate-s3-storage", "--config", str(config), "--json", *options]
    done = finish(run, directory=ROOT, module="tests.support.killed_command")
    assert done.returncode in {0, -signal.SIGKILL}, done.stdout + done.stderr
    return done.returncode != 0


@pytest.mark.timeout(400)
def test_twenty_kills(store: S3Server, config: Config, tmp_path: Path) -> None:
    bucket = store.new_bucket()
    client = store.client()
    content = repositories()
    tree = per_repository(content)
    for key, data in tree.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()
    original = listing(store, bucket)
    config["storage"] = store.storage(bucket) | {"root_directory": "/"}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    with RegistryProcess(tmp_path / "stowage", config) as server:
        there = [killed(file, step, "--adopt-only") for step in (3, 17, 29, 41, 53, 67, 79, 95)]
        there += [killed(file, step) for step in (111, 127, 143, 160)]
        assert sum(there) >= 10
        assert command(file)[1]["state"] == "consolidated"
        check_pulled(server.address, content, tmp_path)
        mine = image(ARM, [SHARED, Blob(b"pushed since")])
        push(server.address, [Repository("app", {"since": mine}, [], [Blob(b"pushed since"), ARM, SHARED])])
        content[0].tags["since"] = mine
        content[0].blobs.append(Blob(b"pushed since"))
        back = [killed(file, step, "--rollback") for step in (5, 9, 13, 17, 21, 29, 37, 45, 53, 61)]
        assert sum(back) >= 5
        assert sum(there) + sum(back) >= 20
        code, document = command(file, "--rollback")
        assert (code, document.get("state"), document.get("problems")) == (0, "rolled-back", []), document
        check_pulled(server.address, content, tmp_path)
    now = listing(store, bucket)
    assert {key for key in original if now.get(key) != original[key]} == {"app/index.json"}
