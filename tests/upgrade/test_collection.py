"""Collection and former releases: check 27 of lifecycle, and that nothing is deleted by itself after an upgrade."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from registry.cli.output import ExitCode
from tests.soak.client import Client
from tests.support.backends import merged
from tests.support.payloads import Blob, image
from tests.support.servers import RegistryProcess
from tests.upgrade.places import Tenancy

pytestmark = [pytest.mark.upgrade, pytest.mark.timeout(900)]

NAME = "team/app"
KEPT, GONE = (Blob(text.encode()) for text in ("kept", "gone"))
IMAGE, OLD_IMAGE = (image(Blob(b"{}"), [blob]) for blob in (KEPT, GONE))
SOON: dict[str, dict[str, object]] = {"gc": {"grace": 0, "lease": 0, "undelete_window": 0, "orphans_after": 0}}
LOOKS: dict[str, dict[str, object]] = {"storage": {"upload_expiry": 2}}
"""A server takes the lease of this job each second."""
PATIENCE = 60


class Command:
    """``registry gc`` of this release, of a place."""

    def __init__(self, tenancy: Tenancy, directory: Path) -> None:
        self._process = RegistryProcess(directory, merged(tenancy.place.config, SOON))

    def run(self, *options: str) -> tuple[int, dict[str, Any], str]:
        """Its exit code, what it says, and what it complains of."""
        done = self._process.finished("gc", *options, timeout=120)
        return done.returncode, json.loads(done.stdout or b"{}"), (done.stdout + done.stderr).decode()


def objects(tenancy: Tenancy) -> dict[str, int]:
    """Every file that holds content, with its size."""
    root = tenancy.place.root
    return {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("blobs/*/*") if path.is_file()}


def fill(client: Client) -> None:
    """Push an image that stays, and one that is deleted: its layer is out of use."""
    for manifest, layer in ((IMAGE, KEPT), (OLD_IMAGE, GONE)):
        client.push_blob(NAME, Blob(b"{}"))
        client.push_blob(NAME, layer)
        client.push_manifest(NAME, manifest, layer.data.decode())
    assert client.call("DELETE", f"/v2/{NAME}/manifests/{OLD_IMAGE.digest}").status == 202


def let_a_day_pass(tenancy: Tenancy) -> None:
    """Since the former release was seen, and since clients were told of content."""
    engine = create_engine(tenancy.database_url())
    with engine.begin() as connection:
        connection.execute(text("UPDATE collection_state SET former_at = former_at - 86500"))
        connection.execute(text("UPDATE blob SET leased_until = 0, lease_until = 0"))
    engine.dispose()


def test_beside_a_process_of_a_former_release_nothing_is_collected(
    tenancy: Tenancy, former: list[str], tmp_path: Path
) -> None:
    """Check 27 of lifecycle: also a day after it has ended, and then collections free what is out of use."""
    tenancy.place.config = merged(tenancy.place.config, LOOKS)
    command = Command(tenancy, tmp_path / "gc")
    with tenancy.served(former) as client:
        fill(client)
        with tenancy.served():  # it makes the schema, and takes the leases of the other one's jobs
            deadline = time.monotonic() + PATIENCE
            while "former release" not in command.run("--dry-run")[2]:
                assert time.monotonic() < deadline, command.run("--dry-run")
                time.sleep(0.5)
        before = objects(tenancy)
        for options in ((), ("--dry-run",), ("--orphans",), ()):
            code, _, told = command.run(*options)
            assert (code, "former release" in told) == (ExitCode.REFUSED, True), told
        assert objects(tenancy) == before
        assert client.digest_of_tag(NAME, "kept") == IMAGE.digest
    code, _, told = command.run()
    assert (code, "former release" in told) == (ExitCode.REFUSED, True), "it ended a moment ago"
    let_a_day_pass(tenancy)
    for _ in range(4):
        code, report, told = command.run()
        assert code == ExitCode.DONE, told
    assert not [key for key in objects(tenancy) if key.endswith(GONE.digest.rpartition(":")[2])], report
    with tenancy.served() as client:
        assert client.digest_of_tag(NAME, "kept") == IMAGE.digest
        assert client.call("GET", f"/v2/{NAME}/blobs/{KEPT.digest}").body == KEPT.data


def catalog(client: Client) -> list[str]:
    return list(json.loads(client.call("GET", "/v2/_catalog").body)["repositories"])


def push(client: Client, *names: str) -> None:
    for name in names:
        client.push_blob(name, Blob(b"{}"))
        client.push_blob(name, KEPT)
        client.push_manifest(name, IMAGE, "again")


def test_a_former_release_pushes_into_repositories_that_were_empty(
    tenancy: Tenancy, former: list[str], tmp_path: Path
) -> None:
    """They are gone from the lists of this release by then, one with a history and one without."""
    emptied = ["team/unused", "team/used"]
    with tenancy.served() as client:
        fill(client)
        push(client, "team/used")
        assert client.call("DELETE", f"/v2/team/used/manifests/{IMAGE.digest}").status == 202
        client.push_blob("team/unused", Blob(b"a push that was given up"))
    let_a_day_pass(tenancy)
    command, removed = Command(tenancy, tmp_path / "gc"), list[str]()
    for _ in range(8):
        code, report, told = command.run()
        assert code == ExitCode.DONE, told
        removed += [each["repository"] for each in report["removed"] if each["kind"] == "repository"]
    assert sorted(removed) == emptied
    with tenancy.served() as client:
        assert catalog(client) == [NAME]
    with tenancy.served(former) as client:
        push(client, *emptied)
    for is_lost in (False, True):
        if is_lost:
            tenancy.place.lose_database()
            tenancy.rebuild()
        with tenancy.served() as client:
            assert catalog(client) == [NAME, *emptied]
            for name in emptied:
                assert client.digest_of_tag(name, "again") == IMAGE.digest
                assert client.call("GET", f"/v2/{name}/blobs/{KEPT.digest}").body == KEPT.data
    assert [*tenancy.tags_in_index("team/used")] == ["again"]


def test_after_an_upgrade_nothing_is_collected_by_itself(tenancy: Tenancy, former: list[str], tmp_path: Path) -> None:
    with tenancy.served(former) as client:
        fill(client)
    before = objects(tenancy)
    process = tenancy.registry()
    with process, Client(process.port) as client:
        assert client.digest_of_tag(NAME, "kept") == IMAGE.digest
        deadline = time.monotonic() + PATIENCE
        while "nothing is collected by itself" not in process.log_tail():
            assert time.monotonic() < deadline, process.log_tail()
            time.sleep(0.2)
    assert objects(tenancy) == before
    assert not (tenancy.place.root / ".gc").exists(), "nothing was written for a collection"
    code, _, told = Command(tenancy, tmp_path / "gc").run()
    assert code == ExitCode.DONE, told
    assert json.loads((tenancy.place.root / ".gc" / "state.json").read_bytes())["new"] is False
    with tenancy.served(former) as client:  # and back
        assert client.digest_of_tag(NAME, "kept") == IMAGE.digest
    code, _, told = Command(tenancy, tmp_path / "gc").run()
    assert (code, "former release" in told) == (ExitCode.REFUSED, True), told
