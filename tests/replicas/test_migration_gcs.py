"""The story once on Google Cloud Storage: repositories without a prefix, whose indexes have the keys of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from registry.config.sections import GcsSettings
from registry.storage.gcs.driver import GcsDriver
from tests.clients.wire import Wire, until
from tests.replicas.conftest import Config
from tests.replicas.test_migration import command
from tests.support.buckets import push
from tests.support.gcs_server import GcsServer
from tests.support.migrated_bucket import contents
from tests.support.payloads import Blob, image
from tests.support.served_tags import zot_tags
from tests.support.servers import RegistryProcess
from tests.support.source_world import ARM, ON_ARM, SHARED, Repository, Tree, fill, per_repository, repositories

pytestmark = [pytest.mark.stores, pytest.mark.tools("fake-gcs-server")]


@contextmanager
def filled(directory: Path, tree: Tree) -> Iterator[tuple[GcsDriver, Config, Path]]:
    """A bucket with that tree; and a configuration for it, also as a file."""
    with GcsServer(directory / "gcs") as store:
        storage = store.storage(store.new_bucket())
        driver = GcsDriver(TypeAdapter(GcsSettings).validate_python(storage["gcs"]), str(storage["root_directory"]))
        fill(driver, tree)
        config: Config = {"storage": storage, "database": {"url": f"sqlite:///{directory / 'cache.db'}"}}
        file = directory / "config.json"
        file.write_text(json.dumps(config))
        yield driver, config, file
        driver.close()


def check_pulled(address: str, content: list[Repository]) -> None:
    """Every tag, manifest and blob has its bytes."""
    wire = Wire(address)
    for repository in content:
        assert wire.tags(repository.name) == sorted(repository.tags)
        for tag, manifest in repository.tags.items():
            assert wire.manifest(repository.name, tag).body == manifest.data
        for blob in repository.blobs:
            answer = wire.request("GET", f"/v2/{repository.name}/blobs/{blob.digest}")
            assert (answer.status, answer.body) == (200, blob.data), (repository.name, blob.digest)


def test_there_and_back_on_google(tmp_path: Path) -> None:
    content = repositories()
    tree = per_repository(content)
    with filled(tmp_path, tree) as (driver, config, file):
        with RegistryProcess(tmp_path / "stowage", config) as server:
            code, document = command(file, "--dry-run")
            assert (code, document["layout"], document["problems"]) == (0, "per-repository", []), document
            code, document = command(file, "--adopt-only")
            assert (code, document.get("state"), document.get("problems")) == (0, "adopted", []), document
            check_pulled(server.address, content)
            saved = driver.read("storage/migrations/0001/repositories/app/.index", max_bytes=1 << 20)[0]
            assert saved == tree["app/index.json"]
            code, document = command(file)
            assert (code, document.get("state")) == (0, "consolidated"), document
            mine = image(ARM, [SHARED, Blob(b"pushed since")])
            pushed = Repository("app", {"since": mine}, [], [Blob(b"pushed since"), ARM, SHARED])
            push(server.address, [pushed])
            content[0].tags["since"] = mine
            content[0].blobs.append(Blob(b"pushed since"))
            assert Wire(server.address).request("DELETE", "/v2/team/web/manifests/stable").status == 202
            del content[1].tags["stable"]
            until(lambda: b"since" in driver.read("app/index.json", max_bytes=1 << 20)[0], "the index has the tag")
            check_pulled(server.address, content)
            code, document = command(file, "--rollback")
            assert (code, document.get("state")) == (0, "rolled-back"), document
            check_pulled(server.address, content)
        back = {key: driver.read(key, max_bytes=1 << 20)[0] for key in per_repository(content, stubs=False)}
        index = json.loads(back["app/index.json"])
        assert mine.digest in {entry["digest"] for entry in index["manifests"]}
        assert "annotations" not in index
        assert back[f"app/blobs/{mine.digest.replace(':', '/')}"] == mine.data
        changed = {key for key in tree if tree[key] != driver.read(key, max_bytes=1 << 20)[0]}
        assert changed == {"app/index.json", "team/web/index.json"}
        served = {made.name: {tag: manifest.digest for tag, manifest in made.tags.items()} for made in content}
        assert zot_tags(contents(driver)) == served
        assert ON_ARM.digest in {entry["digest"] for entry in index["manifests"]}


def test_finalized_on_google(tmp_path: Path) -> None:
    content = repositories()
    tree = per_repository(content)
    with filled(tmp_path, tree) as (driver, config, file):
        with RegistryProcess(tmp_path / "stowage", config) as server:
            assert command(file)[1].get("state") == "consolidated"
            mine = image(ARM, [SHARED, Blob(b"pushed since")])
            push(server.address, [Repository("own/app", {"v1": mine}, [], [Blob(b"pushed since"), ARM, SHARED])])
            content.append(Repository("own/app", {"v1": mine}, [], [Blob(b"pushed since"), ARM, SHARED]))
            code, going = command(file, "--finalize", "--dry-run")
            assert code == 0, going
            code, document = command(file, "--finalize")
            assert (code, document.get("state"), document.get("problems")) == (0, "finalized", []), document
            assert document["counts"]["deleted"] == going["objects"]
            check_pulled(server.address, content)
        left = {key for key, _ in driver.list("")}
        assert not [key for key in tree if "/blobs/" in key and key in left]
        assert {key for key in tree if key.endswith("/index.json")} <= left
