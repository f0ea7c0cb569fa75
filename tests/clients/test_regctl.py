"""regctl: true chunked uploads, tag deletion, artifacts, and copies with referrers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import Layout, digest_of, layout_content, random_bytes, tagged, tar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.wire import Wire
    from tests.support.servers import Registry

pytestmark = [pytest.mark.clients, pytest.mark.tools("regctl")]
CHUNK = 65_536


@pytest.fixture
def regctl(new_client: Callable[[str], Client], registry_server: Registry) -> Client:
    """A regctl that sends every blob of more than one chunk in chunks."""
    client = new_client("regctl")
    sizes = (f"--blob-chunk={CHUNK}", f"--blob-max={CHUNK}")
    client.run("registry", "set", "--tls=disabled", "--skip-check", *sizes, registry_server.address)
    return client


def test_an_index_comes_back_byte_for_byte(regctl: Client, wire: Wire, layout: Layout, tmp_path: Path) -> None:
    name = f"{wire.address}/regctl/index:1"
    regctl.run("image", "copy", f"ocidir://{layout.directory}:multi", name)
    assert wire.content("regctl/index", "1") == layout_content(layout.directory, "multi")
    regctl.run("image", "copy", name, f"ocidir://{tmp_path}/clean:1")
    assert layout_content(tmp_path / "clean", "1") == layout_content(layout.directory, "multi")
    digest = tagged(layout.directory, "multi")["digest"]
    assert regctl.run("image", "digest", name) == digest
    assert f"docker-content-digest: {digest}" in regctl.run("manifest", "head", "--format=headers", name).lower()


def test_a_blob_arrives_in_many_chunks(regctl: Client, wire: Wire, registry_server: Registry, tmp_path: Path) -> None:
    data = random_bytes(10 * CHUNK + 1234, "chunks")
    digest = digest_of(data)
    said = regctl.execute("blob", "put", "-v", "trace", f"{wire.address}/regctl/chunks", stdin=data)
    assert said.returncode == 0, said.stderr
    assert said.stdout.decode().strip() == digest
    # The last of eleven PATCH requests says where it begins: proof that the blob did not go as one.
    assert f"{10 * CHUNK}-{len(data) - 1}".encode() in said.stderr
    assert regctl.output("blob", "get", f"{wire.address}/regctl/chunks", digest) == data


def test_one_tag_is_deleted_and_its_manifest_stays(regctl: Client, wire: Wire, layout: Layout) -> None:
    name = f"{wire.address}/regctl/tags"
    for tag in ("keep", "drop", "other"):
        regctl.run("image", "copy", f"ocidir://{layout.directory}:single", f"{name}:{tag}")
    assert regctl.run("tag", "ls", name).split() == ["drop", "keep", "other"]
    regctl.run("tag", "delete", f"{name}:drop")
    assert regctl.run("tag", "ls", name).split() == ["keep", "other"]
    assert wire.content("regctl/tags", "keep") == layout_content(layout.directory, "single")
    regctl.fails("manifest", "head", f"{name}:drop", saying="not found")
    assert "regctl/tags" in regctl.run("repo", "ls", wire.address).split()


def test_artifacts_are_put_listed_and_read(regctl: Client, wire: Wire, layout: Layout) -> None:
    name = f"{wire.address}/regctl/artifacts"
    regctl.run("image", "copy", f"ocidir://{layout.directory}:single", f"{name}:1")
    subject = tagged(layout.directory, "single")["digest"]
    kinds = [f"application/vnd.stowage.{kind}" for kind in ("sbom", "scan")]
    for kind in kinds:
        regctl.run(
            "artifact", "put", f"--artifact-type={kind}", f"--subject={name}:1", "--annotation=by=tests",
            stdin=kind.encode(),
        )  # fmt: skip
    listed = json.loads(regctl.run("artifact", "list", "--format={{jsonPretty .}}", f"{name}:1"))
    assert sorted(entry["artifactType"] for entry in listed["descriptors"]) == kinds
    tree = regctl.run("artifact", "tree", f"{name}:1")
    for entry in wire.referrers("regctl/artifacts", subject):
        assert entry["annotations"]["by"] == "tests"
        assert entry["digest"] in tree
    got = regctl.output("artifact", "get", f"--subject={name}:1", f"--filter-artifact-type={kinds[0]}")
    assert got == kinds[0].encode()
    assert wire.tags("regctl/artifacts") == ["1"]


def test_a_copy_takes_referrers_along(regctl: Client, wire: Wire, layout: Layout, tmp_path: Path) -> None:
    name = f"{wire.address}/regctl/source"
    regctl.run("image", "copy", f"ocidir://{layout.directory}:single", f"{name}:1")
    subject = tagged(layout.directory, "single")["digest"]
    regctl.run("artifact", "put", "--artifact-type=application/vnd.stowage.x", f"--subject={name}:1", stdin=b"x")
    target = f"{wire.address}/regctl/target:1"
    regctl.run("image", "copy", "--referrers", "--digest-tags", f"{name}:1", target)
    assert wire.referrers("regctl/target", subject) == wire.referrers("regctl/source", subject)
    regctl.run("image", "copy", "--referrers", target, f"ocidir://{tmp_path}/layout:1")
    assert layout_content(tmp_path / "layout", "1") == layout_content(layout.directory, "single")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_an_image_is_exported_edited_and_imported(regctl: Client, wire: Wire, layout: Layout, tmp_path: Path) -> None:
    name = f"{wire.address}/regctl/edited"
    regctl.run("image", "copy", f"ocidir://{layout.directory}:multi", f"{name}:1")
    regctl.run("image", "mod", f"{name}:1", "--create=2", "--label=by=regctl", "--annotation=a=b")
    assert wire.manifest("regctl/edited", "2").json()["annotations"] == {"a": "b"}
    wire.content("regctl/edited", "2")

    regctl.run("image", "export", f"{name}:1", tmp_path / "image.tar")
    regctl.run("image", "import", f"{wire.address}/regctl/imported:1", tmp_path / "image.tar")
    assert wire.content("regctl/imported", "1") == layout_content(layout.directory, "multi")

    regctl.run("manifest", "delete", "--force-tag-dereference", f"{name}:2")
    assert regctl.run("tag", "ls", name).split() == ["1"]


@pytest.mark.local_storage("the kind of store makes no difference")
def test_layers_are_added_and_an_index_is_put_together(regctl: Client, wire: Wire, tmp_path: Path) -> None:
    name = f"{wire.address}/regctl/made"
    (tmp_path / "layer.tar").write_bytes(tar({"file": b"content"}))
    for architecture in ("amd64", "arm64"):
        regctl.run("image", "create", f"--platform=linux/{architecture}", f"{name}:{architecture}")
        regctl.run("image", "mod", "--replace", f"--layer-add=tar={tmp_path}/layer.tar", f"{name}:{architecture}")
    regctl.run("index", "create", f"--ref={name}:amd64", f"--ref={name}:arm64", f"{name}:both")
    assert len(wire.manifest("regctl/made", "both").json()["manifests"]) == 2
    assert len(wire.content("regctl/made", "both")) >= 1 + 2 + 2 + 1
