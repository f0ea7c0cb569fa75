"""BuildKit's cache export: an index whose entries are layers and a configuration, not manifests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.layouts import DOCKER_LIST, INDEX, LAYER, MANIFEST, digest_of, random_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.client import Client
    from tests.clients.layouts import Descriptor
    from tests.clients.wire import Wire

pytestmark = pytest.mark.clients
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def push_parts(wire: Wire, repository: str, layer_type: str) -> tuple[list[Descriptor], Descriptor]:
    """Push two layers and the cache configuration that lists them, as BuildKit does before the index."""
    layers = [
        {
            **wire.push_blob(repository, random_bytes(50_000, number), layer_type),
            "annotations": {"containerd.io/uncompressed": f"sha256:{number:064}"},
        }
        for number in range(2)
    ]
    listed = [{"blob": layer["digest"], "parent": number - 1} for number, layer in enumerate(layers)]
    config = json.dumps({"layers": listed, "records": [{"digest": digest_of(b"step")}]}).encode()
    return layers, wire.push_blob(repository, config, CACHE_CONFIG)


def cache_index(wire: Wire, repository: str, media_type: str, layer_type: str) -> bytes:
    """Push the parts of a cache export and return the bytes of its index, as BuildKit writes it."""
    layers, config = push_parts(wire, repository, layer_type)
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "manifests": [*layers, config]}
    return json.dumps(document, indent=2).encode()


@pytest.mark.parametrize(
    ("media_type", "layer_type"), [(INDEX, f"{LAYER}+gzip"), (DOCKER_LIST, DOCKER_LAYER)], ids=["oci", "docker"]
)
def test_a_cache_index_is_accepted_and_served_untouched(wire: Wire, media_type: str, layer_type: str) -> None:
    repository = f"buildkit/{digest_of(media_type.encode())[7:15]}"
    index = cache_index(wire, repository, media_type, layer_type)
    wire.push_manifest(repository, "cache", index, media_type)
    answer = wire.manifest(repository, "cache")
    assert answer.body == index
    assert answer.headers["content-type"] == media_type
    assert len(wire.content(repository, "cache")) == 1 + 3


@pytest.mark.local_storage("the kind of store makes no difference")
def test_a_cache_in_the_form_of_an_image_is_accepted(wire: Wire) -> None:
    layers, config = push_parts(wire, "buildkit/image", f"{LAYER}+gzip")
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    wire.push_manifest("buildkit/image", "cache", json.dumps(manifest).encode(), MANIFEST)
    assert len(wire.content("buildkit/image", "cache")) == 1 + 3


@pytest.mark.local_storage("the kind of store makes no difference")
def test_a_cache_index_with_a_missing_layer_is_refused(wire: Wire) -> None:
    index = cache_index(wire, "buildkit/missing", INDEX, f"{LAYER}+gzip")
    absent = index.replace(digest_of(random_bytes(50_000, 1)).encode(), digest_of(b"absent").encode())
    path = "/v2/buildkit/missing/manifests/cache"
    answer = wire.request("PUT", path, absent, {"Content-Type": INDEX})
    assert answer.status == 400, answer
    assert answer.json()["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert not wire.has("buildkit/missing", "cache")


@pytest.mark.tools("crane", "regctl")
@pytest.mark.parametrize("name", ["crane", "regctl"])
def test_clients_copy_a_cache_index(wire: Wire, new_client: Callable[[str], Client], name: str) -> None:
    source, target = f"buildkit/{name}-source", f"buildkit/{name}-target"
    wire.push_manifest(source, "cache", cache_index(wire, source, INDEX, f"{LAYER}+gzip"), INDEX)
    client = new_client(name)
    if name == "regctl":
        client.run("registry", "set", "--tls=disabled", "--skip-check", wire.address)
        client.run("image", "copy", f"{wire.address}/{source}:cache", f"{wire.address}/{target}:cache")
    else:
        client.run("copy", f"{wire.address}/{source}:cache", f"{wire.address}/{target}:cache")
    assert wire.content(target, "cache") == wire.content(source, "cache")
