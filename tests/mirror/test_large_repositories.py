"""Manifests that name thousands, and repositories with thousands of tags, whose content mostly never comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.database import withheld
from registry.images.records import withholding
from registry.oci.digest import Digest
from registry.oci.errors import BadGateway
from registry.oci.media_types import OCI_MANIFEST
from tests.mirror.scripted import HERE, Mirror, ScriptedRemote
from tests.support.payloads import INDEX, Blob, Manifest, digest_of, image
from tests.support.registry_world import World, push_blob, tags


@pytest.fixture(params=["local", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def names(text: str, count: int) -> list[str]:
    return [digest_of(f"{text} {number}".encode()) for number in range(count)]


def index_of(digests: list[str]) -> Manifest:
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest, "size": 100} for digest in digests]
    return Manifest(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(), INDEX)


def withheld_in(world: World, mirror: Mirror) -> int:
    repository = mirror.registry.repositories.touch(HERE)
    assert repository is not None
    with world.registry().backends.database.autocommit() as connection:
        return withheld.count(connection, repository.id).get()


def test_an_index_and_an_artifact_of_thousands_are_served(world: World, mirror: Mirror, remote: ScriptedRemote) -> None:
    layers = [Blob(f"file {number}".encode()) for number in range(4000)]
    remote.push(index_of(names("entry", 4000)), "index")
    remote.push(image(Blob(b"config"), layers), "files")
    for tag in ("index", "files"):
        assert mirror.pull(tag) == (remote.tags[tag].digest, False)
    assert withheld_in(world, mirror) == 8001
    mirror.registry.fold_waiting()
    assert mirror.find("index").source == "cache"
    assert push_blob(mirror.registry, layers[0].data, HERE) == Digest.parse(layers[0].digest)
    assert withheld_in(world, mirror) == 8000


def test_a_repository_of_many_tags_is_counted_once_in_a_while(
    world: World, mirror: Mirror, remote: ScriptedRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    count = withheld.count

    def counting(connection: Any, repository_id: int) -> Any:
        counted.append(repository_id)
        return count(connection, repository_id)

    monkeypatch.setattr(withheld, "count", counting)
    monkeypatch.setattr(withholding, "COUNTED_SECONDS", 3600.0)
    for number in range(60):
        remote.push(index_of(names(f"entry of {number}", 1000)), f"v{number}")
        mirror.pull(f"v{number}")
    assert len(counted) == 1
    assert len(tags(mirror.registry, HERE)) == 60
    assert withheld_in(world, mirror) == 60_000, "more than former releases took"


def test_what_all_manifests_lack_is_bounded_over_processes_that_have_counted_it(
    mirror: Mirror, second: Mirror, remote: ScriptedRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withholding, "MOST_IN_REPOSITORY", 40)
    monkeypatch.setattr(withholding, "COUNTED_SECONDS", 0.0)
    for number in range(4):
        remote.push(index_of(names(f"entry of {number}", 10)), f"v{number}")
        (mirror, second)[number % 2].pull(f"v{number}")
    remote.push(index_of(names("one more", 1)), "more")
    for each in (mirror, second):
        with pytest.raises(BadGateway, match=r"mirror hub: the repository would lack 41 of what .* at most 40 may"):
            each.pull("more")
        assert each.pull("v3")[0] == remote.tags["v3"].digest
