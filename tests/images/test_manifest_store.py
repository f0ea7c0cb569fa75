"""The bytes of manifests that the database keeps where storage is far away: for every process, never wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.database.statement import Statement
from registry.images.manifest_store import KEPT
from registry.images.registry import Registry
from registry.oci.digest import Digest
from registry.oci.errors import ManifestUnknown
from registry.storage.middleware.faults import FaultyDriver
from tests.support.payloads import Blob, image
from tests.support.registry_world import ACTOR, NAME, Pushed, World, push_blob, push_image, push_manifest

OTHER = "other/app"


class Replica:
    """A process whose calls to storage are counted."""

    def __init__(self, world: World) -> None:
        self.driver = FaultyDriver(world.driver())
        self.registry = world.registry(driver=self.driver)

    def get(self, reference: Digest | str, name: str = NAME) -> bytes:
        """What GET does."""
        return self.registry.manifests.read(self.registry.manifests.find(name, reference))

    def calls_for(self, reference: Digest | str, name: str = NAME) -> int:
        """How many calls such a GET makes."""
        self.registry.manifests.tags(name, last="", count=1)  # the look that each process has at each repository, once
        before = self.driver.calls.total()
        self.get(reference, name)
        return self.driver.calls.total() - before


@pytest.fixture
def kind() -> str:
    return "memory"


@pytest.fixture(params=["sqlite", "postgresql"])
def world(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    url = request.getfixturevalue("new_database")() if request.param == "postgresql" else None
    made = World(tmp_path, kind, url)
    yield made
    made.close()


@pytest.fixture
def pushed(registry: Registry) -> Pushed:
    return push_image(registry, "1", "v1")


def _key(registry: Registry, pushed: Pushed) -> str:
    return registry.manifests.find(NAME, pushed.digest).key


def _forget(registry: Registry) -> None:
    """As if a release that keeps no bytes had written the rows."""
    with registry.backends.database.transaction() as connection:
        connection.run("DELETE FROM manifest_body")


def _kept(registry: Registry) -> int:
    with registry.backends.database.autocommit() as connection:
        return int(connection.execute(Statement("SELECT count(*) FROM manifest_body"), {}).one()[0])


def test_what_one_process_has_pushed_every_other_reads_without_storage(world: World, pushed: Pushed) -> None:
    replica = Replica(world)
    for reference in (pushed.digest, "v1"):
        assert replica.calls_for(reference) == 0
        assert replica.get(reference) == pushed.manifest.data


def test_what_one_process_has_read_every_other_reads_without_storage(
    world: World, registry: Registry, pushed: Pushed
) -> None:
    _forget(registry)
    assert [Replica(world).calls_for("v1") for _ in range(3)] == [1, 0, 0]


def test_a_large_manifest_is_read_from_storage(world: World, registry: Registry) -> None:
    config = Blob(b"of a large manifest")
    push_blob(registry, config.data)
    push_manifest(registry, image(config, [], annotations={"large": "x" * KEPT}), "large")
    assert [Replica(world).calls_for("large") for _ in range(2)] == [1, 1]


def test_wrong_bytes_in_the_database_are_never_served_and_are_replaced(
    world: World, registry: Registry, pushed: Pushed
) -> None:
    with registry.backends.database.transaction() as connection:
        connection.run("UPDATE manifest_body SET body = substr(body, 2)")
    replica = Replica(world)
    assert [replica.calls_for("v1") for _ in range(2)] == [1, 0]
    assert replica.get("v1") == pushed.manifest.data


def test_bytes_that_are_nowhere_are_gone_for_every_process_until_the_next_push(
    world: World, registry: Registry, pushed: Pushed
) -> None:
    others = [Replica(world) for _ in range(2)]
    version = registry.manifests.find(NAME, "v1").version
    world.driver().delete([_key(registry, pushed)])
    assert others[0].get("v1") == pushed.manifest.data, "the database has them"
    _forget(registry)
    with pytest.raises(ManifestUnknown):
        others[0].get("v1")
    with pytest.raises(ManifestUnknown):
        others[1].registry.manifests.find(NAME, "v1")
    assert registry.manifests.tags(NAME, last="", count=1)[1] > version, "no process answers from memory"
    push_manifest(registry, pushed.manifest, "v1")
    assert others[1].get("v1") == pushed.manifest.data


def test_the_bytes_go_with_the_last_repository_that_has_the_manifest(registry: Registry, pushed: Pushed) -> None:
    push_image(registry, "1", "v1", name=OTHER)
    registry.manifests.delete(NAME, pushed.digest, actor=ACTOR)
    assert _kept(registry) == 1
    registry.manifests.delete(OTHER, pushed.digest, actor=ACTOR)
    assert _kept(registry) == 0


def test_a_lost_blob_is_no_longer_what_any_repository_remembers(
    world: World, registry: Registry, pushed: Pushed
) -> None:
    push_image(registry, "1", "v1", name=OTHER)
    digest = Digest.parse(pushed.layer.digest)
    before = [registry.manifests.tags(name, last="", count=1)[1] for name in (NAME, OTHER)]
    blob = registry.blobs.open(NAME, digest)
    world.driver().delete([blob.key])
    with pytest.raises(Exception, match="blob"):
        registry.blobs.read(blob)
    after = [registry.manifests.tags(name, last="", count=1)[1] for name in (NAME, OTHER)]
    assert [new > old for old, new in zip(before, after, strict=True)] == [True, True]


def test_where_a_stat_is_cheap_nothing_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, "local")
    try:
        registry = world.registry()
        push_image(registry, "1", "v1")
        assert Replica(world).get("v1")
        assert _kept(registry) == 0
    finally:
        world.close()
