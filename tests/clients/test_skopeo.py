"""skopeo: copies between layouts, directories and the registry, and reads a repository's directory from disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    Layout,
    has_tag,
    layout_content,
    random_bytes,
    tagged,
    tar,
)
from tests.clients.wire import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("skopeo")]
TO = "--dest-tls-verify=false"
EXACT = "--preserve-digests"  # run by root, skopeo otherwise takes other forms of a layer that this machine has seen
FROM = "--src-tls-verify=false"


@pytest.fixture
def skopeo(new_client: Callable[[str], Client]) -> Client:
    return new_client("skopeo")


def test_an_image_comes_back_byte_for_byte(
    skopeo: Client, new_client: Callable[[str], Client], wire: Wire, layout: Layout, tmp_path: Path
) -> None:
    reference = f"docker://{wire.address}/skopeo/single:1"
    skopeo.run("copy", TO, EXACT, f"oci:{layout.directory}:single", reference)
    new_client("skopeo").run("copy", FROM, reference, f"oci:{tmp_path}/clean:1")
    assert layout_content(tmp_path / "clean") == layout_content(layout.directory, "single")


def test_an_index_with_all_platforms_comes_back_byte_for_byte(
    skopeo: Client, new_client: Callable[[str], Client], wire: Wire, layout: Layout, tmp_path: Path
) -> None:
    reference = f"docker://{wire.address}/skopeo/multi:1"
    skopeo.run("copy", "--all", TO, EXACT, f"oci:{layout.directory}:multi", reference)
    new_client("skopeo").run("copy", "--all", FROM, reference, f"oci:{tmp_path}/clean:1")
    assert layout_content(tmp_path / "clean") == layout_content(layout.directory, "multi")
    assert wire.content("skopeo/multi", "1") == layout_content(layout.directory, "multi")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_docker_schema_2_is_kept_as_it_is(skopeo: Client, wire: Wire, layout: Layout, tmp_path: Path) -> None:
    reference = f"docker://{wire.address}/skopeo/schema2:1"
    skopeo.run("copy", TO, "--format=v2s2", f"oci:{layout.directory}:single", reference)
    skopeo.run("copy", TO, "--all", "--format=v2s2", f"oci:{layout.directory}:multi", f"{reference}-list")
    assert wire.manifest("skopeo/schema2", "1").headers["content-type"] == DOCKER_MANIFEST
    assert wire.manifest("skopeo/schema2", "1-list").headers["content-type"] == DOCKER_LIST

    skopeo.run("copy", FROM, "--all", f"{reference}-list", f"dir:{tmp_path}/pulled")
    assert (tmp_path / "pulled/manifest.json").read_bytes() == wire.manifest("skopeo/schema2", "1-list").body
    assert len(wire.content("skopeo/schema2", "1-list")) == 1 + 2 + 2 + 3


@pytest.mark.local_storage("the kind of store makes no difference")
def test_layers_compressed_with_zstd(skopeo: Client, wire: Wire, layout: Layout, tmp_path: Path) -> None:
    reference = f"docker://{wire.address}/skopeo/zstd:1"
    uncompressed = Layout(tmp_path / "uncompressed")
    uncompressed.tag("1", uncompressed.image([tar({"a": b"text " * 50_000})], compressed=False))
    skopeo.run("copy", TO, "--dest-compress-format=zstd", f"oci:{uncompressed.directory}:1", reference)
    manifest = json.loads(wire.manifest("skopeo/zstd", "1").body)
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+zstd"]

    skopeo.run("copy", FROM, reference, f"oci:{tmp_path}/pulled:1")
    assert layout_content(tmp_path / "pulled") == wire.content("skopeo/zstd", "1")


def test_inspect_list_tags_and_delete(skopeo: Client, wire: Wire, layout: Layout) -> None:
    reference = f"docker://{wire.address}/skopeo/life"
    for tag in ("v1", "v2"):
        skopeo.run("copy", TO, EXACT, f"oci:{layout.directory}:single", f"{reference}:{tag}")
    skopeo.run("copy", TO, "--all", EXACT, f"oci:{layout.directory}:multi", f"{reference}:multi")
    seen = skopeo.json("inspect", "--tls-verify=false", f"{reference}:v1")
    assert seen["Digest"] == tagged(layout.directory, "single")["digest"]
    assert seen["RepoTags"] == ["multi", "v1", "v2"]
    assert skopeo.json("list-tags", "--tls-verify=false", reference)["Tags"] == ["multi", "v1", "v2"]

    skopeo.run("delete", "--tls-verify=false", f"{reference}:multi")
    skopeo.fails("inspect", "--tls-verify=false", f"{reference}:multi", saying="manifest unknown")
    assert wire.tags("skopeo/life") == ["v1", "v2"]


@pytest.mark.local_storage("the kind of store makes no difference")
def test_a_repository_is_synchronised_to_a_directory_and_back(
    skopeo: Client, wire: Wire, layout: Layout, tmp_path: Path
) -> None:
    name = f"{wire.address}/skopeo/synced"
    for tag in ("a", "b"):
        skopeo.run("copy", TO, "--all", EXACT, f"oci:{layout.directory}:multi", f"docker://{name}:{tag}")
    back = f"{wire.address}/skopeo/back"
    (tmp_path / "out").mkdir()
    skopeo.run("sync", "--all", FROM, "--src=docker", "--dest=dir", name, tmp_path / "out")
    skopeo.run("sync", "--all", TO, EXACT, "--src=dir", "--dest=docker", tmp_path / "out", back)
    assert wire.tags("skopeo/back/synced") == ["a", "b"]
    assert wire.content("skopeo/back/synced", "a") == layout_content(layout.directory, "multi")


def test_a_second_repository_mounts_the_blobs_of_the_first(skopeo: Client, wire: Wire, layout: Layout) -> None:
    first, second = (f"docker://{wire.address}/skopeo/mount/{name}:1" for name in ("first", "second"))
    skopeo.run("copy", TO, EXACT, f"oci:{layout.directory}:single", first)
    skopeo.run("copy", FROM, TO, EXACT, first, second)
    assert wire.content("skopeo/mount/second", "1") == layout_content(layout.directory, "single")


@pytest.mark.local_storage("another program uses the directory of a repository")
def test_the_directory_of_a_repository_is_a_layout_that_skopeo_reads(
    skopeo: Client, wire: Wire, storage_root: Path, layout: Layout, tmp_path: Path
) -> None:
    skopeo.run("copy", TO, "--all", EXACT, f"oci:{layout.directory}:multi", f"docker://{wire.address}/skopeo/disk:1")
    repository = storage_root / "skopeo/disk"
    until(lambda: has_tag(repository, "1"), "the tag stands in index.json")
    skopeo.run("copy", "--all", f"oci:{repository}:1", f"oci:{tmp_path}/clean:1")
    assert layout_content(tmp_path / "clean") == layout_content(layout.directory, "multi")


@pytest.mark.local_storage("another program uses the directory of a repository")
def test_skopeo_reads_the_directory_while_the_registry_writes_to_it(
    skopeo: Client, new_client: Callable[[str], Client], wire: Wire, storage_root: Path, tmp_path: Path
) -> None:
    made = Layout(tmp_path / "versions")
    for number in range(12):
        made.tag(f"v{number}", made.image([tar({"version": random_bytes(20_000, number)})]))
    reference = f"docker://{wire.address}/skopeo/busy"
    repository = storage_root / "skopeo/busy"
    skopeo.run("copy", TO, EXACT, f"oci:{made.directory}:v0", f"{reference}:v0")
    until(lambda: has_tag(repository, "v0"), "the first tag stands in index.json")
    reader = new_client("skopeo")
    for number in range(1, 12):
        pushing = skopeo.start("copy", TO, EXACT, f"oci:{made.directory}:v{number}", f"{reference}:v{number}")
        target = tmp_path / f"read-{number}"
        reader.run("copy", f"oci:{repository}:v0", f"oci:{target}:1")
        assert layout_content(target) == layout_content(made.directory, "v0")
        _, said = pushing.communicate(timeout=300)
        assert pushing.returncode == 0, said
    until(lambda: has_tag(repository, "v11"), "the last tag stands in index.json")
    assert sorted(wire.tags("skopeo/busy")) == sorted(f"v{number}" for number in range(12))


@pytest.mark.local_storage("another program uses the directory of a repository")
@pytest.mark.parametrize("known", [True, False], ids=["in a known repository", "in a new repository"])
def test_an_image_that_skopeo_places_on_disk_is_served_without_a_restart(
    skopeo: Client, wire: Wire, storage_root: Path, layout: Layout, known: bool
) -> None:
    name = f"skopeo/placed-{known}".lower()
    if known:
        skopeo.run("copy", TO, EXACT, f"oci:{layout.directory}:single", f"docker://{wire.address}/{name}:pushed")
        repository = storage_root / name
        until(lambda: has_tag(repository, "pushed"), "the tag stands in index.json")
    skopeo.run("copy", "--all", f"oci:{layout.directory}:multi", f"oci:{storage_root}/{name}:placed")
    until(lambda: wire.has(name, "placed"), "the placed image is served")
    assert wire.content(name, "placed") == layout_content(layout.directory, "multi")
    assert wire.tags(name) == (["placed", "pushed"] if known else ["placed"])
